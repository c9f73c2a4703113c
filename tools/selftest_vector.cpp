// SPDX-License-Identifier: Apache-2.0
// Element-wise functions against the formula in long double.
#include <algorithm>
#include <cmath>
#include <utility>

#include "adamw_oracle.hpp"
#include "output.hpp"
#include "selftest.hpp"

namespace tool {
namespace {

using namespace steepest_test;

constexpr std::uint64_t flag_sets[] = {
    0,
    STEEPEST_ADAMW_AMSGRAD,
    STEEPEST_ADAMW_MAXIMIZE,
    STEEPEST_ADAMW_COUPLED_L2,
    STEEPEST_ADAMW_CAUTIOUS_DECAY,
    STEEPEST_ADAMW_EMIT_DELTA,
    STEEPEST_FLAG_CONSISTENT,
    STEEPEST_FLAG_CONSISTENT | STEEPEST_ADAMW_AMSGRAD,
};

// Every flag, sizes around the vectors' lengths, a first and a late step.
template <class Real>
verdict adamw_accuracy(steepest_isa isa) {
  const context_pointer context = context_of(isa, 1);
  random_source random(1);
  step_error worst;
  bool passed = true;
  for (const std::uint64_t flags : flag_sets)
    for (const std::size_t count : {1, 7, 16, 31, 33, 64, 200, 1000})
      for (const std::int64_t step : {1, 1000}) {
        steepest_adamw_config config = make_config();
        config.flags = flags;
        config.step = step;
        config.weight_decay = 0.1;
        adamw_arrays<Real> arrays = random_arrays<Real>(random, count, step == 1);
        const adamw_arrays<Real> before = arrays;
        expect_ok(run_step(context.get(), config, arrays));
        const step_error error = compare_step(config, before, arrays);
        passed = passed && within_rule(error, config, isa);
        worst.merge(error);
      }
  return {passed, text("m %.2Lf and v %.2Lf of 2 ulp, param %.2Lf of its bound", worst.m, worst.v,
                       worst.param)};
}

// All threads and one, and another place in the buffers.
verdict adamw_bits(steepest_isa isa) {
  random_source random(2);
  constexpr std::size_t count = 300'000;
  const adamw_arrays<float> before = random_arrays<float>(random, count, false);
  const steepest_adamw_config config = make_config();
  const auto stepped = [&](int threads) {
    adamw_arrays<float> arrays = before;
    expect_ok(run_step(context_of(isa, threads).get(), config, arrays));
    return arrays;
  };
  const adamw_arrays<float> expected = stepped(1);
  if (!same_bits(stepped(0), expected)) return {false, "threads change the bits"};
  // In two calls, the second from an odd element on.
  adamw_arrays<float> arrays = before;
  const context_pointer context = context_of(isa, 1);
  for (const auto& [first, length] : {std::pair<std::size_t, std::size_t>(0, 1237),
                                      std::pair<std::size_t, std::size_t>(1237, count - 1237)}) {
    const steepest_adamw_tensor tensor = make_tensor(arrays, first, length);
    expect_ok(steepest_adamw_step(context.get(), &config, &tensor, 1, nullptr));
  }
  if (!same_bits(arrays, expected)) return {false, "the position changes the bits"};
  return {true, text("%zu elements", count)};
}

verdict consistent_bits(const std::vector<steepest_isa>& levels) {
  random_source random(3);
  const adamw_arrays<float> before = random_arrays<float>(random, 10'007, false);
  steepest_adamw_config config = make_config();
  config.flags = STEEPEST_FLAG_CONSISTENT;
  std::vector<adamw_arrays<float>> results;
  for (const steepest_isa isa : levels) {
    results.push_back(before);
    expect_ok(run_step(context_of(isa, 1).get(), config, results.back()));
    if (!same_bits(results.back(), results.front()))
      return {false, text("%s differs from %s", steepest_isa_name(isa),
                          steepest_isa_name(levels.front()))};
  }
  return {true, text("%zu levels", levels.size())};
}

verdict grad_norm(steepest_isa isa) {
  random_source random(4);
  std::vector<float> x(100'003);
  long double squares = 0;
  for (float& value : x) {
    value = random.wide<float>(-20, 20);
    squares += static_cast<long double>(value) * value;
  }
  steepest_vector vector = STEEPEST_VECTOR_INIT;
  vector.count = static_cast<std::int64_t>(x.size());
  vector.data = x.data();
  double norm = 0;
  std::int64_t nonfinite = -1;
  expect_ok(steepest_grad_norm(context_of(isa, 1).get(), &vector, 1, &norm, &nonfinite));
  const double off = std::fabs(norm / static_cast<double>(std::sqrt(squares)) - 1);
  return {off <= 1e-12 && nonfinite == 0, text("off %.1e, allowed 1e-12", off)};
}

// An error names the argument, and nothing is written.
verdict refusal() {
  random_source random(5);
  adamw_arrays<float> arrays = random_arrays<float>(random, 100, false);
  const adamw_arrays<float> before = arrays;
  steepest_adamw_tensor tensor = make_tensor(arrays);
  tensor.exp_avg_sq = nullptr;
  const steepest_adamw_config config = make_config();
  const steepest_status status = steepest_adamw_step(nullptr, &config, &tensor, 1, nullptr);
  const bool named =
      std::string(steepest_last_error()).find("tensors[0].exp_avg_sq") != std::string::npos;
  return {status == STEEPEST_E_INVALID_ARGUMENT && named && same_bits(arrays, before),
          steepest_last_error()};
}

}  // namespace

void add_vector_checks(std::vector<check>& checks) {
  const std::vector<steepest_isa> levels = chosen_levels();
  for (const steepest_isa isa : levels) {
    const std::string level = steepest_isa_name(isa);
    checks.push_back(
        {level, "AdamW f32 against long double", [=] { return adamw_accuracy<float>(isa); }});
    checks.push_back(
        {level, "AdamW f64 against long double", [=] { return adamw_accuracy<double>(isa); }});
    checks.push_back(
        {level, "AdamW: the same bits for threads and positions", [=] { return adamw_bits(isa); }});
    checks.push_back({level, "gradient norm against long double", [=] { return grad_norm(isa); }});
  }
  checks.push_back({"all levels", "AdamW: the same bits with STEEPEST_FLAG_CONSISTENT",
                    [=] { return consistent_bits(levels); }});
  checks.push_back({"any level", "a null pointer is refused and nothing written", refusal});
}

}  // namespace tool
