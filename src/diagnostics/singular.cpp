// SPDX-License-Identifier: Apache-2.0
#include "diagnostics/singular.hpp"

#include <algorithm>
#include <cmath>

#include "core/arena.hpp"
#include "kernels/sum_squares/sum_squares.hpp"
#include "linalg/linalg.hpp"
#include "parallel/rows.hpp"

namespace steepest {

namespace {

struct scratch {
  squares* partial;
  double *copy, *values, *work;
  int64_t work_size;
  int32_t* integers;

  scratch(arena& memory, int64_t rows, int64_t cols) {
    const int64_t n = std::min(rows, cols);
    partial = memory.take<squares>(row_groups(rows, cols).count);
    copy = memory.take<double>(rows * cols);
    values = memory.take<double>(n);
    work_size = linalg::svd_work_size<double>(rows, cols, false);
    work = memory.take<double>(work_size);
    integers = memory.take<int32_t>(8 * n);
  }
};

}  // namespace

steepest_status scaled_copy(steepest_context& context, int64_t rows, int64_t cols,
                            const stored_matrix& x, squares* partial, scaled_matrix& copy,
                            const char*& reason) {
  const auto failed = [&](steepest_status status, const char* text) {
    reason = text;
    return status;
  };
  norm_result norm = {};
  if (matrix_norm(context, rows, cols, x, false, partial, norm) != STEEPEST_OK)
    return failed(STEEPEST_E_INTERNAL, "the executor failed");
  if (norm.nonfinite != 0)
    return failed(STEEPEST_E_NONFINITE, "the matrix has elements that are NaN or infinite");
  copy.norm = 0;
  if (norm.norm == 0) return STEEPEST_OK;
  copy.exponent = std::clamp(std::ilogb(norm.norm), -1000, 1000);
  copy.norm = norm.root / norm.scale * std::ldexp(1.0, -copy.exponent);
  if (scale_matrix(context, rows, cols, x, {copy.data, cols, STEEPEST_F64},
                   std::ldexp(1.0, -copy.exponent)) != STEEPEST_OK)
    return failed(STEEPEST_E_INTERNAL, "the executor failed");
  return STEEPEST_OK;
}

size_t singular_values_bytes(int64_t rows, int64_t cols) {
  arena counter;
  const scratch unused(counter, rows, cols);
  return counter.used();
}

steepest_status singular_values(steepest_context& context, int64_t rows, int64_t cols,
                                const stored_matrix& x, std::byte* memory, double* values,
                                const char*& reason) {
  arena slices(memory);
  const scratch s(slices, rows, cols);
  scaled_matrix copy = {s.copy, 0, 0};
  if (const auto status = scaled_copy(context, rows, cols, x, s.partial, copy, reason);
      status != STEEPEST_OK)
    return status;
  const int64_t n = std::min(rows, cols);
  if (copy.norm == 0) {
    std::fill(values, values + n, 0.0);
    return STEEPEST_OK;
  }
  double* const no_vectors = nullptr;
  if (!linalg::svd<double>({s.copy, rows, cols, cols}, no_vectors, s.values, no_vectors, s.work,
                           s.work_size, s.integers)) {
    reason = "LAPACK's gesdd did not converge";
    return STEEPEST_E_NOT_CONVERGED;
  }
  for (int64_t i = 0; i < n; ++i) values[i] = std::ldexp(s.values[i], copy.exponent);
  return STEEPEST_OK;
}

double singular_entropy(const double* values, int64_t count) {
  const double largest = count > 0 ? *std::max_element(values, values + count) : 0;
  if (count < 2 || largest == 0) return 0;
  // Scaled, so that no square is lost.
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += (values[i] / largest) * (values[i] / largest);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double p = (values[i] / largest) * (values[i] / largest) / total;
    if (p > 0) sum -= p * std::log(p);
  }
  return sum / std::log(static_cast<double>(count));
}

}  // namespace steepest
