// SPDX-License-Identifier: Apache-2.0
// The library as the benchmarks call it, `steepest bench` among them: no Google Benchmark here.
#pragma once

#include <steepest/steepest.h>

#include <cstdio>
#include <cstdlib>

// OpenBLAS's own; a program that uses the library says how many threads it may have.
extern "C" {
void openblas_set_num_threads(int threads);
char* openblas_get_config();
}

namespace bench {

// Ends the program when the library refuses: a benchmark has no use for a failed call.
inline void check(steepest_status status) {
  if (status == STEEPEST_OK) return;
  std::fprintf(stderr, "%s: %s\n", steepest_status_name(status), steepest_last_error());
  std::exit(1);
}

// A context with that many threads; 0: all cores.
class library_context {
 public:
  explicit library_context(int threads, steepest_isa max_isa = STEEPEST_ISA_AUTO) {
    steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
    options.num_threads = threads;
    options.max_isa = max_isa;
    check(steepest_context_create(&options, &context_));
  }
  library_context(const library_context&) = delete;
  library_context& operator=(const library_context&) = delete;
  ~library_context() { steepest_context_destroy(context_); }

  steepest_context* get() const { return context_; }
  int threads() const { return steepest_context_threads(context_); }

 private:
  steepest_context* context_ = nullptr;
};

inline bool has_bf16_products() {
  return steepest_context_isa(nullptr) == STEEPEST_ISA_X86_AVX512_BF16;
}

inline int all_threads() { return library_context(0).threads(); }

}  // namespace bench
