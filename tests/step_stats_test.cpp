// SPDX-License-Identifier: Apache-2.0
//
// steepest_step_stats against long double sums over the oracle, and against what is known of Adam's
// update RMS under pure noise (Su Jianlin, https://kexue.fm/archives/11267).
#include "adamw_support.hpp"

namespace steepest_test {
namespace {

struct exact_stats {
  long double update_rms, grad_rms, momentum_rms, param_rms, snr_update, snr_momentum;
};

template <class Real>
exact_stats oracle_stats(const steepest_adamw_config& config, const adamw_arrays<Real>& a) {
  const steepest::reference::adamw_constants<long double> c(config);
  long double u = 0, g = 0, m = 0, theta = 0;
  for (std::size_t i = 0; i < a.count(); ++i) {
    const auto r = steepest::reference::adamw_step<long double>(
        c, {a.param[i], a.exp_avg[i], a.exp_avg_sq[i], a.max_exp_avg_sq[i]}, a.grad[i]);
    u += r.u * r.u;
    g += r.g * r.g;
    m += r.m_hat * r.m_hat;
    theta += static_cast<long double>(a.param[i]) * a.param[i];
  }
  const auto n = static_cast<long double>(a.count());
  const long double power = std::pow(c.beta1, static_cast<long double>(config.step));
  const long double noise = (1 - c.beta1) * (1 + power) / ((1 + c.beta1) * (1 - power));
  const long double q = m / g;
  return {std::sqrt(u / n),
          std::sqrt(g / n),
          std::sqrt(m / n),
          std::sqrt(theta / n),
          (u / n - noise) / (1 - u / n),
          (q - noise) / (1 - q)};
}

template <class Real>
steepest_step_stats step_stats(steepest_context* context, const steepest_adamw_config& config,
                               adamw_arrays<Real> a) {
  steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
  EXPECT_OK(run_step(context, config, a, &stats));
  return stats;
}

// Every term carries a few roundings of Real, and the sums are long: a relative 4 eps covers both
// only if they are gathered in something wider or in short chains.
template <class Real>
void expect_close(const steepest_step_stats& got, const exact_stats& exact) {
  const double tolerance = 8 * double(std::numeric_limits<Real>::epsilon());
  const auto close = [&](const char* name, double value, long double expected, double scale) {
    EXPECT_LE(std::abs(value - expected), tolerance * scale * std::abs(expected))
        << name << " " << value << ", not " << static_cast<double>(expected);
  };
  close("update_rms", got.update_rms, exact.update_rms, 1);
  close("grad_rms", got.grad_rms, exact.grad_rms, 1);
  close("momentum_rms", got.momentum_rms, exact.momentum_rms, 1);
  close("param_rms", got.param_rms, exact.param_rms, 1);
  // (x - a) / (1 - x) turns a relative error of x into x / (x - a) + x / (1 - x) times that.
  const auto gain = [](long double x, long double snr) {
    const long double a = x - snr * (1 - x);
    return double(std::abs(x / (x - a)) + std::abs(x / (1 - x))) * 2 + 1;
  };
  const long double q = std::pow(exact.momentum_rms / exact.grad_rms, 2.0L);
  close("snr_update", got.snr_update, exact.snr_update,
        gain(exact.update_rms * exact.update_rms, exact.snr_update));
  close("snr_momentum", got.snr_momentum, exact.snr_momentum, gain(q, exact.snr_momentum));
  EXPECT_EQ(got.status, STEEPEST_OK);
  EXPECT_EQ(got.nonfinite, 0);
  EXPECT_EQ(got.reserved, 0);
}

template <class Real>
class step_stats_of : public testing::Test {};
using types = testing::Types<float, double>;
TYPED_TEST_SUITE(step_stats_of, types);

TYPED_TEST(step_stats_of, every_field_meets_the_oracle) {
  random_source random(41);
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa, .threads = 2});
    for (const std::uint64_t flags :
         {std::uint64_t{0}, STEEPEST_ADAMW_AMSGRAD, STEEPEST_ADAMW_MAXIMIZE,
          STEEPEST_ADAMW_COUPLED_L2, STEEPEST_ADAMW_CAUTIOUS_DECAY, STEEPEST_ADAMW_EMIT_DELTA,
          STEEPEST_FLAG_CONSISTENT}) {
      for (const std::size_t count : {1, 3, 17, 67, 1000, 10007, 100003}) {
        SCOPED_TRACE(testing::Message()
                     << steepest_isa_name(isa) << " flags " << flags << " count " << count);
        steepest_adamw_config config = make_config();
        config.flags = flags;
        config.step = 5;
        config.grad_scale = 0.3;
        adamw_arrays<TypeParam> a(count);
        for (std::size_t i = 0; i < count; ++i) {
          a.param[i] = static_cast<TypeParam>(random.normal());
          a.grad[i] = static_cast<TypeParam>(random.normal() + 0.2);
          a.exp_avg[i] = static_cast<TypeParam>(0.1 * random.normal());
          a.exp_avg_sq[i] = static_cast<TypeParam>(0.01 * (1 + random.uniform()));
          a.max_exp_avg_sq[i] = static_cast<TypeParam>(0.02 * random.uniform());
        }
        expect_close<TypeParam>(step_stats(context.get(), config, a), oracle_stats(config, a));
        if (testing::Test::HasFailure()) return;
      }
    }
  }
}

