// SPDX-License-Identifier: Apache-2.0
// The matrix operations that msign is made of. X and O are row-major with any stride, or come and
// go tile by tile; symmetric matrices are in panels (panels.hpp).
//
// They are done by the tile kernels of one ISA level, cut into tasks for the context's executor
// that depend on sizes alone, so that every sum has the same order for any number of threads. A
// context made with STEEPEST_CONTEXT_OPENBLAS has OpenBLAS and LAPACKE do them instead
// (openblas.cpp), for comparison. All return STEEPEST_OK, or INTERNAL if the executor failed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/context.hpp"
#include "linalg/panels.hpp"

namespace steepest::linalg {

template <class T>
struct matrix {
  T* data;
  int64_t rows, cols, stride;
};

// A part of X or O, one tile high and up to eight wide.
struct tile_part {
  int64_t row, col, rows, cols;
};

// Has `rows` pieces of memory fetched into the second-level cache; `stride` is in bytes too.
inline void fetch(const void* from, int64_t bytes, int64_t stride, int64_t rows) {
  constexpr int64_t line = 64;
  const auto* row = static_cast<const std::byte*>(from);
  for (int64_t r = 0; r < rows; ++r, row += stride)
    for (int64_t i = 0; i < bytes; i += line) __builtin_prefetch(row + i, 0, 2);
}

// Where X comes from: memory, or `load`, which is called for every part once; for a strip of tiles,
// row / panel_width, from left to right and by one thread at a time.
template <class T>
struct tile_source {
  matrix<const T> stored;  // without `load`; rows and cols always
  void* self = nullptr;
  // Sets part.rows of `to`, `stride` elements apart; what lies between them is zero already, and
  // may be used.
  void (*load)(void* self, const tile_part& part, T* to, int64_t stride) = nullptr;
  // Some part will be loaded soon: time to have its memory fetched.
  void (*expect)(void* self, const tile_part& part) = nullptr;
};

// Where O goes: memory, or `store`, which is called once for every part, in order and on one thread
// for each panel of columns or, if X is tall, of rows.
template <class T>
struct tile_sink {
  matrix<T> stored;  // without `store`; rows and cols always
  void* self = nullptr;
  // The part will be stored after `calls` of these: time to have its memory fetched.
  void (*expect)(void* self, const tile_part& part, int64_t call, int64_t calls) = nullptr;
  // Whole tiles are there, with anything in what lies outside of the part.
  void (*store)(void* self, const tile_part& part, const T* from, int64_t stride) = nullptr;
};

// A wide (or square) X has its n x n side on the left, a tall one on the right.
constexpr bool is_tall(int64_t rows, int64_t cols) { return rows > cols; }
template <class T>
constexpr bool is_tall(const matrix<T>& x) {
  return is_tall(x.rows, x.cols);
}

// What the products of one X work in, whose `packed` and `scratch` have as many elements as below.
template <class T>
struct product_memory {
  int64_t rows, cols;  // of X
  T* packed;           // X: panels of X^T for a wide X, of X for a tall one
  T* scratch;
};
template <class T>
int64_t packed_elements(const steepest_context& context, int64_t rows, int64_t cols);
// May throw as obtain_blas_buffer, where products are OpenBLAS's.
template <class T>
int64_t product_elements(const steepest_context& context, int64_t rows, int64_t cols);

// r = X X^T for a wide X, X^T X for a tall one, and memory.packed = X, which is not needed any more
// then. Without `x` again for the X that is packed already.
template <class T>
steepest_status gram(steepest_context& context, const panel_kernels<T>& kernels,
                     const tile_source<T>* x, const product_memory<T>& memory, T* r);

// c = A B for full symmetric matrices that commute (A^2 among them). `scratch` is product_memory's.
template <class T>
steepest_status commuting_product(steepest_context& context, const panel_kernels<T>& kernels,
                                  const symmetric<T>& s, const T* a, const T* b, T* c, T* scratch);

// out = Q X for a wide X, X Q for a tall one, Q full.
template <class T>
steepest_status multiply(steepest_context& context, const panel_kernels<T>& kernels, const T* q,
                         const product_memory<T>& x, const tile_sink<T>& out);

// The same with X and Q rounded to bf16, sums in f32. `split`: Q as the sum of two bf16 matrices.
// `factor` is scratch for Q.
struct bf16_memory {
  int64_t rows, cols;
  bf16_pair *packed, *scratch, *factor;
  float* sums;
};
int64_t bf16_packed_words(int64_t rows, int64_t cols);
int64_t bf16_product_words(const steepest_context& context, int64_t rows, int64_t cols);
int64_t bf16_factor_words(int64_t n, bool split);
int64_t bf16_sum_elements(const steepest_context& context, int64_t rows, int64_t cols);
steepest_status gram_bf16(steepest_context& context, const bf16_kernels& kernels,
                          const tile_source<float>* x, const bf16_memory& memory, float* r);
steepest_status multiply_bf16(steepest_context& context, const bf16_kernels& kernels,
                              const float* q, bool split, const bf16_memory& x,
                              const tile_sink<float>& out);

// to = X.
template <class T>
steepest_status copy(steepest_context& context, const tile_source<T>& x, const matrix<T>& to);

// out = o, or zero without data. Nothing is announced by `expect`.
template <class T>
steepest_status store(steepest_context& context, const matrix<const T>& o, const tile_sink<T>& out);

// Fills what lies above the diagonal from what lies below, also within tiles: a matrix that is
// symmetric to the last bit. (Iterations amplify what is not.)
template <class T>
steepest_status make_full(steepest_context& context, const panel_kernels<T>& kernels,
                          const symmetric<T>& s, T* a);

// a[i] <- -a[i]^-1 for `count` <= 8 positive definite matrices, in step with each other. *failed:
// one of them was not, and all are spoilt. `scratch` has inverse_elements.
template <class T>
steepest_status invert_negated(steepest_context& context, const panel_kernels<T>& kernels,
                               const symmetric<T>& s, T* const* a, int64_t count, T* scratch,
                               bool* failed);
template <class T>
int64_t inverse_elements(const steepest_context& context, const symmetric<T>& s, int64_t count);

// out = a b, all row-major, by OpenBLAS: what follows a singular value decomposition.
template <class T>
void product(const matrix<const T>& a, const matrix<const T>& b, const matrix<T>& out);

// Has OpenBLAS take the memory that it keeps for its products. Where it cannot have it, it would
// try again for ever; so a process is asked for as much first, and without it std::bad_alloc is
// thrown. After the first success nothing happens.
void obtain_blas_buffer();

// The thin singular value decomposition X = U diag(s) V^T by LAPACK's gesdd; X is spoilt. u is rows
// x k, vt is k x cols, both without gaps, k = min(rows, cols). With u == nullptr only s. False if
// LAPACK did not converge.
template <class T>
bool svd(const matrix<T>& x, T* u, T* s, T* vt, T* work, int64_t work_size, int32_t* integers);
// Elements of `work`, for any stride; `integers` has 8 min(rows, cols). May throw as below.
template <class T>
int64_t svd_work_size(int64_t rows, int64_t cols, bool vectors);

// Whether A is positive definite, by LAPACK's potrf. `rows` has n^2 elements.
bool positive_definite(const symmetric<double>& s, const double* a, double* rows);

// The eigenvalues, rising, and orthonormal eigenvectors, one after the other, of a symmetric
// tridiagonal matrix, by LAPACK's stev; they take the place of the diagonal. off_diagonal[n - 1] is
// spoilt; `work` has 2n elements. False if LAPACK did not converge.
bool tridiagonal_eigenvectors(int64_t n, double* diagonal, double* off_diagonal, double* vectors,
                              double* work);

// The same operations through OpenBLAS and LAPACKE; X is packed row by row.
namespace openblas {

template <class T>
void gram(const product_memory<T>& x, T* r);
template <class T>
void commuting_product(const symmetric<T>& s, const T* a, const T* b, T* c, T* scratch);
template <class T>
void multiply(const T* q, const product_memory<T>& x, const matrix<T>& out);
// True if A is positive definite. `scratch` has n^2 elements.
template <class T>
bool invert_negated(const symmetric<T>& s, T* a, T* scratch);

}  // namespace openblas

inline bool uses_openblas(const steepest_context& context) {
  return (context.flags & STEEPEST_CONTEXT_OPENBLAS) != 0;
}

}  // namespace steepest::linalg
