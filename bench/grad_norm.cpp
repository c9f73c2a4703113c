// SPDX-License-Identifier: Apache-2.0
// The gradient norm against a loop that reads the same memory and adds once per element.
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "contest.hpp"
#include "grad_norm_support.hpp"
#include "program.hpp"

namespace {

double naive_norm(const float* x, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += static_cast<double>(x[i]) * x[i];
  return std::sqrt(sum);
}

void compare(benchmark::State& state, int64_t count, int threads) {
  const int64_t bytes = count * static_cast<int64_t>(sizeof(float));
  state.counters["elements"] = static_cast<double>(count);
  state.counters["threads"] = threads;
  state.counters["bytes"] = static_cast<double>(bytes);
  if (!bench::memory_suffices(bytes)) return state.SkipWithError("not enough memory");
  bench::thread_pool pool(threads);
  const bench::grad_norm_problem problem(count, pool);
  const bench::library_context context(threads);
  bench::contest contest(threads, [&] { problem.norm(context.get()); });
  problem.add_streams(contest);
  contest.add_rival("naive", "", [&] { bench::keep(naive_norm(problem.data(), count)); });
  contest.run(state);
}

void add(bool quick) {
  const int all = bench::all_threads();
  std::vector<int64_t> counts = {1 << 20, 1 << 24, 1 << 26};
  if (!quick) counts.insert(counts.begin(), {64, 4096, 1 << 16});
  for (const int64_t count : counts) {
    for (const int threads : {1, all}) {
      if (threads > 1 && count < 1 << 16) continue;
      const std::string name = bench::name_of("grad_norm", "f32", count, threads);
      benchmark::RegisterBenchmark(name.c_str(), compare, count, threads)
          ->Iterations(quick ? 5 : 21)
          ->UseManualTime();
      if (all == 1) break;
    }
  }
}

}  // namespace

int main(int argc, char** argv) { return bench::run_program(argc, argv, add); }
