// SPDX-License-Identifier: Apache-2.0
// Every method of msign at the shapes of real weights, against the multiply-add limit of the cores.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "contest.hpp"
#include "msign_support.hpp"
#include "program.hpp"

namespace {

struct shape {
  int64_t rows, cols;
  double power = 0;  // singular values i^-power; 0: a Gaussian matrix
  int64_t count = 1;

  int64_t elements() const { return count * rows * cols; }
  std::string name() const {
    std::string text = std::to_string(rows) + 'x' + std::to_string(cols);
    if (count > 1) text = std::to_string(count) + "x(" + text + ')';
    if (power == 1) text += " i^-1";
    if (power == 1.5) text += " i^-1.5";
    return text;
  }
};

void compare(benchmark::State& state, const bench::msign_method& method, shape size, int threads) {
  bench::msign_problem problem(method, size.rows, size.cols, threads, size.power, size.count);
  const bench::operations flops = bench::useful(method, size.rows, size.cols, size.count);
  state.counters["rows"] = static_cast<double>(size.rows);
  state.counters["cols"] = static_cast<double>(size.cols);
  state.counters["threads"] = threads;
  state.counters["flops"] = flops.f32 + flops.bf16;

  bench::contest contest(threads, [&] { problem.run(); });
  bench::thread_pool pool(threads);
  if (flops.f32 > 0)
    bench::add_peak(contest, pool, flops);
  else
    contest.add_rival("none", "", [] {});
  contest.run(state);
  state.counters["error"] = problem.error();
}

// Some seconds for each benchmark.
int64_t rounds(const bench::msign_method& method, const shape& size, bool quick) {
  const auto n = static_cast<double>(std::min(size.rows, size.cols));
  const bench::operations flops = bench::useful(method, size.rows, size.cols, size.count);
  const double guess =
      flops.f32 > 0 ? flops.f32 + flops.bf16 : 100 * n * static_cast<double>(size.elements());
  return std::clamp<int64_t>(static_cast<int64_t>(1e11 / guess), 2, quick ? 5 : 11);
}

void add(bool quick) {
  const int all = bench::all_threads();
  std::vector<shape> shapes = {{256, 256}, {768, 3072}};
  if (!quick)
    shapes = {{64, 64},
              {128, 128},
              {256, 256},
              {768, 768},
              {768, 2304},
              {768, 3072},
              {3072, 768},
              {1024, 1024},
              {1024, 4096},
              {4096, 1024},
              {2048, 2048},
              {768, 64, 0, 12},
              {50257, 768},
              // For their errors.
              {384, 384},
              {384, 1536},
              {384, 1536, 1},
              {384, 1536, 1.5}};
  for (const shape& size : shapes)
    for (const bench::msign_method& method : bench::msign_methods) {
      // A vocabulary: seconds for every call, and minutes for LAPACK.
      const bool huge = size.elements() > 1 << 25;
      if (method.compute == STEEPEST_BF16 && !bench::has_bf16_products()) continue;
      if (method.steps == 0 && quick) continue;
      if (method.method == STEEPEST_MSIGN_SVD && huge) continue;
      for (const int threads : {1, all}) {
        if (huge && threads != all) continue;
        const std::string name = std::string("msign/") + method.name + '/' + size.name() +
                                 "/threads:" + std::to_string(threads);
        benchmark::RegisterBenchmark(name.c_str(), compare, method, size, threads)
            ->Iterations(rounds(method, size, quick))
            ->UseManualTime();
        if (all == 1) break;
      }
    }
}

}  // namespace

int main(int argc, char** argv) { return bench::run_program(argc, argv, add); }
