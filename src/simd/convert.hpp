// SPDX-License-Identifier: Apache-2.0
// Loading and storing one register of floats from and to f32, bf16 and f16 memory, per ISA level.
// Every level gives the bits of the scalar rules in core/half.hpp.
//
// The widening loads that xsimd offers go through memory lane by lane and measured about ten times
// slower than these.
#pragma once

#include "core/half.hpp"
#include "simd/simd.hpp"

namespace steepest::simd {

template <class Level>
vec<float, Level> load(const float* p) {
  return vec<float, Level>::load_unaligned(p);
}

template <class Level>
vec<double, Level> load(const double* p) {
  return vec<double, Level>::load_unaligned(p);
}

template <class Level>
void store(float* p, vec<float, Level> x) {
  x.store_unaligned(p);
}

template <class Level>
void store(double* p, vec<double, Level> x) {
  x.store_unaligned(p);
}

template <class Level>
struct halves;  // per level: load(bf16), load(f16), store(bf16), store(f16) of one register

template <class Level>
vec<float, Level> load(const bf16* p) {
  return halves<Level>::load(p);
}

template <class Level>
vec<float, Level> load(const f16* p) {
  return halves<Level>::load(p);
}

template <class Level>
void store(bf16* p, vec<float, Level> x) {
  halves<Level>::store(p, x);
}

template <class Level>
void store(f16* p, vec<float, Level> x) {
  halves<Level>::store(p, x);
}

// Three registers, each to a place of its own; together where the level has something for that.
template <class Level, class A, class B, class C, class Vec>
void store(A* a, Vec x, B* b, Vec y, C* c, Vec z) {
  if constexpr (requires { halves<Level>::store(a, x, b, y, c, z); }) {
    halves<Level>::store(a, x, b, y, c, z);
  } else {
    store<Level>(a, x);
    store<Level>(b, y);
    store<Level>(c, z);
  }
}

// The floats in the even and in the odd places of a register of bf16: as many elements as two
// registers of floats have.
template <class Level>
vec<float, Level> load_even(const bf16* p) {
  return halves<Level>::load_even(p);
}
template <class Level>
vec<float, Level> load_odd(const bf16* p) {
  return halves<Level>::load_odd(p);
}

// The reverse, three times, each to a place of its own.
template <class Level, class Vec>
void store_in_turn(bf16* a, Vec a_even, Vec a_odd, bf16* b, Vec b_even, Vec b_odd, bf16* c,
                   Vec c_even, Vec c_odd) {
  if constexpr (requires { halves<Level>::narrowed(a_even, a_odd); }) {
    halves<Level>::store_in_turn(a, a_even, a_odd, b, b_even, b_odd, c, c_even, c_odd);
  } else {
    halves<Level>::store_in_turn(a, a_even, a_odd);
    halves<Level>::store_in_turn(b, b_even, b_odd);
    halves<Level>::store_in_turn(c, c_even, c_odd);
  }
}

#if defined(__x86_64__)
template <>
struct halves<generic> {
  static vec<float, generic> load(const bf16* p) {
    const __m128i x = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return {_mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), x))};
  }

  static vec<float, generic> load(const f16* p) {
    const __m128i x = _mm_unpacklo_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)),
                                         _mm_setzero_si128());
    const __m128i magnitude = _mm_and_si128(x, _mm_set1_epi32(0x7fff));
    const __m128i sign = _mm_slli_epi32(_mm_xor_si128(x, magnitude), 16);
    const __m128i fields = _mm_slli_epi32(magnitude, 13);
    const __m128i number =
        _mm_castps_si128(_mm_mul_ps(_mm_castsi128_ps(fields), _mm_set1_ps(0x1p112F)));
    const __m128i nan = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7c00));
    const __m128i special = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7bff));
    const __m128i quiet = _mm_and_si128(nan, _mm_set1_epi32(0x400000));
    const __m128i extreme = _mm_or_si128(_mm_or_si128(fields, _mm_set1_epi32(0x7f800000)), quiet);
    return {_mm_castsi128_ps(_mm_or_si128(sign, choose(special, extreme, number)))};
  }

  static vec<float, generic> load_even(const bf16* p) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm_castsi128_ps(_mm_slli_epi32(x, 16))};
  }
  static vec<float, generic> load_odd(const bf16* p) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm_castsi128_ps(_mm_and_si128(x, _mm_set1_epi32(upper_half)))};
  }

  static void store(bf16* p, vec<float, generic> value) {
    store_low_words(p, _mm_srai_epi32(rounded_to_bf16(value), 16));
  }

  static void store_in_turn(bf16* p, vec<float, generic> even, vec<float, generic> odd) {
    const __m128i low = _mm_srli_epi32(rounded_to_bf16(even), 16);
    const __m128i high = _mm_and_si128(rounded_to_bf16(odd), _mm_set1_epi32(upper_half));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_or_si128(low, high));
  }

  static void store(f16* p, vec<float, generic> value) {
    const __m128i x = _mm_castps_si128(value);
    const __m128i magnitude = _mm_and_si128(x, _mm_set1_epi32(0x7fffffff));
    const __m128i sign = _mm_srai_epi32(_mm_xor_si128(x, magnitude), 16);
    const __m128i rebased = _mm_sub_epi32(magnitude, _mm_set1_epi32((127 - 15) << 23));
    const __m128i even = _mm_and_si128(_mm_srli_epi32(rebased, 13), _mm_set1_epi32(1));
    const __m128i normal =
        _mm_srli_epi32(_mm_add_epi32(rebased, _mm_add_epi32(even, _mm_set1_epi32(0xfff))), 13);
    const __m128i denormal =
        _mm_sub_epi32(_mm_castps_si128(_mm_add_ps(_mm_castsi128_ps(magnitude), _mm_set1_ps(0.5F))),
                      _mm_set1_epi32(0x3f000000));
    const __m128i payload = _mm_and_si128(_mm_srli_epi32(magnitude, 13), _mm_set1_epi32(0x3ff));
    const __m128i nan = _mm_or_si128(payload, _mm_set1_epi32(0x7e00));
    __m128i result =
        choose(_mm_cmplt_epi32(magnitude, _mm_set1_epi32(0x38800000)), denormal, normal);
    result = choose(_mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x477fffff)), _mm_set1_epi32(0x7c00),
                    result);
    result = choose(_mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7f800000)), nan, result);
    store_low_words(p, _mm_or_si128(sign, result));
  }

 private:
  static constexpr int upper_half = static_cast<int>(0xffff0000);

  // In the upper half of each 32 bits; the lower half is left over.
  static __m128i rounded_to_bf16(vec<float, generic> value) {
    const __m128i x = _mm_castps_si128(value);
    const __m128i even = _mm_and_si128(_mm_srli_epi32(x, 16), _mm_set1_epi32(1));
    const __m128i rounded = _mm_add_epi32(x, _mm_add_epi32(even, _mm_set1_epi32(0x7fff)));
    const __m128i quiet = _mm_or_si128(x, _mm_set1_epi32(0x400000));
    const __m128i magnitude = _mm_and_si128(x, _mm_set1_epi32(0x7fffffff));
    const __m128i nan = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7f800000));
    return choose(nan, quiet, rounded);
  }
  static __m128i choose(__m128i condition, __m128i yes, __m128i no) {
    return _mm_or_si128(_mm_and_si128(condition, yes), _mm_andnot_si128(condition, no));
  }
  // Of 32-bit numbers that are sign-extended 16-bit ones.
  static void store_low_words(void* p, __m128i words) {
    _mm_storel_epi64(static_cast<__m128i*>(p), _mm_packs_epi32(words, words));
  }
};
#endif

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
template <>
struct halves<x86_avx2> {
  static vec<float, x86_avx2> load(const bf16* p) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16))};
  }

  static vec<float, x86_avx2> load(const f16* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }

  static vec<float, x86_avx2> load_even(const bf16* p) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(x, 16))};
  }
  static vec<float, x86_avx2> load_odd(const bf16* p) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32(upper_half)))};
  }

  static void store(bf16* p, vec<float, x86_avx2> value) {
    const __m256i chosen = _mm256_srli_epi32(rounded_to_bf16(value), 16);
    const __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(chosen), _mm256_extracti128_si256(chosen, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), words);
  }

  static void store_in_turn(bf16* p, vec<float, x86_avx2> even, vec<float, x86_avx2> odd) {
    const __m256i low = _mm256_srli_epi32(rounded_to_bf16(even), 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm256_blend_epi16(low, rounded_to_bf16(odd), 0xaa));
  }

  static void store(f16* p, vec<float, x86_avx2> value) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
  }

 private:
  static constexpr int upper_half = static_cast<int>(0xffff0000);

  // In the upper half of each 32 bits; the lower half is left over.
  static __m256i rounded_to_bf16(vec<float, x86_avx2> value) {
    const __m256i x = _mm256_castps_si256(value);
    const __m256i even = _mm256_and_si256(_mm256_srli_epi32(x, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(x, _mm256_add_epi32(even, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(x, _mm256_set1_epi32(0x400000));
    const __m256 nan = _mm256_cmp_ps(value, value, _CMP_UNORD_Q);
    return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(nan));
  }
};
#endif

#if defined(STEEPEST_SIMD_AVX512)
template <>
struct halves<x86_avx512> {
  static vec<float, x86_avx512> load(const bf16* p) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16))};
  }

  static vec<float, x86_avx512> load(const f16* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }

  static vec<float, x86_avx512> load_even(const bf16* p) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16))};
  }
  static vec<float, x86_avx512> load_odd(const bf16* p) {
    return {_mm512_castsi512_ps(
        _mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(upper_half)))};
  }

  static void store(bf16* p, vec<float, x86_avx512> value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded_to_bf16(value), 16)));
  }

  static void store_in_turn(bf16* p, vec<float, x86_avx512> even, vec<float, x86_avx512> odd) {
    const __m512i low = _mm512_srli_epi32(rounded_to_bf16(even), 16);
    _mm512_storeu_si512(p, _mm512_mask_blend_epi16(0xaaaaaaaa, low, rounded_to_bf16(odd)));
  }

  static void store(f16* p, vec<float, x86_avx512> value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
  }

 private:
  static constexpr int upper_half = static_cast<int>(0xffff0000);

  // In the upper half of each 32 bits; the lower half is left over.
  static __m512i rounded_to_bf16(vec<float, x86_avx512> value) {
    const __m512i x = _mm512_castps_si512(value);
    const __m512i even = _mm512_and_si512(_mm512_srli_epi32(x, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(x, _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    return _mm512_mask_or_epi32(rounded, nan, x, _mm512_set1_epi32(0x400000));
  }
};
#endif

#if defined(STEEPEST_SIMD_AVX512) && defined(__AVX512BF16__)
// The instruction takes denormals for zeros, whatever the environment says. Values that may be some
// go through integers.
template <>
struct halves<x86_avx512_bf16> : halves<x86_avx512> {
  using vector = vec<float, x86_avx512_bf16>;
  using halves<x86_avx512>::store;
  using halves<x86_avx512>::store_in_turn;

  static void store(bf16* p, vector value) {
    constexpr int denormal = 0x20;
    if (__builtin_expect(_mm512_fpclass_ps_mask(value, denormal) != 0, 0))
      halves<x86_avx512>::store(p, value);
    else
      store_normal(p, value);
  }

  // One test for all three, first for zeros and denormals alike: it is a sixth of an AdamW step.
  static void store(bf16* a, vector x, bf16* b, vector y, bf16* c, vector z) {
    constexpr int smallest_magnitude = 0xa;
    const __m512 least =
        _mm512_range_ps(_mm512_range_ps(x, y, smallest_magnitude), z, smallest_magnitude);
    if (__builtin_expect(_mm512_cmp_ps_mask(least, _mm512_set1_ps(0x1p-126F), _CMP_LT_OQ) != 0,
                         0)) {
      store(a, x);
      store(b, y);
      store(c, z);
    } else {
      store_normal(a, x);
      store_normal(b, y);
      store_normal(c, z);
    }
  }

  // A word of zero is a zero or was a denormal. In the AND of three words a bit is left unless one
  // of them is zero or their magnitudes lie on both sides of 2: a test that is quick and cautious.
  static void store_in_turn(bf16* a, vector a_even, vector a_odd, bf16* b, vector b_even,
                            vector b_odd, bf16* c, vector c_even, vector c_odd) {
    const __m512i x = narrowed(a_even, a_odd);
    const __m512i y = narrowed(b_even, b_odd);
    const __m512i z = narrowed(c_even, c_odd);
    constexpr int and_of_three = 0x80;
    const __m512i common = _mm512_ternarylogic_epi32(x, y, z, and_of_three);
    if (__builtin_expect(_mm512_test_epi16_mask(common, _mm512_set1_epi16(0x7fff)) != ~0U, 0)) {
      store_checked(a, a_even, a_odd, x);
      store_checked(b, b_even, b_odd, y);
      store_checked(c, c_even, c_odd, z);
    } else {
      store_narrowed(a, x);
      store_narrowed(b, y);
      store_narrowed(c, z);
    }
  }

  // The even elements in the lower half.
  static __m512i narrowed(vector even, vector odd) {
    return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(odd, even));
  }

 private:
  static void store_narrowed(bf16* p, __m512i x) {
    const __m512i in_turn =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    _mm512_storeu_si512(p, _mm512_permutexvar_epi16(in_turn, x));
  }
  static void store_checked(bf16* p, vector even, vector odd, __m512i narrow) {
    constexpr int denormal = 0x20;
    if ((_mm512_fpclass_ps_mask(even, denormal) | _mm512_fpclass_ps_mask(odd, denormal)) != 0)
      halves<x86_avx512>::store_in_turn(p, even, odd);
    else
      store_narrowed(p, narrow);
  }
  static void store_normal(bf16* p, vector value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value)));
  }
};
#endif

