// SPDX-License-Identifier: Apache-2.0
// A Muon step of a whole model or a list of small and large matrices, against the multiply-add
// limit of the cores and against msign of the same matrices alone.
#include <cstdint>
#include <string>

#include "contest.hpp"
#include "muon_support.hpp"
#include "program.hpp"
#include "thread_pool.hpp"

namespace {

void compare(benchmark::State& state, const bench::muon_model& model, bool bf16, int threads) {
  bench::muon_problem problem(bf16 ? STEEPEST_BF16 : STEEPEST_F32, threads, model);
  const bench::operations flops = bench::useful(model, bf16);
  state.counters["threads"] = threads;
  state.counters["flops"] = flops.f32 + flops.bf16;
  bench::contest contest(threads, [&] { problem.step(); });
  bench::thread_pool pool(threads);
  bench::add_peak(contest, pool, flops);
  contest.add_rival("msign", "", [&] { problem.msign_alone(); });
  contest.run(state);
  state.counters["error"] = problem.error();
}

void add(bool quick) {
  const int all = bench::all_threads();
  for (const bench::muon_model* const model : {&bench::gpt2_124m, &bench::mixed})
    for (const bool bf16 : {false, true}) {
      if (bf16 && !bench::has_bf16_products()) continue;
      for (const int threads : {1, all}) {
        const std::string name = std::string("muon/") + (bf16 ? "bf16" : "f32") + '/' +
                                 model->name + "/threads:" + std::to_string(threads);
        benchmark::RegisterBenchmark(name.c_str(), compare, *model, bf16, threads)
            ->Iterations(quick ? 2 : 3)
            ->UseManualTime();
        if (all == 1) break;
      }
    }
}

}  // namespace

int main(int argc, char** argv) { return bench::run_program(argc, argv, add); }
