// SPDX-License-Identifier: Apache-2.0
// The inverse of symmetric positive definite matrices by blocked Gauss-Jordan elimination with
// Cholesky pivots. For each block K of columns, with A_KK = U^T U:
//
//   Y = U^-T A_K:        A_IJ <- A_IJ - Y_I^T Y_J   for all I, J outside K
//   A_K: <- U^-1 Y       A_KK <- -A_KK^-1
//
// After all blocks A has become -A^-1, with n^3 operations, nearly all of them in the one uniform
// update of the triangle. Multiplying by A_KK^-1 itself in place of the two triangular solves would
// lose all accuracy on matrices whose eigenvalues fall like a power.
#include <atomic>
#include <cstring>
#include <new>

#include "linalg/linalg.hpp"
#include "parallel/parallel_for.hpp"

namespace steepest::linalg {
namespace {

constexpr int64_t most_pivot_panels = 4;

// Panels in a pivot block: wide blocks need fewer passes over A, narrow ones less work in the
// pivots.
template <class T>
int64_t pivot_panels(const symmetric<T>& s) {
  const int64_t n = s.n * static_cast<int64_t>(sizeof(T)) / 4;
  return n <= 256 ? 1 : n < 1024 ? 2 : most_pivot_panels;
}

// The factor U of a pivot block of up to `width` panels, in tiles: u(r, t) for r < t and its
// transpose, and the inverse of each tile on the diagonal with its transpose.
template <class T>
struct pivot_factor {
  static constexpr int64_t w = panel_width<T>;
  T* memory;
  int64_t width;

  T* u(int64_t r, int64_t t) const { return at(r, t); }
  T* u_transposed(int64_t r, int64_t t) const { return at(t, r); }
  T* inverse(int64_t r) const { return at(r, r); }
  T* inverse_transposed(int64_t r) const { return at(width, r); }
  static int64_t elements(int64_t width) { return (width + 1) * width * w * w; }

 private:
  T* at(int64_t row, int64_t col) const { return memory + (row * width + col) * w * w; }
};

template <class T>
class elimination {
 public:
  static constexpr int64_t w = panel_width<T>;
  static constexpr int64_t tile_size = w * w;

  elimination(const panel_kernels<T>& kernels, const symmetric<T>& s, T* a, T* scratch)
      : kernels_(kernels), s_(s), a_(a),
        y_(scratch), factor_{scratch + s.panels * pivot_panels(s) * tile_size, pivot_panels(s)} {}

  bool failed() const { return failed_.load(std::memory_order_relaxed); }

  // The block of `count` panels from `first` on is the next pivot.
  void factor(int64_t first, int64_t count) {
    if (failed()) return;
    alignas(64) T tile[tile_size];
    alignas(64) T unused[tile_size];
    for (int64_t r = 0; r < count; ++r) {
      std::memcpy(tile, a_ + s_.tile(first + r, first + r), sizeof tile);
      for (int64_t q = 0; q < r; ++q)
        kernels_.tile(factor_.u(q, r), factor_.u(q, r), w, tile, w, update::subtract);
      failed_ = !kernels_.factor(tile, unused, factor_.inverse(r));
      if (failed()) return;
      transpose(factor_.inverse(r), factor_.inverse_transposed(r));
      for (int64_t t = r + 1; t < count; ++t) {
        transpose(a_ + s_.tile(first + t, first + r), tile);
        for (int64_t q = 0; q < r; ++q)
          kernels_.tile(factor_.u(q, r), factor_.u(q, t), w, tile, w, update::subtract);
        kernels_.upper_tile(factor_.inverse(r), tile, factor_.u(r, t));
        transpose(factor_.u(r, t), factor_.u_transposed(r, t));
      }
    }
  }

