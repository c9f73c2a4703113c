// SPDX-License-Identifier: Apache-2.0
#include "msign/msign.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <utility>

#include "core/arena.hpp"
#include "core/dtype.hpp"
#include "dispatch/tables.hpp"
#include "kernels/sum_squares/sum_squares.hpp"
#include "linalg/linalg.hpp"
#include "parallel/parallel_for.hpp"
#include "parallel/rows.hpp"

namespace steepest {
namespace {

using linalg::matrix;
using linalg::tile_part;
using linalg::tile_sink;
using linalg::tile_source;

template <class T>
inline constexpr steepest_dtype dtype_of = sizeof(T) == 8 ? STEEPEST_F64 : STEEPEST_F32;

template <class T>
matrix<const T> read_only(const matrix<T>& x) {
  return {x.data, x.rows, x.cols, x.stride};
}

// Factorisations that go in step with each other.
constexpr int64_t together = 3;

bool has_poles(const msign_plan& plan) {
  return plan.method == STEEPEST_MSIGN_RATIONAL || plan.method == STEEPEST_MSIGN_ACCURATE;
}

// Whether OpenBLAS or LAPACK takes X and gives O, with strides of 32 bits.
bool by_openblas(const steepest_context& context, const msign_plan& plan) {
  return plan.method == STEEPEST_MSIGN_SVD || linalg::uses_openblas(context);
}

bool restarts_before(const msign_plan& plan, int64_t step) {
  if (plan.restarts == nullptr) return plan.steps > 5 && (step == 3 || step == 5);
  return std::find(plan.restarts, plan.restarts + plan.restart_count, step) !=
         plan.restarts + plan.restart_count;
}

// Whether X is multiplied more than once.
bool iterates(const msign_plan& plan) {
  if (plan.method == STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ) {
    for (int64_t step = 2; step <= plan.steps; ++step)
      if (restarts_before(plan, step)) return true;
    return false;
  }
  return plan.method == STEEPEST_MSIGN_NEWTON_SCHULZ || plan.method == STEEPEST_MSIGN_ACCURATE;
}

// Whether |O|_F follows from the matrices that O = Q X is computed from. In fp32 it would not: the
// Gram matrix of a low-rank X has rounding errors in the null space, and Q makes as much of them as
// of X; measured, up to 100 % of |O|_F at rank 1.
bool norm_in_advance(const msign_plan& plan) {
  return plan.method == STEEPEST_MSIGN_RATIONAL && plan.steps <= together &&
         plan.compute == STEEPEST_F64;
}

// Whether the last product goes where O is wanted, and not to memory of our own.
template <class T>
bool output_is_direct(const steepest_context& context, const msign_plan& plan) {
  if (!plan.tiles) return plan.storage == dtype_of<T>;
  return !by_openblas(context, plan) && (!plan.o_norm || norm_in_advance(plan));
}

// What one call works in. Symmetric matrices are n x n in panels, `x` as large as X.
template <class T>
struct scratch {
  squares* partial;
  T* x;
  linalg::product_memory<T> products;
  linalg::bf16_memory narrow;  // for products in bf16
  T *r, *q, *w[together], *z, *t, *inversion;
  T *s, *u, *vt, *work;  // of the singular value decomposition
  int64_t work_size;
  int32_t* integers;

