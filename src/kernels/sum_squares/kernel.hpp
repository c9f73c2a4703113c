// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/sum_squares/sum_squares.hpp"
#include "simd/convert.hpp"

namespace steepest {
namespace {

template <class T, class Level, simd::rounding Rounding>
STEEPEST_KERNEL squares sum_squares(const void* data, int64_t begin, int64_t end, double scale) {
  constexpr bool is_f64 = sizeof(T) == 8;
  constexpr int64_t lanes = is_f64 ? 8 : 16;  // a block
  constexpr int64_t width = is_f64 ? simd::vec<double, Level>::size : simd::vec<float, Level>::size;
  const T* x = static_cast<const T*>(data) + begin;
  const int64_t count = end - begin;
  // Several sets of sums, since one would wait for its own last addition.
  constexpr int sets = 4;
  simd::sums<Level> sums[sets];
  const auto add = [&](simd::sums<Level>& set, const T* block) {
    for (unsigned r = 0; r < lanes / width; ++r) {
      auto value = simd::load<Level>(block + r * width);
      if constexpr (is_f64) value = value * simd::vec<double, Level>(scale);
      set.template add_squares<Rounding>(value, r);
    }
  };
  int64_t i = 0;
  for (; i + sets * lanes <= count; i += sets * lanes)
    for (int set = 0; set < sets; ++set) add(sums[set], x + i + set * lanes);
  if (i < count) {
    T copy[sets * lanes] = {};
    __builtin_memcpy(copy, x + i, static_cast<size_t>(count - i) * sizeof(T));
    for (int set = 0; set < sets; ++set) add(sums[set], copy + set * lanes);
  }
  squares result = {(sums[0].total() + sums[1].total()) + (sums[2].total() + sums[3].total()), 0};
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
