// SPDX-License-Identifier: Apache-2.0
#include "kernels/convert/kernel.hpp"

namespace steepest {
extern const convert_table convert_x86_avx512_bf16;
const convert_table convert_x86_avx512_bf16 = make_convert_table<simd::x86_avx512_bf16>();
}  // namespace steepest
