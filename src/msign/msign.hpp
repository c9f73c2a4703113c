// SPDX-License-Identifier: Apache-2.0
// msign(X) = U V^T by the methods of steepest.h, on checked arguments.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/context.hpp"
#include "kernels/sum_squares/sum_squares.hpp"
#include "linalg/linalg.hpp"
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
  bool tiles;              // O goes to an msign_target
  bool o_norm;             // |O|_F is wanted, and before the target gets O
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

// The width of the narrowest panel.
inline constexpr int64_t least_panel = linalg::panel_width<double>;

// X that is made tile by tile, in the type of the arithmetic around msign: a Muon step's momentum.
class msign_source {
 public:
  explicit msign_source(steepest_dtype type) : dtype(type) {}
  msign_source(const msign_source&) = delete;
  msign_source& operator=(const msign_source&) = delete;
  const steepest_dtype dtype;  // F32 or F64: of a tile's elements

  // Each part of X is loaded once between these two, in the order of linalg::gram, and its norm
  // measured on the way, as scaled_attempts wants it. Later loads measure nothing.
  virtual void measure(double scale) = 0;
  virtual norm_result measured() = 0;
  // As linalg::tile_source; parts begin at multiples of least_panel.
  virtual void load(const linalg::tile_part& part, void* to, int64_t stride) = 0;
  virtual void expect(const linalg::tile_part& part) const = 0;

 protected:
  ~msign_source() = default;
};

// O that is used tile by tile: a Muon step's parameters.
class msign_target {
 public:
  msign_target() = default;
  msign_target(const msign_target&) = delete;
  msign_target& operator=(const msign_target&) = delete;

  // Before anything is stored: |O|_F, if it is wanted. From here on only the executor can fail.
  virtual void begin(double norm) = 0;
  // As linalg::tile_sink.
  virtual void expect(const linalg::tile_part& part, int64_t call, int64_t calls) = 0;
  virtual void store(const linalg::tile_part& part, const void* from, int64_t stride) = 0;

 protected:
  ~msign_target() = default;
};

// Either a matrix in memory or its tiles.
struct msign_input {
  stored_matrix stored = {};
  msign_source* tiles = nullptr;
};
struct msign_output {
  stored_matrix stored = {};
  msign_target* tiles = nullptr;  // of plan.storage's elements, and as plan.tiles says
};

// Everything but `status` goes to steepest_msign_stats.
struct msign_result {
  steepest_status status;  // OK, NONFINITE, NOT_CONVERGED; INTERNAL if the executor failed
  const char* reason;      // where status is not OK, for the error text
  int32_t steps, retries;
  int64_t rank;  // -1: not known
  double norm, lower_bound, orthogonality;
  double o_norm;  // if it is wanted
};

size_t msign_bytes(const steepest_context& context, const msign_plan& plan, int64_t rows,
                   int64_t cols);

// rows and cols > 0. `memory` has msign_bytes, aligned to 64. `from` is only read; `to` may be
// `from` itself and is only written if all goes well. Sets result.orthogonality if asked to, for a
// stored O.
void msign_run(steepest_context& context, const msign_plan& plan, int64_t rows, int64_t cols,
               const msign_input& from, const msign_output& to, std::byte* memory,
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
steepest_status matrix_norm(steepest_context& context, int64_t rows, int64_t cols,
                            const stored_matrix& x, bool consistent, squares* partial,
                            norm_result& result);

// to = factor from.
steepest_status scale_matrix(steepest_context& context, int64_t rows, int64_t cols,
                             const stored_matrix& from, const stored_matrix& to, double factor);

}  // namespace steepest
