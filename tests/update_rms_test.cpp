// SPDX-License-Identifier: Apache-2.0
//
// The second-order form of Adam's update RMS against the exact value for normal gradients, an
// integral, and against the library's own AdamW on random gradients.
#include "adamw_support.hpp"

namespace steepest_test {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
const double not_a_number = std::numeric_limits<double>::quiet_NaN();

// sqrt(E u^2) for independent normal gradients of mean sqrt(snr) and deviation 1, with
// 1 / v = integral of exp(-s v) ds: under the weight exp(-s b g^2) a normal g stays normal.
// step = 0: so many steps that nothing changes any more.
double exact_rms(double beta1, double beta2, double snr, std::int64_t step) {
  const auto count = static_cast<std::size_t>(
      step != 0 ? step : 2 + static_cast<std::int64_t>(40 / (1 - std::max(beta1, beta2))));
  std::vector<double> a(count), b(count);
  const double n = static_cast<double>(count);
  for (std::size_t i = 0; i < count; ++i) {
    const double age = static_cast<double>(i);
    a[i] = (1 - beta1) * std::pow(beta1, age) / (1 - std::pow(beta1, n));
    b[i] = (1 - beta2) * std::pow(beta2, age) / (1 - std::pow(beta2, n));
  }
  const auto integrand = [&](double s) {
    double log_weight = 0, mean = 0, variance = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const double widening = 1 + 2 * s * b[i];
      log_weight -= std::log1p(2 * s * b[i]) / 2 + s * b[i] * snr / widening;
      mean += a[i] * std::sqrt(snr) / widening;
      variance += a[i] * a[i] / widening;
    }
    return std::exp(log_weight) * (mean * mean + variance);
  };
  // In log s, where the trapezoidal rule converges faster than any power.
  double sum = 0;
  const double h = 0.125;
  for (double x = -40; x < 80; x += h) {
    const double s = std::exp(x);
    const double value = integrand(s) * s;
    sum += value;
    if (x > 5 && value < 1e-16 * sum) break;
  }
  return std::sqrt(sum * h);
}

double second_order(double beta1, double beta2, double snr = 0, double kurtosis = 3,
                    std::int64_t step = 0) {
  double rms = -7;
  EXPECT_OK(steepest_adam_update_rms_second_order(beta1, beta2, snr, kurtosis, step, &rms));
  return rms;
}

double mean_field(double beta1, double snr, std::int64_t step) {
  double rms = -7;
  EXPECT_OK(steepest_adam_update_rms(beta1, snr, step, &rms));
  return rms;
}

TEST(second_order, steady_state) {
  struct row {
    double beta1, beta2, exact;
  };
  const row rows[] = {{.5, .95, .5649},  {.7, .95, .4115}, {.9, .95, .2261},
                      {.95, .95, .1588}, {.9, .5, .2698},  {.9, .7, .2390},
                      {.9, .9, .2257},   {.9, .99, .2284}, {.9, .999, .2293}};
  for (const row& r : rows) {
    SCOPED_TRACE(testing::Message() << r.beta1 << " " << r.beta2);
    const double exact = exact_rms(r.beta1, r.beta2, 0, 0);
    EXPECT_NEAR(exact, r.exact, 0.51e-4);
    if (r.beta2 >= 0.9) {
      EXPECT_NEAR(second_order(r.beta1, r.beta2), exact, 0.005 * exact);
    }
  }
  EXPECT_NEAR(second_order(.9, .95), .2258, 0.5e-4);
  EXPECT_NEAR(second_order(.9, .95, 0, 6), .2203, 0.5e-4);
}

TEST(second_order, at_each_step) {
  struct row {
    std::int64_t step;
    double exact;
  };
  for (const row& r : {row{1, 1}, row{2, .7077}, row{5, .4511}, row{10, .3284}, row{20, .2568},
                       row{50, .2274}, row{100, .2261}}) {
    SCOPED_TRACE(r.step);
    const double exact = exact_rms(.9, .95, 0, r.step);
    EXPECT_NEAR(exact, r.exact, 0.51e-4);
    const double ours = second_order(.9, .95, 0, 3, r.step);
    EXPECT_NEAR(ours, exact, 0.0015 * exact);
    if (r.step > 5) {
      EXPECT_LT(std::fabs(ours - exact), std::fabs(mean_field(.9, 0, r.step) - exact));
    }
  }
}

TEST(second_order, with_a_mean) {
  for (const double snr : {0.01, 0.09, 0.25, 1.0, 4.0, 30.0})
    for (const double beta1 : {0.5, 0.9, 0.95})
      for (const double beta2 : {0.9, 0.95, 0.99})
        for (const std::int64_t step : {0, 12, 40}) {
          SCOPED_TRACE(testing::Message() << snr << " " << beta1 << " " << beta2 << " " << step);
          const double exact = exact_rms(beta1, beta2, snr, step);
          const double ours = second_order(beta1, beta2, snr, 3, step);
          EXPECT_NEAR(ours, exact, 0.0125 * exact);
          // What is left is of the next order.
          if (step == 0 && beta2 == 0.99) {
            EXPECT_NEAR(ours, exact, 3e-4 * exact);
          }
        }
}

