// SPDX-License-Identifier: Apache-2.0
//
// Values that can be worked out by hand, and what happens at the edges: zeros, denormals, overflow,
// infinities and NaN. On every level, in f32 and f64.
#include "adamw_support.hpp"

namespace steepest_test {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
const double not_a_number = std::numeric_limits<double>::quiet_NaN();

struct element {
  double param, grad, exp_avg, exp_avg_sq;
};

// One step on `count` copies of x, so that vector bodies and tails both meet it.
template <class Real>
adamw_arrays<Real> step_copies(steepest_isa isa, const steepest_adamw_config& config, element x,
                               std::size_t count = 37) {
  adamw_arrays<Real> a(count);
  std::fill(a.param.begin(), a.param.end(), static_cast<Real>(x.param));
  std::fill(a.grad.begin(), a.grad.end(), static_cast<Real>(x.grad));
  std::fill(a.exp_avg.begin(), a.exp_avg.end(), static_cast<Real>(x.exp_avg));
  std::fill(a.exp_avg_sq.begin(), a.exp_avg_sq.end(), static_cast<Real>(x.exp_avg_sq));
  EXPECT_OK(run_step(make_context({.max_isa = isa}).get(), config, a));
  return a;
}

template <class Real>
void expect_all(const std::vector<Real>& values, double expected, double ulps = 0) {
  for (const Real value : values) {
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value)) << value;
    } else if (std::isinf(expected) || ulps == 0) {
      EXPECT_EQ(value, static_cast<Real>(expected));
    } else {
      EXPECT_LE(std::abs(value - expected), ulps * static_cast<double>(ulp<Real>(expected)));
    }
    if (testing::Test::HasFailure()) return;
  }
}

template <class Real>
void expect_bits(const std::vector<Real>& values, double expected) {
  EXPECT_TRUE(same_bits(values, std::vector<Real>(values.size(), static_cast<Real>(expected))))
      << values[0] << ", not " << expected;
}

template <class Real>
class adamw_values : public testing::Test {
 protected:
  template <class Body>
  void on_each_level(Body body) {
    for (const steepest_isa isa : levels()) {
      SCOPED_TRACE(steepest_isa_name(isa));
      body(isa);
    }
  }
};
using types = testing::Types<float, double>;
TYPED_TEST_SUITE(adamw_values, types);

// beta1 = 1/2, beta2 = 3/4, lr = 1/4, decay = 1/2, eps = 0, theta = 1, all exact in binary.
// Step 1, g = 3: m = 3/2, v = 9/4; mh = m / (1/2) = 3, vh = v / (1/4) = 9; u = 1;
//   theta = 1 - 1/4 (1 + 1/2) = 0.625.
// Step 2, g = -3: m = 3/4 - 3/2 = -3/4, v = 27/16 + 9/4 = 63/16; mh = m / (3/4) = -1,
//   vh = v / (7/16) = 9; u = -1/3; theta = 0.625 - 1/4 (-1/3 + 0.3125) = 0.63020833...
TYPED_TEST(adamw_values, two_steps_by_hand) {
  this->on_each_level([](steepest_isa isa) {
    steepest_adamw_config config = make_config();
    config.beta1 = 0.5;
    config.beta2 = 0.75;
    config.lr = 0.25;
    config.weight_decay = 0.5;
    config.eps = 0;
    auto a = step_copies<TypeParam>(isa, config, {1, 3, 0, 0});
    expect_all(a.exp_avg, 1.5);
    expect_all(a.exp_avg_sq, 2.25);
    expect_all(a.param, 0.625);

    std::fill(a.grad.begin(), a.grad.end(), TypeParam(-3));
    config.step = 2;
    EXPECT_OK(run_step(make_context({.max_isa = isa}).get(), config, a));
    expect_all(a.exp_avg, -0.75);
    expect_all(a.exp_avg_sq, 3.9375);
    expect_all(a.param, 0.625 + 0.25 / 3 - 0.25 * 0.3125, 2);
  });
}

// At step 1 with eps = 0, mh = g and vh = g^2, so u is the sign of g: theta moves by lr exactly,
// whatever the betas and the size of g.
TYPED_TEST(adamw_values, first_step_is_the_sign) {
  this->on_each_level([](steepest_isa isa) {
    steepest_adamw_config config = make_config();
    config.eps = 0;
    config.weight_decay = 0;
    config.lr = 0.125;
    for (const double g : {1.0, -1.0, 1e-15, -1e-15, 1e15, -3.7e5}) {
      const auto a = step_copies<TypeParam>(isa, config, {0.5, g, 0, 0});
      expect_all(a.param, g > 0 ? 0.375 : 0.625, 4);
    }
  });
}

