// SPDX-License-Identifier: Apache-2.0
#include <cblas.h>
#include <lapacke.h>
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <mutex>
#include <new>

#include "linalg/linalg.hpp"

namespace steepest::linalg {
namespace {

// One BLAS or LAPACK call at a time: OpenBLAS's own threads have had races between concurrent
// callers. fork() waits for the call that is running, so that a child finds the lock free. And in
// the default floating-point environment as a whole: on x86-64 OpenBLAS forms norms in x87
// registers, whose rounding and traps fp_environment leaves alone.
class blas_call {
 public:
  blas_call() {
    mutex.lock();
    std::fegetenv(&callers_);
    std::fesetenv(FE_DFL_ENV);
  }
  blas_call(const blas_call&) = delete;
  blas_call& operator=(const blas_call&) = delete;
  ~blas_call() {
    std::fesetenv(&callers_);
    mutex.unlock();
  }

 private:
  std::fenv_t callers_;
  static std::mutex mutex;
  static const int registered;
};

std::mutex blas_call::mutex;
// When the library is loaded: no thread can be inside yet.
const int blas_call::registered =
    pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); }, [] { mutex.unlock(); });

// The api has checked that sizes and strides fit.
blasint narrow(int64_t n) { return static_cast<blasint>(n); }

int64_t small_side(int64_t rows, int64_t cols) { return std::min(rows, cols); }

// The two precisions under one name.
struct blas {
  static constexpr auto row_major = CblasRowMajor;

  static void syrk(CBLAS_TRANSPOSE trans, blasint n, blasint k, const float* a, blasint lda,
                   float* c) {
    cblas_ssyrk(row_major, CblasLower, trans, n, k, 1.0F, a, lda, 0.0F, c, n);
  }
  static void syrk(CBLAS_TRANSPOSE trans, blasint n, blasint k, const double* a, blasint lda,
                   double* c) {
    cblas_dsyrk(row_major, CblasLower, trans, n, k, 1.0, a, lda, 0.0, c, n);
  }
  static void symm(CBLAS_SIDE side, blasint rows, blasint cols, const float* s, blasint lds,
                   const float* b, blasint ldb, float* c, blasint ldc) {
    cblas_ssymm(row_major, side, CblasLower, rows, cols, 1.0F, s, lds, b, ldb, 0.0F, c, ldc);
  }
  static void symm(CBLAS_SIDE side, blasint rows, blasint cols, const double* s, blasint lds,
                   const double* b, blasint ldb, double* c, blasint ldc) {
    cblas_dsymm(row_major, side, CblasLower, rows, cols, 1.0, s, lds, b, ldb, 0.0, c, ldc);
  }
  static void gemm(blasint m, blasint n, blasint k, const float* a, blasint lda, const float* b,
                   blasint ldb, float* c, blasint ldc) {
    cblas_sgemm(row_major, CblasNoTrans, CblasNoTrans, m, n, k, 1.0F, a, lda, b, ldb, 0.0F, c, ldc);
  }
  static void gemm(blasint m, blasint n, blasint k, const double* a, blasint lda, const double* b,
                   blasint ldb, double* c, blasint ldc) {
    cblas_dgemm(row_major, CblasNoTrans, CblasNoTrans, m, n, k, 1.0, a, lda, b, ldb, 0.0, c, ldc);
  }
};

// LAPACK is column-major: the lower triangle is its upper one, a matrix its own transpose.
struct lapack {
  static constexpr int column_major = LAPACK_COL_MAJOR;