  scratch(arena& memory, const steepest_context& context, const msign_plan& plan, int64_t rows,
          int64_t cols) {
    const int64_t n = std::min(rows, cols);
    const linalg::symmetric<T> layout(n);
    const bool svd = plan.method == STEEPEST_MSIGN_SVD;
    const int64_t in_step = std::min(plan.steps, together);
    const int64_t square = layout.elements();
    partial = memory.take<squares>(std::max(row_groups(rows, cols).count, layout.panels));
    x = memory.take<T>(by_openblas(context, plan) || iterates(plan) ||
                               !output_is_direct<T>(context, plan)
                           ? rows * cols
                           : 0);
    const bool bf16 = plan.compute == STEEPEST_BF16;
    const auto words = [&](int64_t count) {
      return memory.take<linalg::bf16_pair>(bf16 ? count : 0);
    };
    products = {rows, cols,
                memory.take<T>(bf16 ? 0 : linalg::packed_elements<T>(context, rows, cols)),
                memory.take<T>(bf16 ? 0 : linalg::product_elements<T>(context, rows, cols))};
    narrow = {rows,
              cols,
              words(linalg::bf16_packed_words(rows, cols)),
              words(linalg::bf16_product_words(context, rows, cols)),
              words(linalg::bf16_factor_words(n, plan.split)),
              memory.take<float>(bf16 ? linalg::bf16_sum_elements(context, rows, cols) : 0)};
    r = memory.take<T>(square);  // also for ||O O^T - I||
    // The sum over the poles is formed in the first inverse, if there is one round of them.
    const bool sum_in_place = has_poles(plan) && plan.steps <= together;
    const bool halley = plan.method == STEEPEST_MSIGN_HALLEY;
    const bool gram = plan.method == STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ;
    for (int64_t i = 0; i < together; ++i) {
      const bool wanted = has_poles(plan) ? i < in_step : i == 0 && (halley || gram);
      w[i] = memory.take<T>(wanted ? square : 0);
    }
    q = sum_in_place ? w[0] : memory.take<T>(svd ? 0 : square);
    z = memory.take<T>(halley || gram ? square : 0);
    t = memory.take<T>(halley ? square : 0);
    inversion = memory.take<T>(
        has_poles(plan) || halley
            ? linalg::inverse_elements(context, layout, has_poles(plan) ? in_step : 1)
            : 0);
    const bool decomposes = svd && n > 1;
    work_size = decomposes ? linalg::svd_work_size<T>(rows, cols, true) : 0;
    s = memory.take<T>(decomposes ? n : 0);
    u = memory.take<T>(decomposes ? rows * n : 0);
    vt = memory.take<T>(decomposes ? n * cols : 0);
    work = memory.take<T>(work_size);
    integers = memory.take<int32_t>(decomposes ? 8 * n : 0);
  }
};

// Set by whichever step of the computation fails; the steps after it do nothing.
struct failure {
  steepest_status status = STEEPEST_OK;
  const char* reason = "";

  explicit operator bool() const { return status != STEEPEST_OK; }
};

constexpr failure executor_failed = {STEEPEST_E_INTERNAL, "the executor failed"};

steepest_status clear_matrix(steepest_context& context, int64_t rows, int64_t cols,
                             const stored_matrix& x) {
  return for_each_row_group(context, row_groups(rows, cols),
                            [&](int64_t from, int64_t to, int64_t) {
                              const int64_t size = dtype_size(x.dtype);
                              auto* row = static_cast<std::byte*>(x.data) + from * x.stride * size;
                              for (int64_t i = from; i < to; ++i, row += x.stride * size)
                                std::fill(row, row + cols * size, std::byte{0});
                            });
}

template <class T>
class computation {
 public:
  computation(steepest_context& context, const msign_plan& plan, int64_t rows, int64_t cols,
              std::byte* memory, msign_result& result)
      : context_(context), plan_(plan), rows_(rows), cols_(cols), layout_(std::min(rows, cols)),
        kernels_((plan.consistent ? context.tables->linalg.exact : context.tables->linalg.fast)
                     .template of<T>()),
        result_(result), scratch_(make_scratch(memory)) {}

  failure run(const msign_input& from, const msign_output& to, bool orthogonality) {
    from_ = from;
    to_ = to;
    norm_result norm = {};
    if (const failure failed = measure(norm)) return failed;
    if (norm.nonfinite != 0)
      return {STEEPEST_E_NONFINITE, "the matrix has elements that are NaN or infinite"};
    if (norm.norm == 0) {
      result_.rank = 0;
      if (orthogonality) result_.orthogonality = 1;
      return deliver({nullptr, rows_, cols_, 0});
    }
    // Squares of what lies near 1 stay in range. A power of two changes no bit of the result.
    const int scaled_by = std::ilogb(norm.scale);
    const int exponent = std::clamp(std::ilogb(norm.root) - scaled_by, -1000, 1000);
    factor_ = std::abs(exponent) > 20 ? std::ldexp(1.0, -exponent) : 1.0;
    norm_ = factor_ == 1 ? norm.norm : std::ldexp(norm.root, -exponent - scaled_by);
    if (from_.tiles == nullptr || factor_ != 1) open();
    if (!failed_) failed_ = dispatch();
    if (failed_) return failed_;
    result_.norm /= factor_;
    if (output_.data == nullptr) return {};
    if (plan_.o_norm && !norm_in_advance(plan_)) {
      norm_result o = {};
      if (matrix_norm(context_, rows_, cols_, stored(output_), plan_.consistent, scratch_.partial,
                      o) != STEEPEST_OK)
        return executor_failed;
      result_.o_norm = o.norm;
    }
    if (output_.data != to_.stored.data)
      if (const failure failed = deliver(output_)) return failed;
    if (orthogonality) result_.orthogonality = departure(output_);
    return failed_;
  }

 private:
  static constexpr int64_t tile = linalg::panel_width<float>;

  scratch<T> make_scratch(std::byte* memory) const {
    arena slices(memory);
    return scratch<T>(slices, context_, plan_, rows_, cols_);
  }

