// SPDX-License-Identifier: Apache-2.0
#include "linalg/kernel.hpp"

namespace steepest::linalg {
extern const linalg_table linalg_generic;
const linalg_table linalg_generic = make_linalg_table<simd::generic, simd::rounding::exact>();
}  // namespace steepest::linalg
