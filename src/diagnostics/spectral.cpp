// SPDX-License-Identifier: Apache-2.0
// Bounds of |X|_2 without a singular value decomposition. R = X X^T (or X^T X, the smaller) is
// formed once; Lanczos' method finds a vector whose Rayleigh quotient is a lower bound of R's
// largest eigenvalue; that u^2 is an upper one is proven by a Cholesky factorisation of u^2 I - R,
// which succeeds only for positive definite matrices. Both bounds include what rounding can have
// done.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/arena.hpp"
#include "diagnostics/singular.hpp"
#include "dispatch/tables.hpp"
#include "linalg/linalg.hpp"
#include "parallel/parallel_for.hpp"
#include "parallel/rows.hpp"

namespace steepest {

namespace {

// Steps of Lanczos' method before LAPACK's singular values are the better way.
constexpr int64_t max_steps = 192;

struct scratch {
  squares* partial;
  double* copy;
  linalg::product_memory<double> products;
  double *r, *shifted, *rows_form;
  double *basis, *ritz, *image;
  double *diagonal, *off_diagonal, *values, *rest, *vectors, *work;

  scratch(arena& memory, const steepest_context& context, int64_t rows, int64_t cols) {
    const linalg::symmetric<double> layout(std::min(rows, cols));
    const int64_t steps = std::min(layout.n, max_steps);
    partial = memory.take<squares>(row_groups(rows, cols).count);
    copy = memory.take<double>(rows * cols);
    products = {rows, cols,
                memory.take<double>(linalg::packed_elements<double>(context, rows, cols)),
                memory.take<double>(linalg::product_elements<double>(context, rows, cols))};
    r = memory.take<double>(layout.elements());
    shifted = memory.take<double>(layout.elements());
    rows_form = memory.take<double>(layout.n * layout.n);
    basis = memory.take<double>(steps * layout.rows);
    ritz = memory.take<double>(layout.rows);
    image = memory.take<double>(layout.rows);
    diagonal = memory.take<double>(steps);
    off_diagonal = memory.take<double>(steps);
    values = memory.take<double>(steps);
    rest = memory.take<double>(steps);
    vectors = memory.take<double>(steps * steps);
    work = memory.take<double>(2 * steps);
  }
};

double dot(const double* x, const double* y, int64_t n) {
  return std::inner_product(x, x + n, y, 0.0);
}

class lanczos {
 public:
  lanczos(steepest_context& context, const linalg::symmetric<double>& layout, const scratch& memory)
      : context_(context), layout_(layout), s_(memory) {
    // Any start with a share of the wanted vector will do: a fixed pseudo-random one.
    uint64_t state = 1;
    for (int64_t i = 0; i < layout_.rows; ++i) {
      state = state * 6364136223846793005 + 1442695040888963407;
      s_.basis[i] = i < layout_.n ? static_cast<double>(state >> 11) * 0x1p-53 - 0.5 : 0;
    }
    scale(s_.basis, 1 / std::sqrt(dot(s_.basis, s_.basis, layout_.n)));
  }

  // Goes on to `steps` steps, or until the space is invariant; then the Ritz vector and its
  // Rayleigh quotient. False if something below failed.
  bool advance(int64_t steps, double tiny) {
    for (; steps_ < steps && !invariant_; ++steps_)
      if (!step(tiny)) return false;
    std::copy_n(s_.diagonal, steps_, s_.values);
    std::copy_n(s_.off_diagonal, steps_, s_.rest);
    if (!linalg::tridiagonal_eigenvectors(steps_, s_.values, s_.rest, s_.vectors, s_.work))
      return false;
    const double* top = s_.vectors + (steps_ - 1) * steps_;  // eigenvalues rise
    std::fill_n(s_.ritz, layout_.rows, 0.0);
    for (int64_t k = 0; k < steps_; ++k) add(top[k], s_.basis + k * layout_.rows, s_.ritz);
    if (!multiply(s_.ritz, s_.image)) return false;
    const double square = dot(s_.ritz, s_.ritz, layout_.n);
    quotient_ = dot(s_.ritz, s_.image, layout_.n) / square;
    add(-quotient_, s_.ritz, s_.image);
    residual_ = std::sqrt(dot(s_.image, s_.image, layout_.n) / square);
    return true;
  }

  int64_t steps() const { return steps_; }
  bool invariant() const { return invariant_; }
  double quotient() const { return quotient_; }
  double residual() const { return residual_; }

 private:
  void scale(double* x, double factor) const {
    for (int64_t i = 0; i < layout_.n; ++i) x[i] *= factor;
  }
  void add(double factor, const double* x, double* to) const {
    for (int64_t i = 0; i < layout_.n; ++i) to[i] += factor * x[i];
  }

  // to = R x, a panel of R at a time.
  bool multiply(const double* x, double* to) const {
    constexpr int64_t w = linalg::panel_width<double>;
    auto panel = [&](int64_t j, int32_t) {
      const double* a = s_.r + layout_.panel(j);
      double sums[w] = {};
      for (int64_t i = 0; i < layout_.n; ++i)
        for (int64_t c = 0; c < w; ++c) sums[c] += a[i * w + c] * x[i];
      std::copy_n(sums, w, to + j * w);
    };
    if (parallel_for(context_, layout_.panels, panel) != STEEPEST_OK) return false;
    std::fill(to + layout_.n, to + layout_.rows, 0.0);
    return true;
  }

