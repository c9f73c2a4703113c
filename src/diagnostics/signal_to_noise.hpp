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

// The same to second order in 1 - beta2, for gradients of kurtosis `kurtosis` (docs/theory.md
// derives it): the square of the update's RMS, which is not positive where the expansion does not
// hold. m = sum a_i g_i and v = sum b_i g_i^2 with the weights of the bias-corrected averages.
inline double adam_update_square(double beta1, double beta2, double snr, double kurtosis,
                                 int64_t step) {
  const double p = step == 0 ? 1 : one_minus_power(beta1, step);  // 1 - beta1^t
  const double q = step == 0 ? 1 : one_minus_power(beta2, step);
  const double a_squares = noise_floor(beta1, step);  // sum a_i^2
  const double b_squares = noise_floor(beta2, step);
  // sum a_i b_i and sum a_i^2 b_i, with 1 - x y as (1 - x) + x (1 - y).
  const double x = 1 - beta1;
  const double y = 1 - beta2;
  const double ab = x * y / (p * q) * (p + (1 - p) * q) / (x + beta1 * y);
  const double pp = p * (2 - p);  // 1 - beta1^2t
  const double aab =
      x * x * y / (p * p * q) * (pp + (1 - pp) * q) / (x * (2 - x) + beta1 * beta1 * y);
  // Shares of noise and mean in E g^2; in this form an infinite ratio has its limit too.
  const double noise = 1 / (1 + snr);
  const double mean = 1 - noise;
  const double spread = 4 * mean * noise + (kurtosis - 1) * noise * noise;  // Var(g^2) / (E g^2)^2
  return (1 - (1 - a_squares) * noise) * (1 + b_squares * spread) -
         (4 * ab * mean * noise + (kurtosis - 1) * aab * noise * noise);
}

inline double snr_from_momentum(double momentum_rms, double grad_rms, double beta, int64_t step) {
  const double ratio = momentum_rms / grad_rms;
  return snr_above(noise_floor(beta, step), ratio * ratio);
}

}  // namespace steepest
