// SPDX-License-Identifier: Apache-2.0
// The innermost loop: a few rows by a few registers of one tile, kept in registers over all k.
#pragma once

#include "linalg/panels.hpp"
#include "simd/simd.hpp"

namespace steepest::linalg {
namespace {

// std::integral_constant, which an ISA unit may not use.
template <int64_t Value>
struct constant {
  static constexpr int64_t value = Value;
};

// The largest block of a tile that the registers hold beside the operands: `rows` by `vectors`.
template <class T, class Level>
struct block_shape {
  static constexpr int64_t lanes = simd::vec<T, Level>::size;
#if defined(__aarch64__)
  static constexpr bool many_registers = true;
#else
  static constexpr bool many_registers = lanes * sizeof(T) == 64;
#endif
  static constexpr int64_t vectors = lanes * sizeof(T) == 16 && many_registers ? 4 : 2;
  static constexpr int64_t rows = many_registers ? 22 / vectors : vectors * lanes > 8 ? 6 : 5;
};

// c = , += or -= sum over k of a[k]^T b[k], for `Rows` elements of a's rows and `Vectors` registers
// of b's.
template <class T, class Level, simd::rounding Rounding, int64_t Rows, int64_t Vectors>
void micro_kernel(const T* a, const T* b, int64_t k, T* c, int64_t stride, update how) {
  using vec = simd::vec<T, Level>;
  constexpr int64_t lanes = vec::size;
  constexpr int64_t width = panel_width<T>;
  vec sums[Rows][Vectors];
#pragma GCC unroll 16
  for (int64_t r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int64_t v = 0; v < Vectors; ++v) sums[r][v] = vec(T{0});
  // The tile is needed at the end.
  if (how != update::set)
#pragma GCC unroll 16
    for (int64_t r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int64_t v = 0; v<Vectors; v += 64 / static_cast<int64_t>(sizeof(vec))> 1 ? 2 : 1)
        simd::prefetch(c, r * stride + v * lanes);
  for (; k > 0; --k, a += width, b += width) {
    vec row[Vectors];
#pragma GCC unroll 4
    for (int64_t v = 0; v < Vectors; ++v) row[v] = vec::load_unaligned(b + v * lanes);
#pragma GCC unroll 16
    for (int64_t r = 0; r < Rows; ++r) {
      const vec factor(a[r]);
#pragma GCC unroll 4
      for (int64_t v = 0; v < Vectors; ++v)
        sums[r][v] = simd::fma<Rounding>(factor, row[v], sums[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int64_t r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int64_t v = 0; v < Vectors; ++v) {
      T* const at = c + r * stride + v * lanes;
      if (how == update::add) sums[r][v] = vec::load_unaligned(at) + sums[r][v];
      if (how == update::subtract) sums[r][v] = vec::load_unaligned(at) - sums[r][v];
      sums[r][v].store_unaligned(at);
    }
}

// Which k a block of rows [first, last) needs.
enum class shape { full, upper, lower };

// A whole tile, cut into blocks of nearly equal height. With an upper triangular `a` (a[k][i] = 0
// for k > i) the rows of c below need more k than those above; with a lower one fewer.
template <class T, class Level, simd::rounding Rounding, shape Shape>
void tile_blocks(const T* a, const T* b, int64_t k, T* c, int64_t stride, update how) {
  constexpr int64_t width = panel_width<T>;
  constexpr int64_t vectors = block_shape<T, Level>::vectors;
  constexpr int64_t columns = vectors * block_shape<T, Level>::lanes;
  constexpr int64_t most = block_shape<T, Level>::rows;
  constexpr int64_t blocks = (width + most - 1) / most;
  constexpr int64_t height = width / blocks;
  constexpr int64_t higher = width % blocks;  // so many blocks have one row more
  const auto run = [&](auto rows, int64_t row, int64_t column) {
    constexpr int64_t count = decltype(rows)::value;
    const int64_t from = Shape == shape::lower ? row : 0;
    const int64_t to = Shape == shape::upper ? row + count : k;
    micro_kernel<T, Level, Rounding, count, vectors>(a + from * width + row,
                                                     b + from * width + column, to - from,
                                                     c + row * stride + column, stride, how);
  };
  for (int64_t column = 0; column < width; column += columns) {
    int64_t row = 0;
    for (int64_t i = 0; i < higher; ++i, row += height + 1)
      run(constant<height + 1>{}, row, column);
    for (int64_t i = higher; i < blocks; ++i, row += height) run(constant<height>{}, row, column);
  }
}

}  // namespace
}  // namespace steepest::linalg
