// SPDX-License-Identifier: Apache-2.0
#include "kernels/adamw/table.hpp"

namespace steepest {
extern const adamw_table adamw_generic;
const adamw_table adamw_generic = make_adamw_table<simd::generic, simd::rounding::exact>();
}  // namespace steepest
