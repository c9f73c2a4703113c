// SPDX-License-Identifier: Apache-2.0
//
// The arrays of one tensor, one step on them, and the comparison of that step with the oracle.
#pragma once

#include <cstdio>

#include "kernels/adamw/reference.hpp"
#include "numbers.hpp"

namespace steepest_test {

inline steepest_adamw_config make_config() { return STEEPEST_ADAMW_CONFIG_INIT; }

template <class Real>
struct adamw_arrays {
  std::vector<Real> param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, delta;

  explicit adamw_arrays(std::size_t count = 0)
      : param(count), grad(count), exp_avg(count), exp_avg_sq(count), max_exp_avg_sq(count),
        delta(count) {}

  std::size_t count() const { return param.size(); }
  void resize(std::size_t count) {
    for (auto* array : all()) array->resize(count);
  }
  std::vector<std::vector<Real>*> all() {
    return {&param, &grad, &exp_avg, &exp_avg_sq, &max_exp_avg_sq, &delta};
  }
};

template <class Real>
bool same_bits(const adamw_arrays<Real>& a, const adamw_arrays<Real>& b) {
  return same_bits(a.param, b.param) && same_bits(a.grad, b.grad) &&
         same_bits(a.exp_avg, b.exp_avg) && same_bits(a.exp_avg_sq, b.exp_avg_sq) &&
         same_bits(a.max_exp_avg_sq, b.max_exp_avg_sq) && same_bits(a.delta, b.delta);
}

// A tensor over elements [first, first + count) of the arrays.
template <class Real>
steepest_adamw_tensor make_tensor(adamw_arrays<Real>& a, std::size_t first, std::size_t count) {
  steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
  tensor.count = static_cast<std::int64_t>(count);
  tensor.param = a.param.data() + first;
  tensor.grad = a.grad.data() + first;
  tensor.exp_avg = a.exp_avg.data() + first;
  tensor.exp_avg_sq = a.exp_avg_sq.data() + first;
  tensor.max_exp_avg_sq = a.max_exp_avg_sq.data() + first;
  tensor.delta = a.delta.data() + first;
  tensor.param_dtype = tensor.grad_dtype = tensor.exp_avg_dtype = tensor.exp_avg_sq_dtype =
      tensor.delta_dtype = dtype_of<Real>;
  return tensor;
}

template <class Real>
steepest_adamw_tensor make_tensor(adamw_arrays<Real>& a) {
  return make_tensor(a, 0, a.count());
}

template <class Real>
steepest_status run_step(steepest_context* context, const steepest_adamw_config& config,
                         adamw_arrays<Real>& a, steepest_step_stats* stats = nullptr) {
  const steepest_adamw_tensor tensor = make_tensor(a);
  return steepest_adamw_step(context, &config, &tensor, 1, stats);
}

// What a training run could hold, spread over many magnitudes; `fresh`: moments are zero, as before
// step 1. Some elements are zero, some first moments nearly cancel against the gradient.
template <class Real>
adamw_arrays<Real> random_arrays(random_source& random, std::size_t count, bool fresh,
                                 double beta1 = 0.9, int low = -40, int high = 20) {
  adamw_arrays<Real> a(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto kind = random.below(16);
    a.param[i] = kind == 0 ? Real(0) : random.wide<Real>(-30, 10);
    a.grad[i] = kind == 1 ? Real(0) : random.wide<Real>(low, high);
    a.delta[i] = random.wide<Real>(-3, 3);
    if (fresh) continue;
    const Real scale = random.below(2) == 0 ? a.grad[i] : random.wide<Real>(low, high);
    a.exp_avg_sq[i] = kind == 2 ? Real(0) : scale * scale * random.wide<Real>(-2, 2);
    a.exp_avg_sq[i] = std::abs(a.exp_avg_sq[i]);
    a.max_exp_avg_sq[i] = std::abs(a.exp_avg_sq[i] * random.wide<Real>(-3, 3));
    a.exp_avg[i] = kind == 3 ? Real(0) : scale * random.wide<Real>(-8, 1);
    if (kind == 4 && beta1 > 0) {
      const double against = -(1 - beta1) / beta1 * (1 + random.wide<double>(-30, -2));
      a.exp_avg[i] = static_cast<Real>(against * static_cast<double>(a.grad[i]));
    }
  }
  return a;
}

// The largest errors of a step, in the units of the accuracy rule (steepest_adamw_step): m in ulps
// of beta1 |m| + (1-beta1) |g|, v in ulps of v, param as a fraction of what the rule allows.
struct step_error {
  long double m = 0, v = 0, param = 0;
  std::size_t compared = 0, undecided = 0;
  std::string worst;  // the element that uses most of its allowance

