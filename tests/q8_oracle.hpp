// SPDX-License-Identifier: Apache-2.0
//
// 8-bit blocks from their published definitions, in double, by looking at all 256 codes.
#pragma once

#include <array>

#include "support.hpp"

namespace steepest_test {

// Dettmers et al.'s dynamic tree as bitsandbytes builds it (create_dynamic_map with 7 exponent
// bits): decade i is divided evenly into as many intervals as its bits can tell, and their means
// are the numbers, with both signs or with one bit more; 0 and 1 come to them; sorted.
inline std::array<double, 256> dynamic_map(bool is_signed) {
  std::vector<double> numbers{0, 1};
  for (int i = 0; i < 7; ++i) {
    const int intervals = is_signed ? 1 << i : 2 << i;
    for (int k = 0; k < intervals; ++k) {
      const double mean = 0.1 + 0.9 * (k + 0.5) / intervals;
      numbers.push_back(std::pow(10.0, i - 6) * mean);
      if (is_signed) numbers.push_back(-numbers.back());
    }
  }
  std::sort(numbers.begin(), numbers.end());
  std::array<double, 256> map{};
  EXPECT_EQ(numbers.size(), map.size());
  std::copy(numbers.begin(), numbers.end(), map.begin());
  return map;
}

struct q8_rule {
  steepest_dtype dtype;
  bool is_signed;

  std::size_t block() const { return dtype == STEEPEST_Q8_DYNAMIC ? 256 : 32; }
  std::size_t scale_size() const { return dtype == STEEPEST_Q8_DYNAMIC ? 4 : 2; }
  std::size_t blocks(std::size_t count) const { return (count + block() - 1) / block(); }

  // What a code stands for in a block of scale 1.
  double number(int code) const {
    static const std::array<double, 256> maps[] = {dynamic_map(false), dynamic_map(true)};
    if (dtype == STEEPEST_Q8_DYNAMIC)
      return maps[is_signed ? 1 : 0][static_cast<std::size_t>(code)];
    const int q = is_signed ? static_cast<std::int8_t>(code) : code;
    return is_signed ? q / (254.0 - std::abs(q)) : q / 255.0 * (q / 255.0);
  }
  // 6 bits of exponent and 10 of fraction, or a float.
  double scale(const unsigned char* scales, std::size_t i) const {
    if (dtype == STEEPEST_Q8_DYNAMIC) {
      float x = 0;
      std::memcpy(&x, scales + 4 * i, 4);
      return static_cast<double>(x);
    }
    std::uint16_t bits = 0;
    std::memcpy(&bits, scales + 2 * i, 2);
    if (bits == 0) return 0;
    if (bits == 0xffff) return NAN;
    return std::ldexp(1 + (bits & 1023) / 1024.0, (bits >> 10) - 40);
  }
  double value(int code, double scale) const {
    return number(code) * (dtype == STEEPEST_Q8_COMPANDED && !is_signed ? scale * scale : scale);
  }

  // The scale that a block whose largest magnitude is `largest` must have. By chance, 16-bit
  // scales are rounded up, so that nothing is above them.
  double scale_for(double largest, bool stochastic = false) const {
    if (!std::isfinite(largest)) return NAN;
    if (dtype == STEEPEST_Q8_DYNAMIC) return largest < 0x1p-126 ? 0 : largest;
    const double x = is_signed ? largest : static_cast<float>(std::sqrt(largest));
    if (x == 0) return 0;
    const double quantum = std::ldexp(1.0, std::ilogb(x) - 10);
    const double r = (stochastic ? std::ceil(x / quantum) : std::nearbyint(x / quantum)) * quantum;
    return r <= 0x1p-40 ? 0 : std::min(r, 0x1.ff8p23);
  }

  // Codes are spaced evenly in `spread` of a value: the value itself, or its companded form.
  double spread(double value, double scale) const {
    const double x = std::abs(value) / scale;
    if (dtype == STEEPEST_Q8_DYNAMIC) return std::copysign(x, value);
    if (is_signed) return std::copysign(254 * x / (1 + x), value);
    return 255 * std::sqrt(value) / scale;
  }
  double spread_of(int code) const {
    if (dtype == STEEPEST_Q8_DYNAMIC) return number(code);
    return is_signed ? static_cast<std::int8_t>(code) : code;
  }
  bool usable(int code) const {
    return !(dtype == STEEPEST_Q8_COMPANDED && is_signed && code == 128);
  }

  // Whether `code` is the nearest to a value, as far as a quotient in float can tell.
  bool nearest(int code, double value, double scale) const {
    if (scale == 0) return this->value(code, scale) == 0;
    if (value == 0) return number(code) == 0;
    if (never_zero() && number(code) == 0) return false;
    const double x = spread(value, scale);
    double best = INFINITY;
    for (int c = 0; c < 256; ++c)
      if (usable(c) && !(never_zero() && number(c) == 0))
        best = std::min(best, std::abs(spread_of(c) - x));
    return usable(code) && std::abs(spread_of(code) - x) <= best + 0x1p-21 * std::abs(x);
  }
  // Whether it is what rounding by u in (0, 1) gives: one of the two neighbours, the upper one if
  // the value's place between them is above u.
  bool stochastic(int code, double value, double scale, double u) const {
    if (scale == 0 || value == 0) return nearest(code, value, scale);
    const double x = std::abs(value);
    const double sign = value < 0 ? -1 : 1;
    double low = 0, high = INFINITY;
    for (int c = 0; c < 256; ++c) {
      const double y = sign * this->value(c, scale);
      if (!usable(c) || y < 0) continue;
      if (y <= x) low = std::max(low, y);
      if (y > x) high = std::min(high, y);
    }
    const double got = sign * this->value(code, scale);
    const auto close = [&](double y) { return std::abs(got - y) <= 1e-5 * y; };
    if (high == INFINITY) return close(low);
    const double place = (x - low) / (high - low);
    // Within a rounding error of a number: its other side is right too.
    if (place > 1 - 1e-4 && close(high)) return true;
    if (never_zero() && low == 0) return close(high);
    return (place > u - 1e-4 && close(high)) || (place < u + 1e-4 && close(low));
  }

 private:
  bool never_zero() const { return dtype == STEEPEST_Q8_COMPANDED && !is_signed; }
};

inline constexpr q8_rule q8_rules[] = {{STEEPEST_Q8_DYNAMIC, true},
                                       {STEEPEST_Q8_DYNAMIC, false},
                                       {STEEPEST_Q8_COMPANDED, true},
                                       {STEEPEST_Q8_COMPANDED, false}};

}  // namespace steepest_test
