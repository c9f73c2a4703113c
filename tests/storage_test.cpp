// SPDX-License-Identifier: Apache-2.0
//
// Storage types. The step on narrow buffers is by contract the fp32 step on the widened values,
// with each result rounded once. So the f32 step, which the other tests hold against the oracle,
// and a rounding that is written here from the definition of the formats give every expected bit.
// Where exp_avg has 16 bits, some kernels use shorter constants: there what is rounded may be some
// ulp of fp32 away from the f32 step, which one result in thousands shows.
#include <array>

#include "formats.hpp"

namespace steepest_test {
namespace {

struct mix {
  const format *param, *grad, *exp_avg, *exp_avg_sq, *delta;
  std::string name() const {
    return std::string(param->name) + " " + grad->name + " " + exp_avg->name + " " +
           exp_avg_sq->name + " -> " + delta->name;
  }
};

// All 81 mixes of param, grad, exp_avg, exp_avg_sq; the delta's type goes round.
std::vector<mix> all_mixes() {
  std::vector<mix> mixes;
  for (const format& p : formats)
    for (const format& g : formats)
      for (const format& m : formats)
        for (const format& v : formats)
          mixes.push_back({&p, &g, &m, &v, &formats[mixes.size() % 3]});
  return mixes;
}

// The mixes with shorter constants, where no flag asks for more than the plain step.
bool has_short_moments(const mix& t, std::uint64_t flags) {
  const auto is = [&t](steepest_dtype others, steepest_dtype exp_avg_sq) {
    return t.param->dtype == others && t.grad->dtype == others && t.exp_avg->dtype == others &&
           t.exp_avg_sq->dtype == exp_avg_sq;
  };
  const bool kernel = is(STEEPEST_BF16, STEEPEST_BF16) || is(STEEPEST_F16, STEEPEST_F16) ||
                      is(STEEPEST_BF16, STEEPEST_F32);
  return kernel && (flags & ~std::uint64_t{STEEPEST_FLAG_CONSISTENT}) == 0;
}

struct typed_tensor {
  typed_array param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, delta;

  typed_tensor(const mix& t, const adamw_arrays<float>& a, std::size_t offset = 0)
      : param(*t.param, a.param, offset), grad(*t.grad, a.grad, offset + 1),
        exp_avg(*t.exp_avg, a.exp_avg, offset), exp_avg_sq(*t.exp_avg_sq, a.exp_avg_sq, offset),
        max_exp_avg_sq(*t.exp_avg_sq, a.max_exp_avg_sq, offset), delta(*t.delta, a.delta, offset) {}

