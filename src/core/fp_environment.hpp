// SPDX-License-Identifier: Apache-2.0
// The floating-point environment in which every task and every entry point computes: round to
// nearest, denormals kept, no traps. The caller's is put back when the scope ends, so that neither
// side sees the other's: a host that sets flush-to-zero gets the same bits as one that does not.
#pragma once

#if defined(__SSE2__)
#include <xmmintrin.h>
#else
#include <cfenv>
#endif
#include <cstdint>

namespace steepest {

class fp_environment {
 public:
  fp_environment(const fp_environment&) = delete;
  fp_environment& operator=(const fp_environment&) = delete;

#if defined(__SSE2__)
  fp_environment() : saved_(_mm_getcsr()) { _mm_setcsr(0x1f80); }  // the ABI's initial value
  ~fp_environment() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  fp_environment() {
    asm volatile("mrs %0, fpcr" : "=r"(control_));
    asm volatile("mrs %0, fpsr" : "=r"(status_));
    asm volatile("msr fpcr, %0" : : "r"(uint64_t{0}) : "memory");
  }
  ~fp_environment() {
    asm volatile("msr fpcr, %0" : : "r"(control_) : "memory");
    asm volatile("msr fpsr, %0" : : "r"(status_) : "memory");
  }

 private:
  uint64_t control_ = 0;
  uint64_t status_ = 0;
#else
  fp_environment() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~fp_environment() { std::fesetenv(&saved_); }

 private:
  std::fenv_t saved_;
#endif
};

}  // namespace steepest
