// SPDX-License-Identifier: Apache-2.0
// Every method of msign at the shapes of real weights, against the multiply-add limit of the cores.
#include <algorithm>
#include <cstdint>
#include <string>

#include "contest.hpp"
#include "fma_peak.hpp"
#include "msign_support.hpp"
#include "thread_pool.hpp"

namespace {

struct shape {
  int64_t rows, cols;
  double power = 0;  // singular values i^-power; 0: a Gaussian matrix

  std::string name() const {
    std::string text = std::to_string(rows) + 'x' + std::to_string(cols);
    if (power == 1) text += " i^-1";
    if (power == 1.5) text += " i^-1.5";
    return text;
  }
};

// The operations that the method cannot do without, symmetric products and inverses counted once:
// in units of n^3, with a = m / n. Those of LAPACK's singular value decomposition are not counted.
double useful_flops(const bench::msign_method& method, const shape& s) {
  const auto n = static_cast<double>(std::min(s.rows, s.cols));
  const double a = static_cast<double>(std::max(s.rows, s.cols)) / n;
  const double steps = method.steps;
  switch (method.method) {
    case STEEPEST_MSIGN_RATIONAL: return (3 * a + steps) * n * n * n;
    case STEEPEST_MSIGN_HALLEY: return (3 * a + steps + 2 * (steps - 1)) * n * n * n;
    case STEEPEST_MSIGN_NEWTON_SCHULZ: return (3 * a + 1) * steps * n * n * n;
    case STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ: return (3 * a + 4 * steps - 3) * n * n * n;
    default: return 0;
  }
}

void compare(benchmark::State& state, const bench::msign_method& method, shape size, int threads) {
  bench::msign_problem problem(method, size.rows, size.cols, threads, size.power);
  problem.run();
  const double flops = useful_flops(method, size);
  state.counters["rows"] = static_cast<double>(size.rows);
  state.counters["cols"] = static_cast<double>(size.cols);
  state.counters["threads"] = threads;
  state.counters["flops"] = flops;
  state.counters["error"] = problem.error();

  bench::contest contest(threads, [&] { problem.run(); });
  bench::thread_pool pool(threads);
  const bench::fma_loop loop = bench::best_fma_loop();
  if (flops > 0)
    contest.add_rival("peak", "", [&] {
      pool.run([&](int) { benchmark::DoNotOptimize(loop(static_cast<int64_t>(flops / threads))); });
    });
  else
    contest.add_rival("none", "", [] {});
  contest.run(state);
}

void add(bool quick) {
  const int all = bench::all_threads();
  std::vector<shape> shapes = {{256, 256}, {768, 3072}};
  if (!quick)
    shapes = {{256, 256},
              {768, 768},
              {768, 2304},
              {768, 3072},
              {1024, 1024},
              {1024, 4096},
              {2048, 2048},
              // For their errors.
              {384, 384},
              {384, 1536},
              {384, 1536, 1},
              {384, 1536, 1.5}};
  for (const shape& size : shapes)
    for (const bench::msign_method& method : bench::msign_methods) {
      const bool slow = method.steps == 0;
      if (method.compute == STEEPEST_BF16 &&
          steepest_context_isa(nullptr) != STEEPEST_ISA_X86_AVX512_BF16)
        continue;
      if (slow && quick) continue;
      for (const int threads : {1, all}) {
        const std::string name = std::string("msign/") + method.name + '/' + size.name() +
                                 "/threads:" + std::to_string(threads);
        benchmark::RegisterBenchmark(name.c_str(), compare, method, size, threads)
            ->Iterations(slow    ? 3
                         : quick ? 5
                                 : 11)
            ->UseManualTime();
        if (all == 1) break;
      }
    }
}

}  // namespace

int main(int argc, char** argv) { return bench::run_program(argc, argv, add); }