  steepest_adamw_tensor tensor(const mix& t, std::size_t count) {
    steepest_adamw_tensor x = STEEPEST_ADAMW_TENSOR_INIT;
    x.count = static_cast<std::int64_t>(count);
    x.param = param.data();
    x.grad = grad.data();
    x.exp_avg = exp_avg.data();
    x.exp_avg_sq = exp_avg_sq.data();
    x.max_exp_avg_sq = max_exp_avg_sq.data();
    x.delta = delta.data();
    x.param_dtype = t.param->dtype;
    x.grad_dtype = t.grad->dtype;
    x.exp_avg_dtype = t.exp_avg->dtype;
    x.exp_avg_sq_dtype = t.exp_avg_sq->dtype;
    x.delta_dtype = t.delta->dtype;
    return x;
  }
  adamw_arrays<float> widened() {
    adamw_arrays<float> a;
    a.param = param.values();
    a.grad = grad.values();
    a.exp_avg = exp_avg.values();
    a.exp_avg_sq = exp_avg_sq.values();
    a.max_exp_avg_sq = max_exp_avg_sq.values();
    a.delta = delta.values();
    return a;
  }
  bool intact() const {
    return param.intact() && grad.intact() && exp_avg.intact() && exp_avg_sq.intact() &&
           max_exp_avg_sq.intact() && delta.intact();
  }
  std::array<std::vector<unsigned char>, 6> contents() {
    return {param.contents(),      grad.contents(),           exp_avg.contents(),
            exp_avg_sq.contents(), max_exp_avg_sq.contents(), delta.contents()};
  }
};

constexpr std::uint64_t flag_sets[] = {
    0,
    STEEPEST_ADAMW_AMSGRAD | STEEPEST_ADAMW_MAXIMIZE | STEEPEST_ADAMW_SKIP_NONFINITE,
    STEEPEST_ADAMW_EMIT_DELTA | STEEPEST_ADAMW_CAUTIOUS_DECAY,
    STEEPEST_ADAMW_COUPLED_L2,
    STEEPEST_ADAMW_EMIT_DELTA | STEEPEST_ADAMW_AMSGRAD | STEEPEST_ADAMW_COUPLED_L2,
    STEEPEST_FLAG_CONSISTENT,
};

// Each value of `narrow` is one of `wide`, or a number within `tolerance` of it, rounded.
void expect_rounded(const format& f, const std::vector<float>& narrow,
                    const std::vector<float>& wide, const std::vector<double>& tolerance) {
  for (std::size_t i = 0; i < wide.size(); ++i) {
    EXPECT_LE(rounded(f, wide[i] - tolerance[i]), narrow[i]) << f.name << ", element " << i;
    EXPECT_GE(rounded(f, wide[i] + tolerance[i]), narrow[i]) << f.name << ", element " << i;
  }
}

// The tolerances are 4 ulp of fp32 of the terms that make up each result.
void expect_about_rounded_f32_step(const mix& t, const adamw_arrays<float>& before,
                                   const adamw_arrays<float>& wide, typed_tensor& narrow) {
  const std::size_t count = before.param.size();
  std::vector<double> of_m(count), of_v(count), of_param(count);
  for (std::size_t i = 0; i < count; ++i) {
    const double ulps = 4 * 0x1p-23;
    const double change = std::abs(double{wide.param[i]} - before.param[i]);
    of_m[i] = ulps * (std::abs(before.exp_avg[i]) + std::abs(before.grad[i])) + 0x1p-147;
    of_v[i] = ulps * wide.exp_avg_sq[i] + 0x1p-147;
    of_param[i] = ulps * (std::abs(before.param[i]) + 4 * change) + 0x1p-147;
    // Where m cancels, the change has m's error over the root.
    if (wide.exp_avg_sq[i] > 0) of_param[i] += 1e-3 * of_m[i] / std::sqrt(wide.exp_avg_sq[i]);
  }
  expect_rounded(*t.exp_avg, narrow.exp_avg.values(), wide.exp_avg, of_m);
  expect_rounded(*t.exp_avg_sq, narrow.exp_avg_sq.values(), wide.exp_avg_sq, of_v);
  expect_rounded(*t.param, narrow.param.values(), wide.param, of_param);
}

void expect_rounded_f32_step(steepest_context* context, const mix& t,
                             const steepest_adamw_config& config, std::size_t count,
                             random_source& random) {
  typed_tensor narrow(t, random_values(random, count), count % 7);
  const adamw_arrays<float> before = narrow.widened();
  adamw_arrays<float> wide = before;

  steepest_step_stats narrow_stats = STEEPEST_STEP_STATS_INIT;
  steepest_step_stats wide_stats = STEEPEST_STEP_STATS_INIT;
  const bool with_stats = count % 2 == 0;
  const steepest_adamw_tensor tensor = narrow.tensor(t, count);
  ASSERT_OK(
      steepest_adamw_step(context, &config, &tensor, 1, with_stats ? &narrow_stats : nullptr));
  ASSERT_OK(run_step(context, config, wide, with_stats ? &wide_stats : nullptr));

  EXPECT_TRUE(narrow.intact());
  if (has_short_moments(t, config.flags)) {
    expect_about_rounded_f32_step(t, before, wide, narrow);
    if (with_stats) expect_about_same(narrow_stats, wide_stats);
    return;
  }
  typed_tensor expected(t, wide);
  EXPECT_EQ(narrow.contents(), expected.contents());
  EXPECT_TRUE(same_bits(narrow_stats, wide_stats));
}

TEST(storage, every_mix_is_the_f32_step_rounded) {
  random_source random(21);
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa, .threads = 2});
    for (const mix& t : all_mixes()) {
      for (const std::uint64_t flags : flag_sets) {
        std::vector<std::size_t> counts{0, 1, 15, 16, 17, 67, 512, 1030};
        if (long_run()) {
          for (std::size_t n = 2; n <= 67; ++n) counts.push_back(n);
          counts.push_back(100003);
        }
        for (const std::size_t count : counts) {
          steepest_adamw_config config = make_config();
          config.flags = flags;
          config.step = 1 + random.below(100);
          config.grad_scale = 0.75;
          SCOPED_TRACE(testing::Message() << steepest_isa_name(isa) << ", " << t.name()
                                          << ", count " << count << ", flags " << flags);
          expect_rounded_f32_step(context.get(), t, config, count, random);
          if (testing::Test::HasFailure()) return;
        }
      }
      steepest_adamw_config config = make_config();
      expect_rounded_f32_step(context.get(), t, config, 65537, random);
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST(storage, consistent_flag_gives_the_same_bits_on_every_level) {
  for (const mix& t : all_mixes()) {
    random_source random(22);
    const adamw_arrays<float> values = random_values(random, 1003);
    std::array<std::vector<unsigned char>, 6> first;
    steepest_step_stats first_stats = STEEPEST_STEP_STATS_INIT;
    for (const steepest_isa isa : levels()) {
      const context_pointer context = make_context({.max_isa = isa});
      typed_tensor narrow(t, values);
      steepest_adamw_config config = make_config();
      config.flags = STEEPEST_FLAG_CONSISTENT;
      config.step = 7;
      steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
      const steepest_adamw_tensor tensor = narrow.tensor(t, 1003);
      ASSERT_OK(steepest_adamw_step(context.get(), &config, &tensor, 1, &stats));
      if (isa == levels().front()) {
        first = narrow.contents();
        first_stats = stats;
      }
      EXPECT_EQ(narrow.contents(), first) << t.name() << " " << steepest_isa_name(isa);
      EXPECT_TRUE(same_bits(stats, first_stats)) << t.name() << " " << steepest_isa_name(isa);
    }
  }
}

// The same on every architecture too, and in every build: one number for all of it. A change of the
// number is a change of results, and belongs in the changelog.
TEST(storage, consistent_bits_are_those_of_this_release) {
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&hash](const void* data, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i)
      hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001b3;
  };
  const context_pointer context = make_context({.flags = STEEPEST_FLAG_CONSISTENT});
  random_source random(26);
  for (const std::uint64_t flags : flag_sets) {
    steepest_adamw_config config = make_config();
    config.flags = flags;
    for (const mix& t : all_mixes()) {
      config.step += 7;
      typed_tensor narrow(t, random_values(random, 1003));
      const steepest_adamw_tensor tensor = narrow.tensor(t, 1003);
      steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
      ASSERT_OK(steepest_adamw_step(context.get(), &config, &tensor, 1, &stats));
      for (const std::vector<unsigned char>& bytes : narrow.contents())
        add(bytes.data(), bytes.size());
      add(&stats.update_rms, sizeof(double));
      add(&stats.grad_rms, sizeof(double));
    }
    adamw_arrays<double> wide = random_arrays<double>(random, 1003, false);
    ASSERT_OK(run_step(context.get(), config, wide));
    for (const std::vector<double>* values : wide.all())
      add(values->data(), values->size() * sizeof(double));
  }
  EXPECT_EQ(hash, 4957020116201049300u);
}