  matrix<T> whole(T* data) const { return {data, rows_, cols_, cols_}; }
  static stored_matrix stored(const matrix<T>& x) { return {x.data, x.stride, dtype_of<T>}; }
  static tile_source<T> source(const matrix<T>& x) { return {read_only(x)}; }

  // ------------------------------------------------------------------ the ends

  // Packs X and forms its Gram matrix in scratch_.r, from which everything starts but LAPACK, which
  // takes X in scratch_.x.
  void open() {
    const stored_matrix& from = from_.stored;
    single_ = (from_.tiles != nullptr ? from_.tiles->dtype : from.dtype) != STEEPEST_F64 ||
              sizeof(T) == 4;
    tile_source<T> x = {{nullptr, rows_, cols_, 0}};
    if (from_.tiles == nullptr && from.dtype == dtype_of<T> && factor_ == 1) {
      x.stored = {static_cast<const T*>(from.data), rows_, cols_, from.stride};
    } else {
      x.self = this;
      x.load = [](void* self, const tile_part& part, T* to, int64_t stride) {
        static_cast<computation*>(self)->load(part, to, stride);
      };
      x.expect = [](void* self, const tile_part& part) {
        static_cast<const computation*>(self)->expect(part);
      };
    }
    if (plan_.method == STEEPEST_MSIGN_SVD)
      check(linalg::copy(context_, x, whole(scratch_.x)));
    else
      gram(&x);
  }

  failure measure(norm_result& norm) {
    if (from_.tiles == nullptr)
      return matrix_norm(context_, rows_, cols_, from_.stored, plan_.consistent, scratch_.partial,
                         norm) == STEEPEST_OK
                 ? failure{}
                 : executor_failed;
    const auto attempt = [&](double scale) {
      from_.tiles->measure(scale);
      open();
      norm = from_.tiles->measured();
      return failed_.status;
    };
    scaled_attempts(attempt, from_.tiles->dtype == STEEPEST_F64, norm);
    return failed_;
  }

  void expect(const tile_part& part) const {
    if (from_.tiles != nullptr) return from_.tiles->expect(part);
    const stored_matrix& from = from_.stored;
    const int64_t size = dtype_size(from.dtype);
    linalg::fetch(
        static_cast<const std::byte*>(from.data) + (part.row * from.stride + part.col) * size,
        part.cols * size, from.stride * size, part.rows);
  }

  void load(const tile_part& part, T* to, int64_t stride) {
    if (from_.tiles == nullptr) {
      const stored_matrix& from = from_.stored;
      const int64_t size = dtype_size(from.dtype);
      const auto* row =
          static_cast<const std::byte*>(from.data) + (part.row * from.stride + part.col) * size;
      for (int64_t r = 0; r < part.rows; ++r, row += from.stride * size, to += stride)
        context_.tables->convert.scaled(row, from.dtype, to, dtype_of<T>, part.cols, factor_);
      return;
    }
    if (from_.tiles->dtype == dtype_of<T> && factor_ == 1)
      return from_.tiles->load(part, to, stride);
    // Tile by tile, in the other type.
    alignas(64) double given[tile * tile];
    for (int64_t col = 0; col < part.cols; col += tile) {
      const tile_part some = {part.row, part.col + col, part.rows, std::min(tile, part.cols - col)};
      std::fill(given, given + tile * tile, 0.0);
      from_.tiles->load(some, given, tile);
      const int64_t size = dtype_size(from_.tiles->dtype);
      for (int64_t r = 0; r < part.rows; ++r)
        context_.tables->convert.scaled(reinterpret_cast<std::byte*>(given) + r * tile * size,
                                        from_.tiles->dtype, to + r * stride + col, dtype_of<T>,
                                        some.cols, factor_);
    }
  }

  void store(const tile_part& part, const T* from, int64_t stride) {
    if (plan_.storage == dtype_of<T>) return to_.tiles->store(part, from, stride);
    alignas(64) double wanted[tile * tile];
    for (int64_t col = 0; col < part.cols; col += tile) {
      const tile_part some = {part.row, part.col + col, part.rows, std::min(tile, part.cols - col)};
      const int64_t size = dtype_size(plan_.storage);
      for (int64_t r = 0; r < part.rows; ++r)
        context_.tables->convert.scaled(from + r * stride + col, dtype_of<T>,
                                        reinterpret_cast<std::byte*>(wanted) + r * tile * size,
                                        plan_.storage, some.cols, 1.0);
      to_.tiles->store(some, wanted, tile);
    }
  }

  // O, or zeros, to where it is wanted.
  failure deliver(const matrix<T>& o) {
    if (to_.tiles == nullptr)
      return (o.data == nullptr
                  ? clear_matrix(context_, rows_, cols_, to_.stored)
                  : scale_matrix(context_, rows_, cols_, stored(o), to_.stored, 1.0)) == STEEPEST_OK
                 ? failure{}
                 : executor_failed;
    to_.tiles->begin(result_.o_norm);
    check(linalg::store(context_, read_only(o), sink()));
    return failed_;
  }

