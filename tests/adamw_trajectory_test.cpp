// SPDX-License-Identifier: Apache-2.0
//
// A thousand steps against a thousand exact ones. The oracle's trajectory never sees the library's
// rounded state; the drift between the two stays below what the per-step rule adds up to:
//   e_m <- beta1 e_m + 2 ulp(beta1 |m| + (1-beta1) |g|),   e_v <- beta2 e_v + 2 ulp(v),
//   e_theta <- (1 - lr decay) e_theta + rule's bound + lr du,
//   du = e_m / (bc1 (sqrt(vh) + eps)) + |u| e_v / (2 v), to first order, for the state's own drift.
// The gradients do not depend on theta, so nothing feeds back.
#include "adamw_support.hpp"

namespace steepest_test {
namespace {

template <class Real>
void trajectory(steepest_isa isa, std::uint64_t flags) {
  constexpr std::size_t element_count = 67;
  constexpr std::int64_t step_count = 1000;
  const context_pointer context = make_context({.max_isa = isa});
  steepest_adamw_config config = make_config();
  config.flags = flags;

  random_source random(31);
  adamw_arrays<Real> a(element_count);
  for (Real& theta : a.param) theta = random.wide<Real>(-8, 2);
  using exact_element = steepest::reference::adamw_element<long double>;
  std::vector<exact_element> exact(element_count);
  for (std::size_t i = 0; i < element_count; ++i) exact[i] = {a.param[i], 0, 0, 0};
  std::vector<exact_element> bound(element_count, exact_element{0, 0, 0, 0});
  long double worst = 0;

  for (std::int64_t step = 1; step <= step_count; ++step) {
    config.step = step;
    config.lr = 1e-3 * static_cast<double>(step_count + 1 - step) / step_count;
    for (std::size_t i = 0; i < element_count; ++i) {
      const double scale = std::ldexp(1.0, static_cast<int>(i % 24) - 16);
      a.grad[i] = static_cast<Real>(scale * (random.normal() + 0.3));
    }
    ASSERT_OK(run_step(context.get(), config, a));

    const steepest::reference::adamw_constants<long double> c(config);
    for (std::size_t i = 0; i < element_count; ++i) {
      const long double old_m = exact[i].m, old_theta = exact[i].theta;
      const auto r = steepest::reference::adamw_step(c, exact[i], (long double)(a.grad[i]));
      exact[i] = r.next;
      const long double v = c.amsgrad ? r.next.v_max : r.next.v;
      const long double denominator = std::sqrt(r.v_hat) + c.eps;
      const long double m_scale = c.beta1 * std::abs(old_m) + c.one_minus_beta1 * std::abs(r.g);
      exact_element& e = bound[i];
      e.m = c.beta1 * e.m + 2 * ulp<Real>(m_scale);
      e.v = c.beta2 * e.v + 2 * ulp<Real>(r.next.v);
      e.v_max = std::max(e.v_max, e.v);
      const long double e_u =
          e.m / (c.bc1 * denominator) + std::abs(r.u) * (c.amsgrad ? e.v_max : e.v) / (2 * v);
      const long double size = std::max(std::abs(old_theta), std::abs(r.next.theta));
      e.theta = (1 - c.eta * c.lambda) * e.theta + 2 * ulp<Real>(size) +
                4 * ulp<Real>(c.eta * m_scale / (c.bc1 * denominator)) + c.eta * e_u;
      EXPECT_LE(std::abs(a.exp_avg[i] - exact[i].m), e.m) << "step " << step << " element " << i;
      EXPECT_LE(std::abs(a.exp_avg_sq[i] - exact[i].v), e.v) << "step " << step << " element " << i;
      EXPECT_LE(std::abs(a.param[i] - exact[i].theta), e.theta)
          << "step " << step << " element " << i;
      if (c.amsgrad) {
        EXPECT_LE(std::abs(a.max_exp_avg_sq[i] - exact[i].v_max), e.v_max);
      }
      ASSERT_FALSE(testing::Test::HasFailure());
      worst = std::max(worst, std::abs(a.param[i] - exact[i].theta) / e.theta);
    }
  }
  std::printf("%s %-12s flags %llu: worst drift of param %.3Lf of the bound\n", type_name<Real>(),
              steepest_isa_name(isa), static_cast<unsigned long long>(flags), worst);
}

TEST(adamw_trajectory, a_thousand_steps) {
  for (const steepest_isa isa : levels()) {
    for (const std::uint64_t flags :
         {std::uint64_t{0}, STEEPEST_ADAMW_AMSGRAD, STEEPEST_FLAG_CONSISTENT}) {
      trajectory<float>(isa, flags);
      trajectory<double>(isa, flags);
    }
  }
}

}  // namespace
}  // namespace steepest_test