// With beta1 = 0 the stored first moment is the gradient: a conversion from grad's type to
// exp_avg's. (A zero loses its sign on the way: 0 m is added.)
void convert(steepest_context* context, const format& from, const void* in, const format& to,
             void* out, std::size_t count) {
  std::vector<float> param(count), exp_avg_sq(count);
  steepest_adamw_config config = make_config();
  config.beta1 = 0;
  config.lr = 0;
  steepest_adamw_tensor x = STEEPEST_ADAMW_TENSOR_INIT;
  x.count = static_cast<std::int64_t>(count);
  x.param = param.data();
  x.grad = in;
  x.exp_avg = out;
  x.exp_avg_sq = exp_avg_sq.data();
  x.grad_dtype = from.dtype;
  x.exp_avg_dtype = to.dtype;
  ASSERT_OK(steepest_adamw_step(context, &config, &x, 1, nullptr));
}

TEST(storage, widening_is_exact_for_every_bit_pattern) {
  std::vector<std::uint16_t> patterns(65536);
  for (std::size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<std::uint16_t>(i);
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    for (const format& from : {bf16, f16}) {
      std::vector<float> got(patterns.size());
      convert(context.get(), from, patterns.data(), f32, got.data(), patterns.size());
      for (std::size_t i = 0; i < patterns.size(); ++i) {
        const double exact = decode(from, patterns[i]);
        ASSERT_TRUE(std::isnan(exact) ? std::isnan(got[i]) : got[i] == exact)
            << steepest_isa_name(isa) << " " << from.name << " " << i << ": " << got[i];
      }
    }
  }
}

