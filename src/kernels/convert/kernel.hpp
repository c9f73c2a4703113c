// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/convert/convert.hpp"
#include "simd/narrow.hpp"

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

// Whole blocks at a time, through copies that have room for whole registers.
template <class Codec, class Level>
void q8_decode_run(const uint8_t* codes, const void* scales, float* values, int64_t count) {
  constexpr int64_t block = Codec::block;
  const auto* const scale = static_cast<const typename Codec::scale*>(scales);
  for (int64_t i = 0; i < count; i += block) {
    const int64_t n = count - i < block ? count - i : block;
    uint8_t from[block] = {};
    float to[block];
    __builtin_memcpy(from, codes + i, static_cast<size_t>(n));
    simd::q8_decode<Codec, Level>(from, scale + i / block, to, n);
    __builtin_memcpy(values + i, to, static_cast<size_t>(n) * sizeof(float));
  }
}
template <class Codec, class Level>
void q8_encode_run(const float* values, uint8_t* codes, void* scales, int64_t count) {
  constexpr int64_t block = Codec::block;
  auto* const scale = static_cast<typename Codec::scale*>(scales);
  for (int64_t i = 0; i < count; i += block) {
    const int64_t n = count - i < block ? count - i : block;
    float from[block] = {};
    uint8_t to[block];
    __builtin_memcpy(from, values + i, static_cast<size_t>(n) * sizeof(float));
    simd::q8_encode<Codec, Level, random_use::exp_avg>(from, to, scale + i / block, n, nullptr);
    __builtin_memcpy(codes + i, to, static_cast<size_t>(n));
  }
}

template <class Level>
STEEPEST_KERNEL void q8_decode(steepest_dtype dtype, bool is_signed, const uint8_t* codes,
                               const void* scales, float* values, int64_t count) {
  if (dtype == STEEPEST_Q8_DYNAMIC && is_signed)
    q8_decode_run<simd::q8_dynamic<Level, true>, Level>(codes, scales, values, count);
  else if (dtype == STEEPEST_Q8_DYNAMIC)
    q8_decode_run<simd::q8_dynamic<Level, false>, Level>(codes, scales, values, count);
  else if (is_signed)
    q8_decode_run<simd::q8_companded<Level, true>, Level>(codes, scales, values, count);
  else
    q8_decode_run<simd::q8_companded<Level, false>, Level>(codes, scales, values, count);
}
template <class Level>
STEEPEST_KERNEL void q8_encode(steepest_dtype dtype, bool is_signed, const float* values,
                               uint8_t* codes, void* scales, int64_t count) {
  if (dtype == STEEPEST_Q8_DYNAMIC && is_signed)
    q8_encode_run<simd::q8_dynamic<Level, true>, Level>(values, codes, scales, count);
  else if (dtype == STEEPEST_Q8_DYNAMIC)
    q8_encode_run<simd::q8_dynamic<Level, false>, Level>(values, codes, scales, count);
  else if (is_signed)
    q8_encode_run<simd::q8_companded<Level, true>, Level>(values, codes, scales, count);
  else
    q8_encode_run<simd::q8_companded<Level, false>, Level>(values, codes, scales, count);
}

template <class Level>
constexpr convert_table make_convert_table() {
  return {convert<Level, bf16, float>,
          convert<Level, f16, float>,
          convert<Level, float, bf16>,
          convert<Level, float, f16>,
          scaled<Level>,
          q8_decode<Level>,
          q8_encode<Level>};
}

}  // namespace
}  // namespace steepest