// Right as long as squares fit fp32; where they do not, infinite or small, as v is, and never NaN.
TEST(step_stats, f32_gradients_far_from_one) {
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    for (const float size : {1e-38f, 1e-25f, 1e-17f, 1e17f, 1e25f, 1e38f}) {
      SCOPED_TRACE(testing::Message() << steepest_isa_name(isa) << " size " << size);
      adamw_arrays<float> a(1003);
      std::fill(a.grad.begin(), a.grad.end(), size);
      std::fill(a.param.begin(), a.param.end(), size);
      const steepest_step_stats stats = step_stats(context.get(), make_config(), a);
      EXPECT_TRUE(std::isfinite(stats.update_rms));
      for (const double rms : {stats.grad_rms, stats.momentum_rms, stats.param_rms}) {
        if (size < 1e-20f)
          EXPECT_LE(rms, 1e-19);
        else if (size > 1e20f)
          EXPECT_TRUE(std::isinf(rms));
        else
          EXPECT_NEAR(rms / size, 1, 2e-6);
      }
      EXPECT_EQ(stats.nonfinite, 0);
    }
  }
}

TEST(step_stats, no_snr_at_step_one_or_without_data) {
  const context_pointer context = make_context();
  random_source random(42);
  const auto first =
      step_stats(context.get(), make_config(), random_arrays<float>(random, 99, true));
  EXPECT_TRUE(std::isnan(first.snr_update) && std::isnan(first.snr_momentum));
  EXPECT_TRUE(std::isfinite(first.update_rms) && std::isfinite(first.grad_rms));

  steepest_adamw_config config = make_config();
  config.step = 2;
  const auto second = step_stats(context.get(), config, random_arrays<float>(random, 99, false));
  EXPECT_TRUE(std::isfinite(second.snr_update) && std::isfinite(second.snr_momentum));

  const auto empty = step_stats(context.get(), config, adamw_arrays<float>(0));
  EXPECT_TRUE(std::isnan(empty.snr_update) && std::isnan(empty.snr_momentum));
  EXPECT_EQ(empty.nonfinite, 0);
  EXPECT_EQ(empty.status, STEEPEST_OK);
}

TYPED_TEST(step_stats_of, nonfinite_elements_are_counted) {
  using limits = std::numeric_limits<TypeParam>;
  random_source random(43);
  for (const steepest_isa isa : levels()) {
    for (const std::size_t count : {1, 16, 67, 70001}) {
      auto a = random_arrays<TypeParam>(random, count, true);
      std::int64_t expected = 0;
      for (std::size_t i = 0; i < count; i += 1 + std::size_t(random.below(9))) {
        const TypeParam bad[] = {limits::quiet_NaN(), limits::infinity(), -limits::infinity()};
        a.grad[i] = bad[random.below(3)];
        ++expected;
      }
      for (const std::uint64_t flags : {std::uint64_t{0}, STEEPEST_FLAG_CONSISTENT}) {
        steepest_adamw_config config = make_config();
        config.flags = flags;
        const auto context = make_context({.max_isa = isa, .threads = 2});
        const auto stats = step_stats(context.get(), config, a);
        EXPECT_EQ(stats.nonfinite, expected);
        EXPECT_EQ(stats.status, STEEPEST_OK);
        EXPECT_FALSE(std::isfinite(stats.grad_rms));
      }
    }
  }
}