// The formula as the header has it, in long double with sums over the steps.
TEST(second_order, follows_the_formula) {
  for (const double beta1 : {0.0, 0.4, 0.9})
    for (const double beta2 : {0.0, 0.9, 0.999})
      for (const double snr : {0.0, 0.3, 7.0})
        for (const double kurtosis : {1.0, 2.0, 3.0})
          for (const std::int64_t step : {0, 1, 2, 7, 40}) {
            const std::int64_t count = step != 0 ? step : 60000;
            long double a1 = 0, b1 = 0, aa = 0, bb = 0, ab = 0, aab = 0, x = 1, y = 1;
            for (std::int64_t i = 0; i < count; ++i, x *= beta1, y *= beta2) {
              a1 += x;
              b1 += y;
              aa += x * x;
              bb += y * y;
              ab += x * y;
              aab += x * x * y;
            }
            const long double A = aa / (a1 * a1), B = bb / (b1 * b1);
            const long double C = ab / (a1 * b1), C2 = aab / (a1 * a1 * b1);
            const long double r = snr, k = kurtosis, square = (r + 1) * (r + 1);
            const long double u = (r + A) / (r + 1) * (1 + B * (4 * r + k - 1) / square) -
                                  (4 * r * C + (k - 1) * C2) / square;
            SCOPED_TRACE(testing::Message()
                         << beta1 << " " << beta2 << " " << snr << " " << kurtosis << " " << step);
            if (u <= 0) continue;
            EXPECT_NEAR(second_order(beta1, beta2, snr, kurtosis, step),
                        static_cast<double>(std::sqrt(u)), 1e-12);
          }
}

TEST(second_order, limits) {
  EXPECT_EQ(second_order(.9, .95, infinity), 1);
  EXPECT_EQ(second_order(.9, .95, 0, 3, 1), 1);
  EXPECT_EQ(second_order(.9, .95, 0, 3, INT64_MAX), second_order(.9, .95));
  // Without noise in g^2 (gradients +-1) it is the mean field, for which v is a constant.
  EXPECT_NEAR(second_order(.9, .95, 0, 1), mean_field(.9, 0, 0), 1e-15);
  EXPECT_NEAR(second_order(.9, 1 - 1e-12, 0, 3), mean_field(.9, 0, 0), 1e-11);
}

// Update RMS of the library's AdamW, lr = 0, the mean of its square over the last steps.
template <class Draw>
double simulated(double beta1, double beta2, std::int64_t steps, std::int64_t last, Draw draw) {
  adamw_arrays<float> a(1 << 16);
  steepest_adamw_config config = make_config();
  config.lr = 0;
  config.beta1 = beta1;
  config.beta2 = beta2;
  config.eps = 0;
  double sum = 0;
  for (config.step = 1; config.step <= steps; ++config.step) {
    for (float& g : a.grad) g = static_cast<float>(draw());
    const steepest_adamw_tensor tensor = make_tensor(a);
    steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
    EXPECT_OK(steepest_adamw_step(nullptr, &config, &tensor, 1, &stats));
    if (config.step > steps - last) sum += stats.update_rms * stats.update_rms;
  }
  return std::sqrt(sum / static_cast<double>(last));
}

TEST(second_order, simulated_with_normal_gradients) {
  random_source random(771);
  const auto normal = [&] { return random.normal(); };
  EXPECT_NEAR(simulated(.9, .95, 10, 1, normal), second_order(.9, .95, 0, 3, 10), 0.002);
  EXPECT_NEAR(simulated(.9, .95, 160, 60, normal), .2261, 0.0012);
  EXPECT_NEAR(simulated(.9, .95, 160, 60, [&] { return 0.5 + random.normal(); }),
              exact_rms(.9, .95, .25, 0), 0.0025);
}

// Laplace: kurtosis 6. Heavier tails than normal ones lower the RMS.
TEST(second_order, simulated_with_heavy_tails) {
  random_source random(772);
  const double rms = simulated(.9, .95, 160, 60, [&] {
    return std::log(1 - random.uniform()) - std::log(1 - random.uniform());
  });
  EXPECT_NEAR(rms, .2227, 0.001);
  EXPECT_NEAR(rms, second_order(.9, .95, 0, 6), 0.02 * rms);
  EXPECT_LT(rms, .2258 - 0.001);
}

TEST(second_order, bad_input) {
  double out = -7;
  const auto refused = [&](double beta1, double beta2, double snr, double kurtosis,
                           std::int64_t step, double* to, const std::string& name) {
    EXPECT_EQ(steepest_adam_update_rms_second_order(beta1, beta2, snr, kurtosis, step, to),
              STEEPEST_E_INVALID_ARGUMENT);
    EXPECT_EQ(std::string(steepest_last_error())
                  .rfind("adam_update_rms_second_order: " + name + " is ", 0),
              0)
        << steepest_last_error();
    EXPECT_EQ(out, -7);
  };
  for (const double bad : {1.0, -1e-9, 2.0, infinity, not_a_number}) {
    refused(bad, .95, 0, 3, 0, &out, "beta1");
    refused(.9, bad, 0, 3, 0, &out, "beta2");
  }
  for (const double bad : {-1e-9, -infinity, not_a_number})
    refused(.9, .95, bad, 3, 0, &out, "snr");
  for (const double bad : {0.999, -3.0, infinity, not_a_number})
    refused(.9, .95, 0, bad, 0, &out, "kurtosis");
  refused(.9, .95, 0, 100, 0, &out, "kurtosis");  // beyond where the expansion is positive
  refused(.9, .95, 0, 3, -1, &out, "step");
  refused(.9, .95, 0, 3, 0, nullptr, "rms");
}

}  // namespace
}  // namespace steepest_test
