// SPDX-License-Identifier: Apache-2.0
//
// The array conversions of every level against the scalar rules of core/half.hpp, bit for bit, NaN
// payloads included. That the rules themselves are right is shown in storage_test.cpp.
#include "dispatch/cpu.hpp"
#include "dispatch/tables.hpp"
#include "support.hpp"

namespace steepest_test {
namespace {

using steepest::bf16;
using steepest::f16;

std::uint32_t bits_of(float x) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}

template <class Half>
void widening(void (*convert)(const Half*, float*, std::int64_t)) {
  std::vector<Half> from(65536);
  for (std::size_t i = 0; i < from.size(); ++i) from[i].bits = static_cast<std::uint16_t>(i);
  std::vector<float> to(from.size());
  convert(from.data(), to.data(), static_cast<std::int64_t>(from.size()));
  for (std::size_t i = 0; i < from.size(); ++i)
    ASSERT_EQ(bits_of(to[i]), bits_of(steepest::to_float(from[i]))) << i;
}

template <class Half>
void narrowing(void (*convert)(const float*, Half*, std::int64_t), Half (*rule)(float)) {
  // A stride that is odd meets every pattern of low bits; 1 in the long form.
  const std::uint64_t stride = long_run() ? 1 : 1021;
  std::vector<float> from(1 << 16);
  std::vector<Half> to(from.size());
  for (std::uint64_t first = 0; first < std::uint64_t{1} << 32; first += stride * from.size()) {
    for (std::size_t i = 0; i < from.size(); ++i) {
      const auto bits = static_cast<std::uint32_t>(first + stride * i);
      std::memcpy(&from[i], &bits, sizeof(bits));
    }
    convert(from.data(), to.data(), static_cast<std::int64_t>(from.size()));
    for (std::size_t i = 0; i < from.size(); ++i)
      ASSERT_EQ(to[i].bits, rule(from[i]).bits) << std::hex << bits_of(from[i]);
  }
}

// The end of an array gives what its middle gives, and nothing is written behind it.
template <class From, class To>
void every_length(void (*convert)(const From*, To*, std::int64_t), const From& value,
                  const To& expected) {
  for (std::size_t count = 0; count <= 67; ++count) {
    guarded<From> from(std::vector<From>(count, value), count % 5);
    guarded<To> to(std::vector<To>(count), count % 3);
    convert(from.data(), to.data(), static_cast<std::int64_t>(count));
    EXPECT_TRUE(to.intact());
    EXPECT_TRUE(same_bits(to.values(), std::vector<To>(count, expected))) << count;
  }
}

TEST(convert, follows_the_scalar_rules_on_every_level) {
  for (const steepest_isa isa : levels()) {
    SCOPED_TRACE(steepest_isa_name(isa));
    const steepest::convert_table& table = steepest::tables_for(isa).convert;
    widening<bf16>(table.bf16_to_f32);
    widening<f16>(table.f16_to_f32);
    narrowing<bf16>(table.f32_to_bf16, steepest::to_bf16);
    narrowing<f16>(table.f32_to_f16, steepest::to_f16);
    every_length(table.bf16_to_f32, bf16{0x3fc0}, 1.5F);
    every_length(table.f16_to_f32, f16{0x3e00}, 1.5F);
    every_length(table.f32_to_bf16, 1.5F, bf16{0x3fc0});
    every_length(table.f32_to_f16, 1.5F, f16{0x3e00});
  }
}

}  // namespace
}  // namespace steepest_test
