// SPDX-License-Identifier: Apache-2.0
// msign(X) = U V^T by the methods of steepest.h, on checked arguments.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/context.hpp"
#include "msign/coefficients.hpp"

namespace steepest {

// A config with every default filled in.
struct msign_plan {
  int32_t method;         // not AUTO
  int32_t normalization;  // not AUTO
  int64_t steps;          // iterations or poles
  msign::coefficient_set coefficients;
  const int32_t* restarts;  // or null: the default list
  int64_t restart_count;
  double lower_bound, norm_bound;
  double rank_tolerance;   // 0: the default
  steepest_dtype storage;  // of x and out
  steepest_dtype compute;  // F32 or F64; BF16: F32, but for the products with X
  bool split;              // BF16: Q as the sum of two matrices
  bool consistent;         // the same bits on every ISA level
};

// Fills in the defaults of a checked config for one shape. `dtype` is x's.
msign_plan msign_plan_for(const steepest_msign_config& config, steepest_dtype dtype, int64_t rows,
                          int64_t cols, bool consistent);
// The type of the arithmetic and the coefficient rows, which do not depend on the shape.
steepest_dtype msign_compute_dtype(const steepest_msign_config& config, steepest_dtype dtype);
msign::coefficient_set msign_coefficients(const steepest_msign_config& config, int64_t steps);

// Where a method takes the singular values in [l, 1].
msign::band msign_band(const msign_plan& plan, double l);

// A matrix in memory, in any storage type.
struct stored_matrix {
  void* data;
  int64_t stride;
  steepest_dtype dtype;
};

// Everything but `status` goes to steepest_msign_stats.
struct msign_result {
  steepest_status status;  // OK, NONFINITE, NOT_CONVERGED; INTERNAL if the executor failed
  const char* reason;      // where status is not OK, for the error text
  int32_t steps, retries;
  int64_t rank;  // -1: not known
  double norm, lower_bound, orthogonality;
};

size_t msign_bytes(const steepest_context& context, const msign_plan& plan, int64_t rows,
                   int64_t cols);

// rows and cols > 0. `memory` has msign_bytes, aligned to 64. `from` is only read; `to` may be
// `from` itself and is only written if all goes well. Sets result.orthogonality if asked to.
void msign_run(steepest_context& context, const msign_plan& plan, int64_t rows, int64_t cols,
               const stored_matrix& from, const stored_matrix& to, std::byte* memory,
               bool orthogonality, msign_result& result);

// The same for matrices of one shape; small ones are left to one thread each. `memory` has
// msign_batch_bytes. Returns INTERNAL if the executor failed.
struct msign_batch {
  int64_t rows, cols, count;
  steepest_dtype dtype;
  const void* const* x;
  int64_t x_stride;
  void* const* out;
  int64_t out_stride;
};
size_t msign_batch_bytes(const steepest_context& context, const msign_plan& plan, int64_t rows,
                         int64_t cols, int64_t count);
steepest_status msign_run_batch(steepest_context& context, const msign_plan& plan,
                                const msign_batch& batch, std::byte* memory, bool orthogonality,
                                msign_result* results);

// Whether a matrix is better left to one thread when there are others like it.
constexpr bool is_small(int64_t rows, int64_t cols) {
  constexpr int64_t limit = 256;
  return (rows < cols ? rows : cols) <= limit && rows * cols <= 4 * limit * limit;
}

// |X|_F over a matrix in any storage type, free of overflow and underflow, and the elements that
// are not finite. partial[row_groups(rows, cols).count] is scratch.
struct squares;
struct norm_result;
steepest_status matrix_norm(steepest_context& context, int64_t rows, int64_t cols,
                            const stored_matrix& x, bool consistent, squares* partial,
                            norm_result& result);

// to = factor from.
steepest_status scale_matrix(steepest_context& context, int64_t rows, int64_t cols,
                             const stored_matrix& from, const stored_matrix& to, double factor);

}  // namespace steepest