  tile_sink<T> sink() {
    return {{nullptr, rows_, cols_, 0},
            this,
            [](void* self, const tile_part& part, int64_t call, int64_t calls) {
              static_cast<computation*>(self)->to_.tiles->expect(part, call, calls);
            },
            [](void* self, const tile_part& part, const T* from, int64_t stride) {
              static_cast<computation*>(self)->store(part, from, stride);
            }};
  }

  // O = Q X: the last product.
  failure finish(T* q) {
    make_full(q);
    if (failed_) return failed_;
    if (plan_.tiles && output_is_direct<T>(context_, plan_)) {
      to_.tiles->begin(result_.o_norm);
      multiply(q, sink());
      return failed_;
    }
    output_ = destination();
    multiply(q, {output_});
    return failed_;
  }

  // The caller's own memory or ours.
  matrix<T> destination() const {
    const stored_matrix& to = to_.stored;
    const bool direct = output_is_direct<T>(context_, plan_) &&
                        !(by_openblas(context_, plan_) && to.stride > INT32_MAX);
    return direct ? matrix<T>{static_cast<T*>(to.data), rows_, cols_, to.stride}
                  : whole(scratch_.x);
  }

  failure dispatch() {
    switch (plan_.method) {
      case STEEPEST_MSIGN_NEWTON_SCHULZ: return newton_schulz();
      case STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ: return gram_newton_schulz();
      case STEEPEST_MSIGN_RATIONAL: return rational();
      case STEEPEST_MSIGN_HALLEY: return halley();
      case STEEPEST_MSIGN_ACCURATE: return accurate();
      default: return svd();
    }
  }

  // ------------------------------------------------------------------ symmetric matrices

  void check(steepest_status status) {
    if (status != STEEPEST_OK) failed_ = executor_failed;
  }

  // a_k = f(k) for every index k of the lower triangle.
  template <class F>
  void fill_lower(T* a, F f) {
    constexpr int64_t size = linalg::panel_width<T> * linalg::panel_width<T>;
    const int64_t tiles = layout_.lower_tiles();
    // Tiles follow each other within a panel.
    check(for_each_row_group(context_, row_groups(tiles, size),
                             [&](int64_t from, int64_t to, int64_t) {
                               int64_t j = 0;
                               int64_t i = from;
                               for (; i >= layout_.panels - j; ++j) i -= layout_.panels - j;
                               i += j;
                               for (int64_t count = from; count < to; ++count) {
                                 const int64_t begin = layout_.tile(i, j);
                                 for (int64_t k = begin; k < begin + size; ++k) a[k] = f(k);
                                 if (++i == layout_.panels) i = ++j;
                               }
                             }));
  }

  void add_to_diagonal(T* a, T value) {
    for (int64_t i = 0; i < layout_.n; ++i) a[layout_.diagonal(i)] += value;
  }

  void make_full(T* a) { check(linalg::make_full(context_, kernels_, layout_, a)); }
  // The Gram matrix of X; without `x` that of the X of the last time.
  void gram(const tile_source<T>* x) {
    if constexpr (sizeof(T) == 4)
      if (plan_.compute == STEEPEST_BF16)
        return check(linalg::gram_bf16(context_, context_.tables->linalg.bf16, x, scratch_.narrow,
                                       scratch_.r));
    check(linalg::gram(context_, kernels_, x, scratch_.products, scratch_.r));
  }
  void commuting_product(const T* a, const T* b, T* c) {
    check(
        linalg::commuting_product(context_, kernels_, layout_, a, b, c, scratch_.products.scratch));
  }
  // out = Q X for the X of the last Gram matrix.
  void multiply(const T* q, const tile_sink<T>& out) {
    if constexpr (sizeof(T) == 4)
      if (plan_.compute == STEEPEST_BF16)
        return check(linalg::multiply_bf16(context_, context_.tables->linalg.bf16, q, plan_.split,
                                           scratch_.narrow, out));
    check(linalg::multiply(context_, kernels_, q, scratch_.products, out));
  }
  // X <- Q X, on the way to O.
  void advance(T* q) {
    const matrix<T> next = whole(scratch_.x);
    make_full(q);
    multiply(q, {next});
    const tile_source<T> x = source(next);
    gram(&x);
  }
  bool invert_negated(T* const* matrices, int64_t count) {
    bool not_definite = false;
    if (failed_) return false;
    check(linalg::invert_negated(context_, kernels_, layout_, matrices, count, scratch_.inversion,
                                 &not_definite));
    return !not_definite && !failed_;
  }

