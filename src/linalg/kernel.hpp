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

  // Row by row: the pivot's row is scaled, and taken from the rows below.
  STEEPEST_KERNEL static bool factor(const T* a, T* u, T* inverse) {
    T reciprocals[width];
    __builtin_memcpy(u, a, sizeof(T) * width * width);
    for (int64_t k = 0; k < width; ++k) {
      T* const pivot_row = u + k * width;
      const T pivot = pivot_row[k];
      if (!(pivot > T{0})) return false;
      const T scale = T{1} / square_root(pivot);
      reciprocals[k] = scale;
      for (int64_t j = 0; j < k; ++j) pivot_row[j] = T{0};
      const vec factor(scale);
      for (int64_t j = k / lanes * lanes; j < width; j += lanes)
        (vec::load_unaligned(pivot_row + j) * factor).store_unaligned(pivot_row + j);
      for (int64_t i = k + 1; i < width; ++i) {
        T* const row = u + i * width;
        const vec share(T{0} - pivot_row[i]);
        for (int64_t j = i / lanes * lanes; j < width; j += lanes)
          fma(share, vec::load_unaligned(pivot_row + j), vec::load_unaligned(row + j))
              .store_unaligned(row + j);
      }
    }
    // Row i of the inverse is (e_i - sum over k > i of u_ik row k) / u_ii.
    for (int64_t i = width - 1; i >= 0; --i) {
      T* const row = inverse + i * width;
      for (int64_t j = 0; j < width; ++j) row[j] = T{0};
      for (int64_t j = i / lanes * lanes; j < width; j += lanes) {
        // Two chains, since one would wait for its own last addition.
        vec even(T{0});
        vec odd(T{0});
        int64_t k = i + 1;
        for (; k + 1 < width; k += 2) {
          even = fma(vec(u[i * width + k]), vec::load_unaligned(inverse + k * width + j), even);
          odd = fma(vec(u[i * width + k + 1]), vec::load_unaligned(inverse + (k + 1) * width + j),
                    odd);
        }
        if (k < width)
          even = fma(vec(u[i * width + k]), vec::load_unaligned(inverse + k * width + j), even);
        ((even + odd) * vec(T{0} - reciprocals[i])).store_unaligned(row + j);
      }
      row[i] = reciprocals[i];
    }
    return true;
  }

 private:
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
