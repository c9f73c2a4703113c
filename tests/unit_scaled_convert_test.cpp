// SPDX-License-Identifier: Apache-2.0
//
// The scaling conversion of every level, between all pairs of types. With a power of two for the
// factor the product is exact, and the result is it rounded to the type: from 16 and 32 bits by the
// scalar rules of core/half.hpp on the float nearest to it, from and to f64 once from the product.
#include "dispatch/cpu.hpp"
#include "dispatch/tables.hpp"
#include "support.hpp"

namespace steepest_test {
namespace {

using steepest::bf16;
using steepest::f16;

constexpr int exponents[] = {0, 1, -1, 7, -13, 30, -30, 100, -100, 121, -121, 140, -140};

template <class T>
inline constexpr steepest_dtype type_of = std::is_same_v<T, float>    ? STEEPEST_F32
                                          : std::is_same_v<T, double> ? STEEPEST_F64
                                          : std::is_same_v<T, bf16>   ? STEEPEST_BF16
                                                                      : STEEPEST_F16;

double value_of(double x) { return x; }
double value_of(float x) { return x; }
double value_of(bf16 x) { return steepest::to_float(x); }
double value_of(f16 x) { return steepest::to_float(x); }

// To nearest even in a format of `precision` bits, by arithmetic on doubles.
double rounded(double x, int precision, int min_exponent, double largest) {
  if (!std::isfinite(x) || x == 0) return x;
  const int exponent = std::max(std::ilogb(x), min_exponent) - (precision - 1);
  const double r = std::ldexp(std::nearbyint(std::ldexp(x, -exponent)), exponent);
  return std::abs(r) > largest ? std::copysign(INFINITY, x) : r;
}

double to_nearest_bf16(double x) { return rounded(x, 8, -126, 0x1.fep127); }
double to_nearest_f16(double x) { return rounded(x, 11, -14, 65504); }
double to_nearest_float(double x) { return rounded(x, 24, -126, 0x1.fffffep127); }

template <class From, class To>
double expected_value(From from, int exponent) {
  const double product = std::ldexp(value_of(from), exponent);
  if constexpr (std::is_same_v<To, double>) return product;
  constexpr bool by_float = !std::is_same_v<From, double>;
  const double narrow = by_float ? to_nearest_float(product) : product;
  if constexpr (std::is_same_v<To, float>) return to_nearest_float(narrow);
  if constexpr (std::is_same_v<To, bf16>)
    return by_float ? value_of(steepest::to_bf16(static_cast<float>(narrow)))
                    : to_nearest_bf16(narrow);
  return by_float ? value_of(steepest::to_f16(static_cast<float>(narrow))) : to_nearest_f16(narrow);
}

template <class T>
T from_bits(std::uint64_t bits) {
  T x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// Every value of the 16-bit types, random bits of the others with all their special values, and
// values about half way between neighbours of the narrow types.
template <class From>
std::vector<From> inputs() {
  std::vector<From> all;
  if constexpr (sizeof(From) == 2) {
    for (std::uint64_t bits = 0; bits < 65536; ++bits) all.push_back(from_bits<From>(bits));
  } else {
    using limits = std::numeric_limits<From>;
    random_source random(261);
    for (const From x : {From(0), limits::min(), limits::denorm_min(), limits::max(),
                         limits::infinity(), limits::quiet_NaN(), From(1), From(65504),
                         From(65519.99), From(65520), From(0x1p-25), From(0x1p-149)}) {
      all.push_back(x);
      all.push_back(-x);
    }
    const int count = long_run() ? 400000 : 12000;
    for (int i = 0; i < count; ++i) {
      all.push_back(from_bits<From>(random.bits()));
      all.push_back(random.wide<From>(-40, 40));
      all.push_back(static_cast<From>(random.wide<double>(-160, 130)));
      // 16-bit neighbours: their middle, and just beside it.
      const int digits = random.below(2) == 0 ? 8 : 11;
      const double grain = std::ldexp(1.0, 1 - digits);
      const double middle =
          1 + (static_cast<double>(random.below(1 << (digits - 1))) + 0.5) * grain;
      const auto tie =
          static_cast<From>(std::ldexp(middle, static_cast<int>(random.below(60)) - 30));
      all.push_back(tie);
      all.push_back(std::nextafter(tie, From(0)));
      all.push_back(-std::nextafter(tie, limits::max()));
    }
  }
  return all;
}

using kernel = void (*)(const void*, steepest_dtype, void*, steepest_dtype, std::int64_t, double);

template <class From, class To>
void pair(kernel scaled, const std::vector<From>& from) {
  SCOPED_TRACE(testing::Message() << "from " << type_of<From> << " to " << type_of<To>);
  std::vector<To> to(from.size());
  for (const int exponent : exponents) {
    for (const double sign : {1.0, -1.0}) {
      if (sign < 0 && exponent != 7) continue;
      scaled(from.data(), type_of<From>, to.data(), type_of<To>,
             static_cast<std::int64_t>(from.size()), sign * std::ldexp(1.0, exponent));
      for (std::size_t i = 0; i < from.size(); ++i) {
        const double expected = sign * expected_value<From, To>(from[i], exponent);
        const double got = value_of(to[i]);
        if (std::isnan(expected) && std::isnan(got)) continue;
        ASSERT_TRUE(same_bits(got, expected))
            << value_of(from[i]) << " * 2^" << exponent << " gives " << got << ", not " << expected;
      }
    }
  }
  // Any length: the end gives what the middle gives, and nothing is written around it.
  for (std::size_t count = 0; count <= 4 * 16 + 3; ++count) {
    const auto first = from.begin() + static_cast<std::ptrdiff_t>(from.size() / 2);
    const std::vector<From> part(first, first + static_cast<std::ptrdiff_t>(count));
    guarded<From> source(part, count % 5);
    guarded<To> target(std::vector<To>(count), count % 3);
    scaled(source.data(), type_of<From>, target.data(), type_of<To>,
           static_cast<std::int64_t>(count), 0.5);
    ASSERT_TRUE(target.intact() && source.intact()) << count;
    ASSERT_TRUE(same_bits(source.values(), part)) << count;
    for (std::size_t i = 0; i < count; ++i) {
      const double expected = expected_value<From, To>(part[i], -1);
      const double got = value_of(target.data()[i]);
      ASSERT_TRUE(same_bits(got, expected) || (std::isnan(got) && std::isnan(expected))) << count;
    }
  }
}

template <class From>
void every_target(kernel scaled) {
  const std::vector<From> from = inputs<From>();
  pair<From, float>(scaled, from);
  pair<From, double>(scaled, from);
  pair<From, bf16>(scaled, from);
  pair<From, f16>(scaled, from);
}

TEST(scaled_convert, every_pair_of_types_on_every_level) {
  for (const steepest_isa isa : levels()) {
    SCOPED_TRACE(steepest_isa_name(isa));
    const kernel scaled = steepest::tables_for(isa).convert.scaled;
    every_target<float>(scaled);
    every_target<double>(scaled);
    every_target<bf16>(scaled);
    every_target<f16>(scaled);
  }
}

// A double just above the middle between two bf16 (or f16) whose nearest float is the middle
// itself: rounded by way of a float it would go to the even neighbour, below.
TEST(scaled_convert, doubles_are_rounded_once) {
  for (const steepest_isa isa : levels()) {
    const kernel scaled = steepest::tables_for(isa).convert.scaled;
    const double doubles[] = {1 + 0x1p-8 + 0x1p-40, 1 + 0x1p-11 + 0x1p-40,
                              -(1 + 3 * 0x1p-8 - 0x1p-40)};
    bf16 narrow[3];
    f16 half[3];
    scaled(doubles, STEEPEST_F64, narrow, STEEPEST_BF16, 3, 1);
    scaled(doubles, STEEPEST_F64, half, STEEPEST_F16, 3, 1);
    EXPECT_EQ(value_of(narrow[0]), 1 + 0x1p-7);
    EXPECT_EQ(value_of(half[1]), 1 + 0x1p-10);
    EXPECT_EQ(value_of(narrow[2]), -(1 + 0x1p-7));
  }
}

}  // namespace
}  // namespace steepest_test