// AMSGRAD keeps the larger v: with v' = 0.75 * 4 = 3 below a maximum of 16 and g = 0, beta1 = 1/2,
// m' = 8/2 = 4, and bias corrections of 1 (step 10^6): u = 4 / 4 = 1; without it u = 4 / sqrt(3).
TYPED_TEST(adamw_values, amsgrad_by_hand) {
  this->on_each_level([](steepest_isa isa) {
    steepest_adamw_config config = make_config();
    config.flags = STEEPEST_ADAMW_AMSGRAD;
    config.beta1 = 0.5;
    config.beta2 = 0.75;
    config.lr = 0.25;
    config.weight_decay = 0;
    config.eps = 0;
    config.step = 1000000;
    const auto context = make_context({.max_isa = isa});
    for (const double maximum : {16.0, 1.0}) {
      adamw_arrays<TypeParam> a(21);
      for (std::size_t i = 0; i < a.count(); ++i) {
        a.param[i] = 1;
        a.exp_avg[i] = 8;
        a.exp_avg_sq[i] = 4;
        a.max_exp_avg_sq[i] = static_cast<TypeParam>(maximum);
      }
      EXPECT_OK(run_step(context.get(), config, a));
      const double kept = maximum > 3 ? maximum : 3;
      expect_all(a.exp_avg_sq, 3);
      expect_all(a.max_exp_avg_sq, kept);
      expect_all(a.param, 1 - 0.25 * 4 / std::sqrt(kept), 2);
    }
  });
}

// A maximum that is NaN stays so, also beside numbers, and a NaN v becomes one: on every level.
TYPED_TEST(adamw_values, amsgrad_keeps_nan) {
  this->on_each_level([](steepest_isa isa) {
    steepest_adamw_config config = make_config();
    config.flags = STEEPEST_ADAMW_AMSGRAD;
    const auto context = make_context({.max_isa = isa});
    for (const bool in_maximum : {true, false}) {
      adamw_arrays<TypeParam> a(21);
      for (std::size_t i = 0; i < a.count(); ++i) {
        a.param[i] = a.exp_avg[i] = a.exp_avg_sq[i] = a.max_exp_avg_sq[i] = 1;
        (in_maximum ? a.max_exp_avg_sq : a.exp_avg_sq)[i] =
            std::numeric_limits<TypeParam>::quiet_NaN();
      }
      EXPECT_OK(run_step(context.get(), config, a));
      for (std::size_t i = 0; i < a.count(); ++i) {
        EXPECT_TRUE(std::isnan(a.max_exp_avg_sq[i])) << i;
        EXPECT_TRUE(std::isnan(a.param[i])) << i;
      }
    }
  });
}

// Decoupled decay does not enter the moments, coupled decay does; MAXIMIZE mirrors the gradient.
// One step with g = 2, theta = 4, decay = 1/2, beta = 1/2, lr = 1/4, eps = 0, u = sign(g):
//   decoupled: m = 1, theta = 4 - 1/4 (1 + 2) = 3.25;  coupled: g = 4, m = 2, theta = 3.75;
//   maximize: m = -1, theta = 4 - 1/4 (-1 + 2) = 3.75; both: g = -2 + 2 = 0, u = 0, theta = 4;
//   cautious: as decoupled where u theta >= 0, else no decay: maximize + cautious: 4.25.
TYPED_TEST(adamw_values, flags_by_hand) {
  struct row {
    std::uint64_t flags;
    double m, param;
  };
  const row rows[] = {
      {0, 1, 3.25},
      {STEEPEST_ADAMW_COUPLED_L2, 2, 3.75},
      {STEEPEST_ADAMW_MAXIMIZE, -1, 3.75},
      {STEEPEST_ADAMW_MAXIMIZE | STEEPEST_ADAMW_COUPLED_L2, 0, 4},
      {STEEPEST_ADAMW_CAUTIOUS_DECAY, 1, 3.25},
      {STEEPEST_ADAMW_CAUTIOUS_DECAY | STEEPEST_ADAMW_MAXIMIZE, -1, 4.25},
  };
  this->on_each_level([&](steepest_isa isa) {
    for (const row& r : rows) {
      SCOPED_TRACE(r.flags);
      steepest_adamw_config config = make_config();
      config.flags = r.flags;
      config.beta1 = config.beta2 = 0.5;
      config.lr = 0.25;
      config.weight_decay = 0.5;
      config.eps = 0;
      const auto a = step_copies<TypeParam>(isa, config, {4, 2, 0, 0});
      expect_all(a.exp_avg, r.m);
      expect_all(a.param, r.param);

      config.flags |= STEEPEST_ADAMW_EMIT_DELTA;
      const auto b = step_copies<TypeParam>(isa, config, {4, 2, 0, 0});
      expect_all(b.exp_avg, r.m);
      expect_all(b.param, 4);
      expect_all(b.delta, r.param - 4, 2);
    }
  });
}

