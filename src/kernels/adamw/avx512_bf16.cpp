// SPDX-License-Identifier: Apache-2.0
#include "kernels/adamw/table.hpp"

namespace steepest {
extern const adamw_table adamw_x86_avx512_bf16;
const adamw_table adamw_x86_avx512_bf16 = make_adamw_table<simd::x86_avx512_bf16>();
}  // namespace steepest