  // ||A||_F^2 of a symmetric matrix; NaN or infinite if an element is.
  double square_sum(const T* a) {
    constexpr int64_t w = linalg::panel_width<T>;
    const sum_squares_table& sums = context_.tables->sum_squares;
    const sum_squares_kernel kernel = (plan_.consistent ? sums.exact : sums.fast).of(dtype_of<T>);
    check(for_each_row_group(context_, row_groups(layout_.panels, layout_.rows * w),
                             [&](int64_t from, int64_t to, int64_t) {
                               for (int64_t j = from; j < to; ++j) {
                                 const T* const panel = a + layout_.panel(j);
                                 const int64_t width = std::min(w, layout_.n - j * w);
                                 double on = 0;
                                 for (int64_t i = j * w; i < j * w + width; ++i)
                                   on += kernel(panel, i * w, i * w + width, 1.0).sum;
                                 // Rows of a last, narrower panel end at the diagonal tile.
                                 const int64_t below = (j + 1) * w;
                                 const double rest =
                                     below < layout_.n
                                         ? kernel(panel, below * w, layout_.n * w, 1.0).sum
                                         : 0;
                                 scratch_.partial[j] = {on + 2 * rest, 0};
                               }
                             }));
    double total = 0;
    for (int64_t j = 0; j < layout_.panels; ++j) total += scratch_.partial[j].sum;
    return total;
  }

  // ||O O^T - I||_F / sqrt(n)
  double departure(const matrix<T>& o) {
    const tile_source<T> x = source(o);
    gram(&x);
    add_to_diagonal(scratch_.r, -1);
    return std::sqrt(square_sum(scratch_.r) / static_cast<double>(layout_.n));
  }

  // What X is divided by, given the Gram matrix r of X.
  failure normalize(const T* r) {
    double norm = norm_;
    if (plan_.normalization != STEEPEST_NORM_FROBENIUS || plan_.method == STEEPEST_MSIGN_ACCURATE) {
      const double sum = square_sum(r);
      norm = std::sqrt(std::sqrt(sum));
      if (plan_.normalization == STEEPEST_NORM_BOUND && plan_.method != STEEPEST_MSIGN_ACCURATE) {
        // sum s^4 / sum s^2 is at most the largest s^2.
        const double least = std::sqrt(sum) / norm_;
        norm = plan_.norm_bound * factor_;
        if (!(norm * (1 + 1e-3) >= least))
          return {STEEPEST_E_NOT_CONVERGED, "norm_bound is less than the largest singular value"};
      }
    }
    divisor_ = norm;
    result_.norm = norm;
    return {};
  }

  failure unstable() const {
    if (failed_) return failed_;
    return {STEEPEST_E_NOT_CONVERGED, "the iteration left the range of numbers"};
  }

  // ------------------------------------------------------------------ Newton-Schulz

  // p = a I + b A + c A^2 of the step X <- p X, given A, which becomes a full matrix; whether p is
  // finite.
  bool step_matrix(const msign::quintic& row, T* a, T* p) {
    const auto c1 = static_cast<T>(row.b);
    const auto c2 = static_cast<T>(row.c);
    make_full(a);
    if (c2 != 0) {
      commuting_product(a, a, p);
      fill_lower(p, [=](int64_t k) { return c1 * a[k] + c2 * p[k]; });
    } else {
      fill_lower(p, [=](int64_t k) { return c1 * a[k]; });
    }
    add_to_diagonal(p, static_cast<T>(row.a));
    return std::isfinite(square_sum(p)) && !failed_;
  }

  void scale_lower(T* a, double factor) {
    const auto f = static_cast<T>(factor);
    fill_lower(a, [=](int64_t k) { return f * a[k]; });
  }

  failure newton_schulz() {
    T* const a = scratch_.r;
    T* const p = scratch_.q;
    if (const failure failed = normalize(a)) return failed;
    scale_lower(a, 1 / (divisor_ * divisor_));
    for (int64_t step = 0; step < plan_.steps; ++step) {
      if (!step_matrix(plan_.coefficients.row(step), a, p)) return unstable();
      if (step == 0) scale_lower(p, 1 / divisor_);
      if (step + 1 < plan_.steps) advance(p);
    }
    result_.steps = static_cast<int32_t>(plan_.steps);
    return finish(p);
  }

