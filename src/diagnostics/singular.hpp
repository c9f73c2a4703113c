// SPDX-License-Identifier: Apache-2.0
// Singular values of a stored matrix, and what they say.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/context.hpp"
#include "msign/msign.hpp"

namespace steepest {

// A copy in fp64 without gaps, times 2^-exponent so that its norm is near 1 and no square leaves
// the range of a double. A norm of 0: nothing was copied.
struct scaled_matrix {
  double* data;
  int exponent;
  double norm;  // Frobenius, of the copy
};

// Returns OK, NONFINITE or INTERNAL, with *reason set unless OK. `partial` is matrix_norm's.
steepest_status scaled_copy(steepest_context& context, int64_t rows, int64_t cols,
                            const stored_matrix& x, squares* partial, scaled_matrix& copy,
                            const char*& reason);

size_t singular_values_bytes(int64_t rows, int64_t cols);

// rows, cols > 0; values[min(rows, cols)], falling. Returns OK, NONFINITE, NOT_CONVERGED or
// INTERNAL, with values untouched and *reason set unless OK. `memory` has singular_values_bytes,
// aligned to 64.
steepest_status singular_values(steepest_context& context, int64_t rows, int64_t cols,
                                const stored_matrix& x, std::byte* memory, double* values,
                                const char*& reason);

// lower <= |X|_2 <= upper <= (1 + tolerance) lower, rounding included; tolerance in [1e-6, 1].
// Otherwise as singular_values.
struct norm_bounds {
  double lower, upper;
};
size_t spectral_bounds_bytes(const steepest_context& context, int64_t rows, int64_t cols);
steepest_status spectral_bounds(steepest_context& context, int64_t rows, int64_t cols,
                                const stored_matrix& x, double tolerance, std::byte* memory,
                                norm_bounds& bounds, const char*& reason);

double singular_entropy(const double* values, int64_t count);

}  // namespace steepest
