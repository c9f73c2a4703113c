// SPDX-License-Identifier: Apache-2.0
//
// What narrow storage is for, over many steps: stochastic rounding without bias or pattern, second
// moments that settle where they should, masters that keep every bit, 8-bit moments near f32 ones.
#include "narrow_support.hpp"

namespace steepest_test {
namespace {

constexpr std::uint64_t by_chance = STEEPEST_ADAMW_STOCHASTIC_ROUNDING;

void step(const steepest_adamw_config& config, narrow_arrays& a, std::uint64_t stream = 5) {
  static const context_pointer context = make_context();
  steepest_adamw_tensor x = a.tensor();
  x.random_stream = stream;
  ASSERT_OK(steepest_adamw_step(context.get(), &config, &x, 1, nullptr));
}

// Everything in bf16 at values between two of its numbers, or moments in 8 bits below their
// block's largest, element 0: the mean over many elements and steps against the f32 step's value.
TEST(adamw_rounding, unbiased_to_five_sigma) {
  constexpr std::size_t count = 16384;
  constexpr int rounds = 12;
  const steepest_dtype types[] = {STEEPEST_BF16, STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED};
  for (const steepest_dtype moment : types) {
    storage k = {STEEPEST_BF16, STEEPEST_F32, STEEPEST_RESIDUAL_NONE, moment, moment};
    for (int round = 0; round < rounds; ++round) {
      adamw_arrays<float> a(count);
      const float fraction = 0.1F + 0.07F * static_cast<float>(round);
      for (std::size_t i = 0; i < count; ++i) {
        a.param[i] = round % 2 == 0 ? 1.0F : -1.5F;
        a.grad[i] = i % 32 == 0 ? 2.0F : fraction * (round % 3 == 0 ? -1.0F : 1.0F);
      }
      narrow_arrays narrow(k, a);
      steepest_adamw_config config = make_config();
      config.lr = 7e-4 + 3e-4 * round;
      config.seed = static_cast<std::uint64_t>(round);
      config.step = 3 + round;
      adamw_arrays<float> wide = narrow.widened();
      ASSERT_OK(run_step(nullptr, config, wide));
      config.flags = by_chance;
      step(config, narrow);
      const adamw_arrays<float> got = narrow.widened();
      const auto check = [&](const char* what, const std::vector<float>& narrowed,
                             const std::vector<float>& exact) {
        double low = INFINITY, high = -INFINITY, sum = 0;
        std::size_t n = 0;
        for (std::size_t i = 0; i < count; ++i) {
          if (i % 32 == 0) continue;
          const auto x = static_cast<double>(narrowed[i]);
          low = std::min(low, x);
          high = std::max(high, x);
          sum += x;
          ++n;
        }
        const auto value = static_cast<double>(exact[1]);
        // Two neighbours around the value, or the value itself.
        EXPECT_LE(low, value + 1e-6 * std::abs(value));
        EXPECT_GE(high, value - 1e-6 * std::abs(value));
        const double gap = high - low;
        EXPECT_LE(gap, std::abs(value) * 0.25) << what;
        const double p = gap > 0 ? (value - low) / gap : 0;
        const double sigma = gap * std::sqrt(std::max(0.0, p * (1 - p)) / static_cast<double>(n));
        EXPECT_LE(std::abs(sum / static_cast<double>(n) - value),
                  5 * sigma + 2e-6 * std::abs(value))
            << what << " type " << moment << " round " << round << " p " << p;
      };
      check("param", got.param, wide.param);
      check("exp_avg", got.exp_avg, wide.exp_avg);
      check("exp_avg_sq", got.exp_avg_sq, wide.exp_avg_sq);
    }
  }
}

// +1 where a value half way between two numbers went up: between neighbours, steps, streams, seeds
// and the three uses, a correlation of less than 5 sigma.
TEST(adamw_rounding, no_pattern) {
  constexpr std::size_t count = 1 << 16;
  using signs = std::vector<int>;
  struct outcome {
    signs param, exp_avg, exp_avg_sq;
  };
  const auto round = [&](std::int64_t number, std::uint64_t seed, std::uint64_t stream) {
    storage k = {STEEPEST_BF16, STEEPEST_F32, STEEPEST_RESIDUAL_NONE, STEEPEST_BF16, STEEPEST_BF16};
    adamw_arrays<float> a(count);
    for (std::size_t i = 0; i < count; ++i) {
      a.param[i] = 1.0F;
      a.grad[i] = 0.5F;
      a.exp_avg[i] = a.exp_avg_sq[i] = 1.0F;
    }
    narrow_arrays narrow(k, a);
    steepest_adamw_config config = make_config();
    // m = 0.5 + 0.5 x 2^-7 + ..., v the same, from beta 1 - 2^-9 and 1 - 2^-9 / 1.5.
    config.beta1 = 1 - 0x1p-8;
    config.beta2 = 1 - 0x1p-9 / 0.75;
    config.eps = 0;
    config.weight_decay = 0;
    config.step = number;
    config.seed = seed;
    config.flags = by_chance;
    adamw_arrays<float> wide = narrow.widened();
    steepest_adamw_config plain = config;
    plain.flags = 0;
    // lr so that the update is half an ulp below 1: found from one step at lr = 1.
    plain.lr = 1;
    EXPECT_OK(run_step(nullptr, plain, wide));
    config.lr = 0x1p-9 / (1.0 - static_cast<double>(wide.param[0]));
    step(config, narrow, stream);
    const auto signs_of = [&](const std::vector<float>& values) {
      const float most = *std::max_element(values.begin(), values.end());
      signs out(count);
      for (std::size_t i = 0; i < count; ++i) out[i] = values[i] == most ? 1 : -1;
      return out;
    };
    const adamw_arrays<float> got = narrow.widened();
    return outcome{signs_of(got.param), signs_of(got.exp_avg), signs_of(got.exp_avg_sq)};
  };
  const auto correlation = [&](const signs& x, const signs& y, std::size_t lag) {
    std::int64_t sum = 0;
    for (std::size_t i = 0; i + lag < count; ++i) sum += x[i] * y[i + lag];
    return static_cast<double>(sum) / std::sqrt(static_cast<double>(count - lag));
  };
  const outcome a = round(2, 1, 1);
  for (const signs* x : {&a.param, &a.exp_avg, &a.exp_avg_sq}) {
    EXPECT_LT(std::abs(correlation(*x, signs(count, 1), 0)), 5);  // fair
    for (const std::size_t lag : {1, 2, 3, 4, 8, 16, 32, 64, 256, 512, 16384})
      EXPECT_LT(std::abs(correlation(*x, *x, lag)), 5) << "lag " << lag;
  }
  EXPECT_LT(std::abs(correlation(a.param, a.exp_avg, 0)), 5);
  EXPECT_LT(std::abs(correlation(a.param, a.exp_avg_sq, 0)), 5);
  EXPECT_LT(std::abs(correlation(a.exp_avg, a.exp_avg_sq, 0)), 5);
  for (const outcome& b : {round(3, 1, 1), round(2, 2, 1), round(2, 1, 2)}) {
    for (const std::size_t lag : {0, 1}) {
      EXPECT_LT(std::abs(correlation(a.param, b.param, lag)), 5);
      EXPECT_LT(std::abs(correlation(a.exp_avg, b.exp_avg, lag)), 5);
      EXPECT_LT(std::abs(correlation(a.exp_avg_sq, b.exp_avg_sq, lag)), 5);
    }
  }
}

// By nearest, v in bf16 at beta2 = 0.999 stalls at twice its value: see storage_test.
TEST(adamw_rounding, second_moments_settle_at_beta2_0_999) {
  constexpr std::size_t count = 512;
  for (const steepest_dtype type : {STEEPEST_BF16, STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED}) {
    narrow_arrays a({STEEPEST_F32, STEEPEST_F32, 0, STEEPEST_F32, type},
                    adamw_arrays<float>(count));
    random_source random(401);
    steepest_adamw_config config = make_config();
    config.flags = by_chance;
    double over_exact = 0;
    std::vector<double> exact(count);
    for (config.step = 1; config.step <= 6000; ++config.step) {
      for (std::size_t i = 0; i < count; ++i) {
        const auto g = static_cast<float>(random.normal());
        write_as(a.grad, i, g);
        exact[i] += (1 - config.beta2) * (static_cast<double>(g * g) - exact[i]);
      }
      step(config, a);
    }
    const auto v = a.widened().exp_avg_sq;
    double sum = 0, exact_sum = 0;
    for (std::size_t i = 0; i < count; ++i) {
      sum += static_cast<double>(v[i]);
      exact_sum += exact[i];
    }
    over_exact = sum / exact_sum;
    EXPECT_NEAR(over_exact, 1, 0.02) << "type " << type;
    std::printf("v over its exact value after 6,000 steps, type %d: %.4f\n", type, over_exact);
  }
}

// Steps far below an ulp of bf16, and decay alone.
TEST(adamw_rounding, kahan_keeps_what_bf16_loses) {
  constexpr std::size_t count = 64;
  for (const bool only_decay : {false, true}) {
    adamw_arrays<float> a(count);
    for (std::size_t i = 0; i < count; ++i) a.param[i] = 1.0F + static_cast<float>(i) / 64;
    narrow_arrays f32_master({}, a);
    narrow_arrays kahan({STEEPEST_BF16, STEEPEST_F32, STEEPEST_RESIDUAL_KAHAN}, a);
    narrow_arrays alone({STEEPEST_BF16, STEEPEST_F32}, a);
    steepest_adamw_config config = make_config();
    config.lr = 1e-4;
    config.weight_decay = only_decay ? 0.5 : 0.1;
    for (config.step = 1; config.step <= 1000; ++config.step) {
      for (narrow_arrays* x : {&f32_master, &kahan, &alone}) {
        for (std::size_t i = 0; i < count; ++i) write_as(x->grad, i, only_decay ? 0.0F : 0.25F);
        step(config, *x);
      }
    }
    EXPECT_EQ(alone.widened().param, a.param);
    const auto exact = f32_master.widened().param, got = kahan.widened().param;
    for (std::size_t i = 0; i < count; ++i) {
      const auto moved = static_cast<double>(exact[i] - a.param[i]);
      EXPECT_LT(moved, -0.03);
      EXPECT_NEAR(static_cast<double>(got[i] - exact[i]), 0, 0.1 * std::abs(moved)) << i;
    }
  }
}

std::vector<float> noise(random_source& random, std::size_t count) {
  std::vector<float> grad(count);
  for (std::size_t i = 0; i < count; ++i)
    grad[i] = static_cast<float>(1e-3 * (1 + static_cast<double>(i % 5)) * random.normal());
  return grad;
}

TEST(adamw_rounding, split_masters_are_the_f32_master) {
  constexpr std::size_t count = 600;
  random_source random(402);
  adamw_arrays<float> a = random_arrays<float>(random, count, true);
  for (float& x : a.param) x = float_of(bits_of(x) & 0xffff0000);
  narrow_arrays master({}, a), low({STEEPEST_BF16, STEEPEST_F32, STEEPEST_RESIDUAL_LOW16}, a),
      near({STEEPEST_BF16, STEEPEST_F32, STEEPEST_RESIDUAL_NEAREST16}, a),
      near8({STEEPEST_BF16, STEEPEST_F32, STEEPEST_RESIDUAL_NEAREST8}, a);
  std::vector<double> bound(count);
  steepest_adamw_config config = make_config();
  for (config.step = 1; config.step <= 1000; ++config.step) {
    const auto grad = noise(random, count);
    for (narrow_arrays* x : {&master, &low, &near, &near8}) {
      std::memcpy(x->grad.data(), grad.data(), 4 * count);
      step(config, *x);
    }
    ASSERT_TRUE(same_bits(low.widened().param, master.widened().param)) << config.step;
    ASSERT_TRUE(same_bits(near.widened().param, master.widened().param)) << config.step;
    // 16 bits of significand: a step rounds by 2^-16 of the parameter at most.
    const auto now = master.widened().param;
    for (std::size_t i = 0; i < count; ++i)
      bound[i] += 0x1p-16 * 1.01 * std::abs(static_cast<double>(now[i])) + 1e-30;
  }
  const auto exact = master.widened().param, got = near8.widened().param;
  double worst = 0;
  for (std::size_t i = 0; i < count; ++i)
    worst = std::max(worst, std::abs(static_cast<double>(got[i] - exact[i])) / bound[i]);
  EXPECT_LE(worst, 1);
  EXPECT_GT(worst, 0);
  std::printf("NEAREST8 after 1,000 steps: %.3f of its bound\n", worst);
}

// 1,000 steps on noise: each 8-bit moment against the f32 one, as a part of its block's largest,
// and how far the parameters part as a share of how far they moved.
TEST(adamw_rounding, eight_bit_moments_stay_near_f32) {
  constexpr std::size_t count = 4096;
  for (const std::uint64_t flags : {std::uint64_t{0}, by_chance}) {
    for (const steepest_dtype type : {STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED}) {
      adamw_arrays<float> a(count);
      narrow_arrays wide({}, a), narrow({STEEPEST_F32, STEEPEST_F32, 0, type, type}, a);
      random_source random(403);
      steepest_adamw_config config = make_config();
      config.flags = flags;
      config.beta2 = 0.99;
      config.weight_decay = 0;
      for (config.step = 1; config.step <= 1000; ++config.step) {
        const auto grad = noise(random, count);
        for (narrow_arrays* x : {&wide, &narrow}) {
          std::memcpy(x->grad.data(), grad.data(), 4 * count);
          step(config, *x);
        }
      }
      const auto exact = wide.widened(), got = narrow.widened();
      const auto worst = [&](const std::vector<float>& x, const std::vector<float>& y) {
        const std::size_t block = type == STEEPEST_Q8_DYNAMIC ? 256 : 32;
        double most = 0;
        for (std::size_t begin = 0; begin < count; begin += block) {
          float largest = 0, error = 0;
          for (std::size_t i = begin; i < begin + block; ++i) {
            largest = std::max(largest, std::abs(y[i]));
            error = std::max(error, std::abs(x[i] - y[i]));
          }
          most = std::max(most, static_cast<double>(error / largest));
        }
        return most;
      };
      double apart = 0, moved = 0;
      for (std::size_t i = 0; i < count; ++i) {
        apart += std::pow(static_cast<double>(got.param[i] - exact.param[i]), 2);
        moved += std::pow(static_cast<double>(exact.param[i]), 2);
      }
      const double m = worst(got.exp_avg, exact.exp_avg),
                   v = worst(got.exp_avg_sq, exact.exp_avg_sq);
      const double share = std::sqrt(apart / moved);
      std::printf(
          "8-bit type %d, flags %llu: m within %.3f, v within %.3f of the block's largest, "
          "param apart by %.3f of its way\n",
          type, static_cast<unsigned long long>(flags), m, v, share);
      EXPECT_LT(m, 0.10);
      EXPECT_LT(v, 0.20);
      EXPECT_LT(share, 0.10);
    }
  }
}

}  // namespace
}  // namespace steepest_test
