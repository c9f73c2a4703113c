// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/sum_squares/sum_squares.hpp"
#include "simd/simd.hpp"

namespace steepest {
namespace {

template <class T, class Level, simd::rounding Rounding>
[[gnu::flatten]] squares sum_squares(const void* data, int64_t begin, int64_t end, double scale) {
  using vec = simd::vec<T, Level>;
  constexpr int64_t lanes = 64 / sizeof(T);
  constexpr unsigned registers = lanes / vec::size;
  const T* x = static_cast<const T*>(data) + begin;
  const int64_t count = end - begin;
  // Two sets of sums, since one would wait for its own last addition.
  simd::sums<Level> even;
  simd::sums<Level> odd;
  const auto add = [&](simd::sums<Level>& sums, const T* block) {
    for (unsigned r = 0; r < registers; ++r) {
      vec value = simd::load<Level>(block + r * vec::size);
      if constexpr (sizeof(T) == 8) value = value * vec(scale);
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
  if constexpr (sizeof(T) == 4) result.sum = result.sum * scale * scale;
  if (!(result.sum <= __DBL_MAX__))
    for (int64_t j = 0; j < count; ++j)
      result.nonfinite += !(__builtin_fabs(static_cast<double>(x[j])) <= __DBL_MAX__);
  return result;
}

template <class Level, simd::rounding Exact = simd::rounding::fast>
constexpr sum_squares_table make_sum_squares_table() {
  using simd::rounding;
  return {{sum_squares<float, Level, rounding::fast>, sum_squares<double, Level, rounding::fast>},
          {sum_squares<float, Level, Exact>, sum_squares<double, Level, Exact>}};
}

}  // namespace
}  // namespace steepest
