// SPDX-License-Identifier: Apache-2.0
//
// AdamW as the formula reads (Loshchilov & Hutter, arXiv 1711.05101), one element at a time, with
// the paper's letters: theta the parameter, eta the learning rate, lambda the weight decay. With
// Real = long double it is the oracle of the tests; with float it is the naive loop that the
// benchmarks start from. Nothing in the library calls it.
#pragma once

#include <cmath>
#include <cstdint>

#include "steepest/steepest.h"

namespace steepest::reference {

// 1 - beta^t without the cancellation that beta near 1 and small t would cause.
inline long double bias_correction(long double beta, std::int64_t t) {
  return -std::expm1(static_cast<long double>(t) * std::log1p(beta - 1));
}

template <class Real>
struct adamw_constants {
  bool amsgrad, maximize, coupled_l2, cautious_decay;
  Real eta, beta1, beta2, eps, lambda, grad_scale;
  Real one_minus_beta1, one_minus_beta2;  // 1 - beta is formed before beta is rounded to Real
  Real bc1, bc2;

  explicit adamw_constants(const steepest_adamw_config& c)
      : amsgrad((c.flags & STEEPEST_ADAMW_AMSGRAD) != 0),
        maximize((c.flags & STEEPEST_ADAMW_MAXIMIZE) != 0),
        coupled_l2((c.flags & STEEPEST_ADAMW_COUPLED_L2) != 0),
        cautious_decay((c.flags & STEEPEST_ADAMW_CAUTIOUS_DECAY) != 0),
        eta(static_cast<Real>(c.lr)), beta1(static_cast<Real>(c.beta1)),
        beta2(static_cast<Real>(c.beta2)), eps(static_cast<Real>(c.eps)),
        lambda(static_cast<Real>(c.weight_decay)), grad_scale(static_cast<Real>(c.grad_scale)),
        one_minus_beta1(static_cast<Real>(1.0L - c.beta1)),
        one_minus_beta2(static_cast<Real>(1.0L - c.beta2)),
        bc1(static_cast<Real>(bias_correction(c.beta1, c.step))),
        bc2(static_cast<Real>(bias_correction(c.beta2, c.step))) {}
};

template <class Real>
struct adamw_element {
  Real theta, m, v, v_max;  // v_max is used with AMSGRAD only
};

template <class Real>
struct adamw_result {
  adamw_element<Real> next;
  Real g;  // the gradient that entered the moments
  Real m_hat, v_hat;
  Real u;      // the update, without learning rate and decay
  Real delta;  // theta' - theta
};

template <class Real>
inline adamw_result<Real> adamw_step(const adamw_constants<Real>& c, adamw_element<Real> x,
                                     Real grad) {
  Real g = c.grad_scale * grad;
  if (c.maximize) g = -g;
  if (c.coupled_l2) g += c.lambda * x.theta;

  const Real m = c.beta1 * x.m + c.one_minus_beta1 * g;
  const Real v = c.beta2 * x.v + c.one_minus_beta2 * g * g;
  const Real v_max = c.amsgrad && !(v <= x.v_max) ? v : x.v_max;

  const Real m_hat = m / c.bc1;
  const Real v_hat = (c.amsgrad ? v_max : v) / c.bc2;
  const Real denominator = std::sqrt(v_hat) + c.eps;
  const Real u = denominator == 0 ? Real(0) : m_hat / denominator;

  const bool decays = !c.coupled_l2 && (!c.cautious_decay || u * x.theta >= 0);
  const Real delta = -c.eta * (u + (decays ? c.lambda * x.theta : Real(0)));
  return {{x.theta + delta, m, v, v_max}, g, m_hat, v_hat, u, delta};
}

// One step on arrays of `count` elements. max_exp_avg_sq is needed with AMSGRAD; delta with
// EMIT_DELTA, which leaves param as it is.
template <class Real>
void adamw(const steepest_adamw_config& config, std::int64_t count, Real* param, const Real* grad,
           Real* exp_avg, Real* exp_avg_sq, Real* max_exp_avg_sq = nullptr, Real* delta = nullptr) {
  const adamw_constants<Real> c(config);
  const bool emit_delta = (config.flags & STEEPEST_ADAMW_EMIT_DELTA) != 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const Real v_max = c.amsgrad ? max_exp_avg_sq[i] : Real(0);
    const auto r = adamw_step(c, {param[i], exp_avg[i], exp_avg_sq[i], v_max}, grad[i]);
    exp_avg[i] = r.next.m;
    exp_avg_sq[i] = r.next.v;
    if (c.amsgrad) max_exp_avg_sq[i] = r.next.v_max;
    if (emit_delta) {
      delta[i] = r.delta;
    } else {
      param[i] = r.next.theta;
    }
  }
}

}  // namespace steepest::reference
