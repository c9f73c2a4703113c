// SPDX-License-Identifier: Apache-2.0
// The vectors of tests/conformance, whose README.md has the format.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "conformance_reader.hpp"
#include "support.hpp"

namespace {

using namespace steepest_test::vectors;
using arrays = std::map<std::string, array>;
using results = std::map<std::string, numbers>;

// Of all calls; null for the default one.
steepest_context* used_context = nullptr;

const std::map<std::string, std::int32_t>& constants() {
#define NAMED(prefix, name) \
  { #prefix #name, STEEPEST_##prefix##name }
  static const std::map<std::string, std::int32_t> values = {NAMED(MSIGN_, NEWTON_SCHULZ),
                                                             NAMED(MSIGN_, GRAM_NEWTON_SCHULZ),
                                                             NAMED(MSIGN_, RATIONAL),
                                                             NAMED(MSIGN_, SVD),
                                                             NAMED(MSIGN_, ACCURATE),
                                                             NAMED(COEF_, KELLER),
                                                             NAMED(COEF_, CLASSIC),
                                                             NAMED(COEF_, CUBIC),
                                                             NAMED(COEF_, YOU),
                                                             NAMED(, F32),
                                                             NAMED(, F64),
                                                             NAMED(, Q8_DYNAMIC),
                                                             NAMED(, Q8_COMPANDED),
                                                             NAMED(RESIDUAL_, LOW16),
                                                             NAMED(RESIDUAL_, NEAREST16),
                                                             NAMED(RESIDUAL_, NEAREST8),
                                                             NAMED(RESIDUAL_, KAHAN),
                                                             NAMED(MOMENTUM_, CLASSIC),
                                                             NAMED(SCALE_, MATCH_RMS),
                                                             NAMED(SCALE_, EXACT_RMS),
                                                             NAMED(SCALE_, NONE),
                                                             NAMED(SCALE_, SQRT_MAX1_OUT_IN),
                                                             NAMED(SCALE_, SQRT_OUT_IN),
                                                             NAMED(SCALE_, SQRT_MAX),
                                                             NAMED(SCHEDULE_, CONSTANT),
                                                             NAMED(SCHEDULE_, LINEAR),
                                                             NAMED(SCHEDULE_, COSINE),
                                                             NAMED(SCHEDULE_, INVERSE_SQRT),
                                                             NAMED(SCHEDULE_, INVERSE),
                                                             NAMED(SCHEDULE_, WARMUP_STABLE_DECAY),
                                                             NAMED(DECAY_, COSINE),
                                                             NAMED(DECAY_, ONE_MINUS_SQRT),
                                                             NAMED(REFINE_, SGD),
                                                             NAMED(REFINE_, ADAM)};
#undef NAMED
  return values;
}

// Sets a field that the case has.
template <class T>
void set(const json& arguments, const char* name, T& field) {
  if (arguments.contains(name)) field = arguments.at(name).get<T>();
}
void constant(const json& arguments, const char* name, const std::string& prefix,
              std::int32_t& field) {
  if (arguments.contains(name))
    field = constants().at(prefix + arguments.at(name).get<std::string>());
}
void flags(const json& arguments, const std::map<std::string, std::uint64_t>& bits,
           std::uint64_t& field) {
  if (!arguments.contains("flags")) return;
  field = 0;
  for (const json& flag : arguments.at("flags")) field |= bits.at(flag);
}

// Sets what a tensor has for an array of the case.
template <class Pointer>
void attach(arrays& buffers, const char* name, Pointer& pointer, steepest_dtype* dtype = nullptr,
            std::int64_t* ld = nullptr) {
  const auto found = buffers.find(name);
  if (found == buffers.end()) return;
  pointer = found->second.bytes.data();
  if (dtype != nullptr) *dtype = found->second.dtype;
  if (ld != nullptr) *ld = found->second.ld;
}

results step_results(const steepest_step_stats& stats, std::int32_t skipped) {
  return {{"stats.update_rms", {stats.update_rms}},
          {"stats.grad_rms", {stats.grad_rms}},
          {"stats.momentum_rms", {stats.momentum_rms}},
          {"stats.param_rms", {stats.param_rms}},
          {"stats.snr_update", {stats.snr_update}},
          {"stats.snr_momentum", {stats.snr_momentum}},
          {"stats.nonfinite", {static_cast<double>(stats.nonfinite)}},
          {"skipped", {static_cast<double>(skipped)}}};
}

// What both steps have of narrow storage but the state.
template <class Tensor>
void attach_narrow(const json& arguments, arrays& buffers, Tensor& tensor) {
  set(arguments, "random_stream", tensor.random_stream);
  set(arguments, "first_index", tensor.first_index);
  constant(arguments, "residual_kind", "RESIDUAL_", tensor.residual_kind);
  attach(buffers, "residual", tensor.residual);
  attach(buffers, "param_copy", tensor.param_copy, &tensor.param_copy_dtype);
}

results adamw(const json& arguments, arrays& buffers) {
  steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT;
  set(arguments, "lr", config.lr);
  set(arguments, "beta1", config.beta1);
  set(arguments, "beta2", config.beta2);
  set(arguments, "eps", config.eps);
  set(arguments, "weight_decay", config.weight_decay);
  set(arguments, "grad_scale", config.grad_scale);
  set(arguments, "step", config.step);
  set(arguments, "seed", config.seed);
  flags(arguments,
        {{"AMSGRAD", STEEPEST_ADAMW_AMSGRAD},
         {"MAXIMIZE", STEEPEST_ADAMW_MAXIMIZE},
         {"COUPLED_L2", STEEPEST_ADAMW_COUPLED_L2},
         {"CAUTIOUS_DECAY", STEEPEST_ADAMW_CAUTIOUS_DECAY},
         {"SKIP_NONFINITE", STEEPEST_ADAMW_SKIP_NONFINITE},
         {"EMIT_DELTA", STEEPEST_ADAMW_EMIT_DELTA},
         {"STOCHASTIC_ROUNDING", STEEPEST_ADAMW_STOCHASTIC_ROUNDING}},
        config.flags);
  steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
  set(arguments, "count", tensor.count);
  attach(buffers, "param", tensor.param, &tensor.param_dtype);
  attach(buffers, "grad", tensor.grad, &tensor.grad_dtype);
  attach(buffers, "exp_avg", tensor.exp_avg, &tensor.exp_avg_dtype);
  attach(buffers, "exp_avg_sq", tensor.exp_avg_sq, &tensor.exp_avg_sq_dtype);
  attach(buffers, "max_exp_avg_sq", tensor.max_exp_avg_sq);
  attach(buffers, "delta", tensor.delta, &tensor.delta_dtype);
  constant(arguments, "exp_avg_dtype", "", tensor.exp_avg_dtype);
  constant(arguments, "exp_avg_sq_dtype", "", tensor.exp_avg_sq_dtype);
  attach(buffers, "exp_avg_scales", tensor.exp_avg_scales);
  attach(buffers, "exp_avg_sq_scales", tensor.exp_avg_sq_scales);
  attach_narrow(arguments, buffers, tensor);
  std::int32_t skipped = 0;
  config.skipped = &skipped;
  steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
  EXPECT_OK(steepest_adamw_step(used_context, &config, &tensor, 1, &stats));
  return step_results(stats, skipped);
}

steepest_msign_config msign_config(const json& arguments) {
  steepest_msign_config config = STEEPEST_MSIGN_CONFIG_INIT;
  set(arguments, "steps", config.steps);
  constant(arguments, "method", "MSIGN_", config.method);
  constant(arguments, "coefficients", "COEF_", config.coefficients);
  constant(arguments, "compute_dtype", "", config.compute_dtype);
  return config;
}

results msign(const json& arguments, arrays& buffers) {
  const steepest_msign_config config = msign_config(arguments);
  const array& x = buffers.at("x");
  array& out = buffers.at("out");
  steepest_msign_stats stats = STEEPEST_MSIGN_STATS_INIT;
  EXPECT_OK(steepest_msign(used_context, &config, x.rows, x.cols, x.dtype, x.bytes.data(), x.ld,
                           out.bytes.data(), out.ld, nullptr, &stats));
  return {{"stats.rank", {static_cast<double>(stats.rank)}}};
}

results muon(const json& arguments, arrays& buffers) {
  steepest_muon_config config = STEEPEST_MUON_CONFIG_INIT;
  set(arguments, "lr", config.lr);
  set(arguments, "momentum", config.momentum);
  set(arguments, "weight_decay", config.weight_decay);
  set(arguments, "scale_value", config.scale_value);
  set(arguments, "grad_scale", config.grad_scale);
  set(arguments, "step", config.step);
  constant(arguments, "momentum_kind", "MOMENTUM_", config.momentum_kind);
  constant(arguments, "scale_mode", "SCALE_", config.scale_mode);
  flags(arguments,
        {{"NESTEROV", STEEPEST_MUON_NESTEROV},
         {"CAUTIOUS_DECAY", STEEPEST_MUON_CAUTIOUS_DECAY},
         {"EMIT_DELTA", STEEPEST_MUON_EMIT_DELTA},
         {"MAXIMIZE", STEEPEST_MUON_MAXIMIZE}},
        config.flags);
  const steepest_msign_config method = msign_config(arguments.value("msign", json::object()));
  config.msign = &method;
  steepest_muon_tensor tensor = STEEPEST_MUON_TENSOR_INIT;
  set(arguments, "rows", tensor.rows);
  set(arguments, "cols", tensor.cols);
  set(arguments, "fan_out", tensor.fan_out);
  set(arguments, "fan_in", tensor.fan_in);
  set(arguments, "block_axis", tensor.block_axis);
  const auto blocks = arguments.value("blocks", std::vector<std::int64_t>());
  if (!blocks.empty()) tensor.blocks = blocks.data();
  tensor.block_count = static_cast<std::int64_t>(blocks.size());
  attach(buffers, "param", tensor.param, &tensor.param_dtype, &tensor.param_ld);
  attach(buffers, "grad", tensor.grad, &tensor.grad_dtype, &tensor.grad_ld);
  attach(buffers, "momentum", tensor.momentum, &tensor.momentum_dtype, &tensor.momentum_ld);
  attach(buffers, "delta", tensor.delta, &tensor.delta_dtype, &tensor.delta_ld);
  constant(arguments, "momentum_dtype", "", tensor.momentum_dtype);
  attach(buffers, "momentum_scales", tensor.momentum_scales);
  attach_narrow(arguments, buffers, tensor);
  std::int32_t skipped = 0;
  config.skipped = &skipped;
  steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
  EXPECT_OK(steepest_muon_step(used_context, &config, &tensor, 1, nullptr, &stats));
  return step_results(stats, skipped);
}

steepest_schedule schedule(const json& arguments) {
  steepest_schedule result = STEEPEST_SCHEDULE_INIT;
  constant(arguments, "kind", "SCHEDULE_", result.kind);
  constant(arguments, "decay_shape", "DECAY_", result.decay_shape);
  set(arguments, "lr", result.lr);
  set(arguments, "final_ratio", result.final_ratio);
  set(arguments, "warmup_steps", result.warmup_steps);
  set(arguments, "decay_steps", result.decay_steps);
  return result;
}

// Functions of numbers, lists, vectors and matrices.
results value(const std::string& function, const json& arguments, arrays& buffers) {
  const auto n = [&](const char* name) { return arguments.value(name, 0.0); };
  const auto i = [&](const char* name) { return arguments.value(name, std::int64_t{0}); };
  const auto items = [&](const char* name) { return list(arguments.value(name, json::array())); };
  const numbers norms = items("grad_norms");
  const double* const per_step = norms.empty() ? nullptr : norms.data();
  const std::int64_t steps = i("total_steps");
  double r = 0;
  if (function == "scale_factor") {
    std::int32_t mode = 0;
    constant(arguments, "mode", "SCALE_", mode);
    EXPECT_OK(steepest_scale_factor(mode, n("value"), i("fan_out"), i("fan_in"), &r));
    return {{"out", {r}}};
  }
  if (function == "schedule_fill") {
    const steepest_schedule shape = schedule(arguments);
    numbers lr(static_cast<std::size_t>(steps));
    EXPECT_OK(steepest_schedule_fill(&shape, steps, lr.data()));
    return {{"lr", lr}};
  }
  if (function == "schedule_at") {
    const steepest_schedule shape = schedule(arguments);
    EXPECT_OK(steepest_schedule_at(&shape, steps, i("step"), &r));
    return {{"lr", {r}}};
  }
  if (function == "schedule_bound") {
    const numbers lr = items("lr");
    EXPECT_OK(steepest_schedule_bound(lr.data(), static_cast<std::int64_t>(lr.size()),
                                      n("distance"), n("grad_norm"), per_step, &r));
    return {{"bound", {r}}};
  }
  if (function == "schedule_optimal") {
    numbers lr(static_cast<std::size_t>(steps));
    EXPECT_OK(
        steepest_schedule_optimal(steps, n("distance"), n("grad_norm"), per_step, lr.data(), &r));
    return {{"lr", lr}, {"bound", {r}}};
  }
  if (function == "schedule_refine") {
    std::int32_t kind = 0;
    constant(arguments, "kind", "REFINE_", kind);
    numbers lr(norms.size());
    EXPECT_OK(steepest_schedule_refine(per_step, static_cast<std::int64_t>(norms.size()), kind,
                                       n("smoothing"), n("distance"), lr.data()));
    return {{"lr", lr}};
  }
  if (function == "adam_update_rms") {
    EXPECT_OK(steepest_adam_update_rms(n("beta1"), n("snr"), i("step"), &r));
    return {{"rms", {r}}};
  }
  if (function == "adam_update_rms_second_order") {
    EXPECT_OK(steepest_adam_update_rms_second_order(n("beta1"), n("beta2"), n("snr"), n("kurtosis"),
                                                    i("step"), &r));
    return {{"rms", {r}}};
  }
  if (function == "snr_from_update_rms") {
    EXPECT_OK(steepest_snr_from_update_rms(n("update_rms"), n("beta1"), i("step"), &r));
    return {{"snr", {r}}};
  }
  if (function == "snr_from_momentum") {
    EXPECT_OK(
        steepest_snr_from_momentum(n("momentum_rms"), n("grad_rms"), n("beta"), i("step"), &r));
    return {{"snr", {r}}};
  }
  if (function == "singular_entropy") {
    const numbers values = items("values");
    EXPECT_OK(
        steepest_singular_entropy(values.data(), static_cast<std::int64_t>(values.size()), &r));
    return {{"entropy", {r}}};
  }
  if (function == "singular_values" || function == "spectral_norm") {
    const array& x = buffers.at("x");
    numbers values(static_cast<std::size_t>(std::min(x.rows, x.cols)));
    EXPECT_OK(steepest_singular_values(used_context, x.rows, x.cols, x.dtype, x.bytes.data(), x.ld,
                                       values.data()));
    EXPECT_OK(
        steepest_spectral_norm(used_context, x.rows, x.cols, x.dtype, x.bytes.data(), x.ld, &r));
    return {{"values", values}, {"norm", {r}}};
  }
  if (function == "grad_norm" || function == "rms") {
    std::vector<steepest_vector> vectors;
    for (const auto& [name, buffer] : buffers) {
      steepest_vector vector = STEEPEST_VECTOR_INIT;
      vector.count = buffer.cols;
      vector.data = buffer.bytes.data();
      vector.dtype = buffer.dtype;
      vectors.push_back(vector);
    }
    std::int64_t nonfinite = 0;
    const auto call = function == "rms" ? steepest_rms : steepest_grad_norm;
    const auto count = static_cast<std::int64_t>(vectors.size());
    EXPECT_OK(call(used_context, vectors.data(), count, &r, &nonfinite));
    return {{"norm", {r}}, {"rms", {r}}, {"nonfinite", {static_cast<double>(nonfinite)}}};
  }
  ADD_FAILURE() << "unknown function " << function;
  return {};
}

results q8(const std::string& function, const json& arguments, arrays& buffers) {
  steepest_dtype dtype = 0;
  constant(arguments, "dtype", "", dtype);
  const auto count = arguments.at("count").get<std::int64_t>();
  const auto is_signed = arguments.value("is_signed", 0);
  if (function == "q8_scales") {
    std::int64_t scales = 0, bytes = 0;
    EXPECT_OK(steepest_q8_scales(dtype, count, &scales, &bytes));
    return {{"scales", {static_cast<double>(scales)}},
            {"scale_bytes", {static_cast<double>(bytes)}}};
  }
  std::uint8_t* const codes = buffers.at("codes").bytes.data();
  void* const scales = buffers.at("scales").bytes.data();
  void* const values = buffers.at("values").bytes.data();
  if (function == "q8_encode")
    EXPECT_OK(steepest_q8_encode(nullptr, dtype, is_signed, count, static_cast<float*>(values),
                                 codes, scales));
  else
    EXPECT_OK(steepest_q8_decode(nullptr, dtype, is_signed, count, codes, scales,
                                 static_cast<float*>(values)));
  return {};
}

void expect_agreement(const std::string& name, const numbers& got, const json& expected) {
  const numbers values = list(expected.at("values")), tolerances = list(expected.at("tolerance"));
  ASSERT_EQ(got.size(), values.size()) << name;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double tolerance = tolerances[tolerances.size() == 1 ? 0 : i];
    const bool near =
        std::isnan(values[i]) ? std::isnan(got[i]) : std::fabs(got[i] - values[i]) <= tolerance;
    EXPECT_TRUE(near) << name << '[' << i << "] is " << got[i] << " and not " << values[i]
                      << " within " << tolerance;
  }
}

// What a case has left in its buffers, and its other results.
struct outcome {
  std::map<std::string, std::vector<std::uint8_t>> buffers;
  results scalars;

