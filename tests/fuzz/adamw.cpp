// SPDX-License-Identifier: Apache-2.0
//
// steepest_adamw_step, and the same in chunks: any config and list of tensors, and by the contract
// which of them are refused; the same bits by another executor, and where that is promised on
// another level.
#include <cfloat>
#include <cmath>

#include "ranges.hpp"
#include "target.hpp"

namespace steepest_fuzz {
namespace {

constexpr std::uint64_t known_flags = 0x7f | STEEPEST_FLAG_CONSISTENT;

struct config_given : given<steepest_adamw_config> {
  std::uint64_t flags() const { return seen.flags; }
};

config_given some_config(choices& input, memory& seen) {
  steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT;
  config.flags = input.raw<std::uint8_t>() & input.raw<std::uint8_t>() & 0x7f;
  if (input.rarely(4)) config.flags |= STEEPEST_FLAG_CONSISTENT;
  if (input.rarely(32)) config.flags ^= std::uint64_t{1} << input.below(64);
  if ((config.flags & STEEPEST_ADAMW_COUPLED_L2) != 0 && !input.rarely(8))
    config.flags &= ~STEEPEST_ADAMW_CAUTIOUS_DECAY;
  config.lr = input.number({1e-3, 0.1, 0, 1});
  config.beta1 = input.number({0.9, 0.95, 0, 0.5});
  config.beta2 = input.number({0.999, 0.95, 0, 0.5});
  config.eps = input.number({1e-8, 0, 1e-3, 1});
  config.weight_decay = input.number({1e-2, 0, 1});
  config.grad_scale = input.number({1, 0.5, -1, 0, 1024});
  config.step = input.integer({1, 2, 10, 1000, 1000000});
  config.seed = input.raw<std::uint16_t>();
  if (input.even_chance()) config.skipped = seen.object<std::int32_t>(memory::output, 77);
  config_given result = {hand_over(input, seen, memory::input,
                                   steepest_adamw_config STEEPEST_ADAMW_CONFIG_INIT, config)};
  const steepest_adamw_config& c = result.seen;
  const auto not_negative = [](double x) { return x >= 0 && x <= DBL_MAX; };
  const auto rate = [](double x) { return x >= 0 && x < 1; };
  const std::uint64_t both = STEEPEST_ADAMW_COUPLED_L2 | STEEPEST_ADAMW_CAUTIOUS_DECAY;
  result.rule =
      worse(result.rule, refuse_if((c.flags & ~known_flags) != 0 || (c.flags & both) == both ||
                                   !not_negative(c.lr) || !rate(c.beta1) || !rate(c.beta2) ||
                                   !not_negative(c.eps) || !not_negative(c.weight_decay) ||
                                   !not_negative(std::fabs(c.grad_scale)) || c.step < 1));
  // What is formed of them may be beyond the range of fp32.
  const double moderate = 1e12;
  if (c.lr > moderate || c.eps > moderate || c.weight_decay > moderate ||
      std::fabs(c.grad_scale) > moderate || c.beta1 > 0.9999 || c.beta2 > 0.9999)
    result.rule = worse(result.rule, verdict::either);
  return result;
}

// A buffer of a tensor as the contract has it.
struct use {
  const void* data;
  std::int64_t count;
  steepest_dtype dtype;  // by its size
  bool used, written;
};

std::vector<use> uses_of(const steepest_adamw_tensor& t, std::uint64_t flags) {
  const bool emit_delta = (flags & STEEPEST_ADAMW_EMIT_DELTA) != 0;
  const auto scales = [&](const void* data, steepest_dtype dtype) -> use {
    const std::int64_t block = dtype == STEEPEST_Q8_DYNAMIC ? 256 : 32;
    return {data, (t.count - 1) / block + 1,
            dtype == STEEPEST_Q8_DYNAMIC ? STEEPEST_F32 : STEEPEST_F16, is_q8(dtype), true};
  };
  return {
      {t.param, t.count, t.param_dtype, true, !emit_delta},
      {t.grad, t.count, t.grad_dtype, true, false},
      {t.exp_avg, t.count, t.exp_avg_dtype, true, true},
      {t.exp_avg_sq, t.count, t.exp_avg_sq_dtype, true, true},
      {t.max_exp_avg_sq, t.count, t.exp_avg_sq_dtype, (flags & STEEPEST_ADAMW_AMSGRAD) != 0, true},
      {t.delta, t.count, t.delta_dtype, emit_delta, true},
      {t.residual, t.count,
       t.residual_kind == STEEPEST_RESIDUAL_NEAREST8 ? STEEPEST_Q8_DYNAMIC : STEEPEST_BF16,
       t.residual_kind != STEEPEST_RESIDUAL_NONE, true},
      {t.param_copy, t.count, t.param_copy_dtype, t.param_copy != nullptr, true},
      scales(t.exp_avg_scales, t.exp_avg_dtype),
      scales(t.exp_avg_sq_scales, t.exp_avg_sq_dtype)};
}

verdict rule_of_types(const steepest_adamw_tensor& t, std::uint64_t flags) {
  const bool emit_delta = (flags & STEEPEST_ADAMW_EMIT_DELTA) != 0;
  const bool amsgrad = (flags & STEEPEST_ADAMW_AMSGRAD) != 0;
  const bool f64 = t.param_dtype == STEEPEST_F64;
  const auto plain = [&](steepest_dtype d) { return is_plain(d) && (d == STEEPEST_F64) == f64; };
  const auto moment = [&](steepest_dtype d) { return plain(d) || (is_q8(d) && !f64); };
  const bool residual = t.residual_kind != STEEPEST_RESIDUAL_NONE;
  const bool kahan = t.residual_kind == STEEPEST_RESIDUAL_KAHAN;
  return refuse_if(
      t.reserved != 0 || !plain(t.param_dtype) || !plain(t.grad_dtype) ||
      !moment(t.exp_avg_dtype) || !moment(t.exp_avg_sq_dtype) ||
      (amsgrad && is_q8(t.exp_avg_sq_dtype)) || (emit_delta && !plain(t.delta_dtype)) ||
      t.residual_kind < 0 || t.residual_kind > STEEPEST_RESIDUAL_KAHAN ||
      (residual && t.param_dtype != STEEPEST_BF16 && !(kahan && t.param_dtype == STEEPEST_F16)) ||
      (residual && emit_delta) || (t.param_copy != nullptr && emit_delta) ||
      (t.param_copy != nullptr && (f64 || !plain(t.param_copy_dtype))) || t.count < 0 ||
      t.first_index < 0 || t.first_index > INT64_MAX - std::max<std::int64_t>(t.count, 0));
}

// A list of tensors with all that it points to, and what the contract says of it.
struct call {
  config_given config;
  std::vector<given<steepest_adamw_tensor>> tensors;
  std::vector<config_given> configs;  // each tensor's
  std::int64_t count = 0;
  const steepest_adamw_tensor* array = nullptr;
  std::vector<given<steepest_step_stats>> stats;
  verdict rule = verdict::accept;  // without the stats
  bool consistent = true;
  std::uint64_t any_flags = 0;

