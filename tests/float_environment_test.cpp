// SPDX-License-Identifier: Apache-2.0
//
// The caller's floating-point environment (flushed denormals, another rounding mode, unmasked
// exceptions), its own or that of its executor's threads, changes no bit, and is left as it was.
#include <cfenv>

#include "adamw_support.hpp"
#include "every_call.hpp"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace steepest_test {
namespace {

// The control and status bits of the unit that does vector arithmetic.
std::uint64_t float_state() {
#if defined(__x86_64__)
  return _mm_getcsr();
#elif defined(__aarch64__)
  std::uint64_t control, status;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  __asm__ volatile("mrs %0, fpsr" : "=r"(status));
  return control << 32 | status;
#endif
}

void flush_denormals() {
#if defined(__x86_64__)
  _mm_setcsr(_mm_getcsr() | 0x8040);  // flush to zero, denormals are zero
#elif defined(__aarch64__)
  std::uint64_t control;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  __asm__ volatile("msr fpcr, %0" : : "r"(control | (1u << 24)));
#endif
}
void round_upward() { std::fesetround(FE_UPWARD); }
void unmask_exceptions() {
  std::feclearexcept(FE_ALL_EXCEPT);
  feenableexcept(FE_ALL_EXCEPT);
}
void flush_and_round_to_zero() {
  flush_denormals();
  std::fesetround(FE_TOWARDZERO);
}

struct hostile {
  const char* name;
  void (*enter)();
};
constexpr hostile hostile_environments[] = {
    {"denormals flushed", flush_denormals},
    {"rounding upward", round_upward},
    {"exceptions unmasked", unmask_exceptions},
    {"flushed and rounding to zero", flush_and_round_to_zero}};

template <class Real>
adamw_arrays<Real> awkward_arrays() {
  random_source random(91);
  auto a = random_arrays<Real>(random, 1 << 18 | 3, false);
  using limits = std::numeric_limits<Real>;
  for (std::size_t i = 0; i < a.count(); i += 7) {
    a.param[i] = limits::denorm_min() * Real(random.below(1 << 20));
    a.exp_avg[i] = a.param[i] / 3;
    a.grad[i] = limits::denorm_min() * Real(random.below(1 << 20));
    a.exp_avg_sq[i] = limits::denorm_min() * Real(random.below(1 << 20));
  }
  a.grad[1] = limits::infinity();
  a.grad[2] = limits::quiet_NaN();
  a.grad[3] = limits::max();
  return a;
}

struct outcome {
  steepest_status status = 1;
  steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
  double norm = 0;
  std::int64_t nonfinite = 0;
  bool state_kept = true;
};

// A step and a norm inside `environment`, which ends with this function.
template <class Real>
outcome run_inside(steepest_context* context, const hostile* environment, adamw_arrays<Real>& a) {
  outcome result;
  const steepest_adamw_config config = make_config();
  const steepest_adamw_tensor tensor = make_tensor(a);
  steepest_vector vector = STEEPEST_VECTOR_INIT;
  vector.count = tensor.count;
  vector.data = a.param.data();
  vector.dtype = dtype_of<Real>;
  std::fenv_t saved;
  std::fegetenv(&saved);
  if (environment != nullptr) environment->enter();
  const std::uint64_t before = float_state();
  const int rounding = std::fegetround();
  const int unmasked = fegetexcept();
  const steepest_status step = steepest_adamw_step(context, &config, &tensor, 1, &result.stats);
  result.state_kept = float_state() == before;
  const steepest_status norm =
      steepest_grad_norm(context, &vector, 1, &result.norm, &result.nonfinite);
  result.state_kept = result.state_kept && float_state() == before &&
                      std::fegetround() == rounding && fegetexcept() == unmasked;
  std::fesetenv(&saved);
  result.status = step != STEEPEST_OK ? step : norm;
  return result;
}

template <class Real>
void check_environments(std::uint64_t flags) {
  const auto arrays = awkward_arrays<Real>();
  for (const steepest_isa isa : levels()) {
    const context_pointer serial = make_context({.max_isa = isa, .flags = flags});
    auto expected = arrays;
    const outcome plain = run_inside(serial.get(), nullptr, expected);
    EXPECT_EQ(plain.status, STEEPEST_OK);
    const auto expect_same = [&](const outcome& got, const adamw_arrays<Real>& a) {
      EXPECT_EQ(got.status, STEEPEST_OK);
      EXPECT_TRUE(got.state_kept);
      EXPECT_TRUE(same_bits(a, expected));
      EXPECT_TRUE(same_bits(got.stats, plain.stats));
      EXPECT_TRUE(same_bits(got.norm, plain.norm));
    };
    for (const hostile& environment : hostile_environments) {
      SCOPED_TRACE(testing::Message() << steepest_isa_name(isa) << ", " << environment.name);
      for (const std::int32_t threads : {1, 2}) {
        auto a = arrays;
        const auto context = make_context({.max_isa = isa, .threads = threads, .flags = flags});
        expect_same(run_inside(context.get(), &environment, a), a);
      }
      reversed_executor own(3);
      own.before_tasks = environment.enter;
      own.state = float_state;
      const steepest_executor executor = own.interface();
      const auto context = make_context({.max_isa = isa, .flags = flags, .executor = &executor});
      auto a = arrays;
      expect_same(run_inside(context.get(), nullptr, a), a);
      EXPECT_TRUE(own.state_kept);
    }
  }
}

TEST(float_environment, f32) { check_environments<float>(0); }
TEST(float_environment, f64) { check_environments<double>(0); }
TEST(float_environment, f32_consistent) { check_environments<float>(STEEPEST_FLAG_CONSISTENT); }

// Small calls take the shortest path through the library: the environment must be seen to there
// too.
TEST(float_environment, small_calls) {
  for (const hostile& environment : hostile_environments) {
    SCOPED_TRACE(environment.name);
    const context_pointer context = make_context();
    adamw_arrays<float> a(5);
    for (std::size_t i = 0; i < a.count(); ++i) {
      a.param[i] = 1e-40f * float(i + 1);
      a.exp_avg[i] = 3e-41f;
      a.grad[i] = 1e-20f;
    }
    auto expected = a;
    run_inside(context.get(), nullptr, expected);
    EXPECT_TRUE(run_inside(context.get(), &environment, a).state_kept);
    EXPECT_TRUE(same_bits(a, expected));
  }
}

// The bias corrections and 1 - beta are formed in double before any task runs.
TEST(float_environment, hyper_parameters_are_formed_in_the_default_environment) {
  random_source random(92);
  for (const std::int64_t step : {3, 1001, 1000003}) {
    const auto arrays = random_arrays<double>(random, 67, false);
    const context_pointer context = make_context();
    steepest_adamw_config config = make_config();
    config.step = step;
    config.grad_scale = 0.3;
    auto expected = arrays, a = arrays;
    ASSERT_OK(run_step(context.get(), config, expected));
    std::fesetround(FE_UPWARD);
    const steepest_status status = run_step(context.get(), config, a);
    std::fesetround(FE_TONEAREST);
    EXPECT_EQ(status, STEEPEST_OK);
    EXPECT_TRUE(same_bits(a, expected));
  }
}

TEST(float_environment, contexts_with_exceptions_unmasked) {
  std::fenv_t saved;
  std::fegetenv(&saved);
  unmask_exceptions();
  const std::uint64_t before = float_state();
  context_pointer context = try_context({.threads = 2});
  const bool made = context != nullptr;
  steepest_context_trim(context.get());
  context.reset();
  const bool kept = float_state() == before;
  std::fesetenv(&saved);
  EXPECT_TRUE(made);
  EXPECT_TRUE(kept);
}

// Every function: the same bits as in the usual environment, and the caller's as it was.
TEST(float_environment, every_function) {
  for (const sample_call& call : every_call(call_size::small)) {
    const context_pointer plain = make_context({.threads = 2});
    const sample_result expected = run_sample(call, plain.get());
    ASSERT_OK(expected.status);
    for (const hostile& environment : hostile_environments) {
      SCOPED_TRACE(call.name + ", " + environment.name);
      reversed_executor own(3);
      own.before_tasks = environment.enter;
      own.state = float_state;
      const steepest_executor executor = own.interface();
      const context_pointer with = make_context({.executor = &executor});
      for (steepest_context* const context : {plain.get(), with.get()}) {
        placed_buffers memory(call.given);
        std::fenv_t saved;
        std::fegetenv(&saved);
        environment.enter();
        const std::uint64_t before = float_state();
        const int rounding = std::fegetround();
        const steepest_status status = call.run(context, memory);
        const bool kept = float_state() == before && std::fegetround() == rounding;
        std::fesetenv(&saved);
        EXPECT_EQ(status, STEEPEST_OK);
        EXPECT_TRUE(kept);
        EXPECT_TRUE(memory.contents() == expected.after);
      }
      EXPECT_TRUE(own.state_kept);
    }
  }
}

}  // namespace
}  // namespace steepest_test
