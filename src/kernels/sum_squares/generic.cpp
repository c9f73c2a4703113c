// SPDX-License-Identifier: Apache-2.0
#include "kernels/sum_squares/kernel.hpp"

namespace steepest {
extern const sum_squares_table sum_squares_generic;
const sum_squares_table sum_squares_generic =
    make_sum_squares_table<simd::generic, simd::rounding::exact>();
}  // namespace steepest
