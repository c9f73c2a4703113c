// SPDX-License-Identifier: Apache-2.0
// The thin shim over xsimd: the only folder that names it. An ISA level is a type here (`generic`,
// `x86_avx2`, ...), and a vec<T, Level> is one register of that level.
//
// What xsimd 8.1 does not give, and what is therefore written with intrinsics: a fused
// multiply-add on AVX-512 (its fma() there multiplies and then adds), division and square root of
// floats on NEON (its own are approximations, and give NaN for infinity), widening to double, and
// the 16-bit conversions (convert.hpp).
#pragma once

#include <cstdint>

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 takes the undefined operand inside its own AVX-512 intrinsics for a mistake (GCC bug
// 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <xsimd/xsimd.hpp>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

// On a kernel's entry: everything that it calls is inlined, so that no weak symbol is left. Not
// with sanitizers, whose checks would make one function of it that takes minutes to compile.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define STEEPEST_KERNEL
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STEEPEST_KERNEL
#endif
#if !defined(STEEPEST_KERNEL)
#define STEEPEST_KERNEL [[gnu::flatten]]
#endif

namespace steepest::simd {

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define STEEPEST_SIMD_AVX512 1
struct x86_avx512 {
  using arch = xsimd::avx512bw;
};
#endif
#if defined(STEEPEST_SIMD_AVX512) && defined(__AVX512BF16__)
struct x86_avx512_bf16 {
  using arch = xsimd::avx512bw;
};
#endif
#if defined(__AVX2__) && defined(__FMA__)
struct x86_avx2 {
  using arch = xsimd::fma3<xsimd::avx2>;
};
#endif
struct generic {
#if defined(__x86_64__)
  using arch = xsimd::sse2;
#elif defined(__aarch64__)
  using arch = xsimd::neon64;
#else
#error "steepest::simd has no generic level for this architecture yet: see src/README.md"
#endif
};

template <class T, class Level>
using vec = xsimd::batch<T, typename Level::arch>;

using xsimd::select;

// Correctly rounded, on every level.
template <class T, class Arch>
xsimd::batch<T, Arch> sqrt(xsimd::batch<T, Arch> x) {
#if defined(__aarch64__)
  if constexpr (sizeof(T) == 4)
    return {vsqrtq_f32(x)};
  else
    return {vsqrtq_f64(x)};
#else
  return xsimd::sqrt(x);
#endif
}

template <class T, class Arch>
xsimd::batch<T, Arch> divide(xsimd::batch<T, Arch> a, xsimd::batch<T, Arch> b) {
#if defined(__aarch64__)
  if constexpr (sizeof(T) == 4)
    return {vdivq_f32(a, b)};
  else
    return {vdivq_f64(a, b)};
#else
  return a / b;
#endif
}

// Asks for the line that holds p[i]. It may lie outside the array: nothing is read or written.
template <class T>
void prefetch(const T* p, int64_t i) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(p) + static_cast<uintptr_t>(i) * sizeof(T);
  __builtin_prefetch(reinterpret_cast<const void*>(address));  // NOLINT(performance-no-int-to-ptr)
}

// How a*b + c is rounded: once everywhere (`exact`), or once where the level has an instruction for
// it and twice elsewhere (`fast`). Levels with the instruction make no difference.
enum class rounding { fast, exact };

template <rounding Rounding, class T, class Arch>
xsimd::batch<T, Arch> fma(xsimd::batch<T, Arch> a, xsimd::batch<T, Arch> b,
                          xsimd::batch<T, Arch> c) {
#if defined(__x86_64__)
  if constexpr (Rounding == rounding::exact) {
    constexpr unsigned size = xsimd::batch<T, Arch>::size;
    T x[size];
    T y[size];
    T z[size];
    a.store_unaligned(x);
    b.store_unaligned(y);
    c.store_unaligned(z);
    for (unsigned i = 0; i < size; ++i) {
      if constexpr (sizeof(T) == 4)
        x[i] = __builtin_fmaf(x[i], y[i], z[i]);
      else
        x[i] = __builtin_fma(x[i], y[i], z[i]);
    }
    return xsimd::batch<T, Arch>::load_unaligned(x);
  } else {
    return a * b + c;
  }
#else
  if constexpr (sizeof(T) == 4)
    return {vfmaq_f32(c, a, b)};
  else
    return {vfmaq_f64(c, a, b)};
#endif
}

// The two halves of a register of floats as doubles, lower lanes first.
template <class Arch>
struct widened {
  xsimd::batch<double, Arch> low;
  xsimd::batch<double, Arch> high;
};

#if defined(__x86_64__)
inline widened<xsimd::sse2> widen(xsimd::batch<float, xsimd::sse2> x) {
  const __m128 r = x;
  return {_mm_cvtps_pd(r), _mm_cvtps_pd(_mm_movehl_ps(r, r))};
}
#endif

#if defined(__AVX2__) && defined(__FMA__)
template <rounding>
vec<float, x86_avx2> fma(vec<float, x86_avx2> a, vec<float, x86_avx2> b, vec<float, x86_avx2> c) {
  return {_mm256_fmadd_ps(a, b, c)};
}
template <rounding>
vec<double, x86_avx2> fma(vec<double, x86_avx2> a, vec<double, x86_avx2> b,
                          vec<double, x86_avx2> c) {
  return {_mm256_fmadd_pd(a, b, c)};
}
inline widened<x86_avx2::arch> widen(vec<float, x86_avx2> x) {
  const __m256 r = x;
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(r)), _mm256_cvtps_pd(_mm256_extractf128_ps(r, 1))};
}
#endif

