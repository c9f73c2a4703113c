// SPDX-License-Identifier: Apache-2.0
// The checks of `steepest selftest`.
#pragma once

#include <steepest/steepest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "numbers.hpp"

namespace tool {

struct verdict {
  bool passed;
  std::string detail;  // what was measured, beside what is allowed
};

struct check {
  std::string where, what;  // a level, or "all levels"; the function and its oracle
  std::function<verdict()> run;
};

// Ends a check when the library refuses a call.
inline void expect_ok(steepest_status status) {
  if (status != STEEPEST_OK) throw std::runtime_error(steepest_last_error());
}

// The larger of two errors, NaN being the largest.
inline double worse(double a, double b) { return std::isnan(a) || b <= a ? a : b; }

inline steepest_test::context_pointer context_of(steepest_isa isa, int threads) {
  steepest_test::context_pointer context =
      steepest_test::try_context({.max_isa = isa, .threads = threads});
  if (context == nullptr) throw std::runtime_error(steepest_last_error());
  return context;
}

// The levels that can be chosen here: of this CPU, this build, and up to STEEPEST_MAX_ISA.
std::vector<steepest_isa> chosen_levels();

void add_vector_checks(std::vector<check>& checks);  // AdamW, norms
void add_matrix_checks(std::vector<check>& checks);  // msign, Muon, singular values
void add_theory_checks(std::vector<check>& checks);  // schedules, update RMS

}  // namespace tool
