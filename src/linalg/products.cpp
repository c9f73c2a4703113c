// SPDX-License-Identifier: Apache-2.0
// Products of panels.
#include <cstring>

#include "linalg/linalg.hpp"
#include "parallel/parallel_for.hpp"

namespace steepest::linalg {
namespace {

// Rows of two panels that the first-level cache holds.
constexpr int64_t depth = 256;

// Below so many operations another thread is not worth waking.
constexpr int64_t least_task = int64_t{1} << 21;

// Calls body(unit) for `units` equal pieces of work with `flops` operations in all.
template <class F>
steepest_status for_each_unit(steepest_context& context, int64_t units, double flops, F body) {
  const int64_t worthwhile = static_cast<int64_t>(flops / static_cast<double>(least_task)) + 1;
  const int64_t tasks = std::min({units, worthwhile, int64_t{16} * context.threads});
  auto run = [&](int64_t task, int32_t) {
    for (int64_t unit = units * task / tasks; unit < units * (task + 1) / tasks; ++unit) body(unit);
  };
  return parallel_for(context, tasks, run);
}

// Panels of X in a unit of work, at most.
constexpr int64_t most_beside = 8;

// A tile of a row-major matrix, cut off where that ends.
template <class T>
struct output_tile {
  static constexpr int64_t w = panel_width<T>;
  const matrix<T>& of;
  int64_t row, col;

  bool whole() const { return row + w <= of.rows && col + w <= of.cols; }
  T* data() const { return of.data + row * of.stride + col; }
  void load(T* tile) const {
    for (int64_t r = 0; r < height(); ++r)
      std::memcpy(tile + r * w, data() + r * of.stride, bytes());
  }
  void store(const T* tile) const {
    for (int64_t r = 0; r < height(); ++r)
      std::memcpy(data() + r * of.stride, tile + r * w, bytes());
  }

