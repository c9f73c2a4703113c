// SPDX-License-Identifier: Apache-2.0
//
// The matrix product behind all three products of a layer.
#pragma once

#include <cstdint>

namespace char_lm {

// Element (i, p) is data[i * row_stride + p * column_stride]: a matrix, or its transpose.
template <class real>
struct strided {
  const real* data;
  std::int64_t row_stride;
  std::int64_t column_stride;
};

// c = a b, where a is m x k, and b (k x n) and c (m x n) are row-major without gaps. Each element
// is summed over k in order.
void matmul(std::int64_t m, std::int64_t n, std::int64_t k, strided<float> a, const float* b,
            float* c);
void matmul(std::int64_t m, std::int64_t n, std::int64_t k, strided<double> a, const double* b,
            double* c);

}  // namespace char_lm
