// SPDX-License-Identifier: Apache-2.0
// What an element type is called and how many bytes it takes.
#pragma once

#include <cstdint>

#include "steepest/steepest.h"

namespace steepest {

// 0 for a number that is no element type of a plain buffer.
constexpr int64_t dtype_size(steepest_dtype dtype) {
  switch (dtype) {
    case STEEPEST_F32: return 4;
    case STEEPEST_F64: return 8;
    case STEEPEST_BF16:
    case STEEPEST_F16: return 2;
    default: return 0;
  }
}

// The same as a power of two, for sizes without a division; `dtype` is known to be plain, or of
// 8-bit codes.
constexpr int dtype_shift(steepest_dtype dtype) {
  switch (dtype) {
    case STEEPEST_F64: return 3;
    case STEEPEST_F32: return 2;
    case STEEPEST_Q8_DYNAMIC:
    case STEEPEST_Q8_COMPANDED: return 0;
    default: return 1;
  }
}

constexpr const char* dtype_name(steepest_dtype dtype) {
  switch (dtype) {
    case STEEPEST_F32: return "f32";
    case STEEPEST_F64: return "f64";
    case STEEPEST_BF16: return "bf16";
    case STEEPEST_F16: return "f16";
    case STEEPEST_Q8_DYNAMIC: return "q8_dynamic";
    case STEEPEST_Q8_COMPANDED: return "q8_companded";
    default: return "unknown";
  }
}

}  // namespace steepest