  bool step(double tiny) {
    const double* q = s_.basis + steps_ * layout_.rows;
    double* next = s_.image;
    if (!multiply(q, next)) return false;
    s_.diagonal[steps_] = dot(q, next, layout_.n);
    // Against all vectors and twice, or rounding would let known directions come back.
    for (int pass = 0; pass < 2; ++pass)
      for (int64_t k = steps_; k >= 0; --k) {
        const double* known = s_.basis + k * layout_.rows;
        add(-dot(known, next, layout_.n), known, next);
      }
    const double length = std::sqrt(dot(next, next, layout_.n));
    s_.off_diagonal[steps_] = length;
    const int64_t limit = std::min(layout_.n, max_steps);
    if (steps_ + 1 == limit || length <= tiny) {
      invariant_ = true;
      return true;
    }
    double* following = s_.basis + (steps_ + 1) * layout_.rows;
    std::copy_n(next, layout_.rows, following);
    scale(following, 1 / length);
    return true;
  }

  steepest_context& context_;
  const linalg::symmetric<double>& layout_;
  const scratch& s_;
  int64_t steps_ = 0;
  bool invariant_ = false;
  double quotient_ = 0;
  double residual_ = 0;
};

}  // namespace

size_t spectral_bounds_bytes(const steepest_context& context, int64_t rows, int64_t cols) {
  arena values;
  values.take<double>(std::min(rows, cols));
  arena counter;
  const scratch unused(counter, context, rows, cols);
  return values.used() + std::max(counter.used(), singular_values_bytes(rows, cols));
}

steepest_status spectral_bounds(steepest_context& context, int64_t rows, int64_t cols,
                                const stored_matrix& x, double tolerance, std::byte* memory,
                                norm_bounds& bounds, const char*& reason) {
  arena slices(memory);
  double* const values = slices.take<double>(std::min(rows, cols));
  std::byte* const rest = memory + slices.used();
  const scratch s(slices, context, rows, cols);
  const linalg::symmetric<double> layout(std::min(rows, cols));
  scaled_matrix copy = {s.copy, 0, 0};
  if (const auto status = scaled_copy(context, rows, cols, x, s.partial, copy, reason);
      status != STEEPEST_OK)
    return status;
  if (copy.norm == 0) {
    bounds = {0, 0};
    return STEEPEST_OK;
  }
  const auto failed = [&] {
    reason = "the executor failed";
    return STEEPEST_E_INTERNAL;
  };
  const bool consistent = (context.flags & STEEPEST_FLAG_CONSISTENT) != 0;
  const auto& tables = context.tables->linalg;
  const auto& kernels = (consistent ? tables.exact : tables.fast).of<double>();
  const linalg::tile_source<double> source = {{s.copy, rows, cols, cols}};
  if (linalg::gram(context, kernels, &source, s.products, s.r) != STEEPEST_OK ||
      linalg::make_full(context, kernels, layout, s.r) != STEEPEST_OK)
    return failed();

  // The elements of R are sums of max(rows, cols) products, off by at most that many half ulps of
  // sum |x_i x_j|, and R's 2-norm by as many of |X|_F^2; likewise the quotient, of sums of n and
  // again n. Factorisation: Rump, BIT 46 (2006): success proves that the least eigenvalue is above
  // -(n + 2) half ulps of the trace, here at most n u^2. Twice as much, for terms of higher order.
  constexpr double half_ulp = 0x1p-53;
  const auto n = static_cast<double>(layout.n);
  const auto sides = static_cast<double>(rows + cols);
  const double square = copy.norm * copy.norm;
  const double slack = 2 * half_ulp * (sides + 2 * n + 16) * square;

  lanczos method(context, layout, s);
  for (int64_t steps = 12;; steps *= 2) {
    if (!method.advance(steps, half_ulp * square)) return failed();
    const double least = method.quotient() - slack;
    // What may be claimed; and what must be proven for it.
    const double claim = least * (1 + tolerance) * (1 + tolerance) * (1 - 12 * half_ulp);
    const double proven = claim - slack - 2 * half_ulp * (n + 2) * n * claim;
    // The residual only says when it is worth an attempt.
    const bool attempt = method.invariant() || method.residual() <= 2 * tolerance * least;
    if (attempt && proven > least) {
      for (int64_t k = 0; k < layout.elements(); ++k) s.shifted[k] = -s.r[k];
      for (int64_t i = 0; i < layout.n; ++i) s.shifted[layout.diagonal(i)] += proven;
      if (linalg::positive_definite(layout, s.shifted, s.rows_form)) {
        // A step outwards: what leaves the normal range is rounded once more.
        bounds = {std::nextafter(std::ldexp(std::sqrt(least), copy.exponent), 0),
                  std::nextafter(std::ldexp(std::sqrt(claim), copy.exponent), HUGE_VAL)};
        return STEEPEST_OK;
      }
    }
    if (method.invariant()) break;
  }
  // Too dense a spectrum for so few steps: LAPACK's values, which are right to a few ulps of |X|_F.
  if (const auto status = singular_values(context, rows, cols, x, rest, values, reason);
      status != STEEPEST_OK)
    return status;
  const double error = std::ldexp(16 * half_ulp * sides * copy.norm, copy.exponent);
  bounds = {values[0] - error, values[0] + error};
  return STEEPEST_OK;
}

}  // namespace steepest
