// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <numbers>

#include "schedule/schedule.hpp"

namespace steepest::schedule {

namespace {

// From 1 at done = 0 to 0 at done = 1.
double falling(int32_t shape, double done) {
  switch (shape) {
    case STEEPEST_DECAY_COSINE: return 0.5 * (1 + std::cos(std::numbers::pi * done));
    case STEEPEST_DECAY_ONE_MINUS_SQRT: return 1 - std::sqrt(done);
    default: return 1 - done;
  }
}

}  // namespace

int64_t decay_steps(const steepest_schedule& schedule, int64_t steps) {
  if (schedule.decay_steps != 0) return schedule.decay_steps;
  return std::min(steps / 5, steps - schedule.warmup_steps);
}

double rate_at(const steepest_schedule& schedule, int64_t steps, int64_t step) {
  const auto t = static_cast<double>(step);
  const auto warmup = static_cast<double>(schedule.warmup_steps);
  if (step < schedule.warmup_steps) return schedule.lr * (t / warmup);

  // The decay would reach its end one step after the last: no rate of the schedule is zero.
  const auto decayed = [&](int32_t shape, int64_t count) {
    const int64_t begin = steps - count;
    if (step <= begin) return schedule.lr;
    const double done = static_cast<double>(step - begin) / (static_cast<double>(count) + 1);
    const double left = falling(shape, done);
    return schedule.lr * (left + schedule.final_ratio * (1 - left));
  };
  const double reference = std::max(warmup, 1.0);
  const int64_t after_warmup = steps - schedule.warmup_steps;
  switch (schedule.kind) {
    case STEEPEST_SCHEDULE_LINEAR: return decayed(STEEPEST_DECAY_LINEAR, after_warmup);
    case STEEPEST_SCHEDULE_COSINE: return decayed(STEEPEST_DECAY_COSINE, after_warmup);
    case STEEPEST_SCHEDULE_INVERSE_SQRT: return schedule.lr * std::sqrt(reference / t);
    case STEEPEST_SCHEDULE_INVERSE: return schedule.lr * (reference / t);
    case STEEPEST_SCHEDULE_WARMUP_STABLE_DECAY:
      return decayed(schedule.decay_shape, decay_steps(schedule, steps));
    default: return schedule.lr;
  }
}

}  // namespace steepest::schedule
