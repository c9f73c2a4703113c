// SPDX-License-Identifier: Apache-2.0
//
// The best schedule against a search, and refined schedules against their formula with a median
// that sorts.
#include "schedule_support.hpp"

namespace steepest_test {
namespace {

struct best {
  std::vector<double> lr;
  double bound = -7;
};

best optimal(std::int64_t steps, double distance, double norm,
             const std::vector<double>* norms = nullptr) {
  best b{std::vector<double>(static_cast<std::size_t>(steps), -7)};
  EXPECT_OK(steepest_schedule_optimal(
      steps, distance, norm, norms != nullptr ? norms->data() : nullptr, b.lr.data(), &b.bound));
  return b;
}

TEST(schedule_optimal, published_values) {
  EXPECT_NEAR(optimal(10, 1, 1).bound, .57801, 0.51e-5);
  EXPECT_NEAR(optimal(100, 1, 1).bound, .20011, 0.51e-5);
  EXPECT_NEAR(optimal(1000, 1, 1).bound, .06332, 0.51e-5);
  for (const std::int64_t T : {10, 100, 1000}) {
    const best b = optimal(T, 1, 1);
    const std::size_t last = b.lr.size() - 1;
    EXPECT_NEAR(b.lr[last] / b.lr[last - 1], 1 + std::sqrt(2.0), 1e-12) << "the up-tick";
    for (std::size_t i = 1; i < last; ++i) EXPECT_LT(b.lr[i], b.lr[i - 1]);
  }
  EXPECT_EQ(optimal(1, 3, 2).lr[0], 1.5);
  EXPECT_EQ(optimal(1, 3, 2).bound, 6);
}

TEST(schedule_optimal, its_bound_is_the_schedules) {
  random_source random(811);
  for (int round = 0; round < 200; ++round) {
    const std::int64_t T = 1 + random.below(round < 100 ? 8 : 3000);
    std::vector<double> norms(static_cast<std::size_t>(T));
    const int range = round % 3 == 0 ? 12 : 2;
    for (double& g : norms) g = std::fabs(random.wide<double>(-range, range));
    const double distance = std::exp(random.normal());
    const best b = optimal(T, distance, -1, &norms);
    EXPECT_NEAR(bound_of(b.lr, distance, -1, &norms), b.bound, 1e-13 * b.bound);
    for (const double rate : b.lr) EXPECT_GT(rate, 0);
    // Twice the distance, or half the gradients, in any units.
    EXPECT_NEAR(optimal(T, 2 * distance, -1, &norms).bound, 2 * b.bound, 1e-14 * b.bound);
    for (double& g : norms) g *= 0x1p-600;
    EXPECT_NEAR(std::ldexp(optimal(T, distance, -1, &norms).bound, 600), b.bound, 1e-14 * b.bound);
  }
}

// Pattern search over the logarithms of the rates: it knows nothing of tail sums.
double searched(const std::vector<double>& norms, double distance, std::vector<double>& lr) {
  const auto value = [&] { return bound_of(lr, distance, -1, &norms); };
  double least = value();
  for (double step = 0.5; step > 1e-7;) {
    bool better = false;
    for (double& rate : lr)
      for (const double factor : {1 + step, 1 / (1 + step)}) {
        const double before = rate;
        rate *= factor;
        const double now = value();
        if (now < least) {
          least = now;
          better = true;
        } else {
          rate = before;
        }
      }
    if (!better) step /= 2;
  }
  return least;
}

TEST(schedule_optimal, no_search_finds_a_better_one) {
  random_source random(812);
  for (std::size_t T = 1; T <= 6; ++T)
    for (int round = 0; round < 4; ++round) {
      std::vector<double> norms(T, 1), lr(T);
      if (round > 0)
        for (double& g : norms) g = std::exp(random.normal());
      for (double& rate : lr) rate = 0.1 + random.uniform();
      const best b = optimal(static_cast<std::int64_t>(T), 1.7, -1, &norms);
      const double least = searched(norms, 1.7, lr);
      EXPECT_GE(least, b.bound * (1 - 1e-14)) << T;
      EXPECT_LE(least, b.bound * (1 + 1e-8)) << T;
      for (std::size_t i = 0; i < T; ++i) EXPECT_NEAR(lr[i], b.lr[i], 2e-3 * b.lr[i]) << T;
    }
}

TEST(schedule_optimal, no_neighbour_is_better) {
  random_source random(813);
  std::vector<double> norms(200);
  for (double& g : norms) g = std::exp(random.normal());
  const best b = optimal(200, 1, -1, &norms);
  for (int round = 0; round < 2000; ++round) {
    auto lr = b.lr;
    const double size = std::exp(-random.uniform() * 8);
    for (double& rate : lr) rate *= std::exp(size * random.normal());
    EXPECT_GE(bound_of(lr, 1, -1, &norms), b.bound);
  }
}

TEST(schedule_optimal, of_large_problems) {
  // 2 / sqrt(T) in the limit: the recursion is a' = -a^2 / 4.
  const best b = optimal(1'000'000, 1, 1);
  EXPECT_NEAR(b.bound * 1e3, 2, 1e-5);
  EXPECT_NEAR(bound_of(b.lr, 1, 1), b.bound, 1e-12 * b.bound);
}

TEST(schedule_optimal, beyond_the_range_of_a_double) {
  std::vector<double> lr(3, -7);
  double bound = -7;
  for (const std::vector<double>& norms :
       {std::vector<double>{1, 1e-300, 1}, std::vector<double>{1e-170, 1, 1}}) {
    EXPECT_EQ(steepest_schedule_optimal(3, 1, 1, norms.data(), lr.data(), &bound),
              STEEPEST_E_INVALID_ARGUMENT);
    EXPECT_EQ(std::string(steepest_last_error()).rfind("schedule_optimal: grad_norms", 0), 0)
        << steepest_last_error();
  }
  EXPECT_EQ(steepest_schedule_optimal(3, 1e200, 1e200, nullptr, lr.data(), &bound),
            STEEPEST_E_INVALID_ARGUMENT);
  EXPECT_EQ(lr, std::vector<double>(3, -7));
  EXPECT_EQ(bound, -7);
}

// ------------------------------------------------------------------ refinement

std::vector<double> refined(const std::vector<double>& norms, std::int32_t kind, double smoothing,
                            double distance = 0) {
  std::vector<double> lr(norms.size(), -7);
  EXPECT_OK(steepest_schedule_refine(norms.data(), static_cast<std::int64_t>(norms.size()), kind,
                                     smoothing, distance, lr.data()));
  return lr;
}

std::vector<double> by_formula(const std::vector<double>& norms, std::int32_t kind,
                               double smoothing, double distance) {
  const auto T = static_cast<std::int64_t>(norms.size());
  const auto half = static_cast<std::int64_t>(std::floor(smoothing * static_cast<double>(T) / 2));
  std::vector<long double> w(norms.size());
  for (std::int64_t t = 0; t < T; ++t) {
    std::vector<double> window;
    for (std::int64_t i = t - half; i <= t + half; ++i)
      window.push_back(norms[static_cast<std::size_t>(i < 0 ? 0 : i < T ? i : 2 * (T - 1) - i)]);
    std::sort(window.begin(), window.end());
    const long double g = window[static_cast<std::size_t>(half)];
    w[static_cast<std::size_t>(t)] = kind == STEEPEST_REFINE_SGD ? 1 / (g * g) : 1 / g;
  }
  long double total = 0, largest = 0;
  std::vector<long double> rates(norms.size());
  for (std::size_t t = norms.size(); t-- > 0;) {
    rates[t] = w[t] * total;
    total += w[t];
    largest = std::max(largest, rates[t]);
  }
  std::vector<double> lr(norms.size());
  for (std::size_t t = 0; t < lr.size(); ++t)
    lr[t] = static_cast<double>(distance > 0  ? rates[t] * distance / std::pow(total, 1.5L)
                                : largest > 0 ? rates[t] / largest
                                              : 0);
  return lr;
}

TEST(schedule_refine, follows_the_formula) {
  random_source random(821);
  for (const std::size_t T : {1, 2, 3, 10, 19, 20, 21, 64, 137, 1000})
    for (const double smoothing : {0.0, 0.1, 0.3, 1.0})
      for (const double distance : {0.0, 2.5})
        for (const std::int32_t kind : {STEEPEST_REFINE_SGD, STEEPEST_REFINE_ADAM}) {
          if (distance > 0 && kind == STEEPEST_REFINE_ADAM) continue;
          SCOPED_TRACE(testing::Message() << T << " " << smoothing << " " << kind);
          std::vector<double> norms(T);
          for (double& g : norms)  // with ties
            g = random.below(3) == 0 ? 0.5 : std::exp(random.normal());
          const auto got = refined(norms, kind, smoothing, distance);
          const auto expected = by_formula(norms, kind, smoothing, distance);
          for (std::size_t t = 0; t < T; ++t)
            EXPECT_NEAR(got[t], expected[t], 1e-14 * (expected[t] + 1e-3)) << t;
          EXPECT_EQ(got.back(), 0);
        }
}

TEST(schedule_refine, constant_norms_give_linear_decay) {
  const auto lr = refined(std::vector<double>(11, 4), STEEPEST_REFINE_SGD, 0.1, 3);
  for (std::size_t i = 0; i < 11; ++i)  // D / (G sqrt T) (1 - t / T)
    EXPECT_NEAR(lr[i], 3 / (4 * std::sqrt(11.0)) * (1 - static_cast<double>(i + 1) / 11), 1e-15);
  const auto unit = refined(std::vector<double>(11, 4), STEEPEST_REFINE_ADAM, 0.1);
  for (std::size_t i = 0; i < 11; ++i) EXPECT_NEAR(unit[i], 1 - static_cast<double>(i) / 10, 1e-15);
}

TEST(schedule_refine, in_any_units) {
  random_source random(822);
  std::vector<double> norms(50);
  for (double& g : norms) g = std::exp(random.normal());
  const auto before = refined(norms, STEEPEST_REFINE_SGD, 0.1);
  const auto scaled = refined(norms, STEEPEST_REFINE_SGD, 0.1, 1);
  for (double& g : norms) g *= 0x1p-700;
  EXPECT_EQ(refined(norms, STEEPEST_REFINE_SGD, 0.1), before);
  const auto larger = refined(norms, STEEPEST_REFINE_SGD, 0.1, 1);
  for (std::size_t i = 0; i < 50; ++i) EXPECT_EQ(larger[i], std::ldexp(scaled[i], 700));
  std::vector<double> lr(50, -7);
  for (double& g : norms) g *= 0x1p-300;  // 1 / G would be beyond a double's range
  EXPECT_EQ(steepest_schedule_refine(norms.data(), 50, STEEPEST_REFINE_SGD, 0.1, 1e10, lr.data()),
            STEEPEST_E_INVALID_ARGUMENT);
  EXPECT_EQ(std::string(steepest_last_error()).rfind("schedule_refine: grad_norms", 0), 0);
  EXPECT_EQ(lr, std::vector<double>(50, -7));
}

// Larger gradients at the beginning and smaller ones at the end: warm-up and decay by themselves,
// and a better bound than linear decay's for these norms.
TEST(schedule_refine, improves_the_bound) {
  std::vector<double> norms(400);
  for (std::size_t i = 0; i < norms.size(); ++i)
    norms[i] = 1 + 9 * std::exp(-static_cast<double>(i) / 20);
  auto lr = refined(norms, STEEPEST_REFINE_SGD, 0, 1);
  EXPECT_LT(lr[0], 0.05 * lr[100]);
  lr.back() = lr[lr.size() - 2];  // moves nothing; the bound needs it positive
  const auto best_of = [&](const std::vector<double>& rates) {
    return 2 * std::sqrt(bound_of(rates, 1, 0) * bound_of(rates, 0, -1, &norms));
  };
  const double linear = best_of(filled(make_schedule(STEEPEST_SCHEDULE_LINEAR, 1), 400));
  const double least = optimal(400, 1, -1, &norms).bound;
  EXPECT_LT(bound_of(lr, 1, -1, &norms), 0.95 * linear);
  EXPECT_LT(least, bound_of(lr, 1, -1, &norms));
}

}  // namespace
}  // namespace steepest_test