  long double share() const { return std::max({m / 2, v / 2, param}); }
  void merge(const step_error& other) {
    if (other.share() > share()) worst = other.worst;
    m = std::max(m, other.m);
    v = std::max(v, other.v);
    param = std::max(param, other.param);
    compared += other.compared;
    undecided += other.undecided;
  }
};

// |got - exact| beyond `slack`, in units of `unit`. What rounds to infinity must be infinity.
template <class Real>
long double error_in(Real got, long double exact, long double slack, long double unit) {
  constexpr long double infinity = std::numeric_limits<long double>::infinity();
  if (std::isnan(exact)) return std::isnan(got) ? 0 : infinity;
  if (std::abs(exact) > std::numeric_limits<Real>::max()) exact = std::copysign(infinity, exact);
  if (std::isinf(exact)) return got == exact ? 0 : infinity;
  if (!std::isfinite(got)) return infinity;
  const long double excess = std::abs(got - exact) - slack;
  return excess <= 0 ? 0 : excess / unit;
}

// What one element may be off by: the units of the rule, and three allowances for what the rule's
// terms do not see.
//  - COUPLED_L2 forms g = s grad + lambda param in Real: both factors, one product and the sum are
//    rounded, so g is open by 1.5 eps (s |grad| + lambda |param|), which enters m, v and u.
//  - Below the smallest normal number rounding is absolute, so a subnormal v or m has a larger
//    relative error, which the quotient carries into u.
//  - CAUTIOUS_DECAY asks for the sign of u, which is open while |m| is within its own error, and
//    lost where u underflows.
// Where the first two leave the denominator open by more than half, or u nearly overflows, param is
// not compared (`decided` is false): a gradient that cancels against the decay, or a v of a few
// denormals. The rule for delta is that for param with delta in the place of the sum.
template <class Real>
struct allowance {
  long double m_unit, v_unit, param_unit, m_slack, v_slack, param_slack;
  bool decided;