// Every upper half of a float with the lower halves next to where roundings turn (all lower halves
// in the long form).
TEST(storage, narrowing_rounds_to_nearest_even_for_every_float) {
  std::vector<std::uint32_t> lower;
  if (long_run()) {
    for (std::uint32_t low = 0; low < 65536; low += 1) lower.push_back(low);
  } else {
    lower = {0, 1, 0xfff, 0x1000, 0x1001, 0x2fff, 0x3000, 0x3001, 0x7fff, 0x8000, 0x8001, 0xffff};
  }
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    for (const std::uint32_t low : lower) {
      std::vector<float> values(65536);
      for (std::uint32_t high = 0; high < values.size(); ++high) {
        const std::uint32_t bits = high << 16 | low;
        std::memcpy(&values[high], &bits, sizeof(bits));
      }
      for (const format& to : {bf16, f16}) {
        std::vector<std::uint16_t> got(values.size(), 0x5555);
        convert(context.get(), f32, values.data(), to, got.data(), values.size());
        for (std::size_t i = 0; i < values.size(); ++i) {
          if (std::isnan(values[i])) {
            ASSERT_TRUE(std::isnan(decode(to, got[i]))) << steepest_isa_name(isa) << to.name << i;
            continue;
          }
          const double exact = rounded(to, values[i]);
          ASSERT_EQ(decode(to, got[i]), exact)
              << steepest_isa_name(isa) << " " << to.name << " " << values[i];
        }
      }
    }
  }
}

TEST(storage, nonfinite_gradients_are_counted_and_skipped_in_every_type) {
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    for (const mix& t : all_mixes()) {
      random_source random(23);
      adamw_arrays<float> values = random_values(random, 700);
      values.grad[3] = INFINITY;
      values.grad[601] = NAN;
      values.grad[699] = -INFINITY;
      typed_tensor narrow(t, values);
      const auto before = narrow.contents();
      const steepest_adamw_tensor tensor = narrow.tensor(t, 700);
      std::int32_t skipped = 0;
      steepest_adamw_config config = make_config();
      config.flags = STEEPEST_ADAMW_SKIP_NONFINITE;
      config.skipped = &skipped;
      steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
      ASSERT_OK(steepest_adamw_step(context.get(), &config, &tensor, 1, &stats));
      EXPECT_EQ(skipped, 1);
      EXPECT_EQ(stats.nonfinite, 3);
      EXPECT_EQ(narrow.contents(), before);
      config.flags = 0;
      ASSERT_OK(steepest_adamw_step(context.get(), &config, &tensor, 1, &stats));
      EXPECT_EQ(skipped, 0);
      EXPECT_EQ(stats.nonfinite, 3) << t.name() << " " << steepest_isa_name(isa);
    }
  }
}

TEST(storage, grad_norm_of_narrow_vectors_is_that_of_the_widened) {
  random_source random(24);
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa, .threads = 2});
    for (const format& f : {bf16, f16}) {
      for (const std::size_t count : {0, 1, 31, 33, 70, 16385, 200003}) {
        std::vector<float> values(count);
        for (float& x : values) x = random.wide<float>(-14, 10);
        typed_array narrow(f, values);
        values = narrow.values();
        steepest_vector vectors[2] = {STEEPEST_VECTOR_INIT, STEEPEST_VECTOR_INIT};
        vectors[0].count = vectors[1].count = static_cast<std::int64_t>(count);
        vectors[0].data = narrow.data();
        vectors[0].dtype = f.dtype;
        vectors[1].data = values.data();
        double norm[2] = {-1, -1};
        for (int i = 0; i < 2; ++i) {
          ASSERT_OK(steepest_grad_norm(context.get(), &vectors[i], 1, &norm[i], nullptr));
        }
        EXPECT_TRUE(same_bits(norm[0], norm[1])) << f.name << " " << count;
      }
    }
  }
}