 private:
  int64_t height() const { return std::min(w, of.rows - row); }
  size_t bytes() const { return static_cast<size_t>(std::min(w, of.cols - col)) * sizeof(T); }
};

// Panel `index` of columns: rows of w elements, copied. `length` rows are wanted; the rest is zero.
template <class T>
void pack_columns(const matrix<const T>& x, int64_t index, int64_t length, T* to) {
  constexpr int64_t w = panel_width<T>;
  const int64_t from = index * w;
  const int64_t valid = std::min(w, x.cols - from);
  const T* row = x.data + from;
  for (int64_t k = 0; k < x.rows; ++k, row += x.stride, to += w) {
    std::memcpy(to, row, static_cast<size_t>(valid) * sizeof(T));
    for (int64_t j = valid; j < w; ++j) to[j] = 0;
  }
  std::fill(to, to + (length - x.rows) * w, T{0});
}

// Panel `index` of the transpose: w rows of X, turned tile by tile.
template <class T>
void pack_rows(const panel_kernels<T>& kernels, const matrix<const T>& x, int64_t index, T* to) {
  constexpr int64_t w = panel_width<T>;
  const int64_t from = index * w;
  for (int64_t k = 0; k < x.cols; k += w)
    kernels.transpose(x.data + from * x.stride + k, x.stride, std::min(w, x.rows - from),
                      std::min(w, x.cols - k), to + k * w);
}

// c = A^T B on and below the diagonal; panels of `length` rows.
template <class T>
steepest_status triangle(steepest_context& context, const panel_kernels<T>& kernels,
                         const symmetric<T>& s, const T* a, const T* b, int64_t length, T* c) {
  constexpr int64_t w = panel_width<T>;
  // Unit: a square of tiles, few enough for the second-level cache to hold their operands' rows.
  constexpr int64_t side = 4;
  const int64_t sides = (s.panels + side - 1) / side;
  const auto flops =
      static_cast<double>(s.rows) * static_cast<double>(s.rows) * static_cast<double>(length);
  return for_each_unit(context, sides * (sides + 1) / 2, flops, [&](int64_t unit) {
    int64_t row = 0;
    for (; unit > row; ++row) unit -= row + 1;
    const int64_t first = row * side;
    const int64_t last = std::min(first + side, s.panels);
    for (int64_t k = 0; k < length; k += depth) {
      const int64_t rows = std::min(depth, length - k);
      for (int64_t i = first; i < last; ++i)
        for (int64_t j = unit * side; j < std::min((unit + 1) * side, i + 1); ++j)
          kernels.tile(a + (i * length + k) * w, b + (j * length + k) * w, rows, c + s.tile(i, j),
                       w, k == 0 ? update::set : update::add);
    }
  });
}

}  // namespace

template <class T>
int64_t packed_elements(const steepest_context& context, int64_t rows, int64_t cols) {
  constexpr int64_t w = panel_width<T>;
  // OpenBLAS takes up to three symmetric matrices row by row.
  const int64_t n = uses_openblas(context) ? std::min(rows, cols) : 0;
  return std::max(panel_count<T>(rows) * w * panel_count<T>(cols) * w, 3 * n * n);
}

template <class T>
steepest_status gram(steepest_context& context, const panel_kernels<T>& kernels,
                     const matrix<const T>& x, T* packed, T* r) {
  if (uses_openblas(context)) {
    openblas::gram(x, packed, r);
    return STEEPEST_OK;
  }
  constexpr int64_t w = panel_width<T>;
  const bool tall = is_tall(x);
  const symmetric<T> s(tall ? x.cols : x.rows);
  const int64_t length = panel_count<T>(tall ? x.rows : x.cols) * w;
  // Moving an element costs some ten operations.
  const double moves = 10.0 * static_cast<double>(s.rows) * static_cast<double>(length);
  const auto status = for_each_unit(context, s.panels, moves, [&](int64_t j) {
    T* const to = packed + j * length * w;
    if (tall)
      pack_columns(x, j, length, to);
    else
      pack_rows(kernels, x, j, to);
  });
  if (status != STEEPEST_OK) return status;
  return triangle(context, kernels, s, packed, packed, length, r);
}

template <class T>
steepest_status commuting_product(steepest_context& context, const panel_kernels<T>& kernels,
                                  const symmetric<T>& s, const T* a, const T* b, T* c, T* packed) {
  if (uses_openblas(context)) {
    openblas::commuting_product(s, a, b, c, packed);
    return STEEPEST_OK;
  }
  return triangle(context, kernels, s, a, b, s.rows, c);
}

template <class T>
steepest_status multiply(steepest_context& context, const panel_kernels<T>& kernels, const T* q,
                         const matrix<const T>& x, const matrix<T>& out, T* packed) {
  if (uses_openblas(context)) {
    openblas::multiply(q, x, out, packed);
    return STEEPEST_OK;
  }
  constexpr int64_t w = panel_width<T>;
  const bool tall = is_tall(x);
  const symmetric<T> s(tall ? x.cols : x.rows);
  const int64_t panels = panel_count<T>(tall ? x.rows : x.cols);
  const auto flops = 2.0 * static_cast<double>(s.rows) * static_cast<double>(s.rows) *
                     static_cast<double>(panels * w);
  // Unit: a group of panels of X, whose rows the second-level cache holds while all of Q passes by.
  const int64_t group = std::clamp<int64_t>(panels / (4 * context.threads), 1, most_beside);
  return for_each_unit(context, (panels + group - 1) / group, flops, [&](int64_t unit) {
    const int64_t first = unit * group;
    const int64_t last = std::min(first + group, panels);
    for (int64_t j = first; j < last; ++j) {
      T* const to = packed + j * s.rows * w;
      if (tall)
        pack_rows(kernels, x, j, to);
      else
        pack_columns(x, j, s.rows, to);
    }
    const auto tile_at = [&](int64_t i, int64_t j) {
      return tall ? output_tile<T>{out, j * w, i * w} : output_tile<T>{out, i * w, j * w};
    };
    for (int64_t k = 0; k < s.rows; k += depth) {
      const int64_t rows = std::min(depth, s.rows - k);
      const update how = k == 0 ? update::set : update::add;
      for (int64_t i = 0; i < s.panels; ++i) {
        const T* const a = q + s.panel(i) + k * w;
        for (int64_t j = first; j < last; ++j) {
          const T* const b = packed + (j * s.rows + k) * w;
          const output_tile<T> to = tile_at(i, j);
          alignas(64) T edge[w * w];
          if (to.whole()) {
            kernels.tile(tall ? b : a, tall ? a : b, rows, to.data(), out.stride, how);
          } else {
            if (how == update::add) to.load(edge);
            kernels.tile(tall ? b : a, tall ? a : b, rows, edge, w, how);
            to.store(edge);
          }
        }
      }
    }
  });
}

template <class T>
steepest_status make_full(steepest_context& context, const panel_kernels<T>& kernels,
                          const symmetric<T>& s, T* a) {
  constexpr int64_t w = panel_width<T>;
  const auto moves = 5.0 * static_cast<double>(s.elements());
  return for_each_unit(context, s.panels, moves, [&](int64_t i) {
    for (int64_t j = 0; j < i; ++j) kernels.transpose(a + s.tile(i, j), w, w, w, a + s.tile(j, i));
    T* const diagonal = a + s.tile(i, i);
    for (int64_t r = 0; r < w; ++r)
      for (int64_t c = 0; c < r; ++c) diagonal[c * w + r] = diagonal[r * w + c];
  });
}

#define STEEPEST_INSTANTIATE(T)                                                                \
  template int64_t packed_elements<T>(const steepest_context&, int64_t, int64_t);              \
  template steepest_status gram(steepest_context&, const panel_kernels<T>&,                    \
                                const matrix<const T>&, T*, T*);                               \
  template steepest_status commuting_product(steepest_context&, const panel_kernels<T>&,       \
                                             const symmetric<T>&, const T*, const T*, T*, T*); \
  template steepest_status multiply(steepest_context&, const panel_kernels<T>&, const T*,      \
                                    const matrix<const T>&, const matrix<T>&, T*);             \
  template steepest_status make_full(steepest_context&, const panel_kernels<T>&,               \
                                     const symmetric<T>&, T*);
STEEPEST_INSTANTIATE(float)
STEEPEST_INSTANTIATE(double)

}  // namespace steepest::linalg
