// SPDX-License-Identifier: Apache-2.0
// Products of bf16 operands. The f32 and f64 kernels of this level are those of AVX-512.
#include "linalg/panels.hpp"
#include "simd/convert.hpp"

namespace steepest::linalg {
namespace {

using simd::x86_avx512_bf16;
using vec = simd::vec<float, x86_avx512_bf16>;

constexpr int64_t width = panel_width<float>;
constexpr int64_t lanes = 16;

// As in micro_kernel.hpp, of words.
template <int64_t Rows, int64_t Vectors, bool Fetch>
void micro_kernel(const bf16_pair* a, const bf16_pair* b, int64_t k, float* c, int64_t stride,
                  update how) {
  __m512 sums[Rows][Vectors];
#pragma GCC unroll 16
  for (int64_t r = 0; r < Rows; ++r)
#pragma GCC unroll 2
    for (int64_t v = 0; v < Vectors; ++v) sums[r][v] = _mm512_setzero_ps();
  if (how != update::set)
#pragma GCC unroll 16
    for (int64_t r = 0; r < Rows; ++r)
#pragma GCC unroll 2
      for (int64_t v = 0; v < Vectors; ++v) simd::prefetch(c, r * stride + v * lanes);
  for (; k > 0; --k, a += width, b += width) {
    if constexpr (Fetch) {
      constexpr int64_t ahead = 32 * width;
      simd::prefetch(a, ahead);
      simd::prefetch(a, ahead + lanes);
      simd::prefetch(b, ahead);
      simd::prefetch(b, ahead + lanes);
    }
    __m512bh row[Vectors];
#pragma GCC unroll 2
    for (int64_t v = 0; v < Vectors; ++v)
      row[v] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + v * lanes));
#pragma GCC unroll 16
    for (int64_t r = 0; r < Rows; ++r) {
      const auto factor = reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(a[r])));
#pragma GCC unroll 2
      for (int64_t v = 0; v < Vectors; ++v)
        sums[r][v] = _mm512_dpbf16_ps(sums[r][v], factor, row[v]);
    }
  }
#pragma GCC unroll 16
  for (int64_t r = 0; r < Rows; ++r)
#pragma GCC unroll 2
    for (int64_t v = 0; v < Vectors; ++v) {
      float* const at = c + r * stride + v * lanes;
      if (how == update::add) sums[r][v] = _mm512_add_ps(_mm512_loadu_ps(at), sums[r][v]);
      if (how == update::subtract) sums[r][v] = _mm512_sub_ps(_mm512_loadu_ps(at), sums[r][v]);
      _mm512_storeu_ps(at, sums[r][v]);
    }
}

STEEPEST_KERNEL void tile(const bf16_pair* a, const bf16_pair* b, int64_t k, float* c,
                          int64_t stride, update how) {
  micro_kernel<11, 2, true>(a, b, k, c, stride, how);
  micro_kernel<11, 2, false>(a + 11, b, k, c + 11 * stride, stride, how);
  micro_kernel<10, 2, false>(a + 22, b, k, c + 22 * stride, stride, how);
}

STEEPEST_KERNEL void symmetric_tile(const bf16_pair* a, const bf16_pair* b, int64_t k, float* c,
                                    update how) {
  constexpr int64_t half = width / 2;
  micro_kernel<half, 1, true>(a, b, k, c, width, how);
  for (int64_t row = half; row < width; row += 8)
    micro_kernel<8, 2, false>(a + row, b, k, c + row * width, width, how);
  for (int64_t row = half; row < width; ++row)
    for (int64_t column = 0; column < half; ++column)
      c[column * width + row] = c[row * width + column];
}

// Sixteen floats as bf16, each in the lower half of a word.
__m512i rounded(const float* from, bool rest) {
  vec x = vec::load_unaligned(from);
  bf16 narrow[lanes];
  simd::store<x86_avx512_bf16>(narrow, x);
  if (rest) {
    x = x - simd::load<x86_avx512_bf16>(static_cast<const bf16*>(narrow));
    simd::store<x86_avx512_bf16>(narrow, x);
  }
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(narrow)));
}

STEEPEST_KERNEL void pack_columns(const float* first, const float* second, bool rest,
                                  bf16_pair* to) {
  for (int64_t j = 0; j < width; j += lanes)
    _mm512_storeu_si512(to + j, _mm512_or_si512(rounded(first + j, rest),
                                                _mm512_slli_epi32(rounded(second + j, rest), 16)));
}

// to = the transpose of `width` rows of `Columns` words.
template <int64_t Columns>
void transpose(const bf16_pair* from, bf16_pair* to) {
  using row = simd::raw_vector<bf16_pair, 8>;
  for (int64_t i = 0; i < width; i += 8)
    for (int64_t j = 0; j < Columns; j += 8) {
      row block[8];
      for (int64_t r = 0; r < 8; ++r)
        __builtin_memcpy(&block[r], from + (i + r) * Columns + j, sizeof(row));
      simd::transpose_rows<8>(block);
      for (int64_t r = 0; r < 8; ++r)
        __builtin_memcpy(to + (j + r) * width + i, &block[r], sizeof(row));
    }
}

// A row of bf16 is a row of words already.
STEEPEST_KERNEL void pack_rows(const float* from, int64_t stride, bf16_pair* to) {
  bf16_pair words[width][width];
  for (int64_t i = 0; i < width; ++i) {
    bf16 row[2 * width];
    simd::convert<x86_avx512_bf16>(from + i * stride, row, 2 * width);
    __builtin_memcpy(words[i], row, sizeof row);
  }
  transpose<width>(&words[0][0], to);
}

// Row k of `from` has the halves of rows 2 k (lower) and 2 k + 1 of the matrix to turn.
STEEPEST_KERNEL void turn(const bf16_pair* from, bf16_pair* to) {
  constexpr int64_t half = width / 2;
  bf16_pair words[width][half];
  const __m512i lower = _mm512_set1_epi32(0xffff);
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  for (int64_t k = 0; k < half; ++k, from += width) {
    const __m512i left = _mm512_loadu_si512(from);
    const __m512i right = _mm512_loadu_si512(from + lanes);
    const __m512i first = _mm512_permutex2var_epi32(left, even, right);
    const __m512i second = _mm512_permutex2var_epi32(left, odd, right);
    _mm512_storeu_si512(words[2 * k], _mm512_or_si512(_mm512_and_si512(first, lower),
                                                      _mm512_slli_epi32(second, 16)));
    _mm512_storeu_si512(words[2 * k + 1], _mm512_or_si512(_mm512_srli_epi32(first, 16),
                                                          _mm512_andnot_si512(lower, second)));
  }
  transpose<half>(&words[0][0], to);
}

}  // namespace

extern const bf16_kernels bf16_x86_avx512_bf16;
const bf16_kernels bf16_x86_avx512_bf16 = {tile, symmetric_tile, pack_columns, pack_rows, turn};

}  // namespace steepest::linalg