  static int potrf(float* a, lapack_int n) {
    return LAPACKE_spotrf_work(column_major, 'U', n, a, n);
  }
  static int potrf(double* a, lapack_int n) {
    return LAPACKE_dpotrf_work(column_major, 'U', n, a, n);
  }
  static int potri(float* a, lapack_int n) {
    return LAPACKE_spotri_work(column_major, 'U', n, a, n);
  }
  static int potri(double* a, lapack_int n) {
    return LAPACKE_dpotri_work(column_major, 'U', n, a, n);
  }
  static int gesdd(char job, lapack_int m, lapack_int n, float* a, lapack_int lda, float* s,
                   float* u, lapack_int ldu, float* vt, lapack_int ldvt, float* work,
                   lapack_int lwork, lapack_int* iwork) {
    return LAPACKE_sgesdd_work(column_major, job, m, n, a, lda, s, u, ldu, vt, ldvt, work, lwork,
                               iwork);
  }
  static int gesdd(char job, lapack_int m, lapack_int n, double* a, lapack_int lda, double* s,
                   double* u, lapack_int ldu, double* vt, lapack_int ldvt, double* work,
                   lapack_int lwork, lapack_int* iwork) {
    return LAPACKE_dgesdd_work(column_major, job, m, n, a, lda, s, u, ldu, vt, ldvt, work, lwork,
                               iwork);
  }
};

}  // namespace

namespace openblas {

namespace {

// Between panels and rows; of a symmetric matrix on and below the diagonal.
template <class T>
void to_rows(const symmetric<T>& s, const T* panels, T* rows, bool full) {
  constexpr int64_t w = panel_width<T>;
  for (int64_t j = 0; j < s.n; j += w)
    for (int64_t i = full ? 0 : j; i < s.n; ++i)
      std::copy_n(panels + s.panel(j / w) + i * w, std::min(w, s.n - j), rows + i * s.n + j);
}

template <class T>
void to_panels(const symmetric<T>& s, T* rows, T* panels) {
  constexpr int64_t w = panel_width<T>;
  // Tiles on the diagonal have both halves.
  for (int64_t i = 0; i < s.n; ++i)
    for (int64_t j = i / w * w; j < i; ++j) rows[j * s.n + i] = rows[i * s.n + j];
  std::fill(panels, panels + s.elements(), T{0});
  for (int64_t j = 0; j < s.n; j += w)
    for (int64_t i = j; i < s.n; ++i)
      std::copy_n(rows + i * s.n + j, std::min(w, s.n - j), panels + s.panel(j / w) + i * w);
}

}  // namespace

template <class T>
void gram(const product_memory<T>& x, T* r) {
  const symmetric<T> s(small_side(x.rows, x.cols));
  {
    const blas_call call;
    blas::syrk(is_tall(x.rows, x.cols) ? CblasTrans : CblasNoTrans, narrow(s.n),
               narrow(std::max(x.rows, x.cols)), x.packed, narrow(x.cols), x.scratch);
  }
  to_panels(s, x.scratch, r);
}

template <class T>
void multiply(const T* q, const product_memory<T>& x, const matrix<T>& out) {
  const symmetric<T> s(small_side(x.rows, x.cols));
  to_rows(s, q, x.scratch, false);
  const blas_call call;
  blas::symm(is_tall(x.rows, x.cols) ? CblasRight : CblasLeft, narrow(x.rows), narrow(x.cols),
             x.scratch, narrow(s.n), x.packed, narrow(x.cols), out.data, narrow(out.stride));
}

template <class T>
void commuting_product(const symmetric<T>& s, const T* a, const T* b, T* c, T* scratch) {
  const int64_t square = s.n * s.n;
  T* const b_rows = scratch + square;
  T* const c_rows = b_rows + square;
  to_rows(s, b, b_rows, true);
  {
    const blasint n = narrow(s.n);
    if (a == b) {
      const blas_call call;
      blas::syrk(CblasNoTrans, n, n, b_rows, n, c_rows);
    } else {
      to_rows(s, a, scratch, false);
      const blas_call call;
      blas::symm(CblasLeft, n, n, scratch, n, b_rows, n, c_rows, n);
    }
  }
  to_panels(s, c_rows, c);
}

template <class T>
bool invert_negated(const symmetric<T>& s, T* a, T* scratch) {
  to_rows(s, a, scratch, false);
  {
    const blas_call call;
    if (lapack::potrf(scratch, narrow(s.n)) != 0 || lapack::potri(scratch, narrow(s.n)) != 0)
      return false;
  }
  to_panels(s, scratch, a);
  for (int64_t k = 0; k < s.elements(); ++k) a[k] = -a[k];
  return true;
}

}  // namespace openblas

