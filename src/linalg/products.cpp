// SPDX-License-Identifier: Apache-2.0
// Products of panels.
#include <cstring>
#include <initializer_list>

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

// Where a tile lies in a row-major matrix, or what of it lies inside.
template <class T>
struct tile_place {
  static constexpr int64_t w = panel_width<T>;
  const matrix<T>& of;
  int64_t row, col;

  void load(T* tile) const {
    for (int64_t r = 0; r < height(); ++r) std::memcpy(tile + r * w, at(r), bytes());
  }
  void store(const T* tile) const {
    for (int64_t r = 0; r < height(); ++r) std::memcpy(at(r), tile + r * w, bytes());
  }

 private:
  T* at(int64_t r) const { return of.data + (row + r) * of.stride + col; }
  int64_t height() const { return std::min(w, of.rows - row); }
  size_t bytes() const { return static_cast<size_t>(std::min(w, of.cols - col)) * sizeof(T); }
};

// How the loops below see operands that are stored in their own type.
template <class T>
struct plain_operands {
  using word = T;
  static constexpr int64_t w = panel_width<T>;
  const panel_kernels<T>& kernels;

  // Rows of a panel for `k` rows of the operand.
  static int64_t length(int64_t k) { return panel_count<T>(k) * w; }
  void tile(const T* a, const T* b, int64_t k, T* c, int64_t stride, update how) const {
    kernels.tile(a, b, k, c, stride, how);
  }
  // Panel `index` of columns: rows of w elements, copied. `length` rows are wanted; what X does not
  // have is zero.
  void pack_columns(const matrix<const T>& x, int64_t index, int64_t length, T* to) const {
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
  void pack_rows(const matrix<const T>& x, int64_t index, T* to) const {
    const int64_t from = index * w;
    for (int64_t k = 0; k < x.cols; k += w)
      kernels.transpose(x.data + from * x.stride + k, x.stride, std::min(w, x.rows - from),
                        std::min(w, x.cols - k), to + k * w);
  }
};

// Operands rounded to bf16, two k to a word.
struct bf16_operands {
  using word = bf16_pair;
  static constexpr int64_t w = panel_width<float>;
  const bf16_kernels& kernels;

  static int64_t length(int64_t k) { return (k + 2 * w - 1) / (2 * w) * w; }
  void tile(const word* a, const word* b, int64_t k, float* c, int64_t stride, update how) const {
    kernels.tile(a, b, k, c, stride, how);
  }
  void pack_columns(const matrix<const float>& x, int64_t index, int64_t length, word* to) const {
    const int64_t from = index * w;
    const int64_t valid = std::min(w, x.cols - from);
    float rows[2][w] = {};
    for (int64_t k = 0; k < 2 * length; k += 2, to += w) {
      for (int64_t i = 0; i < 2; ++i)
        if (k + i < x.rows)
          std::copy_n(x.data + (k + i) * x.stride + from, valid, rows[i]);
        else
          std::fill(rows[i], rows[i] + w, 0.0F);
      kernels.pack_columns(rows[0], rows[1], false, to);
    }
  }
  void pack_rows(const matrix<const float>& x, int64_t index, word* to) const {
    const int64_t from = index * w;
    for (int64_t k = 0; k < x.cols; k += 2 * w)
      kernels.pack_rows(x.data + from * x.stride + k, x.stride, std::min(w, x.rows - from),
                        std::min(2 * w, x.cols - k), to + k / 2 * w);
  }
};

// c = A^T B on and below the diagonal; panels of `length` rows.
template <class T, class Operands>
steepest_status triangle(steepest_context& context, const Operands& operands, const symmetric<T>& s,
                         const typename Operands::word* a, const typename Operands::word* b,
                         int64_t length, T* c) {
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
          operands.tile(a + (i * length + k) * w, b + (j * length + k) * w, rows, c + s.tile(i, j),
                        w, k == 0 ? update::set : update::add);
    }
  });
}

template <class T, class Operands>
steepest_status gram_of(steepest_context& context, const Operands& operands,
                        const matrix<const T>& x, typename Operands::word* packed, T* r) {
  constexpr int64_t w = panel_width<T>;
  const bool tall = is_tall(x);
  const symmetric<T> s(tall ? x.cols : x.rows);
  const int64_t length = operands.length(tall ? x.rows : x.cols);
  // Moving an element costs some ten operations.
  const double moves = 10.0 * static_cast<double>(s.rows) * static_cast<double>(length);
  const auto status = for_each_unit(context, s.panels, moves, [&](int64_t j) {
    auto* const to = packed + j * length * w;
    if (tall)
      operands.pack_columns(x, j, length, to);
    else
      operands.pack_rows(x, j, to);
  });
  if (status != STEEPEST_OK) return status;
  return triangle(context, operands, s, packed, packed, length, r);
}

