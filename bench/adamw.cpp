// SPDX-License-Identifier: Apache-2.0
// The AdamW step against two measures taken in the same process over the same memory: the stream,
// which is what the memory allows, and the scalar loop that reads like the formula.
#include <cstdint>
#include <string>
#include <vector>

#include "adamw_support.hpp"
#include "contest.hpp"
#include "program.hpp"

namespace {

using bench::types::bf16, bench::types::f16, bench::types::f32, bench::types::streams;

// Beside f32 and f64 throughout.
constexpr bench::adamw_mix adamw_mixes[] = {
    {"f32,g:bf16", f32, bf16, f32, f32, streams<4, 2, 4, 4>},
    {"f32,g:f16", f32, f16, f32, f32, streams<4, 2, 4, 4>},
    {"bf16,m,v:f32", bf16, bf16, f32, f32, streams<2, 2, 4, 4>},
    {"f16,m,v:f32", f16, f16, f32, f32, streams<2, 2, 4, 4>},
    {"bf16,g,m,v:f32", bf16, f32, f32, f32, streams<2, 4, 4, 4>},
    {"bf16,v:f32", bf16, bf16, bf16, f32, streams<2, 2, 2, 4>},
    {"bf16", bf16, bf16, bf16, bf16, streams<2, 2, 2, 2>},
    {"f16", f16, f16, f16, f16, streams<2, 2, 2, 2>},
    {"f32,m,v:bf16", f32, f32, bf16, bf16, streams<4, 4, 2, 2>},
};

constexpr steepest_dtype dynamic = STEEPEST_Q8_DYNAMIC, companded = STEEPEST_Q8_COMPANDED;
constexpr bench::adamw_mix narrow_mixes[] = {
    {"bf16,nearest16", bf16, bf16, f32, f32, streams<4, 2, 4, 4>, STEEPEST_RESIDUAL_NEAREST16},
    {"bf16,low16", bf16, bf16, f32, f32, streams<4, 2, 4, 4>, STEEPEST_RESIDUAL_LOW16},
    {"f32,copy,g:bf16", f32, bf16, f32, f32, streams<4, 2, 4, 4>, 0, false, true},
    {"bf16,stochastic", bf16, bf16, bf16, bf16, streams<2, 2, 2, 2>, 0, true},
    {"bf16,m,v:f32,stochastic", bf16, bf16, f32, f32, streams<2, 2, 4, 4>, 0, true},
    {"bf16,kahan", bf16, bf16, bf16, bf16, streams<4, 2, 2, 2>, STEEPEST_RESIDUAL_KAHAN},
    {"bf16,m,v:companded", bf16, bf16, companded, companded, streams<2, 2, 1, 1>},
    {"f32,m,v:companded", f32, f32, companded, companded, streams<4, 4, 1, 1>},
    {"bf16,m,v:companded,stochastic", bf16, bf16, companded, companded, streams<2, 2, 1, 1>, 0,
     true},
    {"bf16,m,v:dynamic", bf16, bf16, dynamic, dynamic, streams<2, 2, 1, 1>},
    {"f32,m,v:dynamic", f32, f32, dynamic, dynamic, streams<4, 4, 1, 1>},
};

void compare(benchmark::State& state, bench::adamw_workload w) {
  state.counters["elements"] = static_cast<double>(w.elements());
  state.counters["tensors"] = static_cast<double>(w.tensors);
  state.counters["threads"] = w.threads;
  state.counters["bytes"] = static_cast<double>(w.bytes());
  if (!bench::memory_suffices(w.bytes())) return state.SkipWithError("not enough memory");

  bench::thread_pool pool(w.threads);
  bench::adamw_problem problem(w, pool);
  const bench::library_context context(w.threads);

  bench::contest contest(w.threads, [&] { problem.step(context.get(), w.stats); });
  if (w.stats) contest.add_rival("without_stats", "", [&] { problem.step(context.get(), false); });
  for (const bench::stream_variant& variant : w.types->streams())
    contest.add_rival("stream", variant.name, [&problem, variant] { problem.stream(variant); });
  if (w.types == &bench::all_f32) contest.add_rival("naive", "", [&] { problem.naive<float>(); });
  if (w.types == &bench::all_f64) contest.add_rival("naive", "", [&] { problem.naive<double>(); });
  contest.run(state);
}

// Narrow storage against the f32 step of as many elements, and against its own stream.
void compare_narrow(benchmark::State& state, bench::adamw_workload w) {
  const bench::adamw_workload same_f32 = {&bench::all_f32, w.tensors, w.count, w.threads, false};
  state.counters["elements"] = static_cast<double>(w.elements());
  state.counters["tensors"] = static_cast<double>(w.tensors);
  state.counters["threads"] = w.threads;
  state.counters["bytes"] = static_cast<double>(w.bytes());
  if (!bench::memory_suffices(w.bytes() + same_f32.bytes()))
    return state.SkipWithError("not enough memory");
  bench::thread_pool pool(w.threads);
  bench::adamw_problem problem(w, pool);
  bench::adamw_problem f32_problem(same_f32, pool);
  const bench::library_context context(w.threads);
  bench::contest contest(w.threads, [&] { problem.step(context.get(), false); });
  contest.add_rival("f32", "", [&] { f32_problem.step(context.get(), false); });
  for (const bench::stream_variant& variant : w.types->streams())
    contest.add_rival("stream", variant.name, [&problem, variant] { problem.stream(variant); });
  contest.run(state);
}

void add_case(const char* what, const bench::adamw_workload& w, bool quick,
              void (*run)(benchmark::State&, bench::adamw_workload) = compare) {
  const std::string name = bench::name_of(what, w.types->name, w.elements(), w.threads);
  benchmark::RegisterBenchmark(name.c_str(), run, w)->Iterations(quick ? 5 : 21)->UseManualTime();
}

void add(bool quick) {
  const int all = bench::all_threads();
  const auto add_both = [&](const bench::adamw_mix& types, const char* what, int64_t tensors,
                            int64_t count, bool stats) {
    add_case(what, {&types, tensors, count, 1, stats}, quick);
    if (all > 1 && tensors * count >= 1 << 15)
      add_case(what, {&types, tensors, count, all, stats}, quick);
  };
  constexpr int64_t Ki = 1 << 10, Mi = 1 << 20;
  std::vector<int64_t> f32_counts = {64, 64 * Ki, Mi, 16 * Mi, 64 * Mi};
  std::vector<int64_t> f64_counts = {16 * Mi};
  std::vector<int64_t> mix_counts = {64 * Mi};
  if (!quick) {
    f32_counts = {64,       256, Ki,     4 * Ki,  16 * Ki, 64 * Ki,
                  256 * Ki, Mi,  4 * Mi, 16 * Mi, 64 * Mi, 128 * Mi};
    f64_counts = {64, 64 * Ki, Mi, 16 * Mi, 64 * Mi};
    mix_counts = {64 * Ki, 64 * Mi};
  }
  for (const int64_t count : f32_counts) add_both(bench::all_f32, "adamw", 1, count, false);
  add_both(bench::all_f32, "adamw_1000_tensors", 1000, 4096, false);
  for (const int64_t count : f64_counts) add_both(bench::all_f64, "adamw", 1, count, false);
  for (const bench::adamw_mix& types : adamw_mixes)
    for (const int64_t count : mix_counts) add_both(types, "adamw", 1, count, false);
  add_both(bench::all_f32, "adamw_stats", 1, 64 * Mi, true);
  add_both(bench::all_f64, "adamw_stats", 1, 64 * Mi, true);
  for (const bench::adamw_mix& types : adamw_mixes)
    add_both(types, "adamw_stats", 1, 64 * Mi, true);
  for (const bench::adamw_mix& types : narrow_mixes)
    for (const int64_t count : mix_counts) {
      add_case("adamw_narrow", {&types, 1, count, 1, false}, quick, compare_narrow);
      if (all > 1) add_case("adamw_narrow", {&types, 1, count, all, false}, quick, compare_narrow);
    }
}

}  // namespace

int main(int argc, char** argv) { return bench::run_program(argc, argv, add); }
