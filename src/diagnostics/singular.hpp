// SPDX-License-Identifier: Apache-2.0
// Singular values of a stored matrix, and what they say.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/context.hpp"
#include "msign/msign.hpp"

namespace steepest {

size_t singular_values_bytes(int64_t rows, int64_t cols);

// rows, cols > 0; values[min(rows, cols)], falling. Returns OK, NONFINITE, NOT_CONVERGED or
// INTERNAL, with values untouched and *reason set unless OK. `memory` has singular_values_bytes,
// aligned to 64.
steepest_status singular_values(steepest_context& context, int64_t rows, int64_t cols,
                                const stored_matrix& x, std::byte* memory, double* values,
                                const char*& reason);

double singular_entropy(const double* values, int64_t count);

}  // namespace steepest
