// SPDX-License-Identifier: Apache-2.0
// The array conversions between f32 and the 16-bit types, on every ISA level that this CPU has,
// against a memcpy that moves as many bytes.
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "contest.hpp"
#include "core/half.hpp"
#include "dispatch/cpu.hpp"
#include "dispatch/tables.hpp"
#include "memory.hpp"
#include "program.hpp"

namespace {

constexpr int64_t bytes_per_element = 6;  // two read and four written, or the reverse

template <class From, class To>
void compare(benchmark::State& state, void (*convert)(const From*, To*, int64_t), int64_t count) {
  state.counters["elements"] = static_cast<double>(count);
  state.counters["threads"] = 1;
  state.counters["bytes"] = static_cast<double>(bytes_per_element * count);
  const bench::arrays arrays(count * static_cast<int64_t>(sizeof(float)), 2);
  auto* from = arrays.get<From>(0);
  auto* to = arrays.get<To>(1);
  for (int64_t i = 0; i < count; ++i) {
    const float value = 1e-3f * static_cast<float>(i % 1013 + 1);
    if constexpr (sizeof(From) == 4)
      from[i] = value;
    else if constexpr (std::is_same_v<From, steepest::bf16>)
      from[i] = steepest::to_bf16(value);
    else
      from[i] = steepest::to_f16(value);
  }
  bench::contest contest(1, [&] { convert(from, to, count); });
  contest.add_rival("stream", "memcpy", [&] {
    std::memcpy(to, from, static_cast<std::size_t>(bytes_per_element / 2 * count));
    benchmark::ClobberMemory();
  });
  contest.run(state);
}

template <class From, class To>
void add_case(const std::string& what, steepest_isa isa, int64_t count, bool quick,
              void (*convert)(const From*, To*, int64_t)) {
  const std::string name = bench::name_of(what.c_str(), steepest_isa_name(isa), count, 1);
  benchmark::RegisterBenchmark(name.c_str(), compare<From, To>, convert, count)
      ->Iterations(quick ? 5 : 21)
      ->UseManualTime();
}

void add(bool quick) {
  for (steepest_isa isa = STEEPEST_ISA_GENERIC; isa <= STEEPEST_ISA_ARM64_NEON; ++isa) {
    if (!steepest::isa_includes(steepest::detect_isa(), isa)) continue;
    const steepest::convert_table& table = steepest::tables_for(isa).convert;
    for (const int64_t count : {int64_t{1} << 14, int64_t{1} << 24}) {
      add_case("bf16_to_f32", isa, count, quick, table.bf16_to_f32);
      add_case("f16_to_f32", isa, count, quick, table.f16_to_f32);
      add_case("f32_to_bf16", isa, count, quick, table.f32_to_bf16);
      add_case("f32_to_f16", isa, count, quick, table.f32_to_f16);
    }
  }
}

}  // namespace

int main(int argc, char** argv) { return bench::run_program(argc, argv, add); }
