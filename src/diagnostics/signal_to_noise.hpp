// SPDX-License-Identifier: Apache-2.0
// What the size of an update says about the gradient's signal-to-noise ratio (Su Jianlin,
// https://kexue.fm/archives/11267).
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "core/double_double.hpp"

namespace steepest {

// The mean square of a bias-corrected average of pure noise over that of the noise, at step t;
// step 0: in the steady state. 1 at step 1 and for beta = 0, where the average is the gradient.
inline double noise_floor(double beta, int64_t step) {
  if (step == 1 || beta == 0) return 1;
  const double steady = (1 - beta) / (1 + beta);
  if (step == 0) return steady;
  const double bias = one_minus_power(beta, step);
  return steady * (2 - bias) / bias;
}

// From the mean square of what `floor` is the noise's share of; NaN where it says nothing.
inline double snr_above(double floor, double square) {
  if (floor == 1) return std::numeric_limits<double>::quiet_NaN();
  return (square - floor) / (1 - square);
}

// Adam's update RMS by mean-field theory.
inline double adam_update_rms(double beta1, double snr, int64_t step) {
  // In this form an infinite ratio has its limit too.
  return std::sqrt(1 - (1 - noise_floor(beta1, step)) / (1 + snr));
}

inline double snr_from_momentum(double momentum_rms, double grad_rms, double beta, int64_t step) {
  const double ratio = momentum_rms / grad_rms;
  return snr_above(noise_floor(beta, step), ratio * ratio);
}

}  // namespace steepest
