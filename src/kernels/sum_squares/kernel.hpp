// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/sum_squares/sum_squares.hpp"
#include "simd/convert.hpp"

namespace steepest {
namespace {

template <class T, class Level, simd::rounding Rounding>
[[gnu::flatten]] squares sum_squares(const void* data, int64_t begin, int64_t end, double scale) {
  constexpr bool is_f64 = sizeof(T) == 8;
  constexpr int64_t lanes = is_f64 ? 8 : 16;  // a block
  constexpr int64_t width = is_f64 ? simd::vec<double, Level>::size : simd::vec<float, Level>::size;
  const T* x = static_cast<const T*>(data) + begin;
  const int64_t count = end - begin;
  // Two sets of sums, since one would wait for its own last addition.
  simd::sums<Level> even;
  simd::sums<Level> odd;
  const auto add = [&](simd::sums<Level>& sums, const T* block) {
    for (unsigned r = 0; r < lanes / width; ++r) {
      auto value = simd::load<Level>(block + r * width);
      if constexpr (is_f64) value = value * simd::vec<double, Level>(scale);
      sums.template add_squares<Rounding>(value, r);
    }
  };
  int64_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    add(even, x + i);
    add(odd, x + i + lanes);
  }
  if (i < count) {
    T copy[2 * lanes] = {};
    __builtin_memcpy(copy, x + i, static_cast<size_t>(count - i) * sizeof(T));
    add(even, copy);
    add(odd, copy + lanes);
  }
  squares result = {even.total() + odd.total(), 0};
  // Squares of floats fit a double as they are.
  if constexpr (!is_f64) result.sum = result.sum * scale * scale;
  if (!(result.sum <= __DBL_MAX__)) result.nonfinite = simd::count_nonfinite(x, count);
  return result;
}

template <class Level, simd::rounding Rounding>
constexpr sum_squares_kernels make_sum_squares_kernels() {
  return {{sum_squares<float, Level, Rounding>, sum_squares<double, Level, Rounding>,
           sum_squares<bf16, Level, Rounding>, sum_squares<f16, Level, Rounding>}};
}

template <class Level, simd::rounding Exact = simd::rounding::fast>
constexpr sum_squares_table make_sum_squares_table() {
  return {make_sum_squares_kernels<Level, simd::rounding::fast>(),
          make_sum_squares_kernels<Level, Exact>()};
}

}  // namespace
}  // namespace steepest
