// SPDX-License-Identifier: Apache-2.0
// Sums of squares in double, and the count of elements that are not finite: the gradient norm, and
// the scan behind SKIP_NONFINITE.
#pragma once

#include <cstdint>

#include "core/context.hpp"

namespace steepest {

struct squares {
  double sum;  // of (scale x)^2
  int64_t nonfinite;
};

using sum_squares_kernel = squares (*)(const void* x, int64_t begin, int64_t end, double scale);

// By element type: f32, f64, bf16, f16.
struct sum_squares_kernels {
  sum_squares_kernel by_dtype[4];

  sum_squares_kernel of(steepest_dtype dtype) const { return by_dtype[dtype - STEEPEST_F32]; }
};

struct sum_squares_table {
  sum_squares_kernels fast;
  sum_squares_kernels exact;
};

struct sum_squares_job {
  const void* data;
  sum_squares_kernel kernel;
  int64_t count;
  int64_t first_tile;
  bool is_f64;
};

// jobs[count] with first_tile set; one result per tile.
steepest_status sum_squares_run(steepest_context& context, const sum_squares_job* jobs,
                                int64_t count, double scale, squares* results);

struct norm_result {
  double norm;
  int64_t nonfinite;
  // norm = root / scale, for a norm that is itself beyond the range of a double.
  double root, scale;
};

// attempt(scale) sets `result` to a norm whose squares were formed from scaled elements. Doubles
// whose squares leave the range of a double get another attempt, scaled by a power of two. Below
// the lower limit, squares that matter may have lost bits to underflow.
template <class F>
steepest_status scaled_attempts(F& attempt, bool doubles, const norm_result& result) {
  const steepest_status status = attempt(1.0);
  if (status != STEEPEST_OK || result.nonfinite != 0 || !doubles) return status;
  if (result.norm > __DBL_MAX__) return attempt(0x1p-600);
  if (result.norm < 0x1p-450) return attempt(0x1p+600);
  return status;
}

// The Euclidean norm over all jobs, free of overflow and underflow; results[tiles] is scratch.
steepest_status norm_run(steepest_context& context, const sum_squares_job* jobs, int64_t count,
                         int64_t tiles, squares* results, norm_result& result);

}  // namespace steepest
