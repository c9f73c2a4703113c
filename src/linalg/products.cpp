// SPDX-License-Identifier: Apache-2.0
// Products of panels.
#include <cstring>
#include <initializer_list>

#include "linalg/linalg.hpp"
#include "parallel/parallel_for.hpp"

namespace steepest::linalg {
namespace {

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
constexpr int64_t kept = 1024;

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
int64_t panels_in_unit(const steepest_context& context, int64_t panels, int64_t length) {
  return std::clamp<int64_t>(panels / (4 * context.threads), 1, most_panels<T>(length));
}

template <class T>
tile_part part_at(const matrix<T>& x, int64_t row, int64_t col, int64_t width) {
  return {row, col, std::min(panel_width<T>, x.rows - row), std::min(width, x.cols - col)};
}

// `stride` columns of X from `col` on, and zero where X has none.
template <class T>
void load_part(const tile_source<T>& x, int64_t row, int64_t col, T* to, int64_t stride) {
  constexpr int64_t w = panel_width<T>;
  const tile_part part = part_at(x.stored, row, col, stride);
  if (part.rows < w || part.cols < stride) std::fill(to, to + w * stride, T{0});
  if (part.rows <= 0) return;
  if (x.load != nullptr) return x.load(x.self, part, to, stride);
  const T* from = x.stored.data + row * x.stored.stride + col;
  const int64_t next = std::min(stride, x.stored.cols - col - part.cols);
  for (int64_t r = 0; r < part.rows; ++r, from += x.stored.stride, to += stride) {
    for (int64_t c = 0; c < next; c += 64 / sizeof(T))
      __builtin_prefetch(from + part.cols + c, 0, 2);
    std::memcpy(to, from, static_cast<size_t>(part.cols) * sizeof(T));
  }
}

template <class T>
void store_part(const tile_sink<T>& out, const tile_part& part, const T* from, int64_t stride) {
  if (out.store != nullptr) return out.store(out.self, part, from, stride);
  T* to = out.stored.data + part.row * out.stored.stride + part.col;
  for (int64_t r = 0; r < part.rows; ++r, to += out.stored.stride, from += stride)
    std::memcpy(to, from, static_cast<size_t>(part.cols) * sizeof(T));
}

// How the loops below see operands that are stored in their own type.
template <class T>
struct plain_operands {
  using word = T;
  static constexpr int64_t w = panel_width<T>;
  static constexpr int64_t k_in_word = 1;
  const panel_kernels<T>& kernels;

  int64_t depth() const { return kernels.depth; }

  void tile(const T* a, const T* b, int64_t k, T* c, int64_t stride, update how) const {
    kernels.tile(a, b, k, c, stride, how);
  }
  void symmetric_tile(const T* a, const T* b, int64_t k, T* c, update how) const {
    kernels.symmetric_tile(a, b, k, c, how);
  }
  // Rows of a panel from w rows of w elements.
  void pack(const T* from, int64_t stride, T* to) const {
    for (int64_t r = 0; r < w; ++r, from += stride, to += w) std::memcpy(to, from, w * sizeof(T));
  }
  // Rows of a panel of the transpose from w rows of `cols` elements.
  void pack_transposed(const T* from, int64_t cols, T* to) const {
    for (int64_t k = 0; k < cols; k += w) kernels.transpose(from + k, cols, w, w, to + k * w);
  }
  // A tile of packed X as one of packed X^T.
  void turn(const T* from, T* to) const { kernels.transpose(from, w, w, w, to); }
};

// Operands rounded to bf16, two k to a word.
struct bf16_operands {
  using word = bf16_pair;
  static constexpr int64_t w = panel_width<float>;
  static constexpr int64_t k_in_word = 2;
  const bf16_kernels& kernels;

  static constexpr int64_t depth() { return 256; }