  steepest_step_stats* results() const { return stats.empty() ? nullptr : stats[0].pointer; }
};

std::int64_t some_count(choices& input) {
  if (input.rarely(32)) return input.wild_size();
  if (input.rarely(16)) return STEEPEST_ADAMW_CHUNK * (1 + input.below(2)) + input.below(40) - 20;
  if (input.rarely(16)) return 0;
  return 1 + input.below(input.even_chance() ? 40 : 600);
}

steepest_adamw_tensor some_tensor(choices& input, memory& seen, std::size_t struct_size) {
  steepest_adamw_tensor t = STEEPEST_ADAMW_TENSOR_INIT;
  t.count = some_count(input);
  // Of more than there is the library must not touch any.
  const std::int64_t n = t.count < 0 || t.count > 40000 ? 8 : t.count;
  t.param_dtype = some_dtype(input);
  const bool f64 = t.param_dtype == STEEPEST_F64;
  const auto dtype = [&](bool moment) {
    if (f64) return input.rarely(32) ? some_dtype(input) : STEEPEST_F64;
    if (moment && input.rarely(3))
      return input.of<steepest_dtype>({STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED});
    const steepest_dtype d = some_dtype(input);
    return d == STEEPEST_F64 && !input.rarely(8) ? STEEPEST_F32 : d;
  };
  t.grad_dtype = dtype(false);
  t.exp_avg_dtype = dtype(true);
  t.exp_avg_sq_dtype = dtype(true);
  t.delta_dtype = dtype(false);
  forget(t, steepest_adamw_tensor STEEPEST_ADAMW_TENSOR_INIT, struct_size);
  const content kind = some_content(input);
  const auto array = [&](memory::access how, steepest_dtype d, bool positive = false) {
    void* const data = some_buffer(input, seen, how, n * size_of(d), size_of(d));
    if (data != nullptr) fill(input, kind, data, n, d, positive);
    seen.holds(data, d);
    return data;
  };
  t.param = array(memory::output, t.param_dtype);
  t.grad = array(memory::input, t.grad_dtype);
  t.exp_avg = array(memory::output, t.exp_avg_dtype);
  t.exp_avg_sq = array(memory::output, t.exp_avg_sq_dtype, true);
  t.max_exp_avg_sq = array(memory::output, t.exp_avg_sq_dtype, true);
  t.delta = array(memory::output, t.delta_dtype);
  const auto scales = [&](steepest_dtype d) {
    const steepest_dtype scale = d == STEEPEST_Q8_COMPANDED ? STEEPEST_F16 : STEEPEST_F32;
    const std::int64_t blocks = n / (d == STEEPEST_Q8_COMPANDED ? 32 : 256) + 1;
    void* const data =
        some_buffer(input, seen, memory::output, blocks * size_of(scale), size_of(scale));
    if (data != nullptr) fill(input, kind, data, blocks, scale, true);
    seen.holds(data, d == STEEPEST_Q8_COMPANDED ? STEEPEST_Q8_COMPANDED : scale);
    return data;
  };
  if (is_q8(t.exp_avg_dtype)) t.exp_avg_scales = scales(t.exp_avg_dtype);
  if (is_q8(t.exp_avg_sq_dtype)) t.exp_avg_sq_scales = scales(t.exp_avg_sq_dtype);
  if (t.param_dtype == STEEPEST_BF16 && input.even_chance())
    t.residual_kind = static_cast<std::int32_t>(1 + input.below(4));
  if (input.rarely(32)) t.residual_kind = input.of({-1, 5, 4, 1, INT32_MAX});
  if (t.residual_kind != STEEPEST_RESIDUAL_NONE) {
    t.residual = array(memory::output, STEEPEST_BF16);
    seen.holds(t.residual, 0);
  }
  if (input.rarely(4)) {
    t.param_copy_dtype = input.rarely(16) ? some_dtype(input)
                                          : input.of({STEEPEST_BF16, STEEPEST_F16, STEEPEST_F32});
    t.param_copy = array(memory::output, t.param_copy_dtype);
  }
  t.random_stream = input.raw<std::uint8_t>();
  if (input.even_chance()) t.first_index = input.integer({0, 1, 256, 1 << 20});
  if (input.rarely(64)) t.reserved = 1;
  return t;
}

call some_call(choices& input, memory& seen) {
  call c;
  c.config = some_config(input, seen);
  if (input.rarely(16)) c.config = {};
  const std::int64_t n = input.rarely(4) ? input.below(5) : 1;
  const std::size_t struct_size = some_struct_size<steepest_adamw_tensor>(input);
  std::vector<steepest_adamw_tensor> tensors;
  for (std::int64_t i = 0; i < n; ++i) {
    tensors.push_back(some_tensor(input, seen, struct_size));
    c.configs.push_back(c.config);
    if (input.rarely(4)) {
      if (i > 0 && input.even_chance())
        c.configs.back() = c.configs[static_cast<std::size_t>(input.below(i))];
      else
        c.configs.back() = some_config(input, seen);
      tensors.back().config = c.configs.back().pointer;
    }
  }
  c.tensors = hand_over(input, seen, memory::input,
                        steepest_adamw_tensor STEEPEST_ADAMW_TENSOR_INIT, tensors, struct_size);
  c.count = n;
  c.array = n > 0 ? c.tensors[0].pointer : nullptr;
  if (input.rarely(64)) c.count = input.of<std::int64_t>({-1, INT64_MIN, INT64_MAX});
  if (input.rarely(64)) c.array = nullptr;
  if (input.even_chance())
    c.stats = hand_over(
        input, seen, memory::output, steepest_step_stats STEEPEST_STEP_STATS_INIT,
        std::vector<steepest_step_stats>(static_cast<std::size_t>(n), STEEPEST_STEP_STATS_INIT));

  if (!c.stats.empty()) seen.holds(c.stats[0].pointer, STEEPEST_F64);

  // The contract.
  verdict rule = refuse_if(c.count != n || (c.array == nullptr && c.count != 0));
  rule = worse(rule, rule_of(c.tensors));
  if (c.config.pointer != nullptr) rule = worse(rule, c.config.rule);
  std::vector<range> ranges;
  for (std::int64_t i = 0; i < n; ++i) {
    const steepest_adamw_tensor& t = c.tensors[static_cast<std::size_t>(i)].seen;
    config_given& config = c.configs[static_cast<std::size_t>(i)];
    if (t.config == nullptr) config = c.config;  // also where it was cut off
    if (config.pointer == nullptr) {
      rule = verdict::refuse;
      continue;
    }
    c.any_flags |= config.flags();
    c.consistent &= (config.flags() & STEEPEST_FLAG_CONSISTENT) != 0;
    rule = worse(rule, worse(config.rule, rule_of_types(t, config.flags())));
    if (t.count <= 0) continue;
    for (const use& u : uses_of(t, config.flags())) {
      if (!u.used) continue;
      const std::int64_t size = size_of(u.dtype);
      if (u.data == nullptr || !is_aligned(u.data, size) || u.count > INT64_MAX / size)
        rule = verdict::refuse;
      else
        ranges.push_back({u.data, 1, u.count * size, 0, u.written, i});
    }
    // More than there is, and nothing for the library to see: not to be asked.
    if (t.count > 40000 && rule != verdict::refuse) c.count = -1, rule = verdict::refuse;
  }
  if (rule != verdict::refuse) rule = worse(rule, overlap_rule(ranges));
  c.rule = rule;
  return c;
}

void whole_step(choices& input, memory& seen, const call& c) {
  const auto step = [&](steepest_context* context) {
    return steepest_adamw_step(context, c.config.pointer, c.array, c.count, c.results());
  };
  const steepest_isa isa = some_isa(input);
  callback_context context(isa);
  if (input.rarely(8)) context.break_one(input);
  const steepest_status status = watched("adamw_step", seen, [&] { return step(context.context); });
  if (context.failed())
    REQUIRE(status == STEEPEST_E_INTERNAL || status == STEEPEST_E_OUT_OF_MEMORY,
            "a callback failed, the status is %d", status);
  else
    expect(worse(c.rule, rule_of(c.stats)), status, "adamw_step");
  if (status != STEEPEST_OK) {
    REQUIRE(status != STEEPEST_E_INTERNAL || context.executor.failed, "an internal error");
    REQUIRE(status != STEEPEST_E_NONFINITE && status != STEEPEST_E_NOT_CONVERGED, "%d", status);
    return;
  }
  const auto first = seen.contents();
  const auto first_numbers = seen.numbers();
  seen.restore();
  REQUIRE(step(plain_context(isa)) == STEEPEST_OK, "the second time");
  REQUIRE(seen.contents() == first, "other bits with another executor: %s",
          memory::difference(seen.contents(), first).c_str());
  if (!c.consistent) return;
  seen.restore();
  REQUIRE(step(plain_context(STEEPEST_ISA_GENERIC)) == STEEPEST_OK, "on the generic level");
  REQUIRE(seen.numbers() == first_numbers, "other bits on the generic level: %s",
          memory::difference(seen.numbers(), first_numbers).c_str());
}

void chunked_step(choices& input, memory& seen, const call& c) {
  callback_context context(some_isa(input));
  if (input.rarely(16)) context.break_one(input);
  auto** const plan = seen.object<steepest_adamw_plan*>(memory::output);
  const bool no_plan = input.rarely(64);
  const steepest_status began = watched("adamw_begin", seen, [&] {
    return steepest_adamw_begin(context.context, c.config.pointer, c.array, c.count,
                                no_plan ? nullptr : plan);
  });
  const bool skips = (c.any_flags & STEEPEST_ADAMW_SKIP_NONFINITE) != 0;
  if (context.failed())
    REQUIRE(began == STEEPEST_E_OUT_OF_MEMORY, "no memory, the status is %d", began);
  else
    expect(worse(c.rule, refuse_if(skips || no_plan)), began, "adamw_begin");
  if (began != STEEPEST_OK) return;
  steepest_adamw_plan* const open = *plan;

  constexpr std::int64_t size = STEEPEST_ADAMW_CHUNK;
  std::vector<std::vector<bool>> done;
  for (const auto& t : c.tensors)
    done.emplace_back(static_cast<std::size_t>((t.seen.count + size - 1) / size));
  const auto chunk = [&](std::int64_t tensor, std::int64_t first, std::int64_t count) {
    bool allowed = tensor >= 0 && tensor < c.count;
    if (allowed) {
      const std::int64_t all = c.tensors[static_cast<std::size_t>(tensor)].seen.count;
      allowed = first >= 0 && first <= all && count >= 0 && count <= all - first &&
                (first % size == 0 || first == all) && (count % size == 0 || first + count == all);
    }
    auto* const tiles = allowed ? &done[static_cast<std::size_t>(tensor)] : nullptr;
    const auto begin = static_cast<std::size_t>(first / size);
    const auto end = begin + (allowed ? static_cast<std::size_t>((count + size - 1) / size) : 0);
    for (std::size_t i = begin; allowed && i < end; ++i) allowed = !(*tiles)[i];
    const steepest_status status = watched(
        "adamw_chunk", seen, [&] { return steepest_adamw_chunk(open, tensor, first, count); });
    if (context.failed()) return;
    REQUIRE(status != STEEPEST_E_INTERNAL, "an internal error");
    expect(refuse_if(!allowed), status, "adamw_chunk");
    for (std::size_t i = begin; allowed && i < end; ++i) (*tiles)[i] = true;
  };
  const std::int64_t misuses = input.below(4);
  for (std::int64_t i = 0; i < misuses; ++i)
    chunk(input.integer({0, 1, -1, c.count}), input.integer({0, size, -size, 1, 2 * size}),
          input.integer({0, size, 1, -1, 2 * size}));
  const bool finishes = !input.rarely(8);
  for (std::size_t t = 0; finishes && t < done.size(); ++t)
    for (std::size_t i = done[t].size(); i-- > 0;)
      if (!done[t][i]) {
        const std::int64_t first = static_cast<std::int64_t>(i) * size;
        chunk(static_cast<std::int64_t>(t), first, std::min(size, c.tensors[t].seen.count - first));
      }
  bool all_done = true;
  for (const auto& tiles : done)
    for (const bool tile : tiles) all_done &= tile;
  const steepest_status ended =
      watched("adamw_end", seen, [&] { return steepest_adamw_end(open, c.results()); });
  if (!context.failed())
    expect(refuse_if(!all_done || rule_of(c.stats) == verdict::refuse), ended, "adamw_end");
}

void run(const std::uint8_t* data, std::size_t size) {
  choices input(data, size);
  memory seen;
  const call c = some_call(input, seen);
  if (input.rarely(3))
    chunked_step(input, seen, c);
  else
    whole_step(input, seen, c);
}

const registration registered("adamw", run);

}  // namespace
}  // namespace steepest_fuzz