// Cautious decay asks for the sign of u theta, which must survive where the product underflows.
TYPED_TEST(adamw_values, cautious_sign_of_a_tiny_product) {
  const double theta = sizeof(TypeParam) == 4 ? 0x1p-90 : 0x1p-700;
  const double g = sizeof(TypeParam) == 4 ? 0x1p-120 : 0x1p-800;
  this->on_each_level([&](steepest_isa isa) {
    steepest_adamw_config config = make_config();
    config.flags = STEEPEST_ADAMW_CAUTIOUS_DECAY;
    config.lr = 0.5;
    config.weight_decay = 1;
    config.eps = 1;  // so u is g, far below the ulp of theta
    config.beta1 = config.beta2 = 0;
    expect_all(step_copies<TypeParam>(isa, config, {theta, g, 0, 0}).param, theta / 2, 8);
    expect_all(step_copies<TypeParam>(isa, config, {theta, -g, 0, 0}).param, theta, 8);
    expect_all(step_copies<TypeParam>(isa, config, {-theta, g, 0, 0}).param, -theta, 8);
    expect_all(step_copies<TypeParam>(isa, config, {theta, 0, 0, 0}).param, theta / 2, 0);
  });
}

TYPED_TEST(adamw_values, zero_gradient_and_eps_leave_param_to_the_bit) {
  using limits = std::numeric_limits<TypeParam>;
  this->on_each_level([](steepest_isa isa) {
    steepest_adamw_config config = make_config();
    config.eps = 0;
    config.weight_decay = 0;
    for (const double theta :
         {1.0, -0.3, 0.0, -0.0, double(limits::denorm_min()), double(limits::max())}) {
      for (const std::int64_t step : {1, 1000}) {
        config.step = step;
        const auto a = step_copies<TypeParam>(isa, config, {theta, 0, 0, 0});
        expect_bits(a.param, theta);
        expect_all(a.exp_avg, 0);
        expect_all(a.exp_avg_sq, 0);
      }
    }
    config.weight_decay = 0.5;
    config.lr = 0.5;
    expect_all(step_copies<TypeParam>(isa, config, {8, 0, 0, 0}).param, 6);
  });
}

// No learning rate: the moments move, the parameter does not, to the bit.
TYPED_TEST(adamw_values, lr_zero) {
  this->on_each_level([](steepest_isa isa) {
    steepest_adamw_config config = make_config();
    config.lr = 0;
    for (const double theta : {0.1, -3e20, -0.0}) {
      const auto a = step_copies<TypeParam>(isa, config, {theta, 2, 0, 0});
      expect_bits(a.param, theta);
      expect_all(a.exp_avg, 2 * (1 - config.beta1), 1);
    }
  });
}

TYPED_TEST(adamw_values, betas_zero) {
  this->on_each_level([](steepest_isa isa) {
    steepest_adamw_config config = make_config();
    config.beta1 = config.beta2 = 0;
    config.eps = 0;
    config.weight_decay = 0;
    config.lr = 0.5;
    for (const std::int64_t step : {1, 2, 77}) {
      config.step = step;
      const auto a = step_copies<TypeParam>(isa, config, {1, -3, 123, 456});
      expect_all(a.exp_avg, -3);
      expect_all(a.exp_avg_sq, 9);
      expect_all(a.param, 1.5);
    }
  });
}