  // Bit by bit, so that NaN is NaN.
  bool same_as(const outcome& other) const {
    if (buffers != other.buffers || scalars.size() != other.scalars.size()) return false;
    for (const auto& [name, values] : scalars)
      if (!steepest_test::same_bits(values, other.scalars.at(name))) return false;
    return true;
  }
};

outcome run(const json& one) {
  const std::string function = one.at("function");
  const json& arguments = one.at("arguments");
  arrays buffers;
  const json given_arrays = one.value("arrays", json::object());
  for (const auto& [name, given] : given_arrays.items())
    buffers.emplace(name, array(given, arguments));
  const arrays before = buffers;
  const results scalars = function == "adamw_step"      ? adamw(arguments, buffers)
                          : function == "muon_step"     ? muon(arguments, buffers)
                          : function == "msign"         ? msign(arguments, buffers)
                          : function.starts_with("q8_") ? q8(function, arguments, buffers)
                                                        : value(function, arguments, buffers);
  for (const auto& [name, expected] : one.at("expected").items()) {
    const auto buffer = buffers.find(name);
    expect_agreement(name, buffer != buffers.end() ? buffer->second.dense() : scalars.at(name),
                     expected);
  }
  for (const auto& [name, buffer] : buffers) {
    EXPECT_TRUE(buffer.gaps_untouched()) << name;
    if (name == "grad" || name == "x") {
      EXPECT_EQ(buffer.bytes, before.at(name).bytes) << name;
    }
  }
  outcome result = {{}, scalars};
  for (const auto& [name, buffer] : buffers) result.buffers[name] = buffer.bytes;
  return result;
}

bool uses_lapack(const json& one) {
  const std::string function = one.at("function"), text = one.at("arguments").dump();
  return function == "singular_values" || function == "spectral_norm" ||
         text.find("\"SVD\"") != std::string::npos;
}

class conformance : public testing::TestWithParam<const char*> {};

json cases(const std::string& name) {
  std::ifstream file(std::string(STEEPEST_CONFORMANCE) + "/" + name + ".json");
  json content = json::parse(file);
  EXPECT_EQ(content.at("format"), "steepest-conformance");
  EXPECT_EQ(content.at("version"), 1);
  EXPECT_GT(content.at("cases").size(), 10U);
  return content.at("cases");
}

TEST_P(conformance, vectors) {
  for (const json& one : cases(GetParam())) {
    SCOPED_TRACE(one.at("name").get<std::string>());
    run(one);
  }
}

// Each level gives what the files say; with STEEPEST_FLAG_CONSISTENT all give the same bits.
TEST_P(conformance, vectors_on_every_level) {
  const json all = cases(GetParam());
  std::vector<outcome> lowest;
  for (const steepest_isa isa : steepest_test::levels())
    for (const std::uint64_t flags : {std::uint64_t{0}, STEEPEST_FLAG_CONSISTENT}) {
      const auto context = steepest_test::make_context({.max_isa = isa, .flags = flags});
      used_context = context.get();
      for (std::size_t i = 0; i < all.size(); ++i) {
        SCOPED_TRACE(testing::Message() << all[i].at("name") << " on " << steepest_isa_name(isa)
                                        << (flags != 0 ? ", consistent" : ""));
        if (flags != 0 && uses_lapack(all[i])) continue;  // no such promise
        const outcome got = run(all[i]);
        if (flags == 0) continue;
        if (isa == steepest_test::levels().front()) {
          lowest.resize(all.size());
          lowest[i] = got;
        }
        EXPECT_TRUE(got.same_as(lowest[i]));
      }
      used_context = nullptr;
    }
}

INSTANTIATE_TEST_SUITE_P(files, conformance,
                         testing::Values("adamw", "msign", "muon", "schedule", "diagnostics",
                                         "q8_dynamic", "q8_companded", "narrow_masters",
                                         "narrow_moments"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
