// SPDX-License-Identifier: Apache-2.0
//
// Schedules against their formulas, their bound against the sums in long double, the two statements
// it rests on, and published figures (https://kexue.fm/archives/11494).
#include <ctime>
#include <numeric>

#include "schedule_support.hpp"

namespace steepest_test {
namespace {

// ------------------------------------------------------------------ rates

TEST(schedule, rates_of_each_kind) {
  const double pi = std::numbers::pi;
  struct row {
    std::int32_t kind;
    double (*rate)(double t, double T, double W);  // for t >= W, lr = 1
  };
  const row rows[] = {
      {STEEPEST_SCHEDULE_CONSTANT, [](double, double, double) { return 1.0; }},
      {STEEPEST_SCHEDULE_LINEAR,
       [](double t, double T, double W) { return 1 - (t - W) / (T - W + 1); }},
      {STEEPEST_SCHEDULE_COSINE,
       [](double t, double T, double W) {
         return 0.5 * (1 + std::cos(std::numbers::pi * (t - W) / (T - W + 1)));
       }},
      {STEEPEST_SCHEDULE_INVERSE_SQRT,
       [](double t, double, double W) { return std::sqrt(std::max(W, 1.0) / t); }},
      {STEEPEST_SCHEDULE_INVERSE, [](double t, double, double W) { return std::max(W, 1.0) / t; }},
  };
  for (const row& r : rows)
    for (const std::int64_t steps : {1, 2, 7, 100})
      for (const std::int64_t warmup : {0, 1, 2, 5, 7, 100}) {
        if (warmup > steps) continue;
        SCOPED_TRACE(testing::Message() << r.kind << " " << steps << " " << warmup);
        steepest_schedule s = make_schedule(r.kind, 0.25);
        s.warmup_steps = warmup;
        const auto lr = filled(s, steps);
        for (std::int64_t t = 1; t <= steps; ++t) {
          const auto x = static_cast<double>(t), T = static_cast<double>(steps),
                     W = static_cast<double>(warmup);
          const double expected = t < warmup ? x / W : r.rate(x, T, W);
          EXPECT_NEAR(lr[static_cast<std::size_t>(t - 1)], 0.25 * expected, 1e-15) << t;
          EXPECT_GT(lr[static_cast<std::size_t>(t - 1)], 0);
        }
      }
  // A half, and one over e of the way down.
  EXPECT_NEAR(filled(make_schedule(STEEPEST_SCHEDULE_COSINE, 3), 99)[49], 1.5, 1e-15);
  EXPECT_NEAR(filled(make_schedule(STEEPEST_SCHEDULE_COSINE, 1), 3)[0],
              0.5 * (1 + std::cos(pi / 4)), 1e-15);
}

TEST(schedule, final_ratio) {
  for (const std::int32_t kind : {STEEPEST_SCHEDULE_LINEAR, STEEPEST_SCHEDULE_COSINE}) {
    steepest_schedule s = make_schedule(kind, 2);
    const auto to_zero = filled(s, 40);
    s.final_ratio = 0.1;
    const auto to_tenth = filled(s, 40);
    for (std::size_t i = 0; i < 40; ++i) EXPECT_NEAR(to_tenth[i], 0.2 + 0.9 * to_zero[i], 1e-15);
    s.final_ratio = 1;
    for (const double rate : filled(s, 40)) EXPECT_EQ(rate, 2);
  }
}

TEST(schedule, warmup_stable_decay) {
  steepest_schedule s = make_schedule(STEEPEST_SCHEDULE_WARMUP_STABLE_DECAY, 1);
  s.warmup_steps = 4;
  s.decay_steps = 4;
  const auto linear = filled(s, 12);
  const double expected[] = {.25, .5, .75, 1, 1, 1, 1, 1, .8, .6, .4, .2};
  for (std::size_t i = 0; i < 12; ++i) EXPECT_NEAR(linear[i], expected[i], 1e-15);
  s.decay_shape = STEEPEST_DECAY_ONE_MINUS_SQRT;
  EXPECT_NEAR(filled(s, 12)[8], 1 - std::sqrt(.2), 1e-15);
  s.decay_shape = STEEPEST_DECAY_COSINE;
  EXPECT_NEAR(filled(s, 12)[11], 0.5 * (1 + std::cos(.8 * std::numbers::pi)), 1e-15);
  s.final_ratio = 0.5;
  s.decay_shape = STEEPEST_DECAY_LINEAR;
  EXPECT_NEAR(filled(s, 12)[11], .6, 1e-15);
  // decay_steps = 0: a fifth, or what warm-up leaves.
  s = make_schedule(STEEPEST_SCHEDULE_WARMUP_STABLE_DECAY, 1);
  EXPECT_EQ(filled(s, 10), (std::vector<double>{1, 1, 1, 1, 1, 1, 1, 1, 1 - 1. / 3, 1 - 2. / 3}));
  s.warmup_steps = 9;
  EXPECT_EQ(filled(s, 10)[8], 1);
  EXPECT_EQ(filled(s, 10)[9], 0.5);
  EXPECT_EQ(filled(make_schedule(STEEPEST_SCHEDULE_WARMUP_STABLE_DECAY, 1), 1)[0], 1);
  // All of it decay: LINEAR.
  s = make_schedule(STEEPEST_SCHEDULE_WARMUP_STABLE_DECAY, 1);
  s.decay_steps = 50;
  EXPECT_EQ(filled(s, 50), filled(make_schedule(STEEPEST_SCHEDULE_LINEAR, 1), 50));
}

TEST(schedule, at_is_fill) {
  for (std::int32_t kind = 0; kind <= STEEPEST_SCHEDULE_WARMUP_STABLE_DECAY; ++kind) {
    steepest_schedule s = make_schedule(kind, 0.3);
    s.warmup_steps = 11;
    const auto lr = filled(s, 60);
    for (std::int64_t t = 1; t <= 60; ++t) {
      double rate = -7;
      EXPECT_OK(steepest_schedule_at(&s, 60, t, &rate));
      EXPECT_EQ(rate, lr[static_cast<std::size_t>(t - 1)]);
    }
  }
}

TEST(schedule, writes_only_its_array) {
  guarded<double> lr(std::vector<double>(37, -7));
  const steepest_schedule s = make_schedule(STEEPEST_SCHEDULE_COSINE, 1);
  EXPECT_OK(steepest_schedule_fill(&s, 37, lr.data()));
  EXPECT_TRUE(lr.intact());
  EXPECT_OK(steepest_schedule_optimal(37, 1, 1, nullptr, lr.data(), nullptr));
  EXPECT_TRUE(lr.intact());
  const std::vector<double> norms(37, 2);
  EXPECT_OK(steepest_schedule_refine(norms.data(), 37, STEEPEST_REFINE_SGD, 0.1, 0, lr.data()));
  EXPECT_TRUE(lr.intact());
}

// ------------------------------------------------------------------ the bound

TEST(schedule_bound, follows_the_formula) {
  random_source random(801);
  for (int round = 0; round < 300; ++round) {
    const auto steps = static_cast<std::size_t>(1 + random.below(round < 100 ? 5 : 400));
    std::vector<double> lr(steps), norms(steps);
    for (double& x : lr) x = random.below(4) == 0 ? 0 : random.wide<double>(-30, 3);
    for (double& x : lr) x = std::fabs(x);
    for (double& x : norms) x = random.uniform() * 3;
    lr.back() = random.uniform() + 1e-3;
    const double distance = random.uniform() * 5;
    const double expected = static_cast<double>(exact_bound(lr, distance, norms));
    EXPECT_NEAR(bound_of(lr, distance, -1, &norms), expected, 4e-16 * expected);
    const std::vector<double> same(steps, 1.5);
    EXPECT_EQ(bound_of(lr, distance, 1.5), bound_of(lr, distance, -1, &same));
  }
}

TEST(schedule_bound, by_hand) {
  // One point and no step: D^2 / (2 eta) + G^2 eta / 2.
  EXPECT_EQ(bound_of({0.5}, 3, 2), 9 + 1);
  // 1 / (2 * 3) + (1 / 2 + 4 / 2) / 2.
  EXPECT_NEAR(bound_of({1, 2}, 1, 1), 1. / 6 + (0.5 + 2) / 2, 1e-15);
  EXPECT_EQ(bound_of({1, 0, 1}, 0, 0), 0);
}

// The weighted identity: with w = eta and q_t = E L(theta_t) - L*,
//   q_T = (1/w_1:T) sum w_t q_t + sum_{k<T} (1/w_k+1:T - 1/w_k:T) sum_{t>=k} w_t (q_t - q_k).
TEST(schedule_bound, weighted_identity) {
  random_source random(802);
  for (int round = 0; round < 100; ++round) {
    const auto steps = static_cast<std::size_t>(1 + random.below(30));
    std::vector<long double> w(steps), q(steps), tail(steps + 1, 0);
    for (auto& x : w) x = 0.01L + random.uniform();
    for (auto& x : q) x = random.normal();
    for (std::size_t t = steps; t-- > 0;) tail[t] = tail[t + 1] + w[t];
    long double sum = 0;
    for (std::size_t t = 0; t < steps; ++t) sum += w[t] * q[t] / tail[0];
    for (std::size_t k = 0; k + 1 < steps; ++k) {
      long double inner = 0;
      for (std::size_t t = k; t < steps; ++t) inner += w[t] * (q[t] - q[k]);
      sum += (1 / tail[k + 1] - 1 / tail[k]) * inner;
    }
    EXPECT_NEAR(static_cast<double>(sum - q.back()), 0, 1e-15L * static_cast<double>(steps * 30));
  }
}

// ... into which sum_{t>=k} eta_t (q_t - q_k) <= 1/2 sum_{t>=k} G_t^2 eta_t^2 and (for the first
// term) D^2 / 2 more are put. The library's bound is what comes out.
TEST(schedule_bound, is_what_the_identity_gives) {
  random_source random(803);
  for (int round = 0; round < 100; ++round) {
    const auto steps = static_cast<std::size_t>(1 + random.below(40));
    std::vector<double> lr(steps), norms(steps);
    for (double& x : lr) x = 0.01 + random.uniform();
    for (double& x : norms) x = 0.1 + random.uniform();
    const double distance = random.uniform();
    std::vector<long double> tail(steps + 1, 0), noise(steps + 1, 0);
    for (std::size_t t = steps; t-- > 0;) {
      tail[t] = tail[t + 1] + lr[t];
      noise[t] = noise[t + 1] + 0.5L * norms[t] * norms[t] * lr[t] * lr[t];
    }
    long double sum = (0.5L * distance * distance + noise[0]) / tail[0];
    for (std::size_t k = 0; k + 1 < steps; ++k) sum += (1 / tail[k + 1] - 1 / tail[k]) * noise[k];
    EXPECT_NEAR(bound_of(lr, distance, -1, &norms), static_cast<double>(sum), 1e-14);
  }
}

// L = p |theta| with gradients +-1 of mean p sign(theta), all 2^(T-1) paths: the second statement
// for every k, and the bound, hold for any schedule.
TEST(schedule_bound, holds_for_sgd) {
  random_source random(804);
  constexpr std::size_t steps = 9;
  double closest = 0;
  for (int round = 0; round < 60; ++round) {
    std::vector<double> lr(steps);
    for (double& x : lr) x = 0.02 + random.uniform() * (round % 2 == 0 ? 1 : 0.2);
    const double slope = round % 3 == 0 ? 1 : random.uniform();
    const double start = random.uniform() * 2;
    std::vector<double> loss(steps, 0);  // E L(theta_t)
    for (unsigned path = 0; path < 1U << (steps - 1); ++path) {
      double theta = start, chance = 1;
      for (std::size_t t = 0; t < steps; ++t) {
        // The loss of this prefix, shared among the paths that begin with it.
        loss[t] +=
            chance * slope * std::fabs(theta) / std::ldexp(1, static_cast<int>(steps - 1 - t));
        if (t + 1 == steps) break;
        const double side = theta >= 0 ? 1 : -1;
        const bool with = (path >> t & 1) == 0;
        chance *= (1 + (with ? slope : -slope)) / 2;
        theta -= lr[t] * (with ? side : -side);
      }
    }
    for (std::size_t k = 0; k < steps; ++k) {
      double left = 0, right = 0;
      for (std::size_t t = k; t < steps; ++t) {
        left += lr[t] * (loss[t] - loss[k]);
        right += lr[t] * lr[t] / 2;
      }
      EXPECT_LE(left, right + 1e-12);
    }
    const double bound = bound_of(lr, start, 1);
    EXPECT_LE(loss.back(), bound + 1e-12);
    closest = std::max(closest, loss.back() / bound);
  }
  EXPECT_GT(closest, 0.2);  // the test is not an empty one
}

TEST(schedule_bound, published_values) {
  struct row {
    const char* name;
    std::vector<double> (*rates)(std::int64_t steps);
    double at_10, at_100, at_1000;
  };
  const row rows[] = {
      {"linear",
       [](std::int64_t T) { return filled(make_schedule(STEEPEST_SCHEDULE_LINEAR, 1), T); }, .66957,
       .20361, .06343},
      {"constant",
       [](std::int64_t T) { return filled(make_schedule(STEEPEST_SCHEDULE_CONSTANT, 1), T); },
       .61879, .24854, .09211},
      {"inverse sqrt",
       [](std::int64_t T) { return filled(make_schedule(STEEPEST_SCHEDULE_INVERSE_SQRT, 1), T); },
       .60996, .22531, .08128},
      {"cosine",
       [](std::int64_t T) { return filled(make_schedule(STEEPEST_SCHEDULE_COSINE, 1), T); }, .73918,
       .20916, .06524}};
  for (const row& r : rows) {
    EXPECT_NEAR(best_scaled(r.rates(10)), r.at_10, 0.51e-5) << r.name;
    EXPECT_NEAR(best_scaled(r.rates(100)), r.at_100, 0.51e-5) << r.name;
    EXPECT_NEAR(best_scaled(r.rates(1000)), r.at_1000, 0.51e-5) << r.name;
  }
  const auto closed_form = [](std::int64_t T) {
    return bound_of(
        filled(make_schedule(STEEPEST_SCHEDULE_LINEAR, 1 / std::sqrt(2 * static_cast<double>(T))),
               T),
        1, 1);
  };
  EXPECT_NEAR(closed_form(10), .69784, 0.51e-5);
  EXPECT_NEAR(closed_form(100), .21471, 0.51e-5);
  EXPECT_NEAR(closed_form(1000), .06722, 0.51e-5);
  // Below the closed form 2 sqrt(2) / sqrt(T) that it was chosen for.
  for (const std::int64_t T : {10, 100, 1000})
    EXPECT_LT(closed_form(T), 2 * std::sqrt(2 / static_cast<double>(T)));
}

TEST(schedule_bound, ten_million_steps) {
  constexpr std::int64_t T = 10'000'000;
  auto lr = filled(make_schedule(STEEPEST_SCHEDULE_LINEAR, 1 / std::sqrt(1e7)), T);
  const std::clock_t start = std::clock();
  const double bound = bound_of(lr, 1, 1);
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  const double exact = static_cast<double>(exact_bound(lr, 1, std::vector<double>(T, 1)));
  EXPECT_NEAR(bound, exact, 1e-15 * exact);
  RecordProperty("seconds", std::to_string(seconds));
  EXPECT_LT(seconds, 5);  // of CPU time: 0.03 s; sanitizers and emulation are allowed for
  // A tail of tiny rates, which a plain running sum would lose against the large ones.
  for (std::size_t i = lr.size() / 2; i < lr.size(); ++i) lr[i] = 1e-17;
  const double tiny = static_cast<double>(exact_bound(lr, 1, std::vector<double>(T, 1)));
  EXPECT_NEAR(bound_of(lr, 1, 1), tiny, 1e-15 * tiny);
}

}  // namespace
}  // namespace steepest_test