  failure gram_newton_schulz() {
    T* const r = scratch_.r;
    T* const p = scratch_.w[0];
    T* q = scratch_.q;
    T* t = scratch_.z;
    bool fresh = true;  // Q = I
    if (const failure failed = normalize(r)) return failed;
    scale_lower(r, 1 / (divisor_ * divisor_));
    double factor = 1 / divisor_;  // not yet in X
    for (int64_t step = 0; step < plan_.steps; ++step) {
      if (step > 0 && restarts_before(plan_, step + 1)) {
        scale_lower(q, std::exchange(factor, 1.0));
        advance(q);
        fresh = true;
      }
      if (!step_matrix(plan_.coefficients.row(step), r, p)) return unstable();
      const bool last = step + 1 == plan_.steps;
      if (fresh && last) {
        fill_lower(q, [=](int64_t k) { return p[k]; });
        break;
      }
      make_full(p);
      if (fresh) {
        fill_lower(q, [=](int64_t k) { return p[k]; });
      } else {
        make_full(q);
        commuting_product(q, p, t);
        std::swap(q, t);
      }
      fresh = false;
      if (last) break;
      // R <- P (R P)
      commuting_product(r, p, t);
      make_full(t);
      commuting_product(p, t, r);
    }
    if (!std::isfinite(square_sum(q))) return unstable();
    scale_lower(q, factor);
    result_.steps = static_cast<int32_t>(plan_.steps);
    return finish(q);
  }

  // ------------------------------------------------------------------ rational functions

  // Runs attempt(l), which is false when a factorisation failed, with growing l.
  template <class F>
  failure with_retries(double l, F attempt) {
    constexpr double largest = 0.9;
    while (!attempt(l)) {
      if (failed_) return failed_;
      if (l >= largest)
        return {STEEPEST_E_NOT_CONVERGED, "the Gram matrix could not be factorised"};
      ++result_.retries;
      l = std::min(10 * l, largest);
    }
    result_.lower_bound = l;
    return failed_;
  }

  // Q of O = Q X for singular values of X in `divisor` [l, 1], from the Gram matrix r of X.
  bool zolotarev_matrix(const msign::zolotarev& f, const T* r, double divisor) {
    T* const q = scratch_.q;
    const auto inverse_square = static_cast<T>(1 / (divisor * divisor));
    const auto scale = static_cast<T>(f.scale / divisor);
    for (int first = 0; first < f.poles; first += together) {
      const int64_t count = std::min<int64_t>(together, f.poles - first);
      for (int64_t i = 0; i < count; ++i) {
        fill_lower(scratch_.w[i], [=](int64_t k) { return inverse_square * r[k]; });
        add_to_diagonal(scratch_.w[i], static_cast<T>(f.shifts[first + i]));
      }
      if (!invert_negated(scratch_.w, count)) return false;
      if (plan_.o_norm && norm_in_advance(plan_)) result_.o_norm = norm_of(f, r, inverse_square);
      for (int64_t i = 0; i < count; ++i) {
        const T weight = -scale * static_cast<T>(f.weights[first + i]);
        const T* const w = scratch_.w[i];
        if (first + i == 0)
          fill_lower(q, [=](int64_t k) { return weight * w[k]; });
        else
          fill_lower(q, [=](int64_t k) { return q[k] + weight * w[k]; });
      }
    }
    add_to_diagonal(q, scale);
    return std::isfinite(square_sum(q));
  }

  // |O|_F^2 = <Q, Q R> from the inverses W_j, which are negated: Q / f.scale = I + sum a_j W_j, and
  // Q R / f.scale = R + sum a_j (I - c_j W_j).
  double norm_of(const msign::zolotarev& f, const T* r, T inverse_square) {
    constexpr int64_t w = linalg::panel_width<T>;
    check(for_each_row_group(
        context_, row_groups(layout_.panels, layout_.rows * w),
        [&](int64_t from, int64_t to, int64_t) {
          for (int64_t j = from; j < to; ++j) {
            double sum = 0;
            for (int64_t row = j * w; row < layout_.n; ++row) {
              const int64_t begin = layout_.panel(j) + row * w;
              for (int64_t k = begin; k < begin + std::min(w, row + 1 - j * w); ++k) {
                const double one = k - begin == row - j * w ? 1.0 : 0.0;
                double q = one;
                double qr = static_cast<double>(inverse_square) * static_cast<double>(r[k]);
                for (int i = 0; i < f.poles; ++i) {
                  const auto inverse = static_cast<double>(scratch_.w[i][k]);
                  q -= f.weights[i] * inverse;
                  qr += f.weights[i] * (one + f.shifts[i] * inverse);
                }
                sum += (2 - one) * q * qr;
              }
            }
            scratch_.partial[j] = {sum, 0};
          }
        }));
    double total = 0;
    for (int64_t j = 0; j < layout_.panels; ++j) total += scratch_.partial[j].sum;
    return f.scale * std::sqrt(std::max(total, 0.0));
  }

