// SPDX-License-Identifier: Apache-2.0
// Learning-rate schedules and the bound of the last iterate's loss that they give (Su Jianlin,
// https://kexue.fm/archives/11494), on checked arguments. Steps count from 1; eta_t is lr[t - 1].
#pragma once

#include <cstdint>

#include "steepest/steepest.h"

namespace steepest::schedule {

// The rate at one step. `steps` is T.
double rate_at(const steepest_schedule& schedule, int64_t steps, int64_t step);
// Steps of the decay of STEEPEST_SCHEDULE_WARMUP_STABLE_DECAY.
int64_t decay_steps(const steepest_schedule& schedule, int64_t steps);

// The norm of the gradient at each step: an array, or one number for all.
struct gradient_norms {
  const double* each;  // or null
  double all;

  double operator[](int64_t i) const { return each == nullptr ? all : each[i]; }
};

// D^2 / (2 S_1) + 1/2 sum G_t^2 eta_t^2 / S_min(t+1,T), S_t = eta_t + ... + eta_T; eta_T > 0.
double bound(const double* lr, int64_t steps, double distance, const gradient_norms& norms);

// The schedule that minimises it; norms > 0. Returns false, with nothing written, if it cannot be
// told in doubles: its rates would underflow. *least is the minimum.
bool optimal(int64_t steps, double distance, const gradient_norms& norms, double* lr,
             double* least);

// smooth[i] = the median of norms[i - half .. i + half], the first one standing for those before
// it, and those at the end mirrored without the last one; half < steps. All arrays have `steps`
// elements, counts one more.
struct smooth_memory {
  double *smooth, *sorted;
  int64_t* rank;
  int32_t* counts;
};
void smooth_by_median(const double* norms, int64_t steps, int64_t half,
                      const smooth_memory& memory);

// lr[t] = w_t sum_{p > t} w_p with w = 1 / norms, or their squares; with distance > 0 on the
// absolute scale D / (sum w)^(3/2) that belongs to the squares, else the largest is 1. norms > 0.
// False, with nothing written: the rates would overflow.
bool refine(const double* norms, int64_t steps, bool squares, double distance, double* lr);

}  // namespace steepest::schedule
