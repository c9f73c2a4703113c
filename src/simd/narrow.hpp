// SPDX-License-Identifier: Apache-2.0
// Narrow storage on one register of floats: random numbers, stochastic rounding to bf16, the
// residuals of 16-bit parameters, and the codes of 8-bit blocks. The rules are core/narrow.hpp's;
// the bits are the same on every level.
#pragma once

#include "core/narrow.hpp"
#include "simd/convert.hpp"

namespace steepest::simd {

// As plain vectors of the compiler's: whole numbers, and the floats beside them.
template <class Level>
inline constexpr int64_t float_lanes = vec<float, Level>::size;
template <class Level>
using ints = raw_vector<int32_t, float_lanes<Level>>;
template <class Level>
using words = raw_vector<uint32_t, float_lanes<Level>>;
template <class Level>
using floats = raw_vector<float, float_lanes<Level>>;

template <class Level>
words<Level> bits_of(vec<float, Level> x) {
  return __builtin_bit_cast(words<Level>,
                            static_cast<typename vec<float, Level>::register_type>(x));
}
template <class Level>
vec<float, Level> from_bits(words<Level> x) {
  return {__builtin_bit_cast(typename vec<float, Level>::register_type, x)};
}
template <class Level>
floats<Level> plain(vec<float, Level> x) {
  return __builtin_bit_cast(floats<Level>,
                            static_cast<typename vec<float, Level>::register_type>(x));
}
template <class Level>
vec<float, Level> as_vec(floats<Level> x) {
  return {__builtin_bit_cast(typename vec<float, Level>::register_type, x)};
}

template <class Vector, class Mask>
Vector choose_lanes(Mask condition, Vector yes, Vector no) {
  return condition ? yes : no;
}
template <class T>
inline constexpr bool is_float = false;
template <>
inline constexpr bool is_float<float> = true;

// Of two floats the second where one is NaN.
template <class Vector>
Vector larger(Vector a, Vector b) {
#if defined(STEEPEST_SIMD_AVX512)
  if constexpr (sizeof(Vector) == 64 && is_float<decltype(+a[0])>) return _mm512_max_ps(a, b);
#endif
  return a > b ? a : b;
}
template <class Vector>
Vector smaller(Vector a, Vector b) {
#if defined(STEEPEST_SIMD_AVX512)
  if constexpr (sizeof(Vector) == 64 && is_float<decltype(+a[0])>) return _mm512_min_ps(a, b);
#endif
  return a < b ? a : b;
}

template <class Level>
floats<Level> magnitude(floats<Level> x) {
  return reinterpret_cast<floats<Level>>(reinterpret_cast<words<Level>>(x) & 0x7fffffffU);
}
// Of numbers below 2^22, halves to even.
template <class Level>
floats<Level> to_nearest(floats<Level> x) {
  return (x + 0x1.8p23F) - 0x1.8p23F;
}
// 16 random bits as a number between 0 and 1.
template <class Level>
floats<Level> uniform(words<Level> random) {
  return (__builtin_convertvector(reinterpret_cast<ints<Level>>(random), floats<Level>) + 0.5F) *
         0x1p-16F;
}

template <class Level>
floats<Level> floor_of(floats<Level> x) {
  const floats<Level> near = to_nearest<Level>(x);
  return near > x ? near - 1.0F : near;
}

// 1 / x, to 2^-14 at least, and to an ulp or two; x is finite and normal.
template <class Level>
floats<Level> quick_reciprocal(floats<Level> x) {
#if defined(STEEPEST_SIMD_AVX512)
  return _mm512_rcp14_ps(x);
#else
  return 1.0F / x;
#endif
}
template <class Level>
floats<Level> reciprocal(floats<Level> x) {
#if defined(STEEPEST_SIMD_AVX512)
  const __m512 y = _mm512_rcp14_ps(x);
  return _mm512_fmadd_ps(y, _mm512_fnmadd_ps(x, y, _mm512_set1_ps(1.0F)), y);
#else
  return 1.0F / x;
#endif
}

// rows[16][lanes], the largest of each row.
template <class Level>
void largest_of_rows(const uint32_t* rows, uint32_t* result) {
#if defined(STEEPEST_SIMD_AVX512)
  const auto row = [&](int i) { return _mm512_load_si512(rows + 16 * i); };
  // Two rows to a register, then four, eight and sixteen.
  __m512i two[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i)
    two[i] = _mm512_max_epu32(_mm512_shuffle_i32x4(row(i), row(i + 8), 0x44),
                              _mm512_shuffle_i32x4(row(i), row(i + 8), 0xee));
  __m512i four[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    four[i] = _mm512_max_epu32(_mm512_shuffle_i32x4(two[i], two[i + 4], 0x88),
                               _mm512_shuffle_i32x4(two[i], two[i + 4], 0xdd));
  const auto eight = [&](int i) {
    return _mm512_max_epu32(_mm512_unpacklo_epi64(four[i], four[i + 1]),
                            _mm512_unpackhi_epi64(four[i], four[i + 1]));
  };
  const __m512 x = _mm512_castsi512_ps(eight(0));
  const __m512 y = _mm512_castsi512_ps(eight(2));
  const __m512i all = _mm512_max_epu32(_mm512_castps_si512(_mm512_shuffle_ps(x, y, 0x88)),
                                       _mm512_castps_si512(_mm512_shuffle_ps(x, y, 0xdd)));
  // The quarters hold rows 0, 8, 4, 12 and the three after each.
  const __m512i in_order = _mm512_shuffle_i32x4(all, all, 0xd8);
  __builtin_memcpy(result, &in_order, sizeof in_order);
#else
  for (int64_t i = 0; i < 16; ++i) {
    uint32_t largest = 0;
    for (int64_t lane = 0; lane < float_lanes<Level>; ++lane) {
      const uint32_t value = rows[i * float_lanes<Level> + lane];
      largest = value > largest ? value : largest;
    }
    result[i] = largest;
  }
#endif
}

// Bytes and 16-bit words to and from a register of 32-bit ones, and the choice of one of eight
// floats by the lowest three bits of each lane.
template <class Level>
struct lanes_of {
  static words<Level> load(const uint8_t* p) {
    raw_vector<uint8_t, float_lanes<Level>> x;
    __builtin_memcpy(&x, p, sizeof x);
    words<Level> wide;
    for (unsigned i = 0; i < float_lanes<Level>; ++i) wide[i] = x[i];
    return wide;
  }
  static words<Level> load_signed(const uint8_t* p) {
    return reinterpret_cast<words<Level>>(reinterpret_cast<ints<Level>>(load(p) << 24) >> 24);
  }
  static words<Level> load(const uint16_t* p) {
    return bits_of<Level>(simd::load<Level>(reinterpret_cast<const bf16*>(p))) >> 16;
  }
  // The lowest byte of each lane.
  static void store_low(uint8_t* p, words<Level> x) { store(p, x & 0xffU); }
  static void store(uint8_t* p, words<Level> x) {
    const auto half = __builtin_convertvector(x, raw_vector<uint16_t, float_lanes<Level>>);
    const auto narrow = __builtin_convertvector(half, raw_vector<uint8_t, float_lanes<Level>>);
    __builtin_memcpy(p, &narrow, sizeof narrow);
  }
  static void store(uint16_t* p, words<Level> x) {
    const auto narrow = __builtin_convertvector(x, raw_vector<uint16_t, float_lanes<Level>>);
    __builtin_memcpy(p, &narrow, sizeof narrow);
  }
  static floats<Level> pick(const float* table, words<Level> index) {
    floats<Level> x;
    for (unsigned i = 0; i < float_lanes<Level>; ++i) x[i] = table[index[i] & 7U];
    return x;
  }
};

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
template <>
struct lanes_of<x86_avx2> {
  using W = words<x86_avx2>;
  static W load(const uint8_t* p) {
    return reinterpret_cast<W>(
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static W load_signed(const uint8_t* p) {
    return reinterpret_cast<W>(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static void store_low(uint8_t* p, W x) { store(p, x & 0xffU); }
  static W load(const uint16_t* p) {
    return reinterpret_cast<W>(
        _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static void store(uint8_t* p, W x) {
    const __m128i half = halved(x);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(half, half));
  }
  static void store(uint16_t* p, W x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), halved(x));
  }
  static floats<x86_avx2> pick(const float* table, W index) {
    return _mm256_permutevar8x32_ps(_mm256_load_ps(table), reinterpret_cast<__m256i>(index));
  }

 private:
  static __m128i halved(W x) {
    const auto wide = reinterpret_cast<__m256i>(x);
    return _mm_packus_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  }
};
#endif

#if defined(STEEPEST_SIMD_AVX512)
template <>
struct lanes_of<x86_avx512> {
  using W = words<x86_avx512>;
  static W load(const uint8_t* p) {
    return reinterpret_cast<W>(
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static W load_signed(const uint8_t* p) {
    return reinterpret_cast<W>(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static void store_low(uint8_t* p, W x) { store(p, x); }
  static W load(const uint16_t* p) {
    return reinterpret_cast<W>(
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
  }
  static void store(uint8_t* p, W x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(x)));
  }
  static void store(uint16_t* p, W x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(x)));
  }
  static floats<x86_avx512> pick(const float* table, W index) {
    return _mm512_permutexvar_ps(reinterpret_cast<__m512i>(index),
                                 _mm512_broadcast_f32x8(_mm256_load_ps(table)));
  }
};
#endif
#if defined(STEEPEST_SIMD_AVX512) && defined(__AVX512BF16__)
template <>
struct lanes_of<x86_avx512_bf16> : lanes_of<x86_avx512> {};
#endif

// ---- random numbers

// i, i + stride, ...
template <class Level>
words<Level> counters(uint32_t i, uint32_t stride = 1) {
  words<Level> x = {};
#pragma GCC unroll 16
  for (unsigned lane = 0; lane < float_lanes<Level>; ++lane) x[lane] = lane * stride;
  return x + i;
}

template <class Level>
words<Level> random_word_at(const random_source& source, words<Level> i) {
  using W = words<Level>;
  const W counter = i + source.base;
  W x = counter + choose_lanes(counter < source.base, W{} + source.after, W{} + source.add);
  x = (x ^ (x >> 16)) * random_first;
  x = (x ^ (x >> 15) ^ source.mix) * random_middle;
  return x ^ (x >> 15);
}

// The 16 bits for one use, from the word.
template <random_use Use, class Level>
words<Level> random_bits(const random_source& source, words<Level> word) {
  if constexpr (Use == random_use::param)
    return word & 0xffffU;
  else if constexpr (Use == random_use::exp_avg)
    return word >> 16;
  else
    return ((word ^ source.second) * random_last) >> 16;
}

// ---- rounding to bf16

// Exact in bf16: x rounded by 16 random bits per lane. NaN and infinity pass.
template <class Level>
vec<float, Level> stochastic_bf16(vec<float, Level> x, words<Level> random) {
  const words<Level> bits = bits_of<Level>(x);
  const words<Level> exponent = bits & 0x7f800000U;
  const words<Level> rounded = (bits + random) & 0xffff0000U;
  return from_bits<Level>(choose_lanes(exponent == 0x7f800000U, bits, rounded));
}

// ---- 8-bit codes

// What multiplies and divides a block's numbers: value = decode * number, number = encode * value.
struct q8_factors {
  float decode, encode;
};

template <class Level, bool Signed>
struct q8_dynamic {
  static constexpr steepest_dtype dtype = STEEPEST_Q8_DYNAMIC;
  static constexpr int64_t block = 256;
  using scale = float;
  using V = floats<Level>;
  using I = ints<Level>;
  using W = words<Level>;

  static constexpr const q8_map& map() { return Signed ? q8_signed_map : q8_unsigned_map; }

  static float decode_factor(float scale) { return scale; }

  // `largest`: of the block's magnitudes, as bits. `stochastic`: values will be rounded by chance.
  static q8_factors scale_for(uint32_t largest, float& scale, bool /*stochastic*/ = false) {
    scale = __builtin_bit_cast(float, largest);
    if (largest >= 0x7f800000U) {
      scale = __builtin_nanf("");
      return {scale, 0.0F};
    }
    if (largest < 0x00800000U) {
      scale = 0.0F;
      return {0.0F, 0.0F};
    }
    return {scale, 1.0F / scale};
  }

  static V pick(const float* table, W index) { return lanes_of<Level>::pick(table, index); }

  static vec<float, Level> decode(W code, float factor) {
    V n;
    W sign = {};
    if constexpr (Signed) {
      const I d = reinterpret_cast<I>(code) - 127;
      sign = reinterpret_cast<W>(d) & 0x80000000U;
      const V magnitude = __builtin_convertvector(d < 0 ? -d : d, V);
      n = larger(magnitude, V{} + 0.75F);
    } else {
      n = larger(__builtin_convertvector(reinterpret_cast<I>(code) + 1, V), V{} + 1.5F);
    }
    const auto bits = reinterpret_cast<W>(n);
    const W field = bits >> 23;
    const V fraction = reinterpret_cast<V>((bits & 0x7fffffU) | 0x3f800000U) - 1.0F;
    const V number = pick(map().slope, field) * fraction + pick(map().base, field);
    const auto signed_number = reinterpret_cast<V>(reinterpret_cast<W>(number) | sign);
    return as_vec<Level>(signed_number * factor);
  }

  // Of the seven thresholds how many are at most a: by halving, or by a's binade.
  static W region_of(V a, bool nearest) {
#if defined(STEEPEST_SIMD_AVX512)
    const q8_map& m = map();
    const __m512i field =
        _mm512_srli_epi32(_mm512_castps_si512(_mm512_max_ps(a, V{} + 0x1p-31F)), 23);
    const float* const next = nearest ? m.nearest_next : m.first_next;
    const uint32_t* const region = nearest ? m.nearest_region : m.first_region;
    const __m512 begins =
        _mm512_permutex2var_ps(_mm512_load_ps(next), field, _mm512_load_ps(next + 16));
    const __m512i before =
        _mm512_permutex2var_epi32(_mm512_load_si512(region), field, _mm512_load_si512(region + 16));
    return reinterpret_cast<W>(_mm512_mask_add_epi32(
        before, _mm512_cmp_ps_mask(a, begins, _CMP_GE_OQ), before, _mm512_set1_epi32(1)));
#else
    const float* const from = nearest ? map().nearest_from : map().first;
    W region = choose_lanes(a >= from[4], W{} + 4, W{});
    region = region + choose_lanes(a >= pick(from, region + 2), W{} + 2, W{});
    return region + choose_lanes(a >= pick(from, region + 1), W{} + 1, W{});
#endif
  }

  // Rounded twice: the same on every level.
  static V number(V step, V f, V base) { return step * f + base; }
  static W code_of(V n, W sign) {
    const I whole = __builtin_convertvector(n, I);
    if constexpr (Signed) {
      // There is no -1.
      const I negative = 127 - smaller(whole, I{} + 127);
      return reinterpret_cast<W>(choose_lanes(sign != 0U, negative, whole + 127));
    } else {
      return reinterpret_cast<W>(whole - 1);
    }
  }

  struct place {
    V base, step, count, f;
    W region;
  };
  static place place_of(V a, bool nearest) {
    const W region = region_of(a, nearest);
    const V count = pick(map().region_count, region);
    const V inverse = pick(map().region_inverse, region);
    // f = (a - base) / step, with base / step = count / 9 + 1/2
    const V shift = count * (-1.0F / 9.0F) - 0.5F;
    return {pick(map().region_base, region), pick(map().region_step, region), count,
            a * inverse + shift, region};
  }
  static V within(V f, V count) { return larger(smaller(f, count - 1.0F), V{}); }

  // To the nearest number.
  static W encode(vec<float, Level> value, float factor) {
    const W bits = bits_of<Level>(value);
    const W sign = Signed ? bits & 0x80000000U : W{};
    const V a = reinterpret_cast<V>(bits & 0x7fffffffU) * factor;
    const place at = place_of(a, true);
    const V f = within(to_nearest<Level>(at.f), at.count);
    // f is right or, close to a tie, beside it.
    const V rest = a - number(at.step, f, at.base);
    const V beside = within(f + choose_lanes(rest > 0.0F, V{} + 1.0F, V{} - 1.0F), at.count);
    const V other = a - number(at.step, beside, at.base);
    const V nearer = choose_lanes(magnitude<Level>(other) < magnitude<Level>(rest), beside, f);
    const V n = at.count + nearer;
    return code_of(choose_lanes(a >= map().one_from, V{} + (Signed ? 128.0F : 256.0F), n), sign);
  }

  // To one of the two numbers around, by 16 random bits.
  static W encode_stochastic(vec<float, Level> value, float factor, W random) {
    const W bits = bits_of<Level>(value);
    const W sign = Signed ? bits & 0x80000000U : W{};
    const V a = reinterpret_cast<V>(bits & 0x7fffffffU) * factor;
    const place at = place_of(a, false);
    V f = within(to_nearest<Level>(at.f - 0.5F), at.count);
    f = choose_lanes(number(at.step, f, at.base) > a, within(f - 1.0F, at.count), f);
    const V above = within(f + 1.0F, at.count);
    f = choose_lanes(number(at.step, above, at.base) <= a, above, f);
    const V low = number(at.step, f, at.base);
    // The next number: of this region, or the first of the next, or 1.
    const V next_first =
        choose_lanes(at.region == 7U, V{} + 1.0F, pick(map().first, at.region + 1));
    const V high =
        choose_lanes(f + 1.0F < at.count, number(at.step, f + 1.0F, at.base), next_first);
    const V up = choose_lanes(a - low > uniform<Level>(random) * (high - low), V{} + 1.0F, V{});
    const V n = smaller(at.count + f + up, V{} + (Signed ? 128.0F : 256.0F));
    return code_of(choose_lanes(a >= 1.0F, V{} + (Signed ? 128.0F : 256.0F), n), sign);
  }
};

template <class Level, bool Signed>
struct q8_companded {
  static constexpr steepest_dtype dtype = STEEPEST_Q8_COMPANDED;
  static constexpr int64_t block = 32;
  using scale = scale16;
  using V = floats<Level>;
  using I = ints<Level>;
  using W = words<Level>;

  static float decode_factor(scale16 scale) {
    return Signed ? to_float(scale) : to_float(scale) / 255.0F;
  }

  // With chance the scale is rounded up: a largest value above it would be cut off half the time,
  // which is no chance: at beta2 = 0.999 it made the mean of v 1 % too small.
  static q8_factors scale_for(uint32_t largest, scale16& scale, bool stochastic = false) {
    const auto value = __builtin_bit_cast(float, largest);
    scale =
        to_scale16(Signed || largest >= 0x7f800000U ? value : __builtin_sqrtf(value), stochastic);
    if (scale.bits == 0 || scale.bits == 0xffff) return {to_float(scale), 0.0F};
    return {decode_factor(scale), (Signed ? 1.0F : 255.0F) / to_float(scale)};
  }

  static vec<float, Level> decode(W code, float factor) {
    if constexpr (Signed) {
      const I q = reinterpret_cast<I>(code << 24) >> 24;
      const V x = __builtin_convertvector(q, V);
      return as_vec<Level>(x / (254.0F - magnitude<Level>(x)) * factor);
    } else {
      const V root = __builtin_convertvector(reinterpret_cast<I>(code), V) * factor;
      return as_vec<Level>(root * root);
    }
  }

  static W code_of(V q, W sign) {
    const I whole = __builtin_convertvector(q, I);
    if constexpr (Signed)
      return reinterpret_cast<W>(choose_lanes(sign != 0U, -whole, whole)) & 0xffU;
    else
      return reinterpret_cast<W>(whole);
  }

  static W encode(vec<float, Level> value, float factor) {
    if constexpr (Signed) {
      const W bits = bits_of<Level>(value);
      const V a = reinterpret_cast<V>(bits & 0x7fffffffU) * factor;
      const V q = to_nearest<Level>(254.0F * a / (1.0F + a));
      return code_of(smaller(q, V{} + 127.0F), bits & 0x80000000U);
    } else {
      const V z = plain<Level>(simd::sqrt(value)) * factor;
      return code_of(at_least_one(to_nearest<Level>(smaller(z, V{} + 255.0F)), z), W{});
    }
  }

  static W encode_stochastic(vec<float, Level> value, float factor, W random) {
    const V u = uniform<Level>(random);
    if constexpr (Signed) {
      const W bits = bits_of<Level>(value);
      const V a = reinterpret_cast<V>(bits & 0x7fffffffU) * factor;
      V q = within(to_nearest<Level>(254.0F * a / (1.0F + a) - 0.5F));
      q = choose_lanes(q / (254.0F - q) > a, within(q - 1.0F), q);
      q = choose_lanes((q + 1.0F) / (253.0F - q) <= a, within(q + 1.0F), q);
      const V low = q / (254.0F - q);
      const V high = (q + 1.0F) / (253.0F - q);
      q = q + choose_lanes(a - low > u * (high - low), V{} + 1.0F, V{});
      return code_of(q, bits & 0x80000000U);
    } else {
      const V z = smaller(plain<Level>(simd::sqrt(value)) * factor, V{} + 255.0F);
      V q = to_nearest<Level>(z - 0.5F);
      q = larger(choose_lanes(q > z, q - 1.0F, q), V{});
      const V up = choose_lanes(z * z - q * q > u * (q + q + 1.0F), V{} + 1.0F, V{});
      return code_of(at_least_one(smaller(q + up, V{} + 255.0F), z), W{});
    }
  }

 private:
  static V within(V q) { return larger(smaller(q, V{} + 126.0F), V{}); }
  static V at_least_one(V q, V z) { return choose_lanes(z > 0.0F, larger(q, V{} + 1.0F), q); }
};

// ---- whole blocks, in the nearest cache

// The largest magnitude of values[count], as bits, so that a NaN is larger than all. `count` is a
// multiple of the lanes.
template <class Level>
uint32_t largest_bits(const float* values, int64_t count) {
  ints<Level> largest = {};
  for (int64_t i = 0; i < count; i += float_lanes<Level>) {
    const auto bits =
        reinterpret_cast<ints<Level>>(bits_of<Level>(load<Level>(values + i)) & 0x7fffffffU);
    largest = larger(largest, bits);
  }
  int32_t result = 0;
#pragma GCC unroll 16
  for (unsigned i = 0; i < float_lanes<Level>; ++i)
    result = largest[i] > result ? largest[i] : result;
  return static_cast<uint32_t>(result);
}

// values[count] from the codes of blocks; both have room for whole registers.
template <class Codec, class Level>
void q8_decode(const uint8_t* codes, const typename Codec::scale* scales, float* values,
               int64_t count) {
  for (int64_t start = 0; start < count; start += Codec::block) {
    const float factor = Codec::decode_factor(scales[start / Codec::block]);
    const int64_t end = start + Codec::block < count ? start + Codec::block : count;
    for (int64_t i = start; i < end; i += float_lanes<Level>)
      store<Level>(values + i, Codec::decode(lanes_of<Level>::load(codes + i), factor));
  }
}

// The reverse. What lies behind `count` in the last register is zero. `random`: null to round to
// nearest; its base is element 0.
template <class Codec, class Level, random_use Use>
void q8_encode(const float* values, uint8_t* codes, typename Codec::scale* scales, int64_t count,
               const random_source* random) {
  constexpr int64_t size = float_lanes<Level>;
  for (int64_t start = 0; start < count; start += Codec::block) {
    const int64_t end = start + Codec::block < count ? start + Codec::block : count;
    const int64_t whole = (end - start + size - 1) / size * size;
    const q8_factors factors = Codec::scale_for(largest_bits<Level>(values + start, whole),
                                                scales[start / Codec::block], random != nullptr);
    for (int64_t i = start; i < end; i += size) {
      const vec<float, Level> value = load<Level>(values + i);
      if (random == nullptr) {
        lanes_of<Level>::store(codes + i, Codec::encode(value, factors.encode));
      } else {
        const words<Level> word =
            random_word_at<Level>(*random, counters<Level>(static_cast<uint32_t>(i)));
        lanes_of<Level>::store(codes + i,
                               Codec::encode_stochastic(value, factors.encode,
                                                        random_bits<Use, Level>(*random, word)));
      }
    }
  }
}

// Two registers of floats, of the even and the odd elements from `i` on, three times: rounded by
// random bits, as store_in_turn of convert.hpp puts them.
template <class Level, class Vec>
void store_in_turn(const random_source& random, int64_t i, bf16* m, Vec m_even, Vec m_odd, bf16* v,
                   Vec v_even, Vec v_odd, bf16* p, Vec p_even, Vec p_odd) {
  using W = words<Level>;
  const auto counter = static_cast<uint32_t>(i);
  const W even = random_word_at<Level>(random, counters<Level>(counter, 2));
  const W odd = random_word_at<Level>(random, counters<Level>(counter + 1, 2));
  const W all = bits_of<Level>(m_even) | bits_of<Level>(m_odd) | bits_of<Level>(v_even) |
                bits_of<Level>(v_odd) | bits_of<Level>(p_even) | bits_of<Level>(p_odd);
  const Vec exponents = from_bits<Level>(all & 0x7f800000U);
  // Of NaN or infinity the exponent has all bits; here possibly of several elements together.
  const bool extreme = xsimd::any(exponents == Vec(__builtin_inff()));
  const auto put = [&]<random_use Use>(bf16* to, Vec x, Vec y) {
    W low = bits_of<Level>(x) + random_bits<Use, Level>(random, even);
    W high = bits_of<Level>(y) + random_bits<Use, Level>(random, odd);
    if (__builtin_expect(extreme, 0)) {
      low = bits_of<Level>(stochastic_bf16<Level>(x, random_bits<Use, Level>(random, even)));
      high = bits_of<Level>(stochastic_bf16<Level>(y, random_bits<Use, Level>(random, odd)));
      const W quiet_low = choose_lanes(plain<Level>(x) != plain<Level>(x), W{} + 0x400000U, W{});
      const W quiet_high = choose_lanes(plain<Level>(y) != plain<Level>(y), W{} + 0x400000U, W{});
      low = low | quiet_low;
      high = high | quiet_high;
    }
    const W both = (low >> 16) | (high & 0xffff0000U);
    __builtin_memcpy(to, &both, sizeof both);
  };
  put.template operator()<random_use::exp_avg>(m, m_even, m_odd);
  put.template operator()<random_use::exp_avg_sq>(v, v_even, v_odd);
  put.template operator()<random_use::param>(p, p_even, p_odd);
}

// Two registers, of consecutive elements.
template <class Level>
struct two {
  vec<float, Level> first, second;
};
template <class Level, class T>
two<Level> load_two(const T* p) {
#if defined(STEEPEST_SIMD_AVX512)
  if constexpr (sizeof(T) == 2) {
    const __m512i words = _mm512_loadu_si512(p);
    constexpr __mmask32 upper = 0xaaaaaaaa;
    const __m512i spread =
        _mm512_set_epi32(15 << 16, 14 << 16, 13 << 16, 12 << 16, 11 << 16, 10 << 16, 9 << 16,
                         8 << 16, 7 << 16, 6 << 16, 5 << 16, 4 << 16, 3 << 16, 2 << 16, 1 << 16, 0);
    const __m512i second = _mm512_add_epi32(spread, _mm512_set1_epi32(16 << 16));
    return {{_mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(upper, spread, words))},
            {_mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(upper, second, words))}};
  }
#endif
  return {load<Level>(p), load<Level>(p + float_lanes<Level>)};
}
template <class Level, class T>
void store_two(T* p, two<Level> x) {
#if defined(STEEPEST_SIMD_AVX512) && defined(__AVX512BF16__)
  if constexpr (sizeof(T) == 2) {
    // It takes denormals for zeros; a word of zero may have been one.
    const auto words = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(x.second, x.first));
    if (__builtin_expect(_mm512_test_epi16_mask(words, _mm512_set1_epi16(0x7fff)) == ~0U, 1))
      return _mm512_storeu_si512(p, words);
  }
#endif
  store<Level>(p, x.first);
  store<Level>(p + float_lanes<Level>, x.second);
}

// bf16 from floats by random bits, whole registers.
template <class Level, random_use Use>
void stochastic_bf16(const float* values, bf16* to, int64_t count, const random_source& random) {
  for (int64_t i = 0; i < count; i += float_lanes<Level>) {
    const words<Level> word =
        random_word_at<Level>(random, counters<Level>(static_cast<uint32_t>(i)));
    store<Level>(to + i, stochastic_bf16<Level>(load<Level>(values + i),
                                                random_bits<Use, Level>(random, word)));
  }
}

// ---- residuals: the bits of a master beyond those of a bf16 parameter

// `high`: of the parameter, widened; `low`: the residual as it is stored.
template <class Level>
words<Level> join(int32_t kind, words<Level> high, words<Level> low) {
  using I = ints<Level>;
  using W = words<Level>;
  if (kind == STEEPEST_RESIDUAL_LOW16) return high | low;
  if (kind == STEEPEST_RESIDUAL_NEAREST16)
    return high + reinterpret_cast<W>(reinterpret_cast<I>(low << 16) >> 16);
  return high + reinterpret_cast<W>(reinterpret_cast<I>(low << 24) >> 16);
}

template <class Level>
struct split_master {
  words<Level> high;  // exact in bf16
  words<Level> low;
};

// NEAREST8 is rounded by `random`, 16 bits per lane, or to nearest without. NaN has no residual.
template <class Level>
split_master<Level> split(int32_t kind, vec<float, Level> master, bool stochastic,
                          words<Level> random) {
  using W = words<Level>;
  W bits = bits_of<Level>(master);
  const W exponent = bits & 0x7f800000U;
  // Of NaN and infinity.
  const W quiet = choose_lanes((bits & 0x7fffffU) != 0U, (bits & 0xffff0000U) | 0x400000U, bits);
  W high;
  if (kind == STEEPEST_RESIDUAL_LOW16) {
    high = bits & 0xffff0000U;
  } else {
    if (kind == STEEPEST_RESIDUAL_NEAREST8)
      bits = (bits + (stochastic ? random >> 8 : 0x7fU + (bits >> 8 & 1U))) & 0xffffff00U;
    high = (bits + 0x8000U) & 0xffff0000U;
  }
  W low = bits - high;
  if (kind == STEEPEST_RESIDUAL_NEAREST8) low = low >> 8;
  low = low & (kind == STEEPEST_RESIDUAL_NEAREST8 ? 0xffU : 0xffffU);
  return {choose_lanes(exponent == 0x7f800000U, quiet, high),
          choose_lanes(exponent == 0x7f800000U, W{}, low)};
}

}  // namespace steepest::simd
