// SPDX-License-Identifier: Apache-2.0
// Whole arrays from one storage type to another: round to nearest even, NaN and denormals kept.
#pragma once

#include <cstdint>

#include "core/half.hpp"
#include "steepest/steepest.h"

namespace steepest {

// One per ISA level. Source and destination do not overlap.
struct convert_table {
  void (*bf16_to_f32)(const bf16* from, float* to, int64_t count);
  void (*f16_to_f32)(const f16* from, float* to, int64_t count);
  void (*f32_to_bf16)(const float* from, bf16* to, int64_t count);
  void (*f32_to_f16)(const float* from, f16* to, int64_t count);
  // to = factor from, between any two types; exact for a factor that is a power of two, but for
  // what leaves the range of `to_dtype` or is rounded to it.
  void (*scaled)(const void* from, steepest_dtype from_dtype, void* to, steepest_dtype to_dtype,
                 int64_t count, double factor);
  // 8-bit codes (core/narrow.hpp), to nearest.
  void (*q8_decode)(steepest_dtype dtype, bool is_signed, const uint8_t* codes, const void* scales,
                    float* values, int64_t count);
  void (*q8_encode)(steepest_dtype dtype, bool is_signed, const float* values, uint8_t* codes,
                    void* scales, int64_t count);
};

}  // namespace steepest
