// SPDX-License-Identifier: Apache-2.0
//
// Many steps against as many exact ones. The oracle's trajectory never sees the library's rounded
// state; the drift between the two stays below what the per-step rule adds up to:
//   e_m <- beta1 e_m + 2 ulp(beta1 |m| + (1-beta1) |g|),   e_v <- beta2 e_v + 2 ulp(v),
//   e_theta <- (1 - lr decay) e_theta + rule's bound + lr du,
//   du = e_m / (bc1 (sqrt(vh) + eps)) + |u| e_v / (2 v), to first order, for the state's own drift.
// The gradients do not depend on theta, so nothing feeds back.
#pragma once

#include "adamw_oracle.hpp"

namespace steepest_test {

// Gradients of different scales, none with a mean of zero.
template <class Real>
void draw_gradients(random_source& random, std::vector<Real>& grad) {
  for (std::size_t i = 0; i < grad.size(); ++i) {
    const double scale = std::ldexp(1.0, static_cast<int>(i % 24) - 16);
    grad[i] = static_cast<Real>(scale * (random.normal() + 0.3));
  }
}

template <class Real>
class adamw_drift {
 public:
  explicit adamw_drift(const std::vector<Real>& param)
      : exact_(param.size()), bound_(param.size(), element{0, 0, 0, 0}) {
    for (std::size_t i = 0; i < param.size(); ++i) exact_[i] = {param[i], 0, 0, 0};
  }

  // After the library's step on a.grad: does the exact step and returns the largest share of its
  // bound that an element of param, exp_avg, exp_avg_sq or max_exp_avg_sq is off by.
  long double follow(const steepest_adamw_config& config, const adamw_arrays<Real>& a) {
    const steepest::reference::adamw_constants<long double> c(config);
    long double largest = 0;
    for (std::size_t i = 0; i < exact_.size(); ++i) {
      const long double old_m = exact_[i].m, old_theta = exact_[i].theta;
      const auto r = steepest::reference::adamw_step(c, exact_[i], (long double)(a.grad[i]));
      exact_[i] = r.next;
      const long double v = c.amsgrad ? r.next.v_max : r.next.v;
      const long double denominator = std::sqrt(r.v_hat) + c.eps;
      const long double m_scale = c.beta1 * std::abs(old_m) + c.one_minus_beta1 * std::abs(r.g);
      element& e = bound_[i];
      e.m = c.beta1 * e.m + 2 * ulp<Real>(m_scale);
      e.v = c.beta2 * e.v + 2 * ulp<Real>(r.next.v);
      e.v_max = std::max(e.v_max, e.v);
      const long double e_u =
          e.m / (c.bc1 * denominator) + std::abs(r.u) * (c.amsgrad ? e.v_max : e.v) / (2 * v);
      const long double size = std::max(std::abs(old_theta), std::abs(r.next.theta));
      e.theta = (1 - c.eta * c.lambda) * e.theta + 2 * ulp<Real>(size) +
                4 * ulp<Real>(c.eta * m_scale / (c.bc1 * denominator)) + c.eta * e_u;
      const auto share = [&](Real got, long double wanted, long double allowed) {
        // A NaN is as far off as can be.
        const long double off = std::abs(got - wanted);
        largest = off >= 0 ? std::max(largest, off / allowed) : HUGE_VALL;
      };
      share(a.exp_avg[i], exact_[i].m, e.m);
      share(a.exp_avg_sq[i], exact_[i].v, e.v);
      share(a.param[i], exact_[i].theta, e.theta);
      if (c.amsgrad) share(a.max_exp_avg_sq[i], exact_[i].v_max, e.v_max);
    }
    return largest;
  }

 private:
  using element = steepest::reference::adamw_element<long double>;
  std::vector<element> exact_, bound_;
};

}  // namespace steepest_test
