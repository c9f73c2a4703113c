// SPDX-License-Identifier: Apache-2.0
#include "kernels/sum_squares/kernel.hpp"

namespace steepest {
extern const sum_squares_table sum_squares_x86_avx2;
const sum_squares_table sum_squares_x86_avx2 = make_sum_squares_table<simd::x86_avx2>();
}  // namespace steepest
