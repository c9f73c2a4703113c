// SPDX-License-Identifier: Apache-2.0
//
// msign by every method, and steps of Muon.
#pragma once

#include "sample_call.hpp"

namespace steepest_test {

struct method_sample {
  const char* name;
  std::int32_t method, steps;
  std::uint64_t flags;
  steepest_dtype compute;
};
inline constexpr method_sample method_samples[] = {
    {"auto", STEEPEST_MSIGN_AUTO, 0, 0, 0},
    {"newton-schulz", STEEPEST_MSIGN_NEWTON_SCHULZ, 0, 0, 0},
    {"gram", STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ, 0, 0, 0},
    {"gram with restarts", STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ, 8, 0, 0},
    {"rational, five poles", STEEPEST_MSIGN_RATIONAL, 5, 0, 0},
    {"halley", STEEPEST_MSIGN_HALLEY, 0, 0, 0},
    {"accurate", STEEPEST_MSIGN_ACCURATE, 0, 0, 0},
    {"svd", STEEPEST_MSIGN_SVD, 0, 0, 0},
};

inline steepest_msign_config sample_method(const method_sample& s) {
  steepest_msign_config config = STEEPEST_MSIGN_CONFIG_INIT;
  config.method = s.method;
  config.steps = s.steps;
  config.flags = s.flags;
  config.compute_dtype = s.compute;
  return config;
}

inline sample_call msign_call(const method_sample& s, steepest_dtype dtype, std::int64_t rows,
                              std::int64_t cols, std::int64_t count) {
  sample_call call;
  call.name = std::string(count == 1 ? "msign " : "msign_batched ") + s.name + " type " +
              std::to_string(dtype);
  call.uses_lapack = s.method == STEEPEST_MSIGN_SVD;
  call.uses_libm = true;  // Zolotarev's and Halley's coefficients
  random_source random(402);
  std::vector<std::size_t> x, out;
  for (std::int64_t i = 0; i < count; ++i) {
    x.push_back(add_sample(call.given, random, dtype, static_cast<std::size_t>(rows * (cols + 1))));
    out.push_back(
        add_sample(call.given, random, dtype, static_cast<std::size_t>(rows * (cols + 2))));
  }
  const std::size_t stats = call.given.add(std::vector<steepest_msign_stats>(
      static_cast<std::size_t>(count), STEEPEST_MSIGN_STATS_INIT));
  call.run = [=](steepest_context* context, placed_buffers& memory) {
    const steepest_msign_config config = sample_method(s);
    auto* const to = memory.at<steepest_msign_stats>(stats);
    if (count == 1)
      return steepest_msign(context, &config, rows, cols, dtype, memory.at(x[0]), cols + 1,
                            memory.at(out[0]), cols + 2, nullptr, to);
    std::vector<const void*> from;
    std::vector<void*> into;
    for (std::size_t i = 0; i < x.size(); ++i) {
      from.push_back(memory.at(x[i]));
      into.push_back(memory.at(out[i]));
    }
    return steepest_msign_batched(context, &config, rows, cols, dtype, from.data(), cols + 1,
                                  into.data(), cols + 2, count, nullptr, to);
  };
  return call;
}

struct muon_sample {
  const char* name;
  std::uint64_t flags;
  std::int32_t kind, scale, method;
  steepest_dtype param, grad, momentum;
  std::int32_t residual = STEEPEST_RESIDUAL_NONE;
  steepest_dtype copy = 0;
  std::vector<std::int64_t> blocks = {};  // shares of 10
  std::int32_t axis = 0;
};

inline const std::vector<muon_sample>& muon_samples() {
  constexpr steepest_dtype f32 = STEEPEST_F32, f64 = STEEPEST_F64, bf16 = STEEPEST_BF16,
                           f16 = STEEPEST_F16, q8 = STEEPEST_Q8_DYNAMIC,
                           companded = STEEPEST_Q8_COMPANDED;
  constexpr std::int32_t ema = STEEPEST_MOMENTUM_EMA, classic = STEEPEST_MOMENTUM_CLASSIC,
                         rms = STEEPEST_SCALE_MATCH_RMS, exact = STEEPEST_SCALE_EXACT_RMS,
                         best = STEEPEST_MSIGN_AUTO;
  constexpr std::uint64_t nesterov = STEEPEST_MUON_NESTEROV, skip = STEEPEST_MUON_SKIP_NONFINITE,
                          cautious = STEEPEST_MUON_CAUTIOUS_DECAY, delta = STEEPEST_MUON_EMIT_DELTA,
                          random = STEEPEST_MUON_STOCHASTIC_ROUNDING;
  constexpr std::int32_t none = STEEPEST_RESIDUAL_NONE;
  static const std::vector<muon_sample> all = {
      {"f32", nesterov, ema, rms, best, f32, f32, f32},
      {"f64 classic blocks",
       nesterov | cautious,
       classic,
       exact,
       best,
       f64,
       f64,
       f64,
       none,
       0,
       {3, 3, 4},
       0},
      {"bf16 columns skip", nesterov | skip, ema, exact, best, bf16, bf16, f32, none, 0, {5, 5}, 1},
      {"f16 delta newton-schulz", delta, ema, STEEPEST_SCALE_SQRT_MAX, STEEPEST_MSIGN_NEWTON_SCHULZ,
       f16, f32, bf16},
      {"gram", STEEPEST_MUON_MAXIMIZE, classic, STEEPEST_SCALE_NONE,
       STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ, f32, bf16, f32},
      {"halley", nesterov, ema, STEEPEST_SCALE_SQRT_OUT_IN, STEEPEST_MSIGN_HALLEY, f32, f32, f32},
      {"accurate", nesterov, ema, exact, STEEPEST_MSIGN_ACCURATE, f32, f32, f32},
      {"svd", 0, ema, rms, STEEPEST_MSIGN_SVD, f32, f32, f32},
      {"low16", nesterov, ema, rms, best, bf16, bf16, f32, STEEPEST_RESIDUAL_LOW16},
      {"kahan", nesterov, ema, rms, best, bf16, bf16, bf16, STEEPEST_RESIDUAL_KAHAN},
      {"stochastic", nesterov | random, ema, rms, best, bf16, bf16, bf16},
      {"q8 with a copy", nesterov, ema, rms, best, f32, f32, q8, none, bf16},
      {"companded blocks",
       nesterov | random,
       classic,
       exact,
       best,
       bf16,
       bf16,
       companded,
       STEEPEST_RESIDUAL_NEAREST8,
       0,
       {4, 6},
       0},
  };
  return all;
}

// A call on one matrix of rows x cols, and two of 7 x 11.
inline sample_call muon_call(const muon_sample& s, std::int64_t rows, std::int64_t cols) {
  sample_call call;
  call.name = std::string("muon_step ") + s.name;
  call.uses_lapack = s.method == STEEPEST_MSIGN_SVD;
  call.uses_libm = true;
  random_source random(403);
  struct places {
    std::int64_t rows, cols;
    std::size_t param, grad, momentum, delta, residual, copy, scales;
  };
  std::vector<places> all;
  for (int i = 0; i < 3; ++i) {
    places p{};
    p.rows = i == 0 ? rows : 7;
    p.cols = i == 0 ? cols : 11;
    const auto n = static_cast<std::size_t>(p.rows * p.cols);
    p.param = add_sample(call.given, random, s.param, n);
    p.grad = add_sample(call.given, random, s.grad, n);
    p.momentum = add_sample(call.given, random, s.momentum, n);
    if ((s.flags & STEEPEST_MUON_EMIT_DELTA) != 0)
      p.delta = add_sample(call.given, random, s.param, n);
    if (s.residual != STEEPEST_RESIDUAL_NONE) p.residual = add_residual(call.given, s.residual, n);
    if (s.copy != 0) p.copy = add_sample(call.given, random, s.copy, n);
    if (is_blocked(s.momentum)) p.scales = add_scales(call.given, random, s.momentum, n);
    all.push_back(p);
  }
  std::vector<std::int64_t> blocks = s.blocks;
  for (std::int64_t& block : blocks) block = block * (s.axis == 0 ? rows : cols) / 10;
  const std::size_t stats =
      call.given.add(std::vector<steepest_step_stats>(all.size(), STEEPEST_STEP_STATS_INIT));
  const std::size_t skipped = call.given.add(std::vector<std::int32_t>{-7});
  call.run = [=](steepest_context* context, placed_buffers& memory) {
    std::vector<steepest_muon_tensor> list;
    for (const places& p : all) {
      steepest_muon_tensor t = STEEPEST_MUON_TENSOR_INIT;
      t.rows = p.rows;
      t.cols = p.cols;
      t.param = memory.at(p.param);
      t.grad = memory.at(p.grad);
      t.momentum = memory.at(p.momentum);
      t.param_dtype = t.delta_dtype = s.param;
      t.grad_dtype = s.grad;
      t.momentum_dtype = s.momentum;
      if ((s.flags & STEEPEST_MUON_EMIT_DELTA) != 0) t.delta = memory.at(p.delta);
      t.residual_kind = s.residual;
      if (s.residual != STEEPEST_RESIDUAL_NONE) t.residual = memory.at(p.residual);
      if (s.copy != 0) {
        t.param_copy = memory.at(p.copy);
        t.param_copy_dtype = s.copy;
      }
      if (is_blocked(s.momentum)) t.momentum_scales = memory.at(p.scales);
      if (list.empty() && !blocks.empty()) {
        t.blocks = blocks.data();
        t.block_count = static_cast<std::int64_t>(blocks.size());
        t.block_axis = s.axis;
      }
      list.push_back(t);
    }
    steepest_msign_config method = STEEPEST_MSIGN_CONFIG_INIT;
    method.method = s.method;
    steepest_muon_config config = STEEPEST_MUON_CONFIG_INIT;
    config.flags = s.flags;
    config.momentum_kind = s.kind;
    config.scale_mode = s.scale;
    config.msign = &method;
    config.step = 5;
    config.seed = 11;
    config.skipped = memory.at<std::int32_t>(skipped);
    return steepest_muon_step(context, &config, list.data(), static_cast<std::int64_t>(list.size()),
                              nullptr, memory.at<steepest_step_stats>(stats));
  };
  return call;
}

}  // namespace steepest_test
