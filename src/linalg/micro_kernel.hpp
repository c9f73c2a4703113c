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
// of b's. `Fetch`: the operands' rows are still to come from memory, for the blocks after this one
// too.
template <class T, class Level, simd::rounding Rounding, int64_t Rows, int64_t Vectors, bool Fetch>
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
    if constexpr (Fetch) {
      // What is fetched unasked ends with a page of memory, 32 rows.
      constexpr int64_t ahead = 32 * width;
      simd::prefetch(a, ahead);
      simd::prefetch(a, ahead + width / 2);
      simd::prefetch(b, ahead);
      simd::prefetch(b, ahead + width / 2);
    }
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

// Rows [first, first + count) of some columns of a tile, cut into blocks of nearly equal height.
// With an upper triangular `a` (a[k][i] = 0 for k > i) the rows of c below need more k than those
// above; with a lower one fewer. The first block of a tile fetches the operands for all; more
// prefetches than that would take as many cycles from the loads as short registers have to spare.
template <class T, class Level, simd::rounding Rounding, shape Shape, int64_t Count,
          int64_t Vectors>
void row_blocks(const T* a, const T* b, int64_t k, T* c, int64_t stride, update how, int64_t first,
                int64_t column) {
  constexpr int64_t width = panel_width<T>;
  // Lower blocks leave out more of a triangle; eight rows still keep the multipliers busy.
  constexpr int64_t highest =
      Shape == shape::full ? block_shape<T, Level>::rows
                           : (block_shape<T, Level>::rows > 8 ? 8 : block_shape<T, Level>::rows);
  constexpr int64_t most = highest * block_shape<T, Level>::vectors / Vectors;
  constexpr int64_t blocks = (Count + most - 1) / most;
  constexpr int64_t height = Count / blocks;
  constexpr int64_t higher = Count % blocks;  // so many blocks have one row more
  const auto run = [&](auto rows, int64_t row) {
    constexpr int64_t count = decltype(rows)::value;
    const int64_t from = Shape == shape::lower ? row : 0;
    const int64_t to = Shape == shape::upper ? row + count : k;
    const auto block = [&](auto fetch) {
      micro_kernel<T, Level, Rounding, count, Vectors, decltype(fetch)::value != 0>(
          a + from * width + row, b + from * width + column, to - from, c + row * stride + column,
          stride, how);
    };
    if (Shape == shape::full && row == 0 && column == 0)
      block(constant<1>{});
    else
      block(constant<0>{});
  };
  int64_t row = first;
  for (int64_t i = 0; i < higher; ++i, row += height + 1) run(constant<height + 1>{}, row);
  for (int64_t i = higher; i < blocks; ++i, row += height) run(constant<height>{}, row);
}

// A whole tile.
template <class T, class Level, simd::rounding Rounding, shape Shape>
void tile_blocks(const T* a, const T* b, int64_t k, T* c, int64_t stride, update how) {
  constexpr int64_t width = panel_width<T>;
  constexpr int64_t vectors = block_shape<T, Level>::vectors;
  constexpr int64_t columns = vectors * block_shape<T, Level>::lanes;
  for (int64_t column = 0; column < width; column += columns)
    row_blocks<T, Level, Rounding, Shape, width, vectors>(a, b, k, c, stride, how, 0, column);
}

// A tile that is symmetric: its upper right quarter is a copy of the lower left one.
template <class T, class Level, simd::rounding Rounding>
void symmetric_blocks(const T* a, const T* b, int64_t k, T* c, update how) {
  constexpr int64_t width = panel_width<T>;
  constexpr int64_t half = width / 2;
  constexpr int64_t lanes = block_shape<T, Level>::lanes;
  constexpr int64_t vectors = block_shape<T, Level>::vectors;
  constexpr int64_t fewer = vectors * lanes > half ? half / lanes : vectors;
  for (int64_t column = 0; column < half; column += fewer * lanes)
    row_blocks<T, Level, Rounding, shape::full, half, fewer>(a, b, k, c, width, how, 0, column);
  for (int64_t column = 0; column < width; column += vectors * lanes)
    row_blocks<T, Level, Rounding, shape::full, half, vectors>(a, b, k, c, width, how, half,
                                                               column);
  for (int64_t row = half; row < width; ++row)
    for (int64_t column = 0; column < half; ++column)
      c[column * width + row] = c[row * width + column];
}

}  // namespace
}  // namespace steepest::linalg