#if defined(STEEPEST_SIMD_AVX512)
template <rounding>
vec<float, x86_avx512> fma(vec<float, x86_avx512> a, vec<float, x86_avx512> b,
                           vec<float, x86_avx512> c) {
  return {_mm512_fmadd_ps(a, b, c)};
}
template <rounding>
vec<double, x86_avx512> fma(vec<double, x86_avx512> a, vec<double, x86_avx512> b,
                            vec<double, x86_avx512> c) {
  return {_mm512_fmadd_pd(a, b, c)};
}
inline widened<x86_avx512::arch> widen(vec<float, x86_avx512> x) {
  const __m512 r = x;
  return {_mm512_cvtps_pd(_mm512_castps512_ps256(r)),
          _mm512_cvtps_pd(_mm512_extractf32x8_ps(r, 1))};
}
#endif

#if defined(__aarch64__)
inline widened<xsimd::neon64> widen(xsimd::batch<float, xsimd::neon64> x) {
  const float32x4_t r = x;
  return {vcvt_f64_f32(vget_low_f32(r)), vcvt_high_f64_f32(r)};
}
#endif

// A plain vector of the compiler's, for reordering elements, which xsimd 8.1 has little for.
template <class T, int64_t Size>
struct raw {
  typedef T type __attribute__((vector_size(Size * sizeof(T))));
};
template <class T, int64_t Size>
using raw_vector = typename raw<T, Size>::type;

// a0 b0 a1 b1 ... of the lower, and of the upper halves.
template <class Vector>
Vector interleave_low(Vector a, Vector b) {
  if constexpr (sizeof(Vector) / sizeof(a[0]) == 8)
    return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  else if constexpr (sizeof(Vector) / sizeof(a[0]) == 4)
    return __builtin_shufflevector(a, b, 0, 4, 1, 5);
  else
    return __builtin_shufflevector(a, b, 0, 2);
}
template <class Vector>
Vector interleave_high(Vector a, Vector b) {
  if constexpr (sizeof(Vector) / sizeof(a[0]) == 8)
    return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  else if constexpr (sizeof(Vector) / sizeof(a[0]) == 4)
    return __builtin_shufflevector(a, b, 2, 6, 3, 7);
  else
    return __builtin_shufflevector(a, b, 1, 3);
}

// Turns Size rows of Size elements: row i interleaved with row i + Size / 2, log2(Size) times over.
template <int64_t Size, class Vector>
void transpose_rows(Vector* rows) {
  Vector turned[Size];
#pragma GCC unroll 4
  for (int64_t done = 1; done < Size; done *= 2) {
#pragma GCC unroll 8
    for (int64_t i = 0; i < Size / 2; ++i) {
      turned[2 * i] = interleave_low(rows[i], rows[i + Size / 2]);
      turned[2 * i + 1] = interleave_high(rows[i], rows[i + Size / 2]);
    }
#pragma GCC unroll 8
    for (int64_t i = 0; i < Size; ++i) rows[i] = turned[i];
  }
}

// Eight running sums in double, whatever the level: lane i of a block of 64 bytes is added to sum
// i mod 8. The order of the additions, and so every bit of the result, is the same on all levels.
template <class Level>
class sums {
 public:
  // Adds the squares of register `index` of the block.
  template <rounding Rounding>
  void add_squares(vec<double, Level> x, unsigned index) {
    lanes_[index % count] = fma<Rounding>(x, x, lanes_[index % count]);
  }
  template <rounding Rounding>
  void add_squares(vec<float, Level> x, unsigned index) {
    const auto wide = widen(x);
    add_squares<Rounding>(wide.low, 2 * index);
    add_squares<Rounding>(wide.high, 2 * index + 1);
  }

  // Adds sixteen sums in float, register by register, and clears them.
  void take(vec<float, Level>* partial) {
    constexpr unsigned registers = 16 / vec<float, Level>::size;
    for (unsigned r = 0; r < registers; ++r) {
      const auto wide = widen(partial[r]);
      lanes_[2 * r % count] = lanes_[2 * r % count] + wide.low;
      lanes_[(2 * r + 1) % count] = lanes_[(2 * r + 1) % count] + wide.high;
      partial[r] = vec<float, Level>(0.0F);
    }
  }

  double total() const {
    double s[8];
    for (unsigned i = 0; i < count; ++i) lanes_[i].store_unaligned(s + i * width);
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
  }

 private:
  static constexpr unsigned width = vec<double, Level>::size;
  static constexpr unsigned count = 8 / width;
  vec<double, Level> lanes_[count] = {};
};

// The same at a quarter of the cost, for squares that fit a float: sixteen running sums in float,
// which the caller has added to those in double, with flush(), before they have taken many.
template <class Level>
class float_sums {
 public:
  template <rounding Rounding>
  void add_squares(vec<float, Level> x, unsigned index) {
    partial_[index] = fma<Rounding>(x, x, partial_[index]);
  }
  void add(vec<float, Level> x, unsigned index) { partial_[index] = partial_[index] + x; }
  void flush() { sums_.take(partial_); }
  double total() const { return sums_.total(); }

 private:
  vec<float, Level> partial_[16 / vec<float, Level>::size] = {};
  sums<Level> sums_;
};

}  // namespace steepest::simd