// Noise N(0,1), beta1 = .9, beta2 = .95: the RMS of the update at t, by quadrature and simulation
// (not the mean-field formula, which gives .2294 in the limit where the exact value is .2261). With
// n elements the relative standard error is below 0.75 / sqrt(n); 4.5 of them, and half a digit.
TEST(step_stats, update_rms_of_pure_noise) {
  struct row {
    std::int64_t step;
    double rms;
  };
  const row rows[] = {{1, 1.0000}, {2, .7070},  {5, .4511},   {10, .3285},
                      {20, .2567}, {50, .2273}, {100, .2263}, {150, .2261}};
  constexpr std::size_t element_count = 1 << 17;
  const context_pointer context = make_context({.threads = 0});
  random_source random(44);
  adamw_arrays<float> a(element_count);
  steepest_adamw_config config = make_config();
  config.beta2 = 0.95;
  config.lr = 0;
  double mean_snr_update = 0, mean_snr_momentum = 0;
  const row* next = rows;
  for (std::int64_t step = 1; step <= 150; ++step) {
    config.step = step;
    for (float& g : a.grad) g = static_cast<float>(random.normal());
    steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
    ASSERT_OK(run_step(context.get(), config, a, &stats));
    if (step > 100) {
      mean_snr_update += stats.snr_update / 50;
      mean_snr_momentum += stats.snr_momentum / 50;
    }
    if (step != next->step) continue;
    const double tolerance = 4.5 * 0.75 / std::sqrt(double(element_count)) * next->rms + 0.5e-4;
    EXPECT_NEAR(stats.update_rms, next->rms, tolerance) << "t = " << step;
    ++next;
  }
  // No signal: both estimates are near 0. The one from u is low by (.2261^2 - .2294^2) / .95.
  EXPECT_NEAR(mean_snr_update, -0.0016, 0.001);
  EXPECT_NEAR(mean_snr_momentum, 0, 0.001);
}

// Signal mu = 0.5 on noise 1, r = 0.25: the estimate from u gives .2304, the other is unbiased.
TEST(step_stats, snr_of_signal_in_noise) {
  constexpr std::size_t element_count = 1 << 16;
  const context_pointer context = make_context({.threads = 0});
  random_source random(45);
  adamw_arrays<float> a(element_count);
  steepest_adamw_config config = make_config();
  config.beta2 = 0.95;
  config.lr = 0;
  steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
  for (std::int64_t step = 1; step <= 150; ++step) {
    config.step = step;
    for (float& g : a.grad) g = static_cast<float>(random.normal() + 0.5);
    ASSERT_OK(run_step(context.get(), config, a, &stats));
  }
  EXPECT_NEAR(stats.snr_update, 0.2304, 0.01);
  EXPECT_NEAR(stats.snr_momentum, 0.25, 0.01);
}

TEST(step_stats, skipped_call) {
  const context_pointer context = make_context();
  random_source random(46);
  adamw_arrays<float> a[3];
  steepest_adamw_tensor tensors[3];
  for (int i = 0; i < 3; ++i) {
    a[i] = random_arrays<float>(random, 100, true);
    tensors[i] = make_tensor(a[i]);
  }
  a[1].grad[7] = NAN;
  a[1].grad[70] = INFINITY;
  const adamw_arrays<float> before[] = {a[0], a[1], a[2]};
  steepest_adamw_config config = make_config();
  std::int32_t skipped = -1, own_skipped = -1;
  config.flags = STEEPEST_ADAMW_SKIP_NONFINITE;
  config.skipped = &skipped;
  steepest_adamw_config own = config;
  own.skipped = &own_skipped;
  tensors[2].config = &own;
  steepest_step_stats stats[3] = {STEEPEST_STEP_STATS_INIT, STEEPEST_STEP_STATS_INIT,
                                  STEEPEST_STEP_STATS_INIT};
  ASSERT_OK(steepest_adamw_step(context.get(), &config, tensors, 3, stats));
  EXPECT_EQ(skipped, 1);
  EXPECT_EQ(own_skipped, 1);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(same_bits(a[i], before[i]));
    EXPECT_EQ(stats[i].status, i == 1 ? STEEPEST_E_NONFINITE : STEEPEST_OK);
    EXPECT_EQ(stats[i].nonfinite, i == 1 ? 2 : 0);
    for (const double value : {stats[i].update_rms, stats[i].grad_rms, stats[i].momentum_rms,
                               stats[i].param_rms, stats[i].snr_update, stats[i].snr_momentum}) {
      EXPECT_TRUE(std::isnan(value));
    }
  }

  // Without the flag on the tensor concerned nothing is scanned, and all take their course.
  steepest_adamw_config plain = make_config();
  tensors[1].config = &plain;
  ASSERT_OK(steepest_adamw_step(context.get(), &config, tensors, 3, stats));
  EXPECT_EQ(skipped, 0);
  EXPECT_EQ(own_skipped, 0);
  EXPECT_TRUE(std::isnan(a[1].param[7]));
  EXPECT_FALSE(same_bits(a[0], before[0]));
  EXPECT_EQ(stats[1].status, STEEPEST_OK);
  EXPECT_EQ(stats[1].nonfinite, 2);
}

}  // namespace
}  // namespace steepest_test
