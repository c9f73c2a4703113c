// SPDX-License-Identifier: Apache-2.0
#include "kernels/adamw/table.hpp"

namespace steepest {
extern const adamw_table adamw_x86_avx2;
const adamw_table adamw_x86_avx2 = make_adamw_table<simd::x86_avx2>();
}  // namespace steepest
