// SPDX-License-Identifier: Apache-2.0
//
// steepest_muon_step on any list of matrices, with blocks, strides, narrow storage, workspaces that
// just do.
#include "matrix.hpp"
#include "target.hpp"

namespace steepest_fuzz {
namespace {

struct config_given : given<steepest_muon_config> {
  msign_given msign;
  bool has_msign = false;

  bool consistent() const {
    return (seen.flags & STEEPEST_FLAG_CONSISTENT) != 0 || (has_msign && msign.consistent());
  }
};

config_given some_config(choices& input, memory& seen) {
  steepest_muon_config c = STEEPEST_MUON_CONFIG_INIT;
  c.flags = input.raw<std::uint8_t>() & input.raw<std::uint8_t>() & 0x3f;
  if (input.rarely(4)) c.flags |= STEEPEST_FLAG_CONSISTENT;
  if (input.rarely(64)) c.flags ^= std::uint64_t{1} << input.below(64);
  c.lr = input.number({1e-3, 0.1, 0, 1});
  c.momentum = input.number({0.95, 0, 0.5});
  c.weight_decay = input.number({1e-2, 0, 1});
  c.scale_value = input.number({0.2, 0, 1});
  c.grad_scale = input.number({1, 0.5, -1, 0});
  c.step = input.integer({1, 2, 10, 1000});
  c.seed = input.raw<std::uint16_t>();
  c.momentum_kind = static_cast<std::int32_t>(input.integer({0, 1}));
  c.scale_mode = static_cast<std::int32_t>(input.integer({0, 1, 2, 3, 4, 5}));
  msign_given msign;
  const bool has_msign = input.rarely(3);
  if (has_msign) {
    msign = some_msign_config(input, seen);
    c.msign = msign.pointer;
  }
  if (input.even_chance()) c.skipped = seen.object<std::int32_t>(memory::output, 77);
  config_given result = {
      hand_over(input, seen, memory::input, steepest_muon_config STEEPEST_MUON_CONFIG_INIT, c),
      msign};
  const steepest_muon_config& k = result.seen;
  result.has_msign = k.msign != nullptr;
  const auto not_negative = [](double x) { return x >= 0 && x <= DBL_MAX; };
  result.rule =
      worse(result.rule,
            refuse_if((k.flags & ~(std::uint64_t{0x3f} | STEEPEST_FLAG_CONSISTENT)) != 0 ||
                      !not_negative(k.lr) || !(k.momentum >= 0 && k.momentum < 1) ||
                      !not_negative(k.weight_decay) || !not_negative(k.scale_value) ||
                      !not_negative(std::fabs(k.grad_scale)) || k.step < 1 || k.momentum_kind < 0 ||
                      k.momentum_kind > 1 || k.scale_mode < 0 || k.scale_mode > 5));
  if (result.has_msign) result.rule = worse(result.rule, msign.rule);
  const double moderate = 1e6;
  if (k.lr > moderate || k.weight_decay > moderate || k.scale_value > moderate ||
      std::fabs(k.grad_scale) > moderate)
    result.rule = worse(result.rule, verdict::either);
  return result;
}

// A tensor's matrices by the contract; the flag says whether it is used, and written.
struct use {
  matrix m;
  bool used, written, typed, may_be_q8;
};

std::vector<use> uses_of(const steepest_muon_tensor& t, std::uint64_t flags) {
  const bool emit_delta = (flags & STEEPEST_MUON_EMIT_DELTA) != 0;
  const auto of = [&](const void* data, std::int64_t ld, steepest_dtype dtype) -> matrix {
    return {const_cast<void*>(data), t.rows, t.cols, ld != 0 ? ld : t.cols, dtype};
  };
  const bool coded = is_q8(t.momentum_dtype);
  const bool dynamic = t.momentum_dtype == STEEPEST_Q8_DYNAMIC;
  const std::int64_t scales =
      shape_rule(t.rows, t.cols) == verdict::refuse || t.rows == 0 || t.cols == 0
          ? 1
          : (t.rows * t.cols - 1) / (dynamic ? 256 : 32) + 1;
  return {{of(t.param, t.param_ld, t.param_dtype), true, !emit_delta, true, false},
          {of(t.grad, t.grad_ld, t.grad_dtype), true, false, true, false},
          {of(t.momentum, t.momentum_ld, t.momentum_dtype), true, true, true, true},
          {of(t.delta, t.delta_ld, t.delta_dtype), emit_delta, true, true, false},
          {of(t.residual, t.param_ld,
              t.residual_kind == STEEPEST_RESIDUAL_NEAREST8 ? STEEPEST_Q8_DYNAMIC : STEEPEST_BF16),
           t.residual_kind != STEEPEST_RESIDUAL_NONE, true, false, false},
          {of(t.param_copy, t.param_copy_ld, t.param_copy_dtype), t.param_copy != nullptr, true,
           true, false},
          {{t.momentum_scales, 1, scales, scales, dynamic ? STEEPEST_F32 : STEEPEST_F16},
           coded,
           true,
           false,
           false}};
}

verdict rule_of_tensor(const steepest_muon_tensor& t, std::uint64_t flags,
                       const std::vector<use>& uses) {
  const bool emit_delta = (flags & STEEPEST_MUON_EMIT_DELTA) != 0;
  const bool f64 = t.param_dtype == STEEPEST_F64;
  if (t.reserved != 0 || shape_rule(t.rows, t.cols) == verdict::refuse || t.fan_out < 0 ||
      t.fan_in < 0)
    return verdict::refuse;
  for (const use& u : uses)
    if (u.used && u.typed) {
      const bool plain = is_plain(u.m.dtype) && (u.m.dtype == STEEPEST_F64) == f64;
      if (!plain && !(u.may_be_q8 && is_q8(u.m.dtype) && !f64)) return verdict::refuse;
    }
  const bool residual = t.residual_kind != STEEPEST_RESIDUAL_NONE;
  const bool kahan = t.residual_kind == STEEPEST_RESIDUAL_KAHAN;
  if (t.residual_kind < 0 || t.residual_kind > STEEPEST_RESIDUAL_KAHAN ||
      (residual && t.param_dtype != STEEPEST_BF16 && !(kahan && t.param_dtype == STEEPEST_F16)) ||
      (emit_delta && (residual || t.param_copy != nullptr)) || (t.param_copy != nullptr && f64) ||
      (is_q8(t.momentum_dtype) && t.momentum_ld != 0 && t.momentum_ld != t.cols) ||
      t.first_index < 0 || t.first_index > INT64_MAX - t.rows * t.cols)
    return verdict::refuse;
  // The blocks of a matrix without elements are no one's concern.
  if (t.rows == 0 || t.cols == 0) return verdict::accept;
  for (const use& u : uses)
    if (u.used && u.m.rule() == verdict::refuse) return verdict::refuse;
  if (t.block_axis != 0 && t.block_axis != 1) return verdict::refuse;
  if (t.blocks == nullptr) return refuse_if(t.block_count != 0);
  const std::int64_t side = t.block_axis == 0 ? t.rows : t.cols;
  if (t.block_count < 1 || t.block_count > side) return verdict::refuse;
  std::int64_t rest = side;
  for (std::int64_t i = 0; i < t.block_count; ++i) {
    if (t.blocks[i] < 1 || t.blocks[i] > rest) return verdict::refuse;
    rest -= t.blocks[i];
  }
  return refuse_if(rest != 0);
}

void add_blocks(choices& input, memory& seen, steepest_muon_tensor& t) {
  t.block_axis = input.rarely(32) ? input.of({-1, 2, INT32_MAX}) : input.of({0, 1});
  const std::int64_t side = t.block_axis == 0 ? t.rows : t.cols;
  std::vector<std::int64_t> blocks;
  for (std::int64_t rest = std::min(side, largest_side); rest > 0; rest -= blocks.back())
    blocks.push_back(1 + input.below(rest));
  if (input.rarely(8) && !blocks.empty())
    blocks[0] = input.integer({0, blocks[0] + 1, blocks[0] - 1, -1});
  t.block_count = static_cast<std::int64_t>(blocks.size());
  const auto bytes = static_cast<std::int64_t>(8 * blocks.size());
  auto* const place = static_cast<std::int64_t*>(seen.bytes(memory::input, bytes));
  if (bytes > 0) std::memcpy(place, blocks.data(), static_cast<std::size_t>(bytes));
  t.blocks = place;
  if (input.rarely(16)) t.block_count = input.of<std::int64_t>({0, -1, INT64_MAX, INT64_MIN});
  if (input.rarely(32)) t.blocks = nullptr;
}

steepest_muon_tensor some_tensor(choices& input, memory& seen, std::size_t struct_size,
                                 bool& exists) {
  steepest_muon_tensor t = STEEPEST_MUON_TENSOR_INIT;
  t.rows = some_side(input);
  t.cols = some_side(input);
  t.param_ld = some_stride(input, t.cols);
  t.grad_ld = some_stride(input, t.cols);
  t.delta_ld = some_stride(input, t.cols);
  t.param_copy_ld = some_stride(input, t.cols);
  t.param_dtype = some_dtype(input);
  const bool f64 = t.param_dtype == STEEPEST_F64;
  const auto dtype = [&] {
    if (f64) return input.rarely(32) ? some_dtype(input) : STEEPEST_F64;
    const steepest_dtype d = some_dtype(input);
    return d == STEEPEST_F64 && !input.rarely(8) ? STEEPEST_F32 : d;
  };
  t.grad_dtype = dtype();
  t.momentum_dtype = dtype();
  if (!f64 && input.rarely(4))
    t.momentum_dtype = input.of<steepest_dtype>({STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED});
  t.momentum_ld = is_q8(t.momentum_dtype) && !input.rarely(8) ? 0 : some_stride(input, t.cols);
  t.delta_dtype = dtype();
  forget(t, steepest_muon_tensor STEEPEST_MUON_TENSOR_INIT, struct_size);
  const content kind = some_content(input);
  exists = has_memory(t.rows, t.cols);
  const auto array = [&](memory::access how, std::int64_t ld, steepest_dtype d) {
    const matrix m = some_matrix(input, seen, how, t.rows, t.cols, ld, d, kind);
    exists &= m.exists() || m.rule() == verdict::refuse;
    return m.data;
  };
  t.param = array(memory::output, t.param_ld, t.param_dtype);
  t.grad = array(memory::input, t.grad_ld, t.grad_dtype);
  t.momentum = array(memory::output, t.momentum_ld, t.momentum_dtype);
  t.delta = array(memory::output, t.delta_ld, t.delta_dtype);
  if (is_q8(t.momentum_dtype)) {
    const bool dynamic = t.momentum_dtype == STEEPEST_Q8_DYNAMIC;
    const std::int64_t n = has_memory(t.rows, t.cols) ? t.rows * t.cols : 1;
    const std::int64_t scales = n / (dynamic ? 256 : 32) + 1;
    const steepest_dtype scale = dynamic ? STEEPEST_F32 : STEEPEST_F16;
    t.momentum_scales =
        some_buffer(input, seen, memory::output, scales * size_of(scale), size_of(scale));
    if (t.momentum_scales != nullptr) fill(input, kind, t.momentum_scales, scales, scale, true);
  }
  if (t.param_dtype == STEEPEST_BF16 && input.even_chance())
    t.residual_kind = static_cast<std::int32_t>(1 + input.below(4));
  if (input.rarely(32)) t.residual_kind = input.of({-1, 5, 4, 1, INT32_MAX});
  if (t.residual_kind != 0) {
    t.residual = array(memory::output, t.param_ld, STEEPEST_BF16);
    seen.holds(t.residual, 0);
  }
  if (input.rarely(4)) {
    t.param_copy_dtype = input.of({STEEPEST_BF16, STEEPEST_F16, STEEPEST_F32, STEEPEST_F64});
    forget(t, steepest_muon_tensor STEEPEST_MUON_TENSOR_INIT, struct_size);
    t.param_copy = array(memory::output, t.param_copy_ld, t.param_copy_dtype);
  }
  if (input.rarely(4)) t.fan_out = input.integer({0, 1, 100});
  if (input.rarely(4)) t.fan_in = input.integer({0, 1, 100});
  if (input.rarely(4)) add_blocks(input, seen, t);
  t.random_stream = input.raw<std::uint8_t>();
  if (input.rarely(4)) t.first_index = input.integer({0, 1, 256, 1 << 20});
  if (input.rarely(64)) t.reserved = 1;
  return t;
}

void run(const std::uint8_t* data, std::size_t size) {
  choices input(data, size);
  memory seen;
  config_given call_config = some_config(input, seen);
  if (input.rarely(16)) call_config = {};
  const std::int64_t n = input.rarely(4) ? input.below(4) : 1;
  const std::size_t struct_size = some_struct_size<steepest_muon_tensor>(input);
  std::vector<steepest_muon_tensor> tensors;
  std::vector<config_given> configs;
  bool exist = true;
  for (std::int64_t i = 0; i < n; ++i) {
    bool exists = true;
    tensors.push_back(some_tensor(input, seen, struct_size, exists));
    exist &= exists;
    configs.push_back(call_config);
    if (input.rarely(4)) {
      configs.back() = some_config(input, seen);
      tensors.back().config = configs.back().pointer;
    }
  }
  const auto array =
      hand_over(input, seen, memory::input, steepest_muon_tensor STEEPEST_MUON_TENSOR_INIT, tensors,
                struct_size);
  std::int64_t count = n;
  const steepest_muon_tensor* list = n > 0 ? array[0].pointer : nullptr;
  if (input.rarely(64)) count = input.of<std::int64_t>({-1, INT64_MIN, INT64_MAX});
  if (input.rarely(64)) list = nullptr;

  // The contract.
  verdict rule = worse(refuse_if(count != n || (list == nullptr && count != 0)), rule_of(array));
  if (call_config.pointer != nullptr) rule = worse(rule, call_config.rule);
  std::vector<std::vector<use>> uses;
  std::vector<range> ranges;
  bool consistent = true, svd = false;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto index = static_cast<std::size_t>(i);
    const steepest_muon_tensor& t = array[index].seen;
    if (t.config == nullptr) configs[index] = call_config;
    const config_given& config = configs[index];
    if (config.pointer == nullptr) rule = verdict::refuse;
    uses.push_back(uses_of(t, config.seen.flags));
    consistent &= config.consistent();
    if (config.has_msign) {
      svd |= config.msign.seen.method == STEEPEST_MSIGN_SVD;
      const steepest_dtype work = t.param_dtype == STEEPEST_F64 ? STEEPEST_F64 : STEEPEST_F32;
      rule = worse(rule, rule_in_use(config.msign.seen, work, config.consistent(), false));
    }
    rule = worse(rule, worse(config.rule, rule_of_tensor(t, config.seen.flags, uses.back())));
    // Factors of the step that a wild size makes large.
    if (t.fan_out > 1 << 20 || t.fan_in > 1 << 20) rule = worse(rule, verdict::either);
    if (rule == verdict::refuse || t.rows == 0 || t.cols == 0) continue;
    for (const use& u : uses.back())
      if (u.used) ranges.push_back(u.m.bytes(u.written, i));
  }
  if (rule != verdict::refuse && !exist) return;