  failure rational() {
    if (const failure failed = normalize(scratch_.r)) return failed;
    const auto poles = static_cast<int>(plan_.steps);
    const failure failed = with_retries(plan_.lower_bound, [&](double l) {
      return zolotarev_matrix(msign::zolotarev_for(l, poles), scratch_.r, divisor_);
    });
    if (failed) return failed;
    result_.steps = poles;
    return finish(scratch_.q);
  }

  failure halley() {
    if (const failure failed = normalize(scratch_.r)) return failed;
    bool first = true;
    const failure failed = with_retries(plan_.lower_bound, [&](double l) {
      if (!std::exchange(first, false)) gram(nullptr);
      scale_lower(scratch_.r, 1 / (divisor_ * divisor_));
      return halley_matrix(l);
    });
    if (failed) return failed;
    return finish(scratch_.q);
  }

  // In fp32 it ends before plan_.steps once the interval has shrunk to 1: a further step would only
  // amplify the errors of those before.
  bool halley_matrix(double l) {
    T* const r = scratch_.r;
    T* const w = scratch_.w[0];
    T* const z = scratch_.z;
    T*& q = scratch_.q;
    for (int64_t step = 0; step < plan_.steps; ++step) {
      const msign::halley f(l);
      const auto c = static_cast<T>(f.c);
      const auto beta = static_cast<T>(f.b / f.c);
      const auto gamma = static_cast<T>(f.a - f.b / f.c);
      // W = (I + c R)^-1, G = beta I + gamma W
      fill_lower(w, [=](int64_t k) { return c * r[k]; });
      add_to_diagonal(w, 1);
      if (!invert_negated(&scratch_.w[0], 1)) return false;
      fill_lower(w, [=](int64_t k) { return -w[k]; });
      T* const g = step == 0 ? q : z;
      fill_lower(g, [=](int64_t k) { return gamma * w[k]; });
      add_to_diagonal(g, beta);
      if (step > 0) {
        make_full(g);
        make_full(q);
        commuting_product(q, g, scratch_.t);
        std::swap(q, scratch_.t);
      }
      l = f.next_l;
      result_.steps = static_cast<int32_t>(step + 1);
      if (step + 1 == plan_.steps || (sizeof(T) == 4 && 1 - l <= 1e-6)) break;
      // R <- beta^2 R + 2 beta gamma (I - W) / c + gamma^2 (W - W^2) / c
      make_full(w);
      commuting_product(w, w, z);
      const T keep = beta * beta;
      const T linear = (gamma * gamma - 2 * beta * gamma) / c;
      const T quadratic = gamma * gamma / c;
      fill_lower(r, [=](int64_t k) { return keep * r[k] + (linear * w[k] - quadratic * z[k]); });
      add_to_diagonal(r, 2 * beta * gamma / c);
    }
    scale_lower(q, 2 / ((1 + l) * divisor_));
    return std::isfinite(square_sum(q));
  }

  // Two compositions of Zolotarev functions at most, then X <- 1.5 X - 0.5 X X^T X.
  failure accurate() {
    T* const r = scratch_.r;
    if (const failure failed = normalize(r)) return failed;
    // ||R^-1||_F is at least 1 / (least s^2), and at most sqrt(n) times that.
    constexpr double least = 1e-8;
    double l = least;
    const double square = divisor_ * divisor_;
    fill_lower(scratch_.w[0], [=](int64_t k) { return r[k]; });
    if (invert_negated(&scratch_.w[0], 1)) {
      const double sum = square_sum(scratch_.w[0]);
      if (std::isfinite(sum)) l = std::clamp(0.9 / std::sqrt(std::sqrt(sum) * square), least, 0.9);
    }
    int first = 0;
    int second = 0;
    const failure failed = with_retries(l, [&](double bound) {
      choose_poles(bound, first, second);
      return zolotarev_matrix(msign::zolotarev_for(bound, first), r, divisor_);
    });
    if (failed) return failed;
    double error = msign::zolotarev_for(result_.lower_bound, first).error;
    advance(scratch_.q);
    if (second > 0) {
      if (!zolotarev_matrix(msign::zolotarev_for((1 - error) / (1 + error), second), r, 1 + error))
        return unstable();
      advance(scratch_.q);
    }
    T* const q = scratch_.q;
    fill_lower(q, [=](int64_t k) { return T{-0.5} * r[k]; });
    add_to_diagonal(q, T{1.5});
    result_.steps = first + second;
    return finish(q);
  }

  // The fewest poles in all whose band the last step squares to below 1e-7.
  static void choose_poles(double l, int& first, int& second) {
    constexpr double wanted = 2.5e-4;
    int best = INT32_MAX;
    for (int r1 = 1; r1 <= msign::max_poles; ++r1) {
      const double error = msign::zolotarev_for(l, r1).error;
      int r2 = 0;
      if (error > wanted) {
        const double next_l = (1 - error) / (1 + error);
        do ++r2;
        while (r2 < msign::max_poles && msign::zolotarev_for(next_l, r2).error > wanted);
        if (msign::zolotarev_for(next_l, r2).error > wanted) continue;
      }
      // A second function costs two more products.
      const int cost = r1 + r2 + (r2 > 0 ? 2 : 0);
      if (cost >= best) continue;
      best = cost;
      first = r1;
      second = r2;
    }
  }