  // Y_J, and A_KJ <- U^-1 Y_J; for a panel J of the pivot block itself the inverse of A_KK.
  void solve(int64_t first, int64_t count, int64_t j) {
    if (failed()) return;
    alignas(64) T tile[tile_size];
    alignas(64) T turned[most_pivot_panels][tile_size];
    T* const y = y_ + j * count * tile_size;
    const bool inside = j >= first && j < first + count;
    const bool stored = j < first;  // as it is needed, not as its transpose
    for (int64_t r = 0; r < count; ++r) {
      const T* from = tile;
      if (inside)
        unit_tile(first + r == j, tile);
      else if (!stored)
        transpose(a_ + s_.tile(j, first + r), tile);
      else if (r == 0)
        from = a_ + s_.tile(first, j);
      else
        std::memcpy(tile, a_ + s_.tile(first + r, j), sizeof tile);
      for (int64_t q = 0; q < r; ++q)
        kernels_.tile(factor_.u(q, r), y + q * tile_size, w, tile, w, update::subtract);
      kernels_.upper_tile(factor_.inverse(r), from, y + r * tile_size);
    }
    const auto z = [&](int64_t r) { return stored ? a_ + s_.tile(first + r, j) : turned[r]; };
    for (int64_t r = count - 1; r >= 0; --r) {
      const T* from = y + r * tile_size;
      if (r + 1 < count) {
        std::memcpy(tile, from, sizeof tile);
        from = tile;
      }
      for (int64_t t = r + 1; t < count; ++t)
        kernels_.tile(factor_.u_transposed(r, t), z(t), w, tile, w, update::subtract);
      kernels_.lower_tile(factor_.inverse_transposed(r), from, z(r));
    }
    for (int64_t r = 0; r < count && !stored; ++r) {
      if (!inside) {
        transpose(z(r), a_ + s_.tile(j, first + r));
      } else if (first + r >= j) {
        T* const to = a_ + s_.tile(first + r, j);
        for (int64_t i = 0; i < tile_size; ++i) to[i] = -z(r)[i];
      }
    }
  }

  void update_tile(int64_t count, int64_t i, int64_t j) {
    if (failed()) return;
    const T* const left = y_ + i * count * tile_size;
    const T* const right = y_ + j * count * tile_size;
    if (i == j)
      kernels_.symmetric_tile(left, right, count * w, a_ + s_.tile(i, j), update::subtract);
    else
      kernels_.tile(left, right, count * w, a_ + s_.tile(i, j), w, update::subtract);
  }

 private:
  void transpose(const T* from, T* to) const { kernels_.transpose(from, w, w, w, to); }

  static void unit_tile(bool unit, T* tile) {
    std::fill(tile, tile + tile_size, T{0});
    for (int64_t i = 0; unit && i < w; ++i) tile[i * w + i] = 1;
  }

