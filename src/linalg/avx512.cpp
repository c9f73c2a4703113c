// SPDX-License-Identifier: Apache-2.0
#include "linalg/kernel.hpp"

namespace steepest::linalg {
extern const linalg_table linalg_x86_avx512;
const linalg_table linalg_x86_avx512 = make_linalg_table<simd::x86_avx512>();
}  // namespace steepest::linalg
