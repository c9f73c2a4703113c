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

// Calls body(unit, worker) for `units` equal pieces of work with `flops` operations in all.
template <class F>
steepest_status for_each_unit(steepest_context& context, int64_t units, double flops, F body) {
  const int64_t worthwhile = static_cast<int64_t>(flops / static_cast<double>(least_task)) + 1;
  const int64_t tasks = std::min({units, worthwhile, int64_t{16} * context.threads});
  auto run = [&](int64_t task, int32_t worker) {
    for (int64_t unit = units * task / tasks; unit < units * (task + 1) / tasks; ++unit)
      body(unit, worker);
  };
  return parallel_for(context, tasks, run);
}

// Panels of X in a unit of work, at most.
constexpr int64_t most_beside = 8;

// Rows of a panel that are summed up before the sums wait in memory for the others.
constexpr int64_t kept = 4 * depth;

// Panels of X in a unit of work, of which the second-level cache keeps `kept` rows while all of Q
// passes by.
template <class T>
int64_t most_panels(int64_t length) {
  constexpr int64_t cached = int64_t{1} << 19;
  return std::clamp<int64_t>(
      cached / (std::min(length, kept) * panel_width<T> * static_cast<int64_t>(sizeof(T))), 1,
      most_beside);
}

template <class T>
tile_part part_at(const matrix<T>& x, int64_t row, int64_t col, int64_t width) {
  return {row, col, std::min(panel_width<T>, x.rows - row), std::min(width, x.cols - col)};
}

template <class T>
void load_part(const tile_source<T>& x, int64_t row, int64_t col, bool below, T* to,
               int64_t stride) {
  constexpr int64_t w = panel_width<T>;
  const tile_part part = part_at(x.stored, row, col, stride);
  if (part.rows < w || part.cols < stride) std::fill(to, to + w * stride, T{0});
  if (x.load != nullptr) return x.load(x.self, part, below, to, stride);
  const T* from = x.stored.data + row * x.stored.stride + col;
  for (int64_t r = 0; r < part.rows; ++r, from += x.stored.stride, to += stride)
    std::memcpy(to, from, static_cast<size_t>(part.cols) * sizeof(T));
}

