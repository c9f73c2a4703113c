// SPDX-License-Identifier: Apache-2.0
//
// Schedules as vectors, and their bound as the formula says.
#pragma once

#include "support.hpp"

namespace steepest_test {

inline steepest_schedule make_schedule(std::int32_t kind, double lr) {
  steepest_schedule s = STEEPEST_SCHEDULE_INIT;
  s.kind = kind;
  s.lr = lr;
  return s;
}

inline std::vector<double> filled(const steepest_schedule& s, std::int64_t steps) {
  std::vector<double> lr(static_cast<std::size_t>(steps), -7);
  EXPECT_OK(steepest_schedule_fill(&s, steps, lr.data()));
  return lr;
}

inline double bound_of(const std::vector<double>& lr, double distance, double norm,
                       const std::vector<double>* norms = nullptr) {
  double bound = -7;
  EXPECT_OK(steepest_schedule_bound(lr.data(), static_cast<std::int64_t>(lr.size()), distance, norm,
                                    norms != nullptr ? norms->data() : nullptr, &bound));
  return bound;
}

// A sum in long double whose roundings are kept beside it: adding the same number ten million times
// has errors that do not average out.
struct long_sum {
  long double sum = 0, errors = 0;

  void add(long double x) {
    const long double next = sum + x;
    errors += std::fabs(sum) >= std::fabs(x) ? (sum - next) + x : (x - next) + sum;
    sum = next;
  }
  long double value() const { return sum + errors; }
};

inline long double exact_bound(const std::vector<double>& lr, double distance,
                               const std::vector<double>& norms) {
  long_sum tail, noise;
  for (std::size_t t = lr.size(); t-- > 0;) {
    const long double moved = static_cast<long double>(norms[t]) * lr[t];
    noise.add(moved * moved / (t + 1 == lr.size() ? lr[t] : tail.value()));
    tail.add(lr[t]);
  }
  return static_cast<long double>(distance) * distance / (2 * tail.value()) + noise.value() / 2;
}

// The bound at D = G = 1 of the best multiple: a / c + b c is least at c = sqrt(a / b).
inline double best_scaled(const std::vector<double>& lr) {
  return 2 * std::sqrt(bound_of(lr, 1, 0) * bound_of(lr, 0, 1));
}

}  // namespace steepest_test