// The squares of these leave the type's range; the formula in that type then gives what stands
// here.
TYPED_TEST(adamw_values, overflow_and_underflow_of_the_square) {
  const double huge = sizeof(TypeParam) == 4 ? 1e30 : 1e160;
  const double tiny = sizeof(TypeParam) == 4 ? 1e-25 : 1e-200;
  this->on_each_level([&](steepest_isa isa) {
    steepest_adamw_config config = make_config();
    config.weight_decay = 0;
    for (const double sign : {1.0, -1.0}) {
      const auto a = step_copies<TypeParam>(isa, config, {1, sign * huge, 0, 0});
      expect_all(a.exp_avg, sign * 0.1 * huge, 2);
      expect_all(a.exp_avg_sq, infinity);
      expect_all(a.param, 1);
    }
    const auto stuck = step_copies<TypeParam>(isa, config, {1, 1, 0.5, infinity});
    expect_all(stuck.exp_avg, 0.55, 1);
    expect_all(stuck.exp_avg_sq, infinity);
    expect_all(stuck.param, 1);

    config.eps = 0;
    const auto b = step_copies<TypeParam>(isa, config, {1, tiny, 0, 0});
    expect_all(b.exp_avg, 0.1 * tiny, 2);
    expect_all(b.exp_avg_sq, 0);
    expect_all(b.param, 1);

    config.eps = 1e-8;  // m survives: u = tiny / eps
    config.flags = STEEPEST_ADAMW_EMIT_DELTA;
    const auto c = step_copies<TypeParam>(isa, config, {1, tiny, 0, 0});
    expect_all(c.delta, -config.lr * tiny / config.eps, 8);
  });
}

// The largest v that is finite: bias correction divides by as little as 1 - beta2, which must not
// overflow on the way to the root. g = 2^62, beta2 = 0.999 -> v about 2^114 in f32.
TYPED_TEST(adamw_values, bias_correction_does_not_overflow) {
  const int power = sizeof(TypeParam) == 4 ? 68 : 516;
  this->on_each_level([&](steepest_isa isa) {
    steepest_adamw_config config = make_config();
    config.eps = 0;
    config.weight_decay = 0;
    config.lr = 0.25;
    const auto a = step_copies<TypeParam>(isa, config, {1, std::ldexp(1.0, power), 0, 0});
    expect_all(a.exp_avg_sq, std::ldexp(1 - 0.999, 2 * power), 2);
    expect_all(a.param, 0.75, 4);
  });
}

TYPED_TEST(adamw_values, denormals_are_kept) {
  const double unit = double(std::numeric_limits<TypeParam>::denorm_min());
  this->on_each_level([&](steepest_isa isa) {
    steepest_adamw_config config = make_config();
    config.beta1 = config.beta2 = 0.5;
    config.weight_decay = 0;
    config.lr = 1;
    config.eps = 1;
    // m = 512 units + 512 units, v = 512 units, u = m / (1 - 1/4) = 4/3 of 1024 units; lr 1.
    config.step = 2;
    const auto a =
        step_copies<TypeParam>(isa, config, {5000 * unit, 1024 * unit, 1024 * unit, 1024 * unit});
    expect_all(a.exp_avg, 1024 * unit);
    expect_all(a.exp_avg_sq, 512 * unit);
    expect_all(a.param, 3635 * unit, 2);  // 5000 - 1365.33
  });
}

TYPED_TEST(adamw_values, nonfinite_takes_its_course) {
  this->on_each_level([](steepest_isa isa) {
    const steepest_adamw_config config = make_config();
    for (const double g : {infinity, -infinity, not_a_number}) {
      const auto a = step_copies<TypeParam>(isa, config, {1, g, 0, 0});
      expect_all(a.exp_avg, g);
      expect_all(a.exp_avg_sq, g * g);
      expect_all(a.param, not_a_number);  // infinity / infinity
    }
  });
}

// One bad element spoils no neighbour.
TYPED_TEST(adamw_values, nonfinite_stays_in_its_element) {
  this->on_each_level([](steepest_isa isa) {
    random_source random(21);
    const auto context = make_context({.max_isa = isa});
    const steepest_adamw_config config = make_config();
    auto clean = random_arrays<TypeParam>(random, 67, true);
    for (std::size_t bad = 0; bad < clean.count(); ++bad) {
      auto a = clean;
      a.grad[bad] = static_cast<TypeParam>(not_a_number);
      auto expected = clean;
      EXPECT_OK(run_step(context.get(), config, a));
      EXPECT_OK(run_step(context.get(), config, expected));
      EXPECT_TRUE(std::isnan(a.param[bad]) && std::isnan(a.exp_avg[bad]));
      a.grad[bad] = expected.grad[bad];
      a.param[bad] = expected.param[bad];
      a.exp_avg[bad] = expected.exp_avg[bad];
      a.exp_avg_sq[bad] = expected.exp_avg_sq[bad];
      EXPECT_TRUE(same_bits(a, expected));
    }
  });
}

}  // namespace
}  // namespace steepest_test
