// SPDX-License-Identifier: Apache-2.0
// How the matrix kernels store what they work on.
//
// A panel is 128 bytes wide: 32 floats or 16 doubles. Panel J of a matrix holds its columns
// [J w, (J + 1) w), row after row, so that the rows of a panel follow each other in memory. The
// product of two matrices A^T B is then made of tiles
//
//   (A^T B)_IJ = sum over rows k of  (row k of panel I of A)^T (row k of panel J of B),
//
// w x w outer products whose operands are both read in order. A symmetric matrix has panels of its
// own; tile (I, J), its rows [I w, (I + 1) w) in panel J, is w * w consecutive elements. Only the
// tiles with I >= J are kept up to date, unless the matrix is called full. Sizes are rounded up to
// whole panels; what lies beyond is zero or does no harm.
#pragma once

#include <cstdint>

namespace steepest::linalg {

template <class T>
inline constexpr int64_t panel_width = 128 / static_cast<int64_t>(sizeof(T));

template <class T>
constexpr int64_t panel_count(int64_t columns) {
  return (columns + panel_width<T> - 1) / panel_width<T>;
}

// Of a symmetric n x n matrix.
template <class T>
struct symmetric {
  int64_t n, panels, rows;  // rows: n rounded up

  explicit symmetric(int64_t size)
      : n(size), panels(panel_count<T>(size)), rows(panels * panel_width<T>) {}

  int64_t elements() const { return rows * rows; }
  int64_t panel(int64_t j) const { return j * rows * panel_width<T>; }
  int64_t tile(int64_t i, int64_t j) const {
    return panel(j) + i * panel_width<T> * panel_width<T>;
  }
  int64_t diagonal(int64_t i) const {
    constexpr int64_t w = panel_width<T>;
    return panel(i / w) + i * w + i % w;
  }
  // Tiles with I >= J, counted panel by panel.
  int64_t lower_tiles() const { return panels * (panels + 1) / 2; }
};

// How a tile of products joins what is there.
enum class update { set, add, subtract };

// What one ISA level does to one or two tiles; everything above is loops over tiles. A tile without
// a stride is w * w consecutive elements.
template <class T>
struct panel_kernels {
  // Rows of two panels that the first-level cache holds while a tile is summed up.
  int64_t depth;
  // c = , += or -= sum over k of a[k]^T b[k]; rows of c are `stride` elements apart.
  void (*tile)(const T* a, const T* b, int64_t k, T* c, int64_t stride, update how);
  // The same for a product that is symmetric.
  void (*symmetric_tile)(const T* a, const T* b, int64_t k, T* c, update how);
  // The same for k = w and an `a` with zeros below (lower: above) its diagonal.
  void (*upper_tile)(const T* a, const T* b, T* c);
  void (*lower_tile)(const T* a, const T* b, T* c);
  // to = from^T, rows x columns of `from`, both at most w; the rest of `to` is zero.
  void (*transpose)(const T* from, int64_t stride, int64_t rows, int64_t columns, T* to);
  // Of a tile that is symmetric: u, the upper triangular Cholesky factor (a = u^T u) with zeros
  // below, and its inverse. False if a pivot is not positive.
  bool (*factor)(const T* a, T* u, T* inverse);
};

// Operands in bf16: a word holds two neighbouring k of one column, the first in its lower half. A
// panel of words is as wide as one of floats and half as long. Sums are in f32; the instruction
// takes denormals for zeros.
using bf16_pair = uint32_t;

// Null on levels without an instruction for it.
struct bf16_kernels {
  // As panel_kernels::tile, with k in words.
  void (*tile)(const bf16_pair* a, const bf16_pair* b, int64_t k, float* c, int64_t stride,
               update how);
  void (*symmetric_tile)(const bf16_pair* a, const bf16_pair* b, int64_t k, float* c, update how);
  // to[j] = {first[j], second[j]} rounded, j < width; with `rest` what rounding them takes away.
  void (*pack_columns)(const float* first, const float* second, bool rest, bf16_pair* to);
  // to = words of the transpose of a width x 2 width part: width rows of them.
  void (*pack_rows)(const float* from, int64_t stride, bf16_pair* to);
  // A tile of words, width / 2 rows, as that of the transposed matrix: the pairs of `from` lie
  // along its columns, those of `to` along its rows.
  void (*turn)(const bf16_pair* from, bf16_pair* to);
};

struct linalg_kernels {
  panel_kernels<float> f32;
  panel_kernels<double> f64;

  template <class T>
  const panel_kernels<T>& of() const {
    if constexpr (sizeof(T) == 8)
      return f64;
    else
      return f32;
  }
};

// The same bits on all levels: `exact`.
struct linalg_table {
  linalg_kernels fast;
  linalg_kernels exact;
  bf16_kernels bf16;
};

}  // namespace steepest::linalg
