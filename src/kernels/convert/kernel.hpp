// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/convert/convert.hpp"
#include "simd/convert.hpp"

namespace steepest {
namespace {

template <class Level, class From, class To>
STEEPEST_KERNEL void convert(const From* from, To* to, int64_t count) {
  simd::convert<Level>(from, to, count);
}

// A factor beyond the range of a float, as two within it.
struct split_factor {
  float first, second;

  explicit split_factor(double factor) {
    const double magnitude = __builtin_fabs(factor);
    const double part = magnitude > 0x1p120 ? 0x1p100 : magnitude < 0x1p-100 ? 0x1p-100 : 1.0;
    first = static_cast<float>(part);
    second = static_cast<float>(factor / part);
  }
};

// As a float whose last bit says whether anything was cut off: rounding it to a narrower type then
// gives what rounding the double would.
inline float cut(double x) {
  const auto nearest = static_cast<float>(x);
  const double back = nearest;
  if (back == x || x != x) return nearest;
  auto bits = __builtin_bit_cast(uint32_t, nearest);
  if (__builtin_fabs(back) > __builtin_fabs(x)) --bits;
  return __builtin_bit_cast(float, bits | 1);
}

inline void narrow(double x, double* to) { *to = x; }
inline void narrow(double x, float* to) { *to = static_cast<float>(x); }
inline void narrow(double x, bf16* to) { *to = to_bf16(cut(x)); }
inline void narrow(double x, f16* to) { *to = to_f16(cut(x)); }

template <class Level, class From, class To>
void scaled_run(const From* from, To* to, int64_t count, double factor) {
  if constexpr (sizeof(From) == 8 || sizeof(To) == 8) {
    for (int64_t i = 0; i < count; ++i)
      narrow(factor * static_cast<double>(to_float(from[i])), to + i);
  } else {
    constexpr int64_t size = simd::vec<float, Level>::size;
    const split_factor factors(factor);
    const simd::vec<float, Level> first(factors.first);
    const simd::vec<float, Level> second(factors.second);
    int64_t i = 0;
    for (; i + size <= count; i += size)
      simd::store<Level>(to + i, simd::load<Level>(from + i) * first * second);
    if (i == count) return;
    From tail[size] = {};
    To result[size];
    __builtin_memcpy(tail, from + i, static_cast<size_t>(count - i) * sizeof(From));
    simd::store<Level>(result, simd::load<Level>(static_cast<const From*>(tail)) * first * second);
    __builtin_memcpy(to + i, result, static_cast<size_t>(count - i) * sizeof(To));
  }
}

template <class Level, class From>
void scaled_from(const From* from, void* to, steepest_dtype dtype, int64_t count, double factor) {
  if (dtype == STEEPEST_F32)
    scaled_run<Level>(from, static_cast<float*>(to), count, factor);
  else if (dtype == STEEPEST_F64)
    scaled_run<Level>(from, static_cast<double*>(to), count, factor);
  else if (dtype == STEEPEST_BF16)
    scaled_run<Level>(from, static_cast<bf16*>(to), count, factor);
  else
    scaled_run<Level>(from, static_cast<f16*>(to), count, factor);
}

template <class Level>
STEEPEST_KERNEL void scaled(const void* from, steepest_dtype from_dtype, void* to,
                            steepest_dtype to_dtype, int64_t count, double factor) {
  if (from_dtype == STEEPEST_F32)
    scaled_from<Level>(static_cast<const float*>(from), to, to_dtype, count, factor);
  else if (from_dtype == STEEPEST_F64)
    scaled_from<Level>(static_cast<const double*>(from), to, to_dtype, count, factor);
  else if (from_dtype == STEEPEST_BF16)
    scaled_from<Level>(static_cast<const bf16*>(from), to, to_dtype, count, factor);
  else
    scaled_from<Level>(static_cast<const f16*>(from), to, to_dtype, count, factor);
}

template <class Level>
constexpr convert_table make_convert_table() {
  return {convert<Level, bf16, float>, convert<Level, f16, float>, convert<Level, float, bf16>,
          convert<Level, float, f16>, scaled<Level>};
}

}  // namespace
}  // namespace steepest