#if defined(__aarch64__)
template <>
struct halves<generic> {
  static vec<float, generic> load(const bf16* p) {
    const uint16x4_t x = vld1_u16(&p->bits);
    return {vreinterpretq_f32_u32(vshll_n_u16(x, 16))};
  }

  static vec<float, generic> load(const f16* p) {
    return {vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&p->bits)))};
  }

  static vec<float, generic> load_even(const bf16* p) {
    const uint32x4_t x = vreinterpretq_u32_u16(vld1q_u16(&p->bits));
    return {vreinterpretq_f32_u32(vshlq_n_u32(x, 16))};
  }
  static vec<float, generic> load_odd(const bf16* p) {
    const uint32x4_t x = vreinterpretq_u32_u16(vld1q_u16(&p->bits));
    return {vreinterpretq_f32_u32(vandq_u32(x, vdupq_n_u32(0xffff0000)))};
  }

  static void store(bf16* p, vec<float, generic> value) {
    vst1_u16(&p->bits, vshrn_n_u32(rounded_to_bf16(value), 16));
  }

  static void store_in_turn(bf16* p, vec<float, generic> even, vec<float, generic> odd) {
    const uint32x4_t words = vsriq_n_u32(rounded_to_bf16(odd), rounded_to_bf16(even), 16);
    vst1q_u16(&p->bits, vreinterpretq_u16_u32(words));
  }

  static void store(f16* p, vec<float, generic> value) {
    const float32x4_t number = value;
    vst1_u16(&p->bits, vreinterpret_u16_f16(vcvt_f16_f32(number)));
  }

 private:
  // In the upper half of each 32 bits; the lower half is left over.
  static uint32x4_t rounded_to_bf16(vec<float, generic> value) {
    const float32x4_t number = value;
    const uint32x4_t x = vreinterpretq_u32_f32(number);
    const uint32x4_t even = vandq_u32(vshrq_n_u32(x, 16), vdupq_n_u32(1));
    const uint32x4_t rounded = vaddq_u32(x, vaddq_u32(even, vdupq_n_u32(0x7fff)));
    const uint32x4_t quiet = vorrq_u32(x, vdupq_n_u32(0x400000));
    return vbslq_u32(vceqq_f32(number, number), rounded, quiet);
  }
};
#endif

// A whole array; the end through a padded copy.
template <class Level, class From, class To>
void convert(const From* from, To* to, int64_t count) {
  constexpr int64_t size = vec<float, Level>::size;
  int64_t i = 0;
  for (; i + size <= count; i += size) store<Level>(to + i, load<Level>(from + i));
  if (i == count) return;
  From tail[size] = {};
  To converted[size];
  __builtin_memcpy(tail, from + i, static_cast<size_t>(count - i) * sizeof(From));
  store<Level>(converted, load<Level>(tail));
  __builtin_memcpy(to + i, converted, static_cast<size_t>(count - i) * sizeof(To));
}

// Elements that are NaN or infinite. Only called once a sum has shown that there are any.
template <class T>
int64_t count_nonfinite(const T* x, int64_t count) {
  int64_t n = 0;
  for (int64_t i = 0; i < count; ++i)
    n += !(__builtin_fabs(static_cast<double>(to_float(x[i]))) <= __DBL_MAX__);
  return n;
}

}  // namespace steepest::simd
