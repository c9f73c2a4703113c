// SPDX-License-Identifier: Apache-2.0
// The 16-bit element types as their bits, and the scalar conversions that every vector conversion
// in simd/convert.hpp must agree with: round to nearest even, NaN kept (made quiet, sign and upper
// payload bits preserved), denormals kept.
#pragma once

#include <cstdint>

namespace steepest {

struct bf16 {
  uint16_t bits;
};

struct f16 {
  uint16_t bits;
};

inline float to_float(float x) { return x; }
inline double to_float(double x) { return x; }

inline float to_float(bf16 x) { return __builtin_bit_cast(float, uint32_t{x.bits} << 16); }

inline float to_float(f16 x) {
  const uint32_t sign = (x.bits & 0x8000U) << 16;
  const uint32_t magnitude = x.bits & 0x7fffU;
  if (magnitude >= 0x7c00) {  // infinity, NaN
    const uint32_t quiet = magnitude > 0x7c00 ? 0x400000U : 0U;
    return __builtin_bit_cast(float, sign | 0x7f800000U | quiet | (magnitude & 0x3ffU) << 13);
  }
  // Read as a float of the same fields, the value is too small by 2^(127-15). The product is exact,
  // and makes denormals of f16 the normal floats that they are.
  const float scaled = __builtin_bit_cast(float, magnitude << 13) * 0x1p112F;
  return __builtin_bit_cast(float, sign | __builtin_bit_cast(uint32_t, scaled));
}

inline bf16 to_bf16(float x) {
  const auto bits = __builtin_bit_cast(uint32_t, x);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return {static_cast<uint16_t>(bits >> 16 | 0x40U)};
  return {static_cast<uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16)};
}

inline f16 to_f16(float x) {
  const auto bits = __builtin_bit_cast(uint32_t, x);
  const uint32_t sign = bits >> 16 & 0x8000U;
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U)
    return {static_cast<uint16_t>(sign | 0x7e00U | (magnitude >> 13 & 0x3ffU))};
  if (magnitude >= 0x47800000U) return {static_cast<uint16_t>(sign | 0x7c00U)};  // 65536 and above
  if (magnitude < 0x38800000U) {
    // Below 2^-14 the result is denormal: adding 1/2 leaves it in the low bits, rounded by the FPU.
    const float shifted = __builtin_bit_cast(float, magnitude) + 0.5F;
    return {static_cast<uint16_t>(sign | (__builtin_bit_cast(uint32_t, shifted) - 0x3f000000U))};
  }
  const uint32_t rebased = magnitude - (uint32_t{127 - 15} << 23);
  return {static_cast<uint16_t>(sign | (rebased + 0xfffU + (rebased >> 13 & 1U)) >> 13)};
}

}  // namespace steepest
