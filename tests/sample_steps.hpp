// SPDX-License-Identifier: Apache-2.0
//
// Steps of AdamW in every kind of storage, at once and in chunks.
#pragma once

#include "sample_call.hpp"

namespace steepest_test {

struct adamw_sample {
  const char* name;
  std::uint64_t flags;
  steepest_dtype param, grad, exp_avg, exp_avg_sq;
  std::int32_t residual = STEEPEST_RESIDUAL_NONE;
  steepest_dtype copy = 0;
};

inline const std::vector<adamw_sample>& adamw_samples() {
  constexpr steepest_dtype f32 = STEEPEST_F32, f64 = STEEPEST_F64, bf16 = STEEPEST_BF16,
                           f16 = STEEPEST_F16, q8 = STEEPEST_Q8_DYNAMIC,
                           companded = STEEPEST_Q8_COMPANDED;
  constexpr std::uint64_t random = STEEPEST_ADAMW_STOCHASTIC_ROUNDING;
  static const std::vector<adamw_sample> all = {
      {"f32", 0, f32, f32, f32, f32},
      {"f64 amsgrad delta", STEEPEST_ADAMW_AMSGRAD | STEEPEST_ADAMW_EMIT_DELTA, f64, f64, f64, f64},
      {"f32 bf16 skip", STEEPEST_ADAMW_SKIP_NONFINITE | STEEPEST_ADAMW_CAUTIOUS_DECAY, f32, bf16,
       f32, f32},
      {"f32 f16 coupled", STEEPEST_ADAMW_COUPLED_L2 | STEEPEST_ADAMW_MAXIMIZE, f32, f16, f32, f32},
      {"bf16 moments f32", STEEPEST_ADAMW_AMSGRAD, bf16, bf16, f32, f32},
      {"bf16 throughout", 0, bf16, bf16, bf16, bf16},
      {"f16 throughout", 0, f16, f16, f16, f16},
      {"mixed", STEEPEST_ADAMW_CAUTIOUS_DECAY, f16, f32, bf16, f16},
      {"f32 with a copy", 0, f32, bf16, f32, f32, STEEPEST_RESIDUAL_NONE, bf16},
      {"low16", 0, bf16, bf16, f32, f32, STEEPEST_RESIDUAL_LOW16},
      {"nearest16", 0, bf16, bf16, f32, f32, STEEPEST_RESIDUAL_NEAREST16},
      {"nearest8", random, bf16, bf16, f32, f32, STEEPEST_RESIDUAL_NEAREST8},
      {"kahan", 0, bf16, bf16, bf16, bf16, STEEPEST_RESIDUAL_KAHAN},
      {"kahan f16", 0, f16, f16, f16, f32, STEEPEST_RESIDUAL_KAHAN},
      {"bf16 stochastic", random, bf16, bf16, bf16, bf16},
      {"q8", 0, f32, f32, q8, q8},
      {"q8 stochastic", random, bf16, bf16, q8, q8},
      {"companded", 0, f32, bf16, companded, companded},
      {"companded low16", random, bf16, bf16, companded, companded, STEEPEST_RESIDUAL_LOW16},
      {"q8 and companded", STEEPEST_ADAMW_MAXIMIZE, f32, f32, q8, companded},
  };
  return all;
}

// Where the buffers of a tensor are.
struct adamw_places {
  std::size_t param, grad, exp_avg, exp_avg_sq, largest, delta, residual, copy, exp_avg_scales,
      exp_avg_sq_scales, count;
};

inline steepest_adamw_tensor sample_tensor(const adamw_sample& s, const adamw_places& p,
                                           placed_buffers& memory) {
  steepest_adamw_tensor t = STEEPEST_ADAMW_TENSOR_INIT;
  t.count = static_cast<std::int64_t>(p.count);
  t.param = memory.at(p.param);
  t.grad = memory.at(p.grad);
  t.exp_avg = memory.at(p.exp_avg);
  t.exp_avg_sq = memory.at(p.exp_avg_sq);
  t.param_dtype = s.param;
  t.grad_dtype = s.grad;
  t.exp_avg_dtype = s.exp_avg;
  t.exp_avg_sq_dtype = s.exp_avg_sq;
  if ((s.flags & STEEPEST_ADAMW_AMSGRAD) != 0) t.max_exp_avg_sq = memory.at(p.largest);
  if ((s.flags & STEEPEST_ADAMW_EMIT_DELTA) != 0) t.delta = memory.at(p.delta);
  t.delta_dtype = s.param;
  t.residual_kind = s.residual;
  if (s.residual != STEEPEST_RESIDUAL_NONE) t.residual = memory.at(p.residual);
  if (s.copy != 0) {
    t.param_copy = memory.at(p.copy);
    t.param_copy_dtype = s.copy;
  }
  if (is_blocked(s.exp_avg)) t.exp_avg_scales = memory.at(p.exp_avg_scales);
  if (is_blocked(s.exp_avg_sq)) t.exp_avg_sq_scales = memory.at(p.exp_avg_sq_scales);
  t.random_stream = 3;
  return t;
}

// `tensors` of one call, of the first of which has `large` elements and the others 37. With
// `chunks` the step is made by begin, chunk and end, from the last chunk to the first.
inline sample_call adamw_call(const adamw_sample& s, std::size_t large, std::size_t tensors,
                              bool chunks) {
  sample_call call;
  call.name = std::string(chunks ? "adamw_chunk " : "adamw_step ") + s.name;
  random_source random(401);
  std::vector<adamw_places> places;
  for (std::size_t i = 0; i < tensors; ++i) {
    const std::size_t n = i == 0 ? large : 37;
    adamw_places p{};
    p.count = n;
    p.param = add_sample(call.given, random, s.param, n);
    p.grad = add_sample(call.given, random, s.grad, n);
    p.exp_avg = add_sample(call.given, random, s.exp_avg, n);
    p.exp_avg_sq = add_sample(call.given, random, s.exp_avg_sq, n, false);
    if ((s.flags & STEEPEST_ADAMW_AMSGRAD) != 0)
      p.largest = add_sample(call.given, random, s.exp_avg_sq, n, false);
    if ((s.flags & STEEPEST_ADAMW_EMIT_DELTA) != 0)
      p.delta = add_sample(call.given, random, s.param, n);
    if (s.residual != STEEPEST_RESIDUAL_NONE) p.residual = add_residual(call.given, s.residual, n);
    if (s.copy != 0) p.copy = add_sample(call.given, random, s.copy, n);
    if (is_blocked(s.exp_avg)) p.exp_avg_scales = add_scales(call.given, random, s.exp_avg, n);
    if (is_blocked(s.exp_avg_sq))
      p.exp_avg_sq_scales = add_scales(call.given, random, s.exp_avg_sq, n);
    places.push_back(p);
  }
  const std::vector<steepest_step_stats> stats(tensors, STEEPEST_STEP_STATS_INIT);
  std::vector<std::size_t> results;  // stats and `skipped`
  results.push_back(call.given.add(stats));
  results.push_back(call.given.add(std::vector<std::int32_t>{-7}));
  call.run = [s, places, results, chunks](steepest_context* context, placed_buffers& memory) {
    std::vector<steepest_adamw_tensor> list;
    for (const adamw_places& p : places) list.push_back(sample_tensor(s, p, memory));
    steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT;
    config.flags = s.flags;
    config.grad_scale = 0.25;
    config.step = 5;
    config.seed = 11;
    config.skipped = memory.at<std::int32_t>(results[1]);
    auto* const to = memory.at<steepest_step_stats>(results[0]);
    const auto count = static_cast<std::int64_t>(list.size());
    if (!chunks) return steepest_adamw_step(context, &config, list.data(), count, to);
    config.flags &= ~STEEPEST_ADAMW_SKIP_NONFINITE;
    steepest_adamw_plan* plan = nullptr;
    steepest_status status = steepest_adamw_begin(context, &config, list.data(), count, &plan);
    if (status != STEEPEST_OK) return plan != nullptr ? STEEPEST_E_INTERNAL : status;
    for (std::int64_t i = count - 1; i >= 0; --i) {
      const std::int64_t n = list[static_cast<std::size_t>(i)].count;
      // Several tiles, so that a chunk too is handed out.
      constexpr std::int64_t each = 8 * STEEPEST_ADAMW_CHUNK;
      for (std::int64_t first = n / each * each; first >= 0; first -= each)
        if (const auto failed =
                steepest_adamw_chunk(plan, i, first, std::min<std::int64_t>(each, n - first));
            failed != STEEPEST_OK)
          status = failed;
    }
    const steepest_status end = steepest_adamw_end(plan, status == STEEPEST_OK ? to : nullptr);
    return status != STEEPEST_OK ? status : end;
  };
  return call;
}

}  // namespace steepest_test
