// SPDX-License-Identifier: Apache-2.0
#include "linalg/kernel.hpp"

namespace steepest::linalg {
extern const linalg_table linalg_x86_avx2;
const linalg_table linalg_x86_avx2 = make_linalg_table<simd::x86_avx2>();
}  // namespace steepest::linalg
