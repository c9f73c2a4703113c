// SPDX-License-Identifier: Apache-2.0
//
// What the tests of AdamW expect of a step.
#pragma once

#include "adamw_oracle.hpp"
#include "support.hpp"

namespace steepest_test {

inline void expect_within_rule(const step_error& error, const steepest_adamw_config& config,
                               steepest_isa isa) {
  EXPECT_TRUE(within_rule(error, config, isa))
      << "m " << error.m << " ulp, v " << error.v << " ulp, param " << error.param
      << " of its bound; flags " << config.flags << " lr " << config.lr << " beta1 " << config.beta1
      << " beta2 " << config.beta2 << " eps " << config.eps << " weight_decay "
      << config.weight_decay << " grad_scale " << config.grad_scale << " step " << config.step
      << "\n"
      << error.worst;
}

// What must not have changed: the gradient, and whatever the flags leave alone.
template <class Real>
void expect_rest_unchanged(const steepest_adamw_config& config, const adamw_arrays<Real>& before,
                           const adamw_arrays<Real>& after) {
  EXPECT_TRUE(same_bits(before.grad, after.grad));
  if ((config.flags & STEEPEST_ADAMW_AMSGRAD) == 0) {
    EXPECT_TRUE(same_bits(before.max_exp_avg_sq, after.max_exp_avg_sq));
  }
  const bool emit_delta = (config.flags & STEEPEST_ADAMW_EMIT_DELTA) != 0;
  EXPECT_TRUE(emit_delta ? same_bits(before.param, after.param)
                         : same_bits(before.delta, after.delta));
}

// Statistics of the same step by another kernel, whose sums are rounded elsewhere.
inline void expect_about_same(const steepest_step_stats& a, const steepest_step_stats& b) {
  const auto near = [](double x, double y) { EXPECT_NEAR(x, y, 2e-6 * std::abs(y)); };
  near(a.update_rms, b.update_rms);
  near(a.grad_rms, b.grad_rms);
  near(a.momentum_rms, b.momentum_rms);
  near(a.param_rms, b.param_rms);
  EXPECT_EQ(a.nonfinite, b.nonfinite);
  EXPECT_EQ(a.status, b.status);
}

}  // namespace steepest_test