  allowance(const steepest::reference::adamw_constants<long double>& c, long double theta,
            long double m, long double grad, bool emit_delta,
            const steepest::reference::adamw_result<long double>& r) {
    using limits = std::numeric_limits<Real>;
    const long double decay = std::abs(c.lambda * theta);
    const long double g_open =
        c.coupled_l2 ? 1.5L * limits::epsilon() * (std::abs(c.grad_scale * grad) + decay) +
                           limits::denorm_min()
                     : 0;
    const long double m_scale = c.beta1 * std::abs(m) + c.one_minus_beta1 * std::abs(r.g);
    const long double v = c.amsgrad ? r.next.v_max : r.next.v;
    m_unit = ulp<Real>(m_scale);
    v_unit = ulp<Real>(r.next.v);
    m_slack = c.one_minus_beta1 * g_open;
    v_slack = c.one_minus_beta2 * (2 * std::abs(r.g) + g_open) * g_open;

    const long double shrink = std::min(1.0L, c.eta);
    const bool subnormal_m = m_scale * shrink < limits::min();
    const bool subnormal_v = v < limits::min();
    const long double m_hat_open =
        (m_slack + (subnormal_m && shrink > 0 ? 2 * limits::denorm_min() / shrink : 0)) / c.bc1;
    const long double v_hat_open = (v_slack + (subnormal_v ? 2 * ulp<Real>(v) : 0)) / c.bc2;
    const long double denominator = std::sqrt(r.v_hat) + c.eps;
    const long double least = std::sqrt(std::max(0.0L, r.v_hat - v_hat_open)) + c.eps;
    const bool zero = denominator == 0;
    const long double u_scale = zero ? 0 : m_scale / (c.bc1 * denominator);
    decided = zero ? v_slack == 0 : 2 * least > denominator && u_scale < limits::max() * 0x1p-20L;

    const long double term = c.eta * u_scale;
    const long double size = emit_delta ? std::max(c.eta * decay, std::abs(r.delta))
                                        : std::max(std::abs(theta), std::abs(r.next.theta));
    param_unit = 2 * ulp<Real>(size) + 4 * ulp<Real>(term);
    param_slack = 0;
    if (!zero && decided) {
      const long double quotient = std::abs(r.m_hat) / denominator;
      param_slack = c.eta * (m_hat_open / least + quotient * (denominator - least) / least);
    }
    const bool sign_open =
        std::abs(r.next.m) <= 2 * m_unit || std::abs(r.u) < 1024 * limits::denorm_min();
    if (c.cautious_decay && sign_open) param_slack += c.eta * decay;
  }
};

// Compares one step, `before` to `after`, with the oracle.
template <class Real>
step_error compare_step(const steepest_adamw_config& config, const adamw_arrays<Real>& before,
                        const adamw_arrays<Real>& after) {
  const steepest::reference::adamw_constants<long double> c(config);
  const bool emit_delta = (config.flags & STEEPEST_ADAMW_EMIT_DELTA) != 0;
  step_error error;
  for (std::size_t i = 0; i < before.count(); ++i) {
    const auto r = steepest::reference::adamw_step<long double>(
        c, {before.param[i], before.exp_avg[i], before.exp_avg_sq[i], before.max_exp_avg_sq[i]},
        before.grad[i]);
    const allowance<Real> a(c, before.param[i], before.exp_avg[i], before.grad[i], emit_delta, r);

    step_error one;
    one.compared = 1;
    one.undecided = a.decided ? 0 : 1;
    one.m = error_in(after.exp_avg[i], r.next.m, a.m_slack, a.m_unit);
    one.v = error_in(after.exp_avg_sq[i], r.next.v, a.v_slack, a.v_unit);
    if (c.amsgrad) {
      const long double unit = ulp<Real>(r.next.v_max);
      one.v = std::max(one.v, error_in(after.max_exp_avg_sq[i], r.next.v_max, a.v_slack, unit));
    }
    if (a.decided) {
      one.param = emit_delta ? error_in(after.delta[i], r.delta, a.param_slack, a.param_unit)
                             : error_in(after.param[i], r.next.theta, a.param_slack, a.param_unit);
    }
    if (one.share() > error.share()) {
      char text[512];
      std::snprintf(text, sizeof(text),
                    "element %zu: param %.9g grad %.9g exp_avg %.9g exp_avg_sq %.9g max %.9g\n"
                    "  got   param %.17g exp_avg %.17g exp_avg_sq %.17g delta %.17g\n"
                    "  exact param %.20Lg exp_avg %.20Lg exp_avg_sq %.20Lg delta %.20Lg",
                    i, double(before.param[i]), double(before.grad[i]), double(before.exp_avg[i]),
                    double(before.exp_avg_sq[i]), double(before.max_exp_avg_sq[i]),
                    double(after.param[i]), double(after.exp_avg[i]), double(after.exp_avg_sq[i]),
                    double(after.delta[i]), r.next.theta, r.next.m, r.next.v, r.delta);
      one.worst = text;
    }
    error.merge(one);
  }
  return error;
}

// The rule itself: m and v within 2 ulp, param within its bound. The generic level of a CPU without
// fused multiply-add rounds (1-beta2) g g + beta2 v once more: one ulp more for v.
inline bool within_rule(const step_error& error, const steepest_adamw_config& config,
                        steepest_isa isa) {
  const bool fused = isa != STEEPEST_ISA_GENERIC || (config.flags & STEEPEST_FLAG_CONSISTENT) != 0;
  return error.m <= 2 && error.v <= (fused ? 2 : 3) && error.param <= 1;
}

}  // namespace steepest_test