// out = (sum of q) X, each q in panels of operands.length(n) rows.
template <class T, class Operands>
steepest_status multiply_by(steepest_context& context, const Operands& operands,
                            std::initializer_list<const typename Operands::word*> factors,
                            const matrix<const T>& x, const matrix<T>& out,
                            typename Operands::word* packed) {
  constexpr int64_t w = panel_width<T>;
  const bool tall = is_tall(x);
  const symmetric<T> s(tall ? x.cols : x.rows);
  const int64_t panels = panel_count<T>(tall ? x.rows : x.cols);
  const int64_t length = operands.length(s.n);
  const auto flops = 2.0 * static_cast<double>(s.rows) * static_cast<double>(s.rows) *
                     static_cast<double>(panels * w);
  // Unit: a group of panels of X, of which the second-level cache keeps a block of rows while all
  // of Q passes by.
  constexpr int64_t kept = 4 * depth;
  constexpr int64_t cached = int64_t{1} << 19;
  const int64_t fitting = cached / (std::min(length, kept) * w * static_cast<int64_t>(sizeof(T)));
  const int64_t group =
      std::clamp<int64_t>(std::min(fitting, panels / (4 * context.threads)), 1, most_beside);
  return for_each_unit(context, (panels + group - 1) / group, flops, [&](int64_t unit) {
    const int64_t first = unit * group;
    const int64_t last = std::min(first + group, panels);
    for (int64_t j = first; j < last; ++j) {
      auto* const to = packed + j * length * w;
      if (tall)
        operands.pack_rows(x, j, to);
      else
        operands.pack_columns(x, j, length, to);
    }
    // Summed up here, not in X: rows of that may be a power of two apart, and then share places in
    // the caches.
    alignas(64) T tiles[most_beside][w * w];
    for (int64_t block = 0; block < length; block += kept)
      for (int64_t i = 0; i < s.panels; ++i) {
        const auto place = [&](int64_t j) {
          return tall ? tile_place<T>{out, j * w, i * w} : tile_place<T>{out, i * w, j * w};
        };
        for (int64_t j = first; j < last && block > 0; ++j) place(j).load(tiles[j - first]);
        const int64_t end = std::min(block + kept, length);
        for (int64_t k = block; k < end; k += depth) {
          const int64_t rows = std::min(depth, end - k);
          for (int64_t j = first; j < last; ++j) {
            const auto* const b = packed + (j * length + k) * w;
            update how = k == 0 ? update::set : update::add;
            for (const auto* const q : factors) {
              const auto* const a = q + (i * length + k) * w;
              operands.tile(tall ? b : a, tall ? a : b, rows, tiles[j - first], w, how);
              how = update::add;
            }
          }
        }
        for (int64_t j = first; j < last; ++j) place(j).store(tiles[j - first]);
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
  return gram_of(context, plain_operands<T>{kernels}, x, packed, r);
}

template <class T>
steepest_status commuting_product(steepest_context& context, const panel_kernels<T>& kernels,
                                  const symmetric<T>& s, const T* a, const T* b, T* c, T* packed) {
  if (uses_openblas(context)) {
    openblas::commuting_product(s, a, b, c, packed);
    return STEEPEST_OK;
  }
  return triangle(context, plain_operands<T>{kernels}, s, a, b, s.rows, c);
}

template <class T>
steepest_status multiply(steepest_context& context, const panel_kernels<T>& kernels, const T* q,
                         const matrix<const T>& x, const matrix<T>& out, T* packed) {
  if (uses_openblas(context)) {
    openblas::multiply(q, x, out, packed);
    return STEEPEST_OK;
  }
  return multiply_by(context, plain_operands<T>{kernels}, {q}, x, out, packed);
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

steepest_status gram_bf16(steepest_context& context, const bf16_kernels& kernels,
                          const matrix<const float>& x, bf16_pair* packed, float* r) {
  return gram_of(context, bf16_operands{kernels}, x, packed, r);
}

steepest_status multiply_bf16(steepest_context& context, const bf16_kernels& kernels,
                              const float* q, bool split, const matrix<const float>& x,
                              const matrix<float>& out, bf16_pair* q_words, bf16_pair* packed) {
  constexpr int64_t w = panel_width<float>;
  const symmetric<float> s(std::min(x.rows, x.cols));
  const int64_t length = bf16_operands::length(s.n);
  bf16_pair* const rest = q_words + s.panels * length * w;
  const double moves = 10.0 * static_cast<double>(s.elements());
  const auto status = for_each_unit(context, s.panels, moves, [&](int64_t j) {
    const float zeros[w] = {};
    for (int64_t k = 0; k < length; ++k) {
      const bool inside = 2 * k < s.rows;
      const float* const first = inside ? q + s.panel(j) + 2 * k * w : zeros;
      const float* const second = inside ? first + w : zeros;
      const int64_t to = (j * length + k) * w;
      kernels.pack_columns(first, second, false, q_words + to);
      if (split) kernels.pack_columns(first, second, true, rest + to);
    }
  });
  if (status != STEEPEST_OK) return status;
  const bf16_operands operands{kernels};
  return split ? multiply_by(context, operands, {q_words, rest}, x, out, packed)
               : multiply_by(context, operands, {q_words}, x, out, packed);
}

int64_t bf16_packed_words(int64_t rows, int64_t cols) {
  const int64_t w = panel_width<float>;
  const auto words = [&](int64_t across, int64_t along) {
    return panel_count<float>(across) * w * bf16_operands::length(along);
  };
  return std::max(words(rows, cols), words(cols, rows));
}

int64_t bf16_factor_words(int64_t n, bool split) {
  return (split ? 2 : 1) * panel_count<float>(n) * panel_width<float> * bf16_operands::length(n);
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
