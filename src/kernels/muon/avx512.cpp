// SPDX-License-Identifier: Apache-2.0
#include "kernels/muon/kernel.hpp"

namespace steepest {
extern const muon_table muon_x86_avx512;
const muon_table muon_x86_avx512 = make_muon_table<simd::x86_avx512>();
}  // namespace steepest
