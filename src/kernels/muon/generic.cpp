// SPDX-License-Identifier: Apache-2.0
#include "kernels/muon/kernel.hpp"

namespace steepest {
extern const muon_table muon_generic;
const muon_table muon_generic = make_muon_table<simd::generic, simd::rounding::exact>();
}  // namespace steepest
