// SPDX-License-Identifier: Apache-2.0
//
// The accuracy rule of steepest_adamw_step against the long double oracle, on every level; the
// worst case of each quantity is printed at the end.
#include <map>

#include "adamw_support.hpp"

namespace steepest_test {
namespace {

class adamw_accuracy : public testing::Test {
 protected:
  template <class Real>
  void check(const context_pointer& context, const steepest_adamw_config& config,
             const adamw_arrays<Real>& before) {
    adamw_arrays<Real> after = before;
    ASSERT_OK(run_step(context.get(), config, after));
    const step_error error = compare_step(config, before, after);
    const steepest_isa isa = steepest_context_isa(context.get());
    expect_within_rule(error, config, isa);
    expect_rest_unchanged(config, before, after);
    worst()[std::string(type_name<Real>()) + " " + steepest_isa_name(isa)].merge(error);
  }

  static void TearDownTestSuite() {
    std::printf(
        "worst case          m (ulp, <= 2)  v (ulp, <= 2; generic 3)  param (of its bound, <= "
        "1)\n");
    for (const auto& [name, e] : worst()) {
      std::printf("%-18s  %13.3Lf  %25.3Lf  %26.3Lf   %zu elements, %zu without param\n",
                  name.c_str(), e.m, e.v, e.param, e.compared, e.undecided);
      EXPECT_LT(static_cast<double>(e.undecided), 0.02 * static_cast<double>(e.compared));
    }
  }

 private:
  static std::map<std::string, step_error>& worst() {
    static std::map<std::string, step_error> all;
    return all;
  }
};

constexpr std::uint64_t flag_sets[] = {
    0,
    STEEPEST_ADAMW_AMSGRAD | STEEPEST_ADAMW_MAXIMIZE,
    STEEPEST_ADAMW_COUPLED_L2,
    STEEPEST_ADAMW_CAUTIOUS_DECAY,
    STEEPEST_ADAMW_EMIT_DELTA,
    STEEPEST_FLAG_CONSISTENT,
};

template <class Real, class Check>
void sweep(Check check, int low, int high) {
  const std::size_t count = long_run() ? 4001 : 203;
  random_source random(1);
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    for (const std::uint64_t flags : flag_sets) {
      for (const double beta1 : {0.0, 0.5, 0.9, 0.95}) {
        for (const double beta2 : {0.0, 0.5, 0.95, 0.98, 0.999, 0.99999}) {
          for (const double grad_scale : {1.0, 0x1p-16, 0.3, -1.0, 1e-3}) {
            for (const std::int64_t step : {1, 2, 10, 1000, 1000000}) {
              steepest_adamw_config config = make_config();
              config.flags = flags;
              config.beta1 = beta1;
              config.beta2 = beta2;
              config.grad_scale = grad_scale;
              config.step = step;
              config.lr = std::ldexp(1e-3, static_cast<int>(random.below(12)) - 6);
              config.weight_decay = random.below(4) == 0 ? 0.0 : 0.1 * random.uniform();
              config.eps = random.below(3) == 0 ? 0.0 : std::pow(10.0, -6.0 - random.uniform() * 9);
              check(context, config,
                    random_arrays<Real>(random, count, step == 1, beta1, low, high));
              if (testing::Test::HasFailure()) return;
            }
          }
        }
      }
    }
  }
}

TEST_F(adamw_accuracy, f32) {
  sweep<float>([this](const auto&... arguments) { check(arguments...); }, -40, 20);
}

TEST_F(adamw_accuracy, f64) {
  sweep<double>([this](const auto&... arguments) { check(arguments...); }, -40, 20);
}

// Magnitudes where g^2 is at the edges of the type, overflow excluded.
TEST_F(adamw_accuracy, f32_extreme_magnitudes) {
  sweep<float>([this](const auto&... arguments) { check(arguments...); }, -75, 60);
}

TEST_F(adamw_accuracy, f64_extreme_magnitudes) {
  sweep<double>([this](const auto&... arguments) { check(arguments...); }, -538, 500);
}

// No constant may be kept in Real alone: 1 - beta, lr * decay and their products with grad_scale
// are then off by as much as the whole rule allows, for unlucky values.
TEST_F(adamw_accuracy, any_hyper_parameters) {
  random_source random(4);
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    for (int i = 0; i < (long_run() ? 100000 : 2000); ++i) {
      steepest_adamw_config config = make_config();
      config.flags = flag_sets[random.below(std::size(flag_sets))];
      config.beta1 = random.uniform();
      config.beta2 = 1 - std::pow(10.0, -6 * random.uniform());
      config.grad_scale = random.wide<double>(-10, 10);
      config.lr = std::pow(10.0, -8 * random.uniform());
      config.weight_decay = std::pow(10.0, -5 * random.uniform());
      config.eps = std::pow(10.0, -12 * random.uniform());
      config.step = 1 + random.below(random.below(2) == 0 ? 10 : 10000);
      const bool fresh = random.below(2) == 0;
      check(context, config, random_arrays<float>(random, 67, fresh, config.beta1, -20, 10));
      check(context, config, random_arrays<double>(random, 67, fresh, config.beta1, -20, 10));
      if (testing::Test::HasFailure()) return;
    }
  }
}

// Clipping by global norm makes grad_scale as small as the gradients are large: the moments are in
// range although grad_scale^2 is not.
TEST_F(adamw_accuracy, grad_scale_far_from_one) {
  struct row {
    double scale;
    int low, high;
  };
  random_source random(2);
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    for (const row& r : {row{1e-30, 90, 110}, row{1e25, -100, -80}, row{1e-20, 50, 70}}) {
      for (const std::uint64_t flags : flag_sets) {
        steepest_adamw_config config = make_config();
        config.flags = flags;
        config.grad_scale = r.scale;
        adamw_arrays<float> a = random_arrays<float>(random, 500, true);
        for (float& g : a.grad) g = random.wide<float>(r.low, r.high);
        check(context, config, a);
      }
    }
  }
}

// 1 - beta^t must not be formed by cancellation, nor the step be counted in a narrow type.
TEST_F(adamw_accuracy, large_steps) {
  random_source random(3);
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    for (const std::int64_t step :
         {(std::int64_t{1} << 24) - 1, (std::int64_t{1} << 24) + 1, (std::int64_t{1} << 31) + 1,
          (std::int64_t{1} << 32) + 1, std::int64_t{1} << 53, (std::int64_t{1} << 53) + 1,
          INT64_MAX - 1, INT64_MAX}) {
      for (const double beta : {0.9, 0.999, 0.99999999, 1 - 0x1p-33, 1 - 0x1p-53}) {
        steepest_adamw_config config = make_config();
        config.step = step;
        config.beta1 = config.beta2 = beta;
        check(context, config, random_arrays<float>(random, 67, false, beta));
        check(context, config, random_arrays<double>(random, 67, false, beta));
      }
    }
  }
}

}  // namespace
}  // namespace steepest_test