  const panel_kernels<T>& kernels_;
  const symmetric<T>& s_;
  T* a_;
  T* y_;  // of every panel
  pivot_factor<T> factor_;
  std::atomic<bool> failed_ = false;  // seen by the tasks beside the one that sets it
};

template <class T>
int64_t elements_each(const symmetric<T>& s) {
  const int64_t width = pivot_panels(s);
  return s.panels * width * panel_width<T> * panel_width<T> + pivot_factor<T>::elements(width);
}

}  // namespace

template <class T>
int64_t inverse_elements(const steepest_context& context, const symmetric<T>& s, int64_t count) {
  return uses_openblas(context) ? s.n * s.n : elements_each(s) * count;
}

template <class T>
steepest_status invert_negated(steepest_context& context, const panel_kernels<T>& kernels,
                               const symmetric<T>& s, T* const* a, int64_t count, T* scratch,
                               bool* failed) {
  if (uses_openblas(context)) {
    *failed = false;
    for (int64_t m = 0; m < count; ++m) *failed |= !openblas::invert_negated(s, a[m], scratch);
    return STEEPEST_OK;
  }
  // Small matrices are done before another thread is awake. One thread has the caches for one
  // matrix at a time.
  const bool alone = s.n <= 128 || context.threads == 1;
  if (alone && count > 1) {
    *failed = false;
    for (int64_t m = 0; m < count && !*failed; ++m)
      invert_negated(context, kernels, s, a + m, 1, scratch, failed);
    return STEEPEST_OK;
  }
  constexpr int64_t most = 8;
  const int64_t width = pivot_panels(s);
  alignas(elimination<T>) std::byte storage[most * sizeof(elimination<T>)];
  auto* const runs = reinterpret_cast<elimination<T>*>(storage);
  for (int64_t m = 0; m < count; ++m) {
    // What lies beyond n is a unit matrix of its own.
    for (int64_t i = s.n; i < s.rows; ++i) a[m][s.diagonal(i)] = 1;
    new (runs + m) elimination<T>(kernels, s, a[m], scratch + m * elements_each(s));
  }

  const int64_t pieces = alone ? 1 : 4 * context.threads;
  steepest_status status = STEEPEST_OK;
  const auto in_tasks = [&](int64_t tasks, auto body) {
    if (status != STEEPEST_OK) return;
    if (alone)
      for (int64_t task = 0; task < tasks; ++task) body(task, 0);
    else
      status = parallel_for(context, tasks, body);
  };
  auto first_factors = [&](int64_t m, int32_t) { runs[m].factor(0, std::min(width, s.panels)); };
  in_tasks(count, first_factors);
  for (int64_t first = 0; first < s.panels && status == STEEPEST_OK; first += width) {
    const int64_t block = std::min(width, s.panels - first);
    const int64_t next = first + block;
    const int64_t next_block = std::min(width, s.panels - next);

    const int64_t columns = s.panels * count;
    const int64_t solve_tasks = std::min(columns, pieces);
    auto solve = [&](int64_t task, int32_t) {
      for (int64_t c = columns * task / solve_tasks; c < columns * (task + 1) / solve_tasks; ++c)
        runs[c / s.panels].solve(first, block, c % s.panels);
    };
    in_tasks(solve_tasks, solve);

    // The next pivot is brought up to date and factored while the rest is updated.
    const int64_t tiles = s.lower_tiles() * count;
    const int64_t update_tasks = std::min(tiles, pieces);
    const auto in_block = [](int64_t panel, int64_t from, int64_t length) {
      return panel >= from && panel < from + length;
    };
    auto update_triangle = [&](int64_t task, int32_t) {
      if (task < count) {
        for (int64_t i = next; i < next + next_block; ++i)
          for (int64_t j = next; j <= i; ++j) runs[task].update_tile(block, i, j);
        if (next_block > 0) runs[task].factor(next, next_block);
        return;
      }
      task -= count;
      int64_t tile = tiles * task / update_tasks;
      const int64_t end = tiles * (task + 1) / update_tasks;
      int64_t m = tile / s.lower_tiles();
      int64_t j = 0;
      int64_t i = tile % s.lower_tiles();  // counted from the panel's own diagonal tile
      for (; i >= s.panels - j; ++j) i -= s.panels - j;
      i += j;
      for (; tile < end; ++tile) {
        const bool pivot = in_block(i, first, block) || in_block(j, first, block);
        const bool ahead = in_block(i, next, next_block) && in_block(j, next, next_block);
        if (!pivot && !ahead) runs[m].update_tile(block, i, j);
        if (++i < s.panels) continue;
        i = ++j;
        if (j < s.panels) continue;
        i = j = 0;
        ++m;
      }
    };
    in_tasks(count + update_tasks, update_triangle);
  }
  *failed = false;
  for (int64_t m = 0; m < count; ++m) *failed |= runs[m].failed();
  return status;
}

#define STEEPEST_INSTANTIATE(T)                                                             \
  template int64_t inverse_elements(const steepest_context&, const symmetric<T>&, int64_t); \
  template steepest_status invert_negated(steepest_context&, const panel_kernels<T>&,       \
                                          const symmetric<T>&, T* const*, int64_t, T*, bool*);
STEEPEST_INSTANTIATE(float)
STEEPEST_INSTANTIATE(double)

}  // namespace steepest::linalg