// A second moment in bf16 at beta2 = 0.999: 0.1 % of v is below half an ulp, so nothing decays.
TEST(storage, bf16_second_moment_stalls_at_beta2_0_999) {
  static constexpr std::size_t count = 512;
  struct outcome {
    double over_f32;        // mean of v, bf16 over f32
    double left_after_100;  // of v, after 100 steps without gradient
  };
  const auto train = [&](double beta2, int steps) {
    const mix narrow_mix = {&f32, &f32, &f32, &bf16, &f32};
    const mix wide_mix = {&f32, &f32, &f32, &f32, &f32};
    adamw_arrays<float> a(count);
    typed_tensor narrow(narrow_mix, a), wide(wide_mix, a);
    random_source random(25);
    steepest_adamw_config config = make_config();
    config.beta2 = beta2;
    const context_pointer context = make_context();
    const auto run = [&](typed_tensor& tensor, const mix& t) {
      const steepest_adamw_tensor x = tensor.tensor(t, count);
      EXPECT_OK(steepest_adamw_step(context.get(), &config, &x, 1, nullptr));
    };
    const auto mean = [](typed_array& v) {
      double sum = 0;
      for (const float x : v.values()) sum += static_cast<double>(x);
      return sum / static_cast<double>(count);
    };
    const auto fill = [&](bool noise) {
      auto* n = static_cast<float*>(narrow.grad.data());
      auto* w = static_cast<float*>(wide.grad.data());
      for (std::size_t i = 0; i < count; ++i)
        n[i] = w[i] = noise ? static_cast<float>(random.normal()) : 0.0F;
    };
    for (config.step = 1; config.step <= steps; ++config.step) {
      fill(true);
      run(narrow, narrow_mix);
      run(wide, wide_mix);
    }
    outcome result = {mean(narrow.exp_avg_sq) / mean(wide.exp_avg_sq), 0};
    const double before = mean(narrow.exp_avg_sq);
    fill(false);
    for (int i = 0; i < 100; ++i, ++config.step) run(narrow, narrow_mix);
    result.left_after_100 = mean(narrow.exp_avg_sq) / before;
    return result;
  };
  const outcome stalled = train(0.999, 12000);
  EXPECT_GT(stalled.over_f32, 2.0);
  EXPECT_EQ(stalled.left_after_100, 1.0);
  const outcome healthy = train(0.95, 1000);
  EXPECT_NEAR(healthy.over_f32, 1.0, 0.05);
  EXPECT_NEAR(healthy.left_after_100, std::pow(0.95, 100), 0.02);
  std::printf("bf16 v over f32 v: %.2f at beta2 = 0.999, %.3f at 0.95\n", stalled.over_f32,
              healthy.over_f32);
}

TEST(storage, f16_second_moment_underflows_below_6e_8) {
  const mix t = {&f32, &f32, &f32, &f16, &f32};
  adamw_arrays<float> a(1);
  a.grad[0] = 1e-4F;
  typed_tensor narrow(t, a);
  steepest_adamw_config config = make_config();
  const steepest_adamw_tensor tensor = narrow.tensor(t, 1);
  const context_pointer context = make_context();
  ASSERT_OK(steepest_adamw_step(context.get(), &config, &tensor, 1, nullptr));
  EXPECT_EQ(narrow.exp_avg_sq.values()[0], 0.0F);
}

// f64 goes with f64 alone, and the error names the field.
TEST(storage, mixes_with_f64_are_refused_by_name) {
  std::vector<double> memory(64, 1.0);
  const context_pointer context = make_context();
  const char* names[] = {"param_dtype", "grad_dtype", "exp_avg_dtype", "exp_avg_sq_dtype",
                         "delta_dtype"};
  for (const steepest_dtype other : {STEEPEST_F32, STEEPEST_BF16, STEEPEST_F16}) {
    for (std::size_t odd = 0; odd < 5; ++odd) {
      for (const bool odd_is_f64 : {false, true}) {
        steepest_adamw_tensor x = STEEPEST_ADAMW_TENSOR_INIT;
        steepest_dtype* fields[] = {&x.param_dtype, &x.grad_dtype, &x.exp_avg_dtype,
                                    &x.exp_avg_sq_dtype, &x.delta_dtype};
        for (std::size_t i = 0; i < 5; ++i)
          *fields[i] = (i == odd) == odd_is_f64 ? STEEPEST_F64 : other;
        x.count = 4;
        x.param = &memory[0];
        x.grad = &memory[8];
        x.exp_avg = &memory[16];
        x.exp_avg_sq = &memory[24];
        x.delta = &memory[32];
        steepest_adamw_config config = make_config();
        config.flags = STEEPEST_ADAMW_EMIT_DELTA;
        EXPECT_EQ(steepest_adamw_step(context.get(), &config, &x, 1, nullptr), STEEPEST_E_DTYPE);
        const char* named = names[odd == 0 ? 1 : odd];
        EXPECT_NE(std::strstr(steepest_last_error(), named), nullptr) << steepest_last_error();
      }
    }
  }
  for (const double x : memory) EXPECT_EQ(x, 1.0);
}

}  // namespace
}  // namespace steepest_test