  void tile(const word* a, const word* b, int64_t k, float* c, int64_t stride, update how) const {
    kernels.tile(a, b, k, c, stride, how);
  }
  void symmetric_tile(const word* a, const word* b, int64_t k, float* c, update how) const {
    kernels.symmetric_tile(a, b, k, c, how);
  }
  void pack(const float* from, int64_t stride, word* to) const {
    for (int64_t r = 0; r < w; r += 2, from += 2 * stride, to += w)
      kernels.pack_columns(from, from + stride, false, to);
  }
  void pack_transposed(const float* from, int64_t cols, word* to) const {
    for (int64_t k = 0; k < cols; k += 2 * w) kernels.pack_rows(from + k, cols, to + k / 2 * w);
  }
  void turn(const word* from, word* to) const { kernels.turn(from, to); }
};

// Rows of a panel for `k` rows of an operand.
template <class Operands>
constexpr int64_t panel_length(int64_t k) {
  constexpr int64_t whole = Operands::w * Operands::k_in_word;
  return (k + whole - 1) / whole * Operands::w;
}

// Rows [row, row + w) of panels [first, last) of X, which are `length` rows long.
template <class T, class Operands>
void pack_strip(const Operands& operands, const tile_source<T>& x, int64_t row, int64_t first,
                int64_t last, int64_t length, typename Operands::word* panels) {
  constexpr int64_t w = panel_width<T>;
  alignas(64) T strip[w * most_beside * w];
  const int64_t stride = (last - first) * w;
  load_part(x, row, first * w, strip, stride);
  for (int64_t j = 0; j < last - first; ++j)
    operands.pack(strip + j * w, stride, panels + (j * length + row / Operands::k_in_word) * w);
}

// Has rows of a panel fetched. (A store to a line that is not in the cache holds up all after it.)
template <class Word>
void fetch_rows(const Word* panel, int64_t rows) {
  constexpr int64_t bytes = 128;
  fetch(panel, bytes, bytes, rows);
}

// Columns [from, to) of panel `index` of the transpose of X.
template <class T, class Operands>
void pack_transposed(const Operands& operands, const tile_source<T>& x, int64_t index, int64_t from,
                     int64_t to, typename Operands::word* panel) {
  constexpr int64_t w = panel_width<T>;
  alignas(64) T strip[w * most_beside * w];
  for (int64_t k = from; k < to; k += most_beside * w) {
    const int64_t cols = std::min(most_beside * w, to - k);
    auto* const packed = panel + k / Operands::k_in_word * w;
    fetch_rows(packed, cols / Operands::k_in_word);
    load_part(x, index * w, k, strip, cols);
    operands.pack_transposed(strip, cols, packed);
  }
}

// c = A^T B on and below the diagonal, of rows [from, to) of panels of `length` rows; a sum over
// all rows takes calls with one range after the other. meanwhile(i, n), i < n, is called from time
// to time, n times in all.
template <class T, class Operands, class F>
steepest_status triangle(steepest_context& context, const Operands& operands, const symmetric<T>& s,
                         const typename Operands::word* a, const typename Operands::word* b,
                         int64_t length, int64_t from, int64_t to, T* c, F meanwhile) {
  constexpr int64_t w = panel_width<T>;
  // Unit: a square of tiles, few enough for the second-level cache to hold their operands' rows.
  constexpr int64_t side = 4;
  const int64_t depth = operands.depth();
  const int64_t sides = (s.panels + side - 1) / side;
  const int64_t units = sides * (sides + 1) / 2;
  const auto flops =
      static_cast<double>(s.rows) * static_cast<double>(s.rows) * static_cast<double>(to - from);
  return for_each_unit(context, units, flops, [&](int64_t unit, int32_t) {
    int64_t row = 0;
    int64_t column = unit;
    for (; column > row; ++row) column -= row + 1;
    for (int64_t k = from; k < to; k += depth) {
      const int64_t rows = std::min(depth, to - k);
      const update how = k == 0 ? update::set : update::add;
      for (int64_t t = 0; t < side * side; ++t) {
        if (k == from) meanwhile(unit * side * side + t, units * side * side);
        const int64_t i = row * side + t / side;
        const int64_t j = column * side + t % side;
        if (i >= s.panels || j > i) continue;
        const auto* const left = a + (i * length + k) * w;
        const auto* const right = b + (j * length + k) * w;
        if (i == j)
          operands.symmetric_tile(left, right, rows, c + s.tile(i, j), how);
        else
          operands.tile(left, right, rows, c + s.tile(i, j), w, how);
      }
    }
  });
}

// Rows of all panels that are packed, and then multiplied while they are in the cache.
template <class T, class Operands>
int64_t rows_at_once(const Operands& operands, int64_t panels) {
  constexpr int64_t cached = int64_t{1} << 20;
  constexpr auto size = static_cast<int64_t>(sizeof(typename Operands::word));
  const int64_t rows = cached / (panels * panel_width<T> * size);
  return std::max<int64_t>(rows / operands.depth(), 1) * operands.depth();
}

// Has a part of X fetched.
template <class T>
void expect_part(const tile_source<T>& x, const tile_part& part) {
  constexpr auto size = static_cast<int64_t>(sizeof(T));
  if (part.rows <= 0 || part.cols <= 0) return;
  if (x.load == nullptr)
    fetch(x.stored.data + part.row * x.stored.stride + part.col, part.cols * size,
          x.stored.stride * size, part.rows);
  else if (x.expect != nullptr)
    x.expect(x.self, part);
}

// The Gram matrix of a rows x cols X, which comes from `x`, or lies in `packed` already. Some rows
// of all panels are packed, then multiplied while those that follow are fetched from memory.
template <class T, class Operands>
steepest_status gram_of(steepest_context& context, const Operands& operands, int64_t rows,
                        int64_t cols, const tile_source<T>* x, typename Operands::word* packed,
                        T* r) {
  constexpr int64_t w = panel_width<T>;
  constexpr int64_t in_word = Operands::k_in_word;
  const bool tall = is_tall(rows, cols);
  const symmetric<T> s(std::min(rows, cols));
  const int64_t length = panel_length<Operands>(std::max(rows, cols));
  const int64_t step = x == nullptr ? length : rows_at_once<T>(operands, s.panels);
  for (int64_t from = 0; from < length; from += step) {
    const int64_t to = std::min(from + step, length);
    if (x != nullptr) {
      // Moving an element costs some ten operations.
      const double moves =
          10.0 * static_cast<double>(s.rows) * static_cast<double>((to - from) * in_word);
      const int64_t strips = tall ? (to - from) * in_word / w : s.panels;
      const auto status = for_each_unit(context, strips, moves, [&](int64_t i, int32_t) {
        if (!tall)
          return pack_transposed(operands, *x, i, from * in_word, to * in_word,
                                 packed + i * length * w);
        for (int64_t j = 0; j < s.panels; j += most_beside)
          pack_strip(operands, *x, from * in_word + i * w, j, std::min(j + most_beside, s.panels),
                     length, packed + j * length * w);
      });
      if (status != STEEPEST_OK) return status;
    }
    // The rows of X that follow, or what follows in its rows, and where they go.
    const int64_t next = std::min(to + step, length);
    const auto meanwhile = [&](int64_t i, int64_t n) {
      if (x == nullptr || next == to) return;
      const int64_t height = next - to;
      const int64_t all = s.panels * height;
      for (int64_t at = all * i / n; at < all * (i + 1) / n; ++at)
        fetch_rows(packed + (at / height * length + to + at % height) * w, 1);
      const int64_t first = tall ? to * in_word : 0;
      const int64_t count = tall ? std::min(next * in_word, rows) - first : rows;
      const int64_t col = tall ? 0 : to * in_word;
      const int64_t row = first + count * i / n;
      expect_part(*x, {row, col, first + count * (i + 1) / n - row,
                       (tall ? cols : std::min(next * in_word, cols)) - col});
    };
    const auto status =
        triangle(context, operands, s, packed, packed, length, from, to, r, meanwhile);
    if (status != STEEPEST_OK) return status;
  }
  return STEEPEST_OK;
}

// out = (sum of q) X, each q in panels, for a packed rows x cols X.
template <class T, class Operands>
steepest_status multiply_by(steepest_context& context, const Operands& operands,
                            std::initializer_list<const typename Operands::word*> factors,
                            int64_t rows, int64_t cols, const typename Operands::word* packed,
                            const tile_sink<T>& out, typename Operands::word* scratch, T* sums) {
  using word = typename Operands::word;
  constexpr int64_t w = panel_width<T>;
  const bool tall = is_tall(rows, cols);
  const symmetric<T> s(std::min(rows, cols));
  const int64_t panels = panel_count<T>(std::max(rows, cols));
  const int64_t length = panel_length<Operands>(s.n);
  const int64_t packed_length = panel_length<Operands>(std::max(rows, cols));
  // In words.
  constexpr int64_t tile_size = w * w / Operands::k_in_word;
  const auto flops = 2.0 * static_cast<double>(s.rows) * static_cast<double>(s.rows) *
                     static_cast<double>(panels * w);
  const int64_t depth = operands.depth();
  const int64_t group = panels_in_unit<T>(context, panels, length);
  // A part of `out` is one tile high. Its tiles belong to panels of X or, of a tall X, of Q.
  const int64_t beside = tall ? 4 : group;
  const int64_t step = tall ? beside : 1;
  const auto unit_of = [&](int64_t unit, int32_t worker) {
    const int64_t first = unit * group;
    const int64_t count = std::min(group, panels - first);
    word* const own = scratch + worker * group * length * w;
    for (int64_t j = 0; j < count; ++j) {
      word* const panel = own + j * length * w;
      for (int64_t i = 0; i < s.panels; ++i)
        operands.turn(packed + i * packed_length * w + (first + j) * tile_size,
                      panel + i * tile_size);
      std::fill(panel + s.panels * tile_size, panel + length * w, word{0});
    }
    alignas(64) T at_once[most_beside * w * w];
    T* const waiting = sums + worker * s.panels * group * w * w;
    for (int64_t block = 0; block < length; block += kept) {
      const int64_t end = std::min(block + kept, length);
      T* next = waiting;
      // The part at panels [i, i + step) of Q and [j, j + those beside it) of ours.
      const auto part_of = [&](int64_t i, int64_t j, int64_t tiles) {
        const int64_t stride = tiles * w;
        T* const c = length > kept ? next : at_once;
        next += stride * w;
        const tile_part part = tall ? part_at(out.stored, (first + j) * w, i * w, stride)
                                    : part_at(out.stored, i * w, first * w, stride);
        const int64_t calls = (end - block + depth - 1) / depth * tiles;
        int64_t call = 0;
        for (int64_t k = block; k < end; k += depth) {
          const int64_t k_rows = std::min(depth, end - k);
          for (int64_t t = 0; t < tiles; ++t, ++call) {
            if (end == length && out.expect != nullptr) out.expect(out.self, part, call, calls);
            const word* const of_x = own + ((tall ? j : t) * length + k) * w;
            update how = k == 0 ? update::set : update::add;
            for (const word* const q : factors) {
              const word* const of_q = q + ((tall ? i + t : i) * length + k) * w;
              operands.tile(tall ? of_x : of_q, tall ? of_q : of_x, k_rows, c + t * w, stride, how);
              how = update::add;
            }
          }
        }
        if (end == length) store_part(out, part, c, stride);
      };
      for (int64_t i = 0; i < s.panels; i += step) {
        if (!tall) part_of(i, 0, count);
        for (int64_t j = 0; tall && j < count; ++j) part_of(i, j, std::min(beside, s.panels - i));
      }
    }
  };
  return for_each_unit(context, (panels + group - 1) / group, flops, unit_of);
}

template <class T, class Operands>
int64_t packed_words(int64_t rows, int64_t cols) {
  return panel_count<T>(std::min(rows, cols)) * panel_width<T> *
         panel_length<Operands>(std::max(rows, cols));
}

// The panels that multiply_by works with.
template <class T, class Operands>
int64_t unit_words(const steepest_context& context, int64_t rows, int64_t cols) {
  const int64_t length = panel_length<Operands>(std::min(rows, cols));
  const int64_t panels = panel_count<T>(std::max(rows, cols));
  return context.threads * panels_in_unit<T>(context, panels, length) * length * panel_width<T>;
}

template <class T, class Operands>
int64_t waiting_elements(const steepest_context& context, int64_t rows, int64_t cols) {
  const int64_t n = std::min(rows, cols);
  const int64_t length = panel_length<Operands>(n);
  if (length <= kept) return 0;
  const int64_t panels = panel_count<T>(std::max(rows, cols));
  return context.threads * panel_width<T> * panel_width<T> * panel_count<T>(n) *
         panels_in_unit<T>(context, panels, length);
}

}  // namespace

template <class T>
int64_t packed_elements(const steepest_context& context, int64_t rows, int64_t cols) {
  return uses_openblas(context) ? rows * cols : packed_words<T, plain_operands<T>>(rows, cols);
}

template <class T>
int64_t product_elements(const steepest_context& context, int64_t rows, int64_t cols) {
  // OpenBLAS takes up to three symmetric matrices row by row.
  const int64_t n = std::min(rows, cols);
  if (uses_openblas(context)) {
    obtain_blas_buffer();
    return 3 * n * n;
  }
  return unit_words<T, plain_operands<T>>(context, rows, cols) +
         waiting_elements<T, plain_operands<T>>(context, rows, cols);
}

template <class T>
steepest_status copy(steepest_context& context, const tile_source<T>& x, const matrix<T>& to) {
  constexpr int64_t w = panel_width<T>;
  const auto moves = 10.0 * static_cast<double>(to.rows) * static_cast<double>(to.cols);
  return for_each_unit(context, panel_count<T>(to.rows), moves, [&](int64_t i, int32_t) {
    alignas(64) T strip[w * most_beside * w];
    for (int64_t col = 0; col < to.cols; col += most_beside * w) {
      const tile_part part = part_at(to, i * w, col, most_beside * w);
      load_part(x, i * w, col, strip, most_beside * w);
      store_part({to}, part, strip, most_beside * w);
    }
  });
}

template <class T>
steepest_status gram(steepest_context& context, const panel_kernels<T>& kernels,
                     const tile_source<T>* x, const product_memory<T>& memory, T* r) {
  if (uses_openblas(context)) {
    const matrix<T> packed = {memory.packed, memory.rows, memory.cols, memory.cols};
    if (x != nullptr)
      if (const auto status = copy(context, *x, packed); status != STEEPEST_OK) return status;
    openblas::gram(memory, r);
    return STEEPEST_OK;
  }
  return gram_of(context, plain_operands<T>{kernels}, memory.rows, memory.cols, x, memory.packed,
                 r);
}

template <class T>
steepest_status commuting_product(steepest_context& context, const panel_kernels<T>& kernels,
                                  const symmetric<T>& s, const T* a, const T* b, T* c, T* scratch) {
  if (uses_openblas(context)) {
    openblas::commuting_product(s, a, b, c, scratch);
    return STEEPEST_OK;
  }
  return triangle(context, plain_operands<T>{kernels}, s, a, b, s.rows, 0, s.rows, c,
                  [](int64_t, int64_t) {});
}

template <class T>
steepest_status multiply(steepest_context& context, const panel_kernels<T>& kernels, const T* q,
                         const product_memory<T>& x, const tile_sink<T>& out) {
  if (uses_openblas(context)) {
    openblas::multiply(q, x, out.stored);
    return STEEPEST_OK;
  }
  const int64_t units = unit_words<T, plain_operands<T>>(context, x.rows, x.cols);
  return multiply_by(context, plain_operands<T>{kernels}, {q}, x.rows, x.cols, x.packed, out,
                     x.scratch, x.scratch + units);
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
steepest_status store(steepest_context& context, const matrix<const T>& o,
                      const tile_sink<T>& out) {
  constexpr int64_t w = panel_width<T>;
  constexpr int64_t width = most_beside * w;
  const auto moves = 10.0 * static_cast<double>(o.rows) * static_cast<double>(o.cols);
  const bool tall = is_tall(o);
  const int64_t units = tall ? panel_count<T>(o.rows) : (o.cols + width - 1) / width;
  return for_each_unit(context, units, moves, [&](int64_t unit, int32_t) {
    alignas(64) T strip[w * width] = {};
    const int64_t parts = tall ? (o.cols + width - 1) / width : panel_count<T>(o.rows);
    for (int64_t i = 0; i < parts; ++i) {
      const int64_t row = (tall ? unit : i) * w;
      const int64_t col = (tall ? i : unit) * width;
      if (o.data != nullptr) load_part<T>({o}, row, col, strip, width);
      store_part(out, part_at(o, row, col, width), strip, width);
    }
  });
}

steepest_status gram_bf16(steepest_context& context, const bf16_kernels& kernels,
                          const tile_source<float>* x, const bf16_memory& memory, float* r) {
  return gram_of(context, bf16_operands{kernels}, memory.rows, memory.cols, x, memory.packed, r);
}

steepest_status multiply_bf16(steepest_context& context, const bf16_kernels& kernels,
                              const float* q, bool split, const bf16_memory& x,
                              const tile_sink<float>& out) {
  constexpr int64_t w = panel_width<float>;
  const symmetric<float> s(std::min(x.rows, x.cols));
  const int64_t length = panel_length<bf16_operands>(s.n);
  bf16_pair* const rest = x.factor + s.panels * length * w;
  const double moves = 10.0 * static_cast<double>(s.elements());
  const auto status = for_each_unit(context, s.panels, moves, [&](int64_t j, int32_t) {
    const float zeros[w] = {};
    for (int64_t k = 0; k < length; ++k) {
      const bool inside = 2 * k < s.rows;
      const float* const first = inside ? q + s.panel(j) + 2 * k * w : zeros;
      const float* const second = inside ? first + w : zeros;
      const int64_t to = (j * length + k) * w;
      kernels.pack_columns(first, second, false, x.factor + to);
      if (split) kernels.pack_columns(first, second, true, rest + to);
    }
  });
  if (status != STEEPEST_OK) return status;
  const auto by = [&](std::initializer_list<const bf16_pair*> factors) {
    return multiply_by(context, bf16_operands{kernels}, factors, x.rows, x.cols, x.packed, out,
                       x.scratch, x.sums);
  };
  return split ? by({x.factor, rest}) : by({x.factor});
}

int64_t bf16_packed_words(int64_t rows, int64_t cols) {
  return packed_words<float, bf16_operands>(rows, cols);
}

int64_t bf16_product_words(const steepest_context& context, int64_t rows, int64_t cols) {
  return unit_words<float, bf16_operands>(context, rows, cols);
}

int64_t bf16_sum_elements(const steepest_context& context, int64_t rows, int64_t cols) {
  return waiting_elements<float, bf16_operands>(context, rows, cols);
}

int64_t bf16_factor_words(int64_t n, bool split) {
  return (split ? 2 : 1) * panel_count<float>(n) * panel_width<float> *
         panel_length<bf16_operands>(n);
}

#define STEEPEST_INSTANTIATE(T)                                                                    \
  template int64_t packed_elements<T>(const steepest_context&, int64_t, int64_t);                  \
  template int64_t product_elements<T>(const steepest_context&, int64_t, int64_t);                 \
  template steepest_status gram(steepest_context&, const panel_kernels<T>&, const tile_source<T>*, \
                                const product_memory<T>&, T*);                                     \
  template steepest_status commuting_product(steepest_context&, const panel_kernels<T>&,           \
                                             const symmetric<T>&, const T*, const T*, T*, T*);     \
  template steepest_status multiply(steepest_context&, const panel_kernels<T>&, const T*,          \
                                    const product_memory<T>&, const tile_sink<T>&);                \
  template steepest_status make_full(steepest_context&, const panel_kernels<T>&,                   \
                                     const symmetric<T>&, T*);                                     \
  template steepest_status copy(steepest_context&, const tile_source<T>&, const matrix<T>&);       \
  template steepest_status store(steepest_context&, const matrix<const T>&, const tile_sink<T>&);
STEEPEST_INSTANTIATE(float)
STEEPEST_INSTANTIATE(double)

}  // namespace steepest::linalg
