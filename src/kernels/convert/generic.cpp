// SPDX-License-Identifier: Apache-2.0
#include "kernels/convert/kernel.hpp"

namespace steepest {
extern const convert_table convert_generic;
const convert_table convert_generic = make_convert_table<simd::generic>();
}  // namespace steepest
