// SPDX-License-Identifier: Apache-2.0
// What a config leaves open. How AUTO was measured: docs/decisions/0005-msign.md.
#include <algorithm>

#include "msign/msign.hpp"

namespace steepest {

steepest_dtype msign_compute_dtype(const steepest_msign_config& config, steepest_dtype dtype) {
  if (config.compute_dtype != 0) return config.compute_dtype;
  const bool f64 = dtype == STEEPEST_F64 || config.method == STEEPEST_MSIGN_ACCURATE;
  return f64 ? STEEPEST_F64 : STEEPEST_F32;
}

msign::coefficient_set msign_coefficients(const steepest_msign_config& config, int64_t steps) {
  if (config.coefficients != STEEPEST_COEF_CUSTOM) return msign::preset(config.coefficients);
  // Rows of three doubles, as the struct is.
  return {reinterpret_cast<const msign::quintic*>(config.custom_coefficients),
          config.custom_count != 0 ? config.custom_count : steps};
}

msign_plan msign_plan_for(const steepest_msign_config& config, steepest_dtype dtype, int64_t rows,
                          int64_t cols, bool consistent) {
  msign_plan plan = {};
  plan.consistent = consistent;
  const bool automatic = config.method == STEEPEST_MSIGN_AUTO;
  plan.method = !automatic                  ? config.method
                : std::min(rows, cols) == 1 ? STEEPEST_MSIGN_SVD
                                            : STEEPEST_MSIGN_RATIONAL;
  plan.steps = automatic ? 0 : config.steps;
  const bool newton_schulz = plan.method == STEEPEST_MSIGN_NEWTON_SCHULZ ||
                             plan.method == STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ;
  if (plan.steps == 0) plan.steps = newton_schulz ? 5 : 3;
  if (plan.method == STEEPEST_MSIGN_ACCURATE) plan.steps = msign::max_poles;  // at most
  if (newton_schulz) plan.coefficients = msign_coefficients(config, plan.steps);
  plan.normalization = config.normalization;
  if (plan.normalization == STEEPEST_NORM_AUTO)
    plan.normalization = plan.method == STEEPEST_MSIGN_NEWTON_SCHULZ ? STEEPEST_NORM_FROBENIUS
                                                                     : STEEPEST_NORM_SCHATTEN4;
  plan.restarts = config.restarts;
  plan.restart_count = config.restart_count;
  plan.lower_bound = automatic || config.lower_bound == 0 ? 1e-3 : config.lower_bound;
  plan.norm_bound = config.norm_bound;
  plan.rank_tolerance = config.rank_tolerance;
  plan.storage = dtype;
  plan.compute = msign_compute_dtype(config, dtype);
  plan.split = (config.flags & STEEPEST_MSIGN_SPLIT_BF16) != 0;
  return plan;
}

msign::band msign_band(const msign_plan& plan, double l) {
  switch (plan.method) {
    case STEEPEST_MSIGN_NEWTON_SCHULZ:
    case STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ:
      return msign::band_of(
          [&](double x) {
            for (int64_t step = 0; step < plan.steps; ++step) x = plan.coefficients.row(step)(x);
            return x;
          },
          l, 1.0);
    case STEEPEST_MSIGN_RATIONAL:
      return msign::band_of(msign::zolotarev_for(plan.lower_bound, static_cast<int>(plan.steps)), l,
                            1.0);
    case STEEPEST_MSIGN_HALLEY:
      return msign::band_of(
          [&](double x) {
            double lowest = plan.lower_bound;
            for (int64_t step = 0; step < plan.steps; ++step) {
              const msign::halley f(lowest);
              x = f(x);
              lowest = f.next_l;
            }
            return 2 * x / (1 + lowest);
          },
          l, 1.0);
    default: return {1.0, 1.0};
  }
}

}  // namespace steepest