  // ------------------------------------------------------------------ singular value decomposition

  failure svd() {
    result_.norm = norm_;
    output_ = destination();
    if (layout_.n == 1) {
      result_.rank = 1;
      if (scale_matrix(context_, rows_, cols_, stored(whole(scratch_.x)), stored(output_),
                       1 / norm_) != STEEPEST_OK)
        return executor_failed;
      return {};
    }
    scratch<T>& m = scratch_;
    if (!linalg::svd(whole(m.x), m.u, m.s, m.vt, m.work, m.work_size, m.integers))
      return {STEEPEST_E_NOT_CONVERGED, "LAPACK's gesdd did not converge"};
    const double tolerance =
        plan_.rank_tolerance > 0
            ? plan_.rank_tolerance
            : static_cast<double>(std::max(rows_, cols_)) * (single_ ? FLT_EPSILON : DBL_EPSILON);
    int64_t rank = 0;
    while (rank < layout_.n && m.s[rank] > tolerance * m.s[0]) ++rank;
    result_.rank = rank;
    result_.norm = m.s[0];
    linalg::product<T>({m.u, rows_, rank, layout_.n}, {m.vt, rank, cols_, cols_}, output_);
    return {};
  }

  steepest_context& context_;
  const msign_plan& plan_;
  const int64_t rows_, cols_;
  const linalg::symmetric<T> layout_;
  const linalg::panel_kernels<T>& kernels_;
  msign_result& result_;
  scratch<T> scratch_;
  msign_input from_;
  msign_output to_;
  matrix<T> output_ = {};  // where O is, if it is in memory
  double factor_ = 1;      // X is `factor_` times what the caller gave
  bool single_ = false;    // what the caller gave has no more bits than a float
  double norm_ = 0;        // ||X||_F
  double divisor_ = 0;     // what X is divided by
  failure failed_;
};

}  // namespace

size_t msign_bytes(const steepest_context& context, const msign_plan& plan, int64_t rows,
                   int64_t cols) {
  arena counter;
  if (plan.compute == STEEPEST_F64)
    scratch<double>(counter, context, plan, rows, cols);
  else
    scratch<float>(counter, context, plan, rows, cols);
  return counter.used();
}

void msign_run(steepest_context& context, const msign_plan& plan, int64_t rows, int64_t cols,
               const msign_input& from, const msign_output& to, std::byte* memory,
               bool orthogonality, msign_result& result) {
  result = {STEEPEST_OK, "", 0, 0, -1, 0.0, 0.0, 0.0, 0.0};
  const auto run = [&](auto computation) {
    const failure failed = computation.run(from, to, orthogonality);
    result.status = failed.status;
    result.reason = failed.reason;
  };
  if (plan.compute == STEEPEST_F64)
    run(computation<double>(context, plan, rows, cols, memory, result));
  else
    run(computation<float>(context, plan, rows, cols, memory, result));
}

namespace {

bool in_parallel(const steepest_context& context, int64_t rows, int64_t cols, int64_t count) {
  return count > 1 && context.threads > 1 && is_small(rows, cols);
}

}  // namespace

size_t msign_batch_bytes(const steepest_context& context, const msign_plan& plan, int64_t rows,
                         int64_t cols, int64_t count) {
  const auto at_once =
      static_cast<size_t>(in_parallel(context, rows, cols, count) ? context.threads : 1);
  return at_once * msign_bytes(context, plan, rows, cols);
}

steepest_status msign_run_batch(steepest_context& context, const msign_plan& plan,
                                const msign_batch& batch, std::byte* memory, bool orthogonality,
                                msign_result* results) {
  const size_t bytes = msign_bytes(context, plan, batch.rows, batch.cols);
  auto run = [&](int64_t i, int32_t worker) {
    msign_run(context, plan, batch.rows, batch.cols,
              {{const_cast<void*>(batch.x[i]), batch.x_stride, batch.dtype}},
              {{batch.out[i], batch.out_stride, batch.dtype}},
              memory + static_cast<size_t>(worker) * bytes, orthogonality, results[i]);
  };
  if (in_parallel(context, batch.rows, batch.cols, batch.count))
    return parallel_for(context, batch.count, run);
  for (int64_t i = 0; i < batch.count; ++i) run(i, 0);
  return STEEPEST_OK;
}

}  // namespace steepest