template <class T>
void store_tile(const tile_sink<T>& out, const tile_part& part, const T* tile) {
  constexpr int64_t w = panel_width<T>;
  if (out.store != nullptr) return out.store(out.self, part, tile);
  T* to = out.stored.data + part.row * out.stored.stride + part.col;
  for (int64_t r = 0; r < part.rows; ++r, to += out.stored.stride, tile += w)
    std::memcpy(to, tile, static_cast<size_t>(part.cols) * sizeof(T));
}

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
  // Panel `index` of the columns of X; `length` rows are wanted, and zero where X has none.
  void pack_columns(const tile_source<T>& x, int64_t index, int64_t length, T* to) const {
    for (int64_t k = 0; k < length; k += w) load_part(x, k, index * w, true, to + k * w, w);
  }
  // Panel `index` of the transpose: w rows of X, turned tile by tile.
  void pack_rows(const tile_source<T>& x, int64_t index, T* to) const {
    alignas(64) T tile[w * w];
    for (int64_t k = 0; k < x.stored.cols; k += w) {
      load_part(x, index * w, k, false, tile, w);
      kernels.transpose(tile, w, w, w, to + k * w);
    }
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
  void pack_columns(const tile_source<float>& x, int64_t index, int64_t length, word* to) const {
    alignas(64) float tile[w * w];
    for (int64_t k = 0; k < 2 * length; k += w) {
      if (k < x.stored.rows)
        load_part(x, k, index * w, true, tile, w);
      else
        std::fill(tile, tile + w * w, 0.0F);
      for (int64_t row = 0; row < w; row += 2, to += w)
        kernels.pack_columns(tile + row * w, tile + (row + 1) * w, false, to);
    }
  }
  void pack_rows(const tile_source<float>& x, int64_t index, word* to) const {
    alignas(64) float tiles[2 * w * w];
    for (int64_t k = 0; k < x.stored.cols; k += 2 * w) {
      load_part(x, index * w, k, false, tiles, 2 * w);
      kernels.pack_rows(tiles, 2 * w, w, 2 * w, to + k / 2 * w);
    }
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
  return for_each_unit(context, sides * (sides + 1) / 2, flops, [&](int64_t unit, int32_t) {
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
                        const tile_source<T>& x, typename Operands::word* packed, T* r) {
  constexpr int64_t w = panel_width<T>;
  const bool tall = is_tall(x.stored);
  const symmetric<T> s(tall ? x.stored.cols : x.stored.rows);
  const int64_t length = operands.length(tall ? x.stored.rows : x.stored.cols);
  // Moving an element costs some ten operations.
  const double moves = 10.0 * static_cast<double>(s.rows) * static_cast<double>(length);
  const auto status = for_each_unit(context, s.panels, moves, [&](int64_t j, int32_t) {
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
                            const tile_source<T>& x, const tile_sink<T>& out,
                            typename Operands::word* packed, T* sums) {
  constexpr int64_t w = panel_width<T>;
  const bool tall = is_tall(x.stored);
  const symmetric<T> s(tall ? x.stored.cols : x.stored.rows);
  const int64_t panels = panel_count<T>(tall ? x.stored.rows : x.stored.cols);
  const int64_t length = operands.length(s.n);
  const auto flops = 2.0 * static_cast<double>(s.rows) * static_cast<double>(s.rows) *
                     static_cast<double>(panels * w);
  const int64_t most = most_panels<T>(length);
  const int64_t group = std::clamp<int64_t>(panels / (4 * context.threads), 1, most);
  const auto place = [&](int64_t i, int64_t j) {
    return part_at(out.stored, (tall ? j : i) * w, (tall ? i : j) * w, w);
  };
  return for_each_unit(
      context, (panels + group - 1) / group, flops, [&](int64_t unit, int32_t worker) {
        const int64_t first = unit * group;
        const int64_t last = std::min(first + group, panels);
        for (int64_t j = first; j < last; ++j) {
          auto* const to = packed + j * length * w;
          if (tall)
            operands.pack_rows(x, j, to);
          else
            operands.pack_columns(x, j, length, to);
        }
        alignas(64) T at_once[most_beside * w * w];
        T* const waiting = sums + worker * s.panels * most * w * w;
        for (int64_t block = 0; block < length; block += kept) {
          const int64_t end = std::min(block + kept, length);
          for (int64_t i = 0; i < s.panels; ++i) {
            T* const tiles = length > kept ? waiting + i * most * w * w : at_once;
            for (int64_t j = first; j < last && end == length && out.expect != nullptr; ++j)
              out.expect(out.self, place(i, j));
            for (int64_t k = block; k < end; k += depth) {
              const int64_t rows = std::min(depth, end - k);
              for (int64_t j = first; j < last; ++j) {
                const auto* const b = packed + (j * length + k) * w;
                update how = k == 0 ? update::set : update::add;
                for (const auto* const q : factors) {
                  const auto* const a = q + (i * length + k) * w;
                  operands.tile(tall ? b : a, tall ? a : b, rows, tiles + (j - first) * w * w, w,
                                how);
                  how = update::add;
                }
              }
            }
            for (int64_t j = first; j < last && end == length; ++j)
              store_tile(out, place(i, j), tiles + (j - first) * w * w);
          }
        }
      });
}

template <class T>
int64_t waiting_elements(const steepest_context& context, int64_t n, int64_t length) {
  constexpr int64_t w = panel_width<T>;
  return length <= kept ? 0 : context.threads * panel_count<T>(n) * most_panels<T>(length) * w * w;
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
int64_t sum_elements(const steepest_context& context, int64_t n) {
  return uses_openblas(context) ? 0 : waiting_elements<T>(context, n, plain_operands<T>::length(n));
}

template <class T>
steepest_status gram(steepest_context& context, const panel_kernels<T>& kernels,
                     const tile_source<T>& x, T* packed, T* r) {
  if (uses_openblas(context)) {
    openblas::gram(x.stored, packed, r);
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
                         const tile_source<T>& x, const tile_sink<T>& out, T* packed, T* sums) {
  if (uses_openblas(context)) {
    openblas::multiply(q, x.stored, out.stored, packed);
    return STEEPEST_OK;
  }
  return multiply_by(context, plain_operands<T>{kernels}, {q}, x, out, packed, sums);
}

template <class T>
steepest_status make_full(steepest_context& context, const panel_kernels<T>& kernels,
                          const symmetric<T>& s, T* a) {
  constexpr int64_t w = panel_width<T>;
  const auto moves = 5.0 * static_cast<double>(s.elements());
  return for_each_unit(context, s.panels, moves, [&](int64_t i, int32_t) {
    for (int64_t j = 0; j < i; ++j) kernels.transpose(a + s.tile(i, j), w, w, w, a + s.tile(j, i));
    T* const diagonal = a + s.tile(i, i);
    for (int64_t r = 0; r < w; ++r)
      for (int64_t c = 0; c < r; ++c) diagonal[c * w + r] = diagonal[r * w + c];
  });
}

template <class T>
steepest_status copy(steepest_context& context, const tile_source<T>& x, const matrix<T>& to) {
  constexpr int64_t w = panel_width<T>;
  const bool tall = is_tall(to);
  const auto moves = 10.0 * static_cast<double>(to.rows) * static_cast<double>(to.cols);
  const int64_t across = panel_count<T>(tall ? to.cols : to.rows);
  return for_each_unit(context, across, moves, [&](int64_t i, int32_t) {
    alignas(64) T tile[w * w];
    for (int64_t j = 0; j < panel_count<T>(tall ? to.rows : to.cols); ++j) {
      const int64_t row = (tall ? j : i) * w;
      const int64_t col = (tall ? i : j) * w;
      load_part(x, row, col, tall, tile, w);
      store_tile({to}, part_at(to, row, col, w), tile);
    }
  });
}

template <class T>
steepest_status store(steepest_context& context, const matrix<const T>& o,
                      const tile_sink<T>& out) {
  constexpr int64_t w = panel_width<T>;
  const bool tall = is_tall(o);
  const auto moves = 10.0 * static_cast<double>(o.rows) * static_cast<double>(o.cols);
  const int64_t along = panel_count<T>(tall ? o.rows : o.cols);
  return for_each_unit(context, along, moves, [&](int64_t j, int32_t) {
    alignas(64) T tile[w * w] = {};
    for (int64_t i = 0; i < panel_count<T>(tall ? o.cols : o.rows); ++i) {
      const int64_t row = (tall ? j : i) * w;
      const int64_t col = (tall ? i : j) * w;
      if (o.data != nullptr) load_part<T>({o}, row, col, !tall, tile, w);
      store_tile(out, part_at(o, row, col, w), tile);
    }
  });
}

steepest_status gram_bf16(steepest_context& context, const bf16_kernels& kernels,
                          const tile_source<float>& x, bf16_pair* packed, float* r) {
  return gram_of(context, bf16_operands{kernels}, x, packed, r);
}

steepest_status multiply_bf16(steepest_context& context, const bf16_kernels& kernels,
                              const float* q, bool split, const tile_source<float>& x,
                              const tile_sink<float>& out, bf16_pair* q_words, bf16_pair* packed,
                              float* sums) {
  constexpr int64_t w = panel_width<float>;
  const symmetric<float> s(std::min(x.stored.rows, x.stored.cols));
  const int64_t length = bf16_operands::length(s.n);
  bf16_pair* const rest = q_words + s.panels * length * w;
  const double moves = 10.0 * static_cast<double>(s.elements());
  const auto status = for_each_unit(context, s.panels, moves, [&](int64_t j, int32_t) {
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
  return split ? multiply_by(context, operands, {q_words, rest}, x, out, packed, sums)
               : multiply_by(context, operands, {q_words}, x, out, packed, sums);
}

int64_t bf16_sum_elements(const steepest_context& context, int64_t n) {
  return waiting_elements<float>(context, n, bf16_operands::length(n));
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
  template int64_t sum_elements<T>(const steepest_context&, int64_t);                          \
  template steepest_status gram(steepest_context&, const panel_kernels<T>&,                    \
                                const tile_source<T>&, T*, T*);                                \
  template steepest_status commuting_product(steepest_context&, const panel_kernels<T>&,       \
                                             const symmetric<T>&, const T*, const T*, T*, T*); \
  template steepest_status multiply(steepest_context&, const panel_kernels<T>&, const T*,      \
                                    const tile_source<T>&, const tile_sink<T>&, T*, T*);       \
  template steepest_status make_full(steepest_context&, const panel_kernels<T>&,               \
                                     const symmetric<T>&, T*);                                 \
  template steepest_status copy(steepest_context&, const tile_source<T>&, const matrix<T>&);   \
  template steepest_status store(steepest_context&, const matrix<const T>&,                    \
                                 const tile_sink<T>&);
STEEPEST_INSTANTIATE(float)
STEEPEST_INSTANTIATE(double)

}  // namespace steepest::linalg
