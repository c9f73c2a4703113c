// SPDX-License-Identifier: Apache-2.0
// The matrix operations that msign is made of. Matrices are row-major. A symmetric n x n matrix has
// stride n, and only its lower triangle holds values unless it is called full.
//
// The provider is OpenBLAS with LAPACKE (openblas.cpp): its calls are made one at a time per
// process and with whatever number of threads the application has given it.
#pragma once

#include <cstdint>

namespace steepest::linalg {

template <class T>
struct matrix {
  T* data;
  int64_t rows, cols, stride;
};

// A wide (or square) X has its n x n side on the left, a tall one on the right.
template <class T>
constexpr bool is_tall(const matrix<T>& x) {
  return x.rows > x.cols;
}

// r = X X^T for a wide X, X^T X for a tall one.
template <class T>
void gram(const matrix<const T>& x, T* r);

// out = S X for a wide X, X S for a tall one; out is another matrix than X.
template <class T>
void multiply(const T* s, const matrix<const T>& x, const matrix<T>& out);

// c = A^2 for a full symmetric A.
template <class T>
void square(const T* a, T* c, int64_t n);

// c = A B for symmetric A and full symmetric B that commute: symmetric up to rounding. Every
// element of c is written.
template <class T>
void commuting_product(const T* a, const T* b, T* c, int64_t n);

// A <- A^-1. False, and A spoilt, if A is not positive definite.
template <class T>
bool invert_spd(T* a, int64_t n);

// out = a b, all row-major.
template <class T>
void product(const matrix<const T>& a, const matrix<const T>& b, const matrix<T>& out);

// The thin singular value decomposition X = U diag(s) V^T; X is spoilt. u is rows x k, vt is k x
// cols, both without gaps, k = min(rows, cols). With u == nullptr only s. False if LAPACK did not
// converge.
template <class T>
bool svd(const matrix<T>& x, T* u, T* s, T* vt, T* work, int64_t work_size, int32_t* integers);
// Elements of `work`, for any stride; `integers` has 8 min(rows, cols).
template <class T>
int64_t svd_work_size(int64_t rows, int64_t cols, bool vectors);

}  // namespace steepest::linalg
