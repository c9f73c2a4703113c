// SPDX-License-Identifier: Apache-2.0
#include "matmul.hpp"

#include <algorithm>
#include <cmath>

namespace char_lm {
namespace {

// A rows x columns tile of c. With both sizes known to the compiler the sums stay in vector
// registers, and each element of b that is loaded is used `rows` times. Without an fma instruction
// std::fma would be a slow library call.
template <int rows, int columns, bool fused, class real>
[[gnu::always_inline]] inline void tile(std::int64_t n, std::int64_t k, strided<real> a,
                                        const real* b, real* c) {
  real sum[rows][columns] = {};
  for (std::int64_t p = 0; p < k; ++p)
    for (int i = 0; i < rows; ++i) {
      const real a_ip = a.data[i * a.row_stride + p * a.column_stride];
      for (int j = 0; j < columns; ++j)
        sum[i][j] =
            fused ? std::fma(a_ip, b[p * n + j], sum[i][j]) : sum[i][j] + a_ip * b[p * n + j];
    }
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j) c[i * n + j] = sum[i][j];
}

// Covers c with tiles. The last tile of a row or column is moved back so that it ends at the edge:
// some elements are then computed twice, to the same value.
template <int rows, int columns, bool fused, class real>
[[gnu::always_inline]] inline void cover(std::int64_t m, std::int64_t n, std::int64_t k,
                                         strided<real> a, const real* b, real* c) {
  if constexpr (rows > 1)
    if (m < rows) return cover<1, columns, fused>(m, n, k, a, b, c);
  if constexpr (columns > 1)
    if (n < columns) return cover<rows, 1, fused>(m, n, k, a, b, c);
  for (std::int64_t j = 0; j < n; j += columns)
    for (std::int64_t i = 0; i < m; i += rows) {
      const std::int64_t row = std::min(i, m - rows);
      const std::int64_t column = std::min(j, n - columns);
      const strided<real> a_rows{a.data + row * a.row_stride, a.row_stride, a.column_stride};
      tile<rows, columns, fused>(n, k, a_rows, b + column, c + row * n + column);
    }
}

#if defined(__x86_64__)
// The tile sizes fit the vector registers: 32 of 16 floats, or 16 of 8. With 16 columns or fewer
// GCC 12 unrolls the inner loop before it could vectorise it, which costs a factor of 50.
[[gnu::target("avx512f,fma")]] void cover_avx512(std::int64_t m, std::int64_t n, std::int64_t k,
                                                 strided<float> a, const float* b, float* c) {
  cover<8, 32, true>(m, n, k, a, b, c);
}
[[gnu::target("avx2,fma")]] void cover_avx2(std::int64_t m, std::int64_t n, std::int64_t k,
                                            strided<float> a, const float* b, float* c) {
  cover<4, 24, true>(m, n, k, a, b, c);
}
#endif

}  // namespace

void matmul(std::int64_t m, std::int64_t n, std::int64_t k, strided<float> a, const float* b,
            float* c) {
#if defined(__x86_64__)
  static const bool avx512 = __builtin_cpu_supports("avx512f");
  static const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx512) return cover_avx512(m, n, k, a, b, c);
  if (avx2) return cover_avx2(m, n, k, a, b, c);
#elif defined(__aarch64__)
  return cover<4, 24, true>(m, n, k, a, b, c);
#endif
  cover<4, 24, false>(m, n, k, a, b, c);
}

void matmul(std::int64_t m, std::int64_t n, std::int64_t k, strided<double> a, const double* b,
            double* c) {
  cover<4, 24, false>(m, n, k, a, b, c);
}

}  // namespace char_lm
