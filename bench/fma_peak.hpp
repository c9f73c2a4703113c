// SPDX-License-Identifier: Apache-2.0
// The multiply-add limit of the cores: loops of independent fused multiply-adds on registers.
#pragma once

#include <steepest/steepest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "contest.hpp"
#include "thread_pool.hpp"

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

// Of bf16 operands, two to each float of the sums.
__attribute__((target("avx512f,avx512bf16"))) inline float fma_bf16(int64_t flops) {
  __m512 x[accumulators];
  for (__m512& each : x) each = _mm512_setzero_ps();
  const auto ones = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
  for (int64_t i = 0; i < flops; i += 2 * 32 * accumulators)
#pragma GCC unroll 16
    for (__m512& each : x) each = _mm512_dpbf16_ps(each, ones, ones);
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

// Of the best level that this CPU has, or of AVX2.
inline fma_loop fma_loop_of([[maybe_unused]] steepest_isa level) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && level != STEEPEST_ISA_X86_AVX2) return fma_avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return fma_avx2;
  return fma_generic;
#elif defined(__aarch64__)
  return fma_neon;
#else
  return fma_generic;
#endif
}

// Only rounds count in which all threads had a core each. The host of a virtual machine may give
// two of its processors one core for some time; then two threads are no faster than one, even with
// a loop on registers.
inline void require_cores(contest& contest, thread_pool& pool) {
  if (pool.threads() == 1) return;
  contest.set_condition([&pool, loop = fma_loop_of(STEEPEST_ISA_AUTO)] {
    constexpr int64_t flops = 100'000'000;  // about a millisecond
    const auto run = [loop](int) { keep(loop(flops)); };
    const auto seconds = [](const auto& call) {
      const auto start = std::chrono::steady_clock::now();
      call();
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    const double alone = seconds([&] { run(0); });
    return seconds([&] { pool.run(run); }) < 1.12 * alone;
  });
}

// Operations, of f32 and of bf16 products.
struct operations {
  double f32 = 0, bf16 = 0;
};

// The group "peak" of a contest: so many multiply-adds on all threads, or a part of 10^9.
inline void add_peak(contest& contest, thread_pool& pool, const operations& count,
                     steepest_isa level = STEEPEST_ISA_AUTO) {
  const fma_loop loop = fma_loop_of(level);
  const double threads = pool.threads();
  const double scale = std::max(1.0, (count.f32 + count.bf16) / threads / 1e9);
  const auto f32 = static_cast<int64_t>(count.f32 / threads / scale);
  const auto bf16 = static_cast<int64_t>(count.bf16 / threads / scale);
  const auto run = [=](int) {
    keep(loop(f32));
#if defined(__x86_64__)
    if (bf16 > 0) keep(fma_bf16(bf16));
#endif
  };
  contest.add_rival(
      "peak", "", [&pool, run] { pool.run(run); }, scale);
}

}  // namespace bench
