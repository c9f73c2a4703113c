// SPDX-License-Identifier: Apache-2.0
#include "kernels/muon/kernel.hpp"

namespace steepest {
extern const muon_table muon_x86_avx2;
const muon_table muon_x86_avx2 = make_muon_table<simd::x86_avx2>();
}  // namespace steepest