  callback_context context(some_isa(input));
  auto* const bytes = seen.object<std::size_t>(memory::output, std::size_t{0});
  const steepest_status sized = watched("muon_workspace_size", seen, [&] {
    return steepest_muon_workspace_size(context.context, call_config.pointer, list, count, bytes);
  });
  expect(rule, sized, "muon_workspace_size");
  const verdict overlaps = rule != verdict::refuse ? overlap_rule(ranges) : verdict::accept;
  rule = worse(rule, overlaps);
  const workspace_given workspace = sized == STEEPEST_OK && n > 0 && *bytes > 0
                                        ? some_workspace(input, seen, *bytes)
                                        : workspace_given{};
  rule = worse(rule, workspace.rule);
  std::vector<given<steepest_step_stats>> stats;
  if (input.even_chance()) {
    const steepest_step_stats init = STEEPEST_STEP_STATS_INIT;
    stats = hand_over(input, seen, memory::output, init,
                      std::vector<steepest_step_stats>(static_cast<std::size_t>(n), init));
    if (n > 0) rule = worse(rule, rule_of(stats));
  }
  auto* const results = stats.empty() ? nullptr : stats[0].pointer;
  const auto step = [&](steepest_context* in) {
    return steepest_muon_step(in, call_config.pointer, list, count, workspace.pointer, results);
  };
  if (input.rarely(8)) context.break_one(input);
  const steepest_status status = watched("muon_step", seen, [&] { return step(context.context); });
  if (!has_answer(context, status, rule, "muon_step")) return;
  for (std::int64_t i = 0; i < n && overlaps == verdict::accept; ++i) {
    const auto index = static_cast<std::size_t>(i);
    const steepest_muon_tensor& t = array[index].seen;
    if (t.rows == 0 || t.cols == 0) continue;
    const bool failed =
        status != STEEPEST_OK && (n == 1 || (results != nullptr && stats[index].struct_size >= 16 &&
                                             stats[index].pointer->status != STEEPEST_OK));
    for (const use& u : uses[index])
      if (u.used) {
        const range r = u.m.bytes(u.written, i);
        REQUIRE(gaps_unchanged(seen, r), "wrote between rows");
        if (failed) REQUIRE(rows_unchanged(seen, r), "failed and wrote tensors[%d]", int(i));
      }
  }
  if (svd) return;
  const auto first = seen.contents();
  const auto first_numbers = seen.numbers();
  const bool other_level = consistent && workspace.pointer == nullptr && input.even_chance();
  steepest_context* const other =
      plain_context(other_level ? STEEPEST_ISA_GENERIC : steepest_context_isa(context.context));
  seen.restore();
  REQUIRE(step(other) == status, "another status the second time");
  if (other_level)
    REQUIRE(seen.numbers() == first_numbers, "other bits on the generic level: %s",
            memory::difference(seen.numbers(), first_numbers).c_str());
  else
    REQUIRE(seen.contents() == first, "other bits the second time: %s",
            memory::difference(seen.contents(), first).c_str());
}

const registration registered("muon", run);

}  // namespace
}  // namespace steepest_fuzz
