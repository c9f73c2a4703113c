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
#include <cstdint>

#include "core/context.hpp"
#include "linalg/panels.hpp"

namespace steepest::linalg {

template <class T>
struct matrix {
  T* data;
  int64_t rows, cols, stride;
};

// A part of X or O: one tile, or two beside each other, and what of it lies inside the matrix.
struct tile_part {
  int64_t row, col, rows, cols;
};

// Where X comes from: memory, or `load`, which is called for every part of X once per operation.
template <class T>
struct tile_source {
  matrix<const T> stored;  // without `load`; rows and cols always
  void* self = nullptr;
  // Sets part.rows of `to`, `stride` elements apart; what X does not have is zero already. `below`:
  // the part after this one is the one below it, and not the one to its right.
  void (*load)(void* self, const tile_part& part, bool below, T* to, int64_t stride) = nullptr;
};

// Where O goes: memory, or `store`, which is called once for every tile.
template <class T>
struct tile_sink {
  matrix<T> stored;  // without `store`; rows and cols always
  void* self = nullptr;
  // The tile will be stored soon.
  void (*expect)(void* self, const tile_part& part) = nullptr;
  // Rows of `tile` are panel_width elements apart.
  void (*store)(void* self, const tile_part& part, const T* tile) = nullptr;
};

// A wide (or square) X has its n x n side on the left, a tall one on the right. Loads and stores
// of one panel along the other side, w columns of a wide X and w rows of a tall one, are in order
// and on one thread; so are those of a panel along the n x n side in `gram`.
constexpr bool is_tall(int64_t rows, int64_t cols) { return rows > cols; }
template <class T>
constexpr bool is_tall(const matrix<T>& x) {
  return is_tall(x.rows, x.cols);
}

// Elements of `packed` below, for an X of that size.
template <class T>
int64_t packed_elements(const steepest_context& context, int64_t rows, int64_t cols);
// Elements of `sums` below.
template <class T>
int64_t sum_elements(const steepest_context& context, int64_t n);

// r = X X^T for a wide X, X^T X for a tall one. `packed` is scratch.
template <class T>
steepest_status gram(steepest_context& context, const panel_kernels<T>& kernels,
                     const tile_source<T>& x, T* packed, T* r);

// c = A B for full symmetric matrices that commute (A^2 among them). `packed` is scratch.
template <class T>
steepest_status commuting_product(steepest_context& context, const panel_kernels<T>& kernels,
                                  const symmetric<T>& s, const T* a, const T* b, T* c, T* packed);

// out = Q X for a wide X, X Q for a tall one, Q full; out may be X. `packed` and `sums` are
// scratch.
template <class T>
steepest_status multiply(steepest_context& context, const panel_kernels<T>& kernels, const T* q,
                         const tile_source<T>& x, const tile_sink<T>& out, T* packed, T* sums);

// to = X, in the order of `gram`.
template <class T>
steepest_status copy(steepest_context& context, const tile_source<T>& x, const matrix<T>& to);

// out = o, or zero without data, in the order of `multiply`.
template <class T>
steepest_status store(steepest_context& context, const matrix<const T>& o, const tile_sink<T>& out);

// gram and multiply with X and Q rounded to bf16, sums in f32. `split`: Q as the sum of two bf16
// matrices. `packed` has bf16_packed_words, `q_words` bf16_factor_words.
steepest_status gram_bf16(steepest_context& context, const bf16_kernels& kernels,
                          const tile_source<float>& x, bf16_pair* packed, float* r);
steepest_status multiply_bf16(steepest_context& context, const bf16_kernels& kernels,
                              const float* q, bool split, const tile_source<float>& x,
                              const tile_sink<float>& out, bf16_pair* q_words, bf16_pair* packed,
                              float* sums);
int64_t bf16_packed_words(int64_t rows, int64_t cols);
int64_t bf16_sum_elements(const steepest_context& context, int64_t n);
int64_t bf16_factor_words(int64_t n, bool split);

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

// The thin singular value decomposition X = U diag(s) V^T by LAPACK's gesdd; X is spoilt. u is rows
// x k, vt is k x cols, both without gaps, k = min(rows, cols). With u == nullptr only s. False if
// LAPACK did not converge.
template <class T>
bool svd(const matrix<T>& x, T* u, T* s, T* vt, T* work, int64_t work_size, int32_t* integers);
// Elements of `work`, for any stride; `integers` has 8 min(rows, cols).
template <class T>
int64_t svd_work_size(int64_t rows, int64_t cols, bool vectors);

// The same operations through OpenBLAS and LAPACKE.
namespace openblas {

template <class T>
void gram(const matrix<const T>& x, T* packed, T* r);
template <class T>
void commuting_product(const symmetric<T>& s, const T* a, const T* b, T* c, T* packed);
template <class T>
void multiply(const T* q, const matrix<const T>& x, const matrix<T>& out, T* packed);
// True if A is positive definite. `scratch` has n^2 elements.
template <class T>
bool invert_negated(const symmetric<T>& s, T* a, T* scratch);

}  // namespace openblas

inline bool uses_openblas(const steepest_context& context) {
  return (context.flags & STEEPEST_CONTEXT_OPENBLAS) != 0;
}

}  // namespace steepest::linalg
