// SPDX-License-Identifier: Apache-2.0
//
// A thousand steps against a thousand exact ones (adamw_drift.hpp).
#include "adamw_drift.hpp"
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
  adamw_drift<Real> exact(a.param);
  long double worst = 0;

  for (std::int64_t step = 1; step <= step_count; ++step) {
    config.step = step;
    config.lr = 1e-3 * static_cast<double>(step_count + 1 - step) / step_count;
    draw_gradients(random, a.grad);
    ASSERT_OK(run_step(context.get(), config, a));
    worst = std::max(worst, exact.follow(config, a));
    ASSERT_LE(worst, 1) << "step " << step;
  }
  std::printf("%s %-12s flags %llu: worst drift %.3Lf of the bound\n", type_name<Real>(),
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