template <class T>
void product(const matrix<const T>& a, const matrix<const T>& b, const matrix<T>& out) {
  const blas_call call;
  blas::gemm(narrow(out.rows), narrow(out.cols), narrow(a.cols), a.data, narrow(a.stride), b.data,
             narrow(b.stride), out.data, narrow(out.stride));
}

template <class T>
bool svd(const matrix<T>& x, T* u, T* s, T* vt, T* work, int64_t work_size, int32_t* integers) {
  const blas_call call;
  const int64_t k = small_side(x.rows, x.cols);
  T unused = 0;
  const bool vectors = u != nullptr;
  return lapack::gesdd(vectors ? 'S' : 'N', narrow(x.cols), narrow(x.rows), x.data,
                       narrow(x.stride), s, vectors ? vt : &unused, narrow(x.cols),
                       vectors ? u : &unused, narrow(k), work, narrow(work_size), integers) == 0;
}

void obtain_blas_buffer() {
  // 128 MiB in Debian's builds of 0.3.21, with another thread's room to spare.
  constexpr size_t bytes = size_t{256} << 20;
  static bool obtained = false;
  const blas_call call;
  if (obtained) return;
  void* const map = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) throw std::bad_alloc();
  munmap(map, bytes);
  const double one = 1;
  double square = 0;
  blas::syrk(CblasNoTrans, 1, 1, &one, 1, &square);
  obtained = true;
}

template <class T>
int64_t svd_work_size(int64_t rows, int64_t cols, bool vectors) {
  obtain_blas_buffer();
  const blas_call call;
  T answer = 0;
  T unused = 0;
  lapack_int integer = 0;
  lapack::gesdd(vectors ? 'S' : 'N', narrow(cols), narrow(rows), &unused, narrow(cols), &unused,
                &unused, narrow(cols), &unused, narrow(small_side(rows, cols)), &answer, -1,
                &integer);
  // A float may have rounded it down.
  return static_cast<int64_t>(std::ceil(static_cast<double>(answer) * (1 + 1e-6))) + 1;
}

bool positive_definite(const symmetric<double>& s, const double* a, double* rows) {
  openblas::to_rows(s, a, rows, false);
  const blas_call call;
  return lapack::potrf(rows, narrow(s.n)) == 0;
}

bool tridiagonal_eigenvectors(int64_t n, double* diagonal, double* off_diagonal, double* vectors,
                              double* work) {
  const blas_call call;
  return LAPACKE_dstev_work(LAPACK_COL_MAJOR, 'V', narrow(n), diagonal, off_diagonal, vectors,
                            narrow(n), work) == 0;
}

#define STEEPEST_INSTANTIATE(T)                                                               \
  template void openblas::gram(const product_memory<T>&, T*);                                 \
  template void openblas::multiply(const T*, const product_memory<T>&, const matrix<T>&);     \
  template void openblas::commuting_product(const symmetric<T>&, const T*, const T*, T*, T*); \
  template bool openblas::invert_negated(const symmetric<T>&, T*, T*);                        \
  template void product(const matrix<const T>&, const matrix<const T>&, const matrix<T>&);    \
  template bool svd(const matrix<T>&, T*, T*, T*, T*, int64_t, int32_t*);                     \
  template int64_t svd_work_size<T>(int64_t, int64_t, bool);
STEEPEST_INSTANTIATE(float)
STEEPEST_INSTANTIATE(double)

}  // namespace steepest::linalg
