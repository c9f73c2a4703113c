// SPDX-License-Identifier: Apache-2.0
// The multiply-add limit of a core: a loop of independent fused multiply-adds on registers.
#pragma once

#include <steepest/steepest.h>

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace bench {

// Performs about `flops` floating-point operations (two for each multiply-add) in float and returns
// something that depends on all of them.
using fma_loop = float (*)(int64_t flops);

// More accumulators than any core has multiply-adds in flight.
inline constexpr int accumulators = 16;

inline float fma_generic(int64_t flops) {
  float x[4 * accumulators] = {};
  for (int64_t i = 0; i < flops; i += 2 * 4 * accumulators)
    for (float& each : x) each = each * 0.5F + 1.0F;
  float sum = 0;
  for (const float each : x) sum += each;
  return sum;
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) inline float fma_avx2(int64_t flops) {
  __m256 x[accumulators];
  for (__m256& each : x) each = _mm256_setzero_ps();
  const __m256 half = _mm256_set1_ps(0.5F);
  const __m256 one = _mm256_set1_ps(1.0F);
  for (int64_t i = 0; i < flops; i += 2 * 8 * (accumulators - 4))
#pragma GCC unroll 16
    for (int k = 0; k < accumulators - 4; ++k) x[k] = _mm256_fmadd_ps(x[k], half, one);
  float sum = 0;
  for (const __m256& each : x) sum += _mm256_cvtss_f32(each);
  return sum;
}

__attribute__((target("avx512f"))) inline float fma_avx512(int64_t flops) {
  __m512 x[accumulators];
  for (__m512& each : x) each = _mm512_setzero_ps();
  const __m512 half = _mm512_set1_ps(0.5F);
  const __m512 one = _mm512_set1_ps(1.0F);
  for (int64_t i = 0; i < flops; i += 2 * 16 * accumulators)
#pragma GCC unroll 16
    for (__m512& each : x) each = _mm512_fmadd_ps(each, half, one);
  float sum = 0;
  for (const __m512& each : x) sum += _mm512_cvtss_f32(each);
  return sum;
}
#elif defined(__aarch64__)
inline float fma_neon(int64_t flops) {
  float32x4_t x[accumulators];
  for (float32x4_t& each : x) each = vdupq_n_f32(0);
  const float32x4_t half = vdupq_n_f32(0.5F);
  const float32x4_t one = vdupq_n_f32(1.0F);
  for (int64_t i = 0; i < flops; i += 2 * 4 * accumulators)
#pragma GCC unroll 16
    for (float32x4_t& each : x) each = vfmaq_f32(one, each, half);
  float sum = 0;
  for (const float32x4_t& each : x) sum += vgetq_lane_f32(each, 0);
  return sum;
}
#endif

// Of the best level that this CPU has.
inline fma_loop best_fma_loop() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return fma_avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return fma_avx2;
  return fma_generic;
#elif defined(__aarch64__)
  return fma_neon;
#else
  return fma_generic;
#endif
}

}  // namespace bench
