// SPDX-License-Identifier: Apache-2.0
// Passes over a stored matrix, row by row.
#include <cmath>

#include "core/dtype.hpp"
#include "dispatch/tables.hpp"
#include "msign/msign.hpp"
#include "parallel/rows.hpp"

namespace steepest {

namespace {

void* row_of(const stored_matrix& x, int64_t row) {
  return static_cast<std::byte*>(x.data) + row * x.stride * dtype_size(x.dtype);
}

}  // namespace

steepest_status matrix_norm(steepest_context& context, int64_t rows, int64_t cols,
                            const stored_matrix& x, bool consistent, squares* partial,
                            norm_result& result) {
  const sum_squares_table& table = context.tables->sum_squares;
  const sum_squares_kernel kernel = (consistent ? table.exact : table.fast).of(x.dtype);
  const row_groups groups(rows, cols);
  const auto attempt = [&](double scale) {
    const steepest_status status =
        for_each_row_group(context, groups, [&](int64_t from, int64_t to, int64_t group) {
          squares total = {0.0, 0};
          for (int64_t row = from; row < to; ++row) {
            const squares one = kernel(row_of(x, row), 0, cols, scale);
            total.sum += one.sum;
            total.nonfinite += one.nonfinite;
          }
          partial[group] = total;
        });
    if (status != STEEPEST_OK) return status;
    squares total = {0.0, 0};
    for (int64_t group = 0; group < groups.count; ++group) {
      total.sum += partial[group].sum;
      total.nonfinite += partial[group].nonfinite;
    }
    const double root = std::sqrt(total.sum);
    result = {root / scale, total.nonfinite, root, scale};
    return STEEPEST_OK;
  };
  return scaled_attempts(attempt, x.dtype == STEEPEST_F64, result);
}

steepest_status scale_matrix(steepest_context& context, int64_t rows, int64_t cols,
                             const stored_matrix& from, const stored_matrix& to, double factor) {
  return for_each_row_group(
      context, row_groups(rows, cols), [&](int64_t first, int64_t last, int64_t) {
        for (int64_t row = first; row < last; ++row)
          context.tables->convert.scaled(row_of(from, row), from.dtype, row_of(to, row), to.dtype,
                                         cols, factor);
      });
}

}  // namespace steepest
