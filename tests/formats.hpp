// SPDX-License-Identifier: Apache-2.0
//
// The storage formats of 16 and 32 bits, written here from their definition, and arrays of them.
#pragma once

#include "adamw_support.hpp"

namespace steepest_test {
struct format {
  steepest_dtype dtype;
  const char* name;
  int precision;  // bits of significand, the implicit one included
  int min_exponent;
  double largest;
};

inline constexpr format f32 = {STEEPEST_F32, "f32", 24, -126, 0x1.fffffep127};
inline constexpr format bf16 = {STEEPEST_BF16, "bf16", 8, -126, 0x1.fep127};
inline constexpr format f16 = {STEEPEST_F16, "f16", 11, -14, 65504};
inline constexpr format formats[] = {f32, bf16, f16};

inline std::size_t size_of(const format& f) { return f.dtype == STEEPEST_F32 ? 4 : 2; }

// To nearest, ties to even, in a type with room for the exact quotient.
inline double rounded(const format& f, double x) {
  if (!std::isfinite(x) || x == 0) return x;
  const double quantum =
      std::ldexp(1.0, std::max(std::ilogb(x), f.min_exponent) - (f.precision - 1));
  const double r = std::nearbyint(x / quantum) * quantum;
  return std::abs(r) > f.largest ? std::copysign(INFINITY, x) : r;
}

// The bits of a value that the 16-bit format has, and back.
inline std::uint16_t encode(const format& f, double x) {
  const int stored = f.precision - 1;
  const int bias = 1 - f.min_exponent;
  const int exponent_mask = 0x7fff >> stored;
  const auto sign = static_cast<std::uint16_t>(std::signbit(x) ? 0x8000 : 0);
  if (std::isnan(x))
    return static_cast<std::uint16_t>(sign | exponent_mask << stored | 1 << (stored - 1));
  if (std::isinf(x)) return static_cast<std::uint16_t>(sign | exponent_mask << stored);
  const int e = x == 0 ? f.min_exponent : std::max(std::ilogb(x), f.min_exponent);
  const auto significand = static_cast<int>(std::ldexp(std::abs(x), stored - e));
  const bool normal = significand >> stored != 0;
  const int field = normal ? e + bias : 0;
  return static_cast<std::uint16_t>(sign | field << stored | (significand & ((1 << stored) - 1)));
}

inline double decode(const format& f, std::uint16_t bits) {
  const int stored = f.precision - 1;
  const int field = (bits & 0x7fff) >> stored;
  const int fraction = bits & ((1 << stored) - 1);
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (field == 0x7fff >> stored) return fraction != 0 ? NAN : sign * INFINITY;
  const int significand = field == 0 ? fraction : fraction | 1 << stored;
  const int e = std::max(field, 1) - (1 - f.min_exponent);
  return sign * std::ldexp(significand, e - stored);
}

// An array of one format between guard bytes.
class typed_array {
 public:
  typed_array(const format& f, const std::vector<float>& values, std::size_t offset = 0)
      : format_(&f), bytes_(encoded(f, values), offset * size_of(f)) {}

  void* data() { return bytes_.data(); }
  bool intact() const { return bytes_.intact(); }
  std::vector<unsigned char> contents() { return bytes_.values(); }
  std::vector<float> values() {
    const std::vector<unsigned char> raw = bytes_.values();
    std::vector<float> out(raw.size() / size_of(*format_));
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (format_->dtype == STEEPEST_F32) {
        std::memcpy(&out[i], &raw[4 * i], 4);
      } else {
        std::uint16_t half = 0;
        std::memcpy(&half, &raw[2 * i], 2);
        out[i] = static_cast<float>(decode(*format_, half));
      }
    }
    return out;
  }

  static std::vector<unsigned char> encoded(const format& f, const std::vector<float>& values) {
    std::vector<unsigned char> raw(values.size() * size_of(f));
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (f.dtype == STEEPEST_F32) {
        std::memcpy(&raw[4 * i], &values[i], 4);
      } else {
        const std::uint16_t half = encode(f, rounded(f, values[i]));
        std::memcpy(&raw[2 * i], &half, 2);
      }
    }
    return raw;
  }

 private:
  const format* format_;
  guarded<unsigned char> bytes_;
};

inline adamw_arrays<float> random_values(random_source& random, std::size_t count) {
  adamw_arrays<float> a = random_arrays<float>(random, count, false, 0.9, -12, 4);
  for (std::size_t i = 0; i < count; i += 11) a.param[i] = random.wide<float>(-149, -120);
  for (std::size_t i = 5; i < count; i += 17) a.grad[i] = random.wide<float>(-26, -10);
  for (std::size_t i = 7; i < count; i += 23) {
    a.grad[i] = random.wide<float>(-149, -120);
    a.exp_avg[i] = random.wide<float>(-149, -120);
    a.exp_avg_sq[i] = std::abs(random.wide<float>(-149, -120));
  }
  return a;
}

}  // namespace steepest_test
