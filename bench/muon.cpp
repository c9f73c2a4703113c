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

// Narrow storage against f32 throughout: its rival's ratio is f32's time over its own.
void compare_storage(benchmark::State& state, const bench::muon_storage& storage, int threads) {
  bench::muon_problem wide(STEEPEST_F32, threads);
  bench::muon_problem narrow(STEEPEST_F32, threads, bench::gpt2_124m, storage);
  state.counters["threads"] = threads;
  state.counters["momentum_bytes"] = narrow.state_bytes_per_element();
  state.counters["workspace_mib"] = static_cast<double>(narrow.workspace_bytes()) / 1048576.0;
  bench::contest contest(threads, [&] { narrow.step(); });
  contest.add_rival("f32", "", [&] { wide.step(); });
  contest.run(state);
}

const bench::muon_storage storages[] = {
    {"f32"},
    {"bf16", STEEPEST_BF16},
    {"bf16_random", STEEPEST_BF16, false, STEEPEST_MUON_STOCHASTIC_ROUNDING},
    {"q8_dynamic", STEEPEST_Q8_DYNAMIC},
    {"q8_companded", STEEPEST_Q8_COMPANDED},
    {"q8_companded_random", STEEPEST_Q8_COMPANDED, false, STEEPEST_MUON_STOCHASTIC_ROUNDING},
    {"q8_companded_split_param", STEEPEST_Q8_COMPANDED, true},
};

void add(bool quick) {
  const int all = bench::all_threads();
  for (const bench::muon_storage& storage : storages)
    benchmark::RegisterBenchmark(
        (std::string("muon_storage/") + storage.name + "/threads:" + std::to_string(all)).c_str(),
        compare_storage, storage, all)
        ->Iterations(quick ? 2 : 5)
        ->UseManualTime();
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
