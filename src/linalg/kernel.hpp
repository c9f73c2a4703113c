// SPDX-License-Identifier: Apache-2.0
// The tile operations of panels.hpp as one template per ISA level.
#pragma once

#include "linalg/micro_kernel.hpp"

namespace steepest::linalg {
namespace {

// Turns size x size elements in registers.
template <class T, class Level>
struct transposer {
  static constexpr int64_t size =
      simd::vec<T, Level>::size * sizeof(T) == 16 ? 16 / sizeof(T) : 32 / sizeof(T);
  using row = simd::raw_vector<T, size>;

  static void block(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
    row rows[size];
#pragma GCC unroll 8
    for (int64_t i = 0; i < size; ++i)
      __builtin_memcpy(&rows[i], from + i * from_stride, sizeof(row));
    simd::transpose_rows<size>(rows);
#pragma GCC unroll 8
    for (int64_t i = 0; i < size; ++i) __builtin_memcpy(to + i * to_stride, &rows[i], sizeof(row));
  }
};

template <class T, class Level, simd::rounding Rounding>
struct tiles {
  using vec = simd::vec<T, Level>;
  static constexpr int64_t lanes = vec::size;
  static constexpr int64_t width = panel_width<T>;

  STEEPEST_KERNEL static void tile(const T* a, const T* b, int64_t k, T* c, int64_t stride,
                                   update how) {
    tile_blocks<T, Level, Rounding, shape::full>(a, b, k, c, stride, how);
  }
  STEEPEST_KERNEL static void symmetric_tile(const T* a, const T* b, int64_t k, T* c, update how) {
    symmetric_blocks<T, Level, Rounding>(a, b, k, c, how);
  }
  STEEPEST_KERNEL static void upper_tile(const T* a, const T* b, T* c) {
    tile_blocks<T, Level, Rounding, shape::upper>(a, b, width, c, width, update::set);
  }
  STEEPEST_KERNEL static void lower_tile(const T* a, const T* b, T* c) {
    tile_blocks<T, Level, Rounding, shape::lower>(a, b, width, c, width, update::set);
  }

  STEEPEST_KERNEL static void transpose(const T* from, int64_t stride, int64_t rows,
                                        int64_t columns, T* to) {
    constexpr int64_t size = transposer<T, Level>::size;
    if (rows == width && columns == width) {
      for (int64_t i = 0; i < width; i += size)
        for (int64_t j = 0; j < width; j += size)
          transposer<T, Level>::block(from + i * stride + j, stride, to + j * width + i, width);
      return;
    }
    for (int64_t j = 0; j < width; ++j)
      for (int64_t i = 0; i < width; ++i)
        to[j * width + i] = i < rows && j < columns ? from[i * stride + j] : T{0};
  }

  // Row by row, each from the rows before, so that sums stay in registers. Rows are stored in whole
  // registers: what is made of several stores cannot be read before all have left the core.
  STEEPEST_KERNEL static bool factor(const T* a, T* u, T* inverse) {
    T reciprocals[width];
    for (int64_t k = 0; k < width; ++k) {
      // Row k is (a_k - sum over q < k of u_qk row q) / u_kk.
      T* const row = u + k * width;
      const int64_t first = clear_before(row, k);
      for (int64_t j = first; j < width; j += lanes)
        (vec::load_unaligned(a + k * width + j) - sum_of_rows<1>(u + k, width, u + j, k))
            .store_unaligned(row + j);
      const T pivot = row[k];
      if (!(pivot > T{0})) return false;
      reciprocals[k] = T{1} / square_root(pivot);
      for (int64_t j = first; j < width; j += lanes)
        (vec::load_unaligned(row + j) * vec(reciprocals[k]) *
         vec::load_unaligned(from_column.values + width - k + j))
            .store_unaligned(row + j);
    }
    for (int64_t i = width - 1; i >= 0; --i) {
      // Row i of the inverse is (e_i - sum over k > i of u_ik row k) / u_ii.
      const T* const last = u + i * width + width - 1;
      T* const row = inverse + i * width;
      for (int64_t j = clear_before(row, i); j < width; j += lanes)
        ((vec::load_unaligned(unit.values + width - i + j) -
          sum_of_rows<-1>(last, 1, inverse + (width - 1) * width + j, width - 1 - i)) *
         vec(reciprocals[i]))
            .store_unaligned(row + j);
    }
    return true;
  }

 private:
  // The sum over k < count of factors[k] row[k], both going up or down (Direction); two chains,
  // since one would wait for its own last addition.
  template <int64_t Direction>
  static vec sum_of_rows(const T* factors, int64_t step, const T* row, int64_t count) {
    vec even(T{0});
    vec odd(T{0});
    step *= Direction;
    constexpr int64_t next = Direction * width;
    for (; count > 1; count -= 2, factors += 2 * step, row += 2 * next) {
      even = fma(vec(factors[0]), vec::load_unaligned(row), even);
      odd = fma(vec(factors[step]), vec::load_unaligned(row + next), odd);
    }
    if (count > 0) even = fma(vec(factors[0]), vec::load_unaligned(row), even);
    return even + odd;
  }
  // Zeros before the register that column k lies in, whose first column is returned.
  static int64_t clear_before(T* row, int64_t k) {
    int64_t j = 0;
    for (; j + lanes <= k; j += lanes) vec(T{0}).store_unaligned(row + j);
    return j;
  }
  // Of two rows' length: 0, and from the middle on 1; 0, and 1 in the middle.
  struct ones {
    T values[2 * width] = {};
    constexpr explicit ones(int64_t count) {
      for (int64_t i = 0; i < count; ++i) values[width + i] = T{1};
    }
  };
  static constexpr ones from_column{width};
  static constexpr ones unit{1};
  static vec fma(vec a, vec b, vec c) { return simd::fma<Rounding>(a, b, c); }
  static float square_root(float x) { return __builtin_sqrtf(x); }
  static double square_root(double x) { return __builtin_sqrt(x); }
};

// Short registers pass over the same rows more often. Sums that are to have the same bits on every
// level need the same depth.
template <class Level>
constexpr int64_t best_depth = simd::vec<float, Level>::size == 16 ? 256 : 96;

template <class T, class Level, simd::rounding Rounding>
constexpr panel_kernels<T> make_panel_kernels(int64_t depth) {
  using of = tiles<T, Level, Rounding>;
  return {depth,          of::tile,      of::symmetric_tile, of::upper_tile,
          of::lower_tile, of::transpose, of::factor};
}

template <class Level, simd::rounding Rounding>
constexpr linalg_kernels make_linalg_kernels(int64_t depth) {
  return {make_panel_kernels<float, Level, Rounding>(depth),
          make_panel_kernels<double, Level, Rounding>(depth)};
}

template <class Level, simd::rounding Exact = simd::rounding::fast>
constexpr linalg_table make_linalg_table() {
  return {make_linalg_kernels<Level, simd::rounding::fast>(best_depth<Level>),
          make_linalg_kernels<Level, Exact>(256),
          {nullptr, nullptr, nullptr, nullptr, nullptr}};
}

}  // namespace
}  // namespace steepest::linalg
