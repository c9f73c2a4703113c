// SPDX-License-Identifier: Apache-2.0
#include "muon/muon.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>

#include "api/msign_config.hpp"
#include "core/narrow.hpp"

namespace steepest::api {
namespace {

constexpr uint64_t known_flags = STEEPEST_MUON_NESTEROV | STEEPEST_MUON_CAUTIOUS_DECAY |
                                 STEEPEST_MUON_SKIP_NONFINITE | STEEPEST_MUON_EMIT_DELTA |
                                 STEEPEST_MUON_MAXIMIZE | STEEPEST_MUON_STOCHASTIC_ROUNDING |
                                 STEEPEST_FLAG_CONSISTENT;

constexpr int64_t buffers_per_tensor = 7;

steepest_status check_config(const argument& where, const steepest_muon_config& config) {
  if (config.flags & ~known_flags)
    return where.fail(STEEPEST_E_UNSUPPORTED, ".flags has unknown bits (0x%llx)",
                      static_cast<unsigned long long>(config.flags & ~known_flags));
  if (const auto status = check_numbers(
          where,
          {{"lr", config.lr, config.lr >= 0, "finite and not negative"},
           {"momentum", config.momentum, config.momentum >= 0 && config.momentum < 1, "in [0, 1)"},
           {"weight_decay", config.weight_decay, config.weight_decay >= 0,
            "finite and not negative"},
           {"scale_value", config.scale_value, config.scale_value >= 0, "finite and not negative"},
           {"grad_scale", config.grad_scale, true, "finite"}},
          config.step);
      status != STEEPEST_OK)
    return status;
  if (config.momentum_kind != STEEPEST_MOMENTUM_EMA &&
      config.momentum_kind != STEEPEST_MOMENTUM_CLASSIC)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".momentum_kind is %d: it must be 0 or 1",
                      static_cast<int>(config.momentum_kind));
  if (config.scale_mode < STEEPEST_SCALE_MATCH_RMS || config.scale_mode > STEEPEST_SCALE_SQRT_MAX)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".scale_mode is %d: it must be from 0 to 5",
                      static_cast<int>(config.scale_mode));
  return STEEPEST_OK;
}

// One buffer of a tensor under one config.
struct buffer_use {
  const char *field, *stride_field;
  const char* dtype_field;  // null for one whose type follows from another
  const void* data;
  int64_t rows, cols, stride;
  steepest_dtype dtype;
  bool used, written;
  bool may_be_q8 = false;
};

struct buffer_list {
  buffer_use uses[buffers_per_tensor];
};

buffer_list buffers_of(const steepest_muon_tensor& t, uint64_t flags) {
  const bool emit_delta = (flags & STEEPEST_MUON_EMIT_DELTA) != 0;
  const auto stride = [&](int64_t given) { return given != 0 ? given : t.cols; };
  // Bytes, or words of 16 bits, which a 16-bit type stands for.
  const steepest_dtype residual =
      residual_size(t.residual_kind) == 1 ? STEEPEST_Q8_COMPANDED : STEEPEST_BF16;
  const bool coded = is_q8(t.momentum_dtype);
  // One row; the sizes are checked before it is looked at.
  const int64_t scales = coded ? q8_blocks(t.momentum_dtype, t.rows * t.cols) : 0;
  const steepest_dtype scale =
      t.momentum_dtype == STEEPEST_Q8_DYNAMIC ? STEEPEST_F32 : STEEPEST_BF16;
  return {{{"param", "param_ld", "param_dtype", t.param, t.rows, t.cols, stride(t.param_ld),
            t.param_dtype, true, !emit_delta},
           {"grad", "grad_ld", "grad_dtype", t.grad, t.rows, t.cols, stride(t.grad_ld),
            t.grad_dtype, true, false},
           {"momentum", "momentum_ld", "momentum_dtype", t.momentum, t.rows, t.cols,
            stride(t.momentum_ld), t.momentum_dtype, true, true, true},
           {"delta", "delta_ld", "delta_dtype", t.delta, t.rows, t.cols, stride(t.delta_ld),
            t.delta_dtype, emit_delta, true},
           {"residual", "param_ld", nullptr, t.residual, t.rows, t.cols, stride(t.param_ld),
            residual, t.residual_kind != STEEPEST_RESIDUAL_NONE, true},
           {"param_copy", "param_copy_ld", "param_copy_dtype", t.param_copy, t.rows, t.cols,
            stride(t.param_copy_ld), t.param_copy_dtype, t.param_copy != nullptr, true},
           {"momentum_scales", "cols", nullptr, t.momentum_scales, 1, scales, scales, scale, coded,
            true}}};
}

steepest_status check_blocks(const argument& where, const steepest_muon_tensor& t) {
  if (t.block_axis != 0 && t.block_axis != 1)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".block_axis is %d: it must be 0 or 1",
                      static_cast<int>(t.block_axis));
  if (t.blocks == nullptr) {
    if (t.block_count == 0) return STEEPEST_OK;
    return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".blocks is null (block_count = %lld)",
                      static_cast<long long>(t.block_count));
  }
  const int64_t side = t.block_axis == 0 ? t.rows : t.cols;
  if (t.block_count < 1 || t.block_count > side)
    return where.fail(STEEPEST_E_SHAPE, ".block_count is %lld for %lld %s",
                      static_cast<long long>(t.block_count), static_cast<long long>(side),
                      t.block_axis == 0 ? "rows" : "cols");
  int64_t rest = side;
  for (int64_t i = 0; i < t.block_count; ++i) {
    if (t.blocks[i] < 1 || t.blocks[i] > rest)
      return where.fail(STEEPEST_E_SHAPE, ".blocks[%lld] is %lld, where 1 to %lld are left",
                        static_cast<long long>(i), static_cast<long long>(t.blocks[i]),
                        static_cast<long long>(rest));
    rest -= t.blocks[i];
  }
  if (rest == 0) return STEEPEST_OK;
  return where.fail(STEEPEST_E_SHAPE, ".blocks leave %lld of %lld %s over",
                    static_cast<long long>(rest), static_cast<long long>(side),
                    t.block_axis == 0 ? "rows" : "cols");
}

steepest_status check_narrow(const argument& where, const steepest_muon_tensor& t,
                             bool emit_delta) {
  if (const auto status = check_residual(where, t.residual_kind, t.param_dtype, emit_delta);
      status != STEEPEST_OK)
    return status;
  if (const auto status = check_param_copy(where, t.param_copy, t.param_dtype, emit_delta);
      status != STEEPEST_OK)
    return status;
  if (is_q8(t.momentum_dtype) && t.momentum_ld != 0 && t.momentum_ld != t.cols)
    return where.fail(STEEPEST_E_SHAPE,
                      ".momentum_ld is %lld: a momentum in %s has no gaps between its rows (cols "
                      "= %lld)",
                      static_cast<long long>(t.momentum_ld), dtype_name(t.momentum_dtype),
                      static_cast<long long>(t.cols));
  return check_first_index(where, t.first_index, t.rows * t.cols);
}

steepest_status check_tensor(const argument& where, const steepest_muon_tensor& t,
                             const steepest_muon_config& config) {
  if (t.reserved != 0)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".reserved is not 0 (%d)",
                      static_cast<int>(t.reserved));
  if (const auto status = check_msign_shape(where, t.rows, t.cols); status != STEEPEST_OK)
    return status;
  const struct {
    const char* name;
    int64_t size;
  } fans[] = {{"fan_out", t.fan_out}, {"fan_in", t.fan_in}};
  // The largest factors of the step, whatever the mode and the blocks.
  const auto side = static_cast<double>(std::max({t.rows, t.cols, t.fan_out, t.fan_in}));
  const double rate = config.lr * std::max(1.0, config.scale_value) * std::sqrt(side);
  const double limit = t.param_dtype == STEEPEST_F64 ? DBL_MAX : double{FLT_MAX};
  if (!(rate <= limit && config.lr * config.weight_decay <= limit &&
        std::fabs(config.grad_scale) <= limit))
    return where.fail(STEEPEST_E_INVALID_ARGUMENT,
                      ": lr, scale_value, weight_decay or grad_scale of its config overflows %s",
                      t.param_dtype == STEEPEST_F64 ? "f64" : "f32");
  for (const auto& fan : fans)
    if (fan.size < 0)
      return where.fail(STEEPEST_E_SHAPE, ".%s is negative (%lld)", fan.name,
                        static_cast<long long>(fan.size));
  const buffer_list buffers = buffers_of(t, config.flags);
  const bool f64 = t.param_dtype == STEEPEST_F64;
  for (const buffer_use& use : buffers.uses) {
    if (!use.used || use.dtype_field == nullptr) continue;
    if (!(use.may_be_q8 && is_q8(use.dtype)))
      if (const auto status = check_dtype(where, use.dtype_field, use.dtype); status != STEEPEST_OK)
        return status;
    if ((use.dtype == STEEPEST_F64) != f64)
      return where.fail(STEEPEST_E_DTYPE,
                        ".%s is %s, but param_dtype is %s: f64 goes with f64 alone",
                        use.dtype_field, dtype_name(use.dtype), dtype_name(t.param_dtype));
  }
  if (const auto status = check_narrow(where, t, (config.flags & STEEPEST_MUON_EMIT_DELTA) != 0);
      status != STEEPEST_OK)
    return status;
  if (t.rows == 0 || t.cols == 0) return STEEPEST_OK;
  for (const buffer_use& use : buffers.uses)
    if (use.used)
      if (const auto status = check_matrix(where, use.field, use.stride_field, use.data, use.rows,
                                           use.cols, use.stride, use.dtype);
          status != STEEPEST_OK)
        return status;
  return check_blocks(where, t);
}

// A tensor with the configs that hold for it. Neighbours that share a config check it once.
class tensor_list {
 public:
  steepest_status open(const char* function, const steepest_muon_config* call_config,
                       const steepest_muon_tensor* tensors, int64_t count) {
    function_ = function;
    if (const auto status = tensors_.open(function, "tensors", tensors, count);
        status != STEEPEST_OK)
      return status;
    call_config_ = call_config;
    source_ = call_config;
    return call_config == nullptr ? STEEPEST_OK : load_config(0, call_config);
  }

  steepest_status read(int64_t i) {
    tensor = STEEPEST_MUON_TENSOR_INIT;
    if (const auto status = tensors_.load(i, tensor); status != STEEPEST_OK) return status;
    const steepest_muon_config* source = tensor.config != nullptr ? tensor.config : call_config_;
    new_group = i == 0 || source != source_;
    source_ = source;
    if (source == nullptr)
      return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: config is null, and tensors[%lld].config too",
                  function_, static_cast<long long>(i));
    if (new_group)
      if (const auto status = load_config(i, source); status != STEEPEST_OK) return status;
    if (const auto status =
            check_msign_types(config_argument(i, ".config.msign"), msign, work_dtype());
        status != STEEPEST_OK)
      return status;
    return check_tensor(at(i), tensor, config);
  }

  argument at(int64_t i) const { return tensors_.at(i); }
  steepest_dtype work_dtype() const {
    return tensor.param_dtype == STEEPEST_F64 ? STEEPEST_F64 : STEEPEST_F32;
  }

  steepest_muon_tensor tensor = STEEPEST_MUON_TENSOR_INIT;
  steepest_muon_config config = STEEPEST_MUON_CONFIG_INIT;
  steepest_msign_config msign = STEEPEST_MSIGN_CONFIG_INIT;
  bool new_group = false;  // the config is another than that of the tensor before

 private:
  // `member`: ".config", or something in it.
  argument config_argument(int64_t i, const char* member) const {
    return source_ == call_config_ ? argument{function_, member + 1}
                                   : argument{function_, "tensors", i, member};
  }

  steepest_status load_config(int64_t i, const steepest_muon_config* source) {
    const argument where = config_argument(i, ".config");
    config = STEEPEST_MUON_CONFIG_INIT;
    if (const auto status = load_struct(where, source, config); status != STEEPEST_OK)
      return status;
    if (const auto status = check_config(where, config); status != STEEPEST_OK) return status;
    return load_msign_config(config_argument(i, ".config.msign"), config.msign, msign);
  }

  const char* function_ = "";
  struct_array<steepest_muon_tensor> tensors_;
  const steepest_muon_config* call_config_ = nullptr;
  const steepest_muon_config* source_ = nullptr;
};

// A config of the call, complete.
struct group {
  steepest_muon_config config;
  steepest_msign_config msign;
};

bool is_consistent(const group& of, const steepest_context& context) {
  return ((of.config.flags | of.msign.flags | context.flags) & STEEPEST_FLAG_CONSISTENT) != 0;
}

muon_job job_of(const steepest_muon_tensor& t, const group& of, const steepest_context& context) {
  const buffer_list buffers = buffers_of(t, of.config.flags);
  const bool emit_delta = (of.config.flags & STEEPEST_MUON_EMIT_DELTA) != 0;
  // Of one row, or of a buffer that is not used, it may be anything, and is never taken.
  const auto stride = [&](int64_t buffer) {
    const buffer_use& use = buffers.uses[buffer];
    return use.used && t.rows > 1 ? use.stride : t.cols;
  };
  return {t.rows,
          t.cols,
          t.fan_out,
          t.fan_in,
          {t.param,
           t.grad,
           t.momentum,
           emit_delta ? t.delta : nullptr,
           t.param_dtype,
           t.grad_dtype,
           t.momentum_dtype,
           t.delta_dtype,
           stride(0),
           stride(1),
           stride(2),
           stride(3),
           t.residual_kind,
           t.residual_kind != STEEPEST_RESIDUAL_NONE ? t.residual : nullptr,
           t.param_copy,
           t.param_copy_dtype,
           stride(5),
           t.momentum_scales,
           t.random_stream,
           t.first_index,
           0,
           t.cols},
          t.blocks,
          t.blocks != nullptr ? t.block_count : 1,
          t.block_axis == 1,
          &of.config,
          &of.msign,
          is_consistent(of, context)};
}

bool is_empty(const muon_job& job) { return job.rows == 0 || job.cols == 0; }

class muon_call {
 public:
  muon_call(const char* function, const steepest_muon_config* config,
            const steepest_muon_tensor* tensors, int64_t count)
      : function_(function), config_(config), tensors_(tensors), count_(count) {}

  steepest_status run(steepest_context* given_context, const steepest_workspace* given_workspace,
                      steepest_step_stats* stats) {
    if (const auto status = list_.open(function_, config_, tensors_, count_); status != STEEPEST_OK)
      return status;
    steepest_context* context = nullptr;
    if (const auto status = resolve_context(function_, given_context, context);
        status != STEEPEST_OK)
      return status;
    if (const auto status =
            check_results(function_, stats, count_, steepest_step_stats STEEPEST_STEP_STATS_INIT);
        status != STEEPEST_OK)
      return status;
    if (count_ == 0) return STEEPEST_OK;
    workspace memory(context->pool);
    if (const auto status = plan_memory(*context, memory); status != STEEPEST_OK) return status;
    if (const auto status = obtain(function_, memory, given_workspace); status != STEEPEST_OK)
      return status;
    scratch_ = memory.take<std::byte>(static_cast<int64_t>(schedule_.bytes(*context)));
    jobs_ = memory.take<muon_job>(count_);
    groups_ = memory.take<group>(group_count_);
    outcomes_ = memory.take<muon_outcome>(count_);
    order_ = memory.take<int64_t>(count_);
    auto* ranges = memory.take<memory_range>(count_ * buffers_per_tensor);
    auto* keys = memory.take<range_key>(count_ * buffers_per_tensor);
    if (const auto status = prepare(*context, ranges, keys); status != STEEPEST_OK) return status;
    return step(*context, stats);
  }

  steepest_status workspace_size(steepest_context* given_context, size_t* bytes) {
    if (bytes == nullptr) return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: bytes is null", function_);
    if (const auto status = list_.open(function_, config_, tensors_, count_); status != STEEPEST_OK)
      return status;
    steepest_context* context = nullptr;
    if (const auto status = resolve_context(function_, given_context, context);
        status != STEEPEST_OK)
      return status;
    workspace memory(context->pool);
    if (const auto status = plan_memory(*context, memory); status != STEEPEST_OK) return status;
    *bytes = count_ == 0 ? 0 : memory.bytes_needed();
    return STEEPEST_OK;
  }

 private:
  // Checks every tensor on the way.
  steepest_status plan_memory(const steepest_context& context, workspace& memory) {
    for (int64_t i = 0; i < count_; ++i) {
      if (const auto status = list_.read(i); status != STEEPEST_OK) return status;
      group_count_ += list_.new_group;
      const group current = {list_.config, list_.msign};
      if (const auto status = check_context({function_, "config.msign"}, current.msign, context,
                                            is_consistent(current, context));
          status != STEEPEST_OK)
        return status;
      const muon_job job = job_of(list_.tensor, current, context);
      if (!is_empty(job)) schedule_.add(context, job);
    }
    memory.plan<std::byte>(static_cast<int64_t>(schedule_.bytes(context)));
    memory.plan<muon_job>(count_);
    memory.plan<group>(group_count_);
    memory.plan<muon_outcome>(count_);
    memory.plan<int64_t>(count_);
    memory.plan<memory_range>(count_ * buffers_per_tensor);
    memory.plan<range_key>(count_ * buffers_per_tensor);
    return STEEPEST_OK;
  }

  // The jobs, and that none of them writes what another one touches.
  steepest_status prepare(const steepest_context& context, memory_range* ranges, range_key* keys) {
    int64_t used = 0;
    group* current = groups_ - 1;
    for (int64_t i = 0; i < count_; ++i) {
      list_.read(i);
      if (list_.new_group) *++current = {list_.config, list_.msign};
      jobs_[i] = job_of(list_.tensor, *current, context);
      outcomes_[i] = {STEEPEST_OK, "", STEEPEST_STEP_STATS_INIT};
      outcomes_[i].stats.snr_update = outcomes_[i].stats.snr_momentum = nan;
      if (is_empty(jobs_[i])) continue;
      const int64_t first = used;
      for (const buffer_use& use : buffers_of(list_.tensor, list_.config.flags).uses)
        if (use.used)
          ranges[used++] = matrix_range(use.data, use.rows, use.cols, use.stride, use.dtype,
                                        use.field, i, use.written);
      if (const auto status = check_disjoint(list_.at(i), ranges + first, used - first);
          status != STEEPEST_OK)
        return status;
    }
    return check_overlap(function_, "tensors", ranges, used, keys);
  }

  steepest_status step(steepest_context& context, steepest_step_stats* stats) {
    bool skip = false;
    if (const auto status = scan(context, skip); status != STEEPEST_OK) return status;
    if (!skip)
      if (const auto status = muon_run_list(context, schedule_, jobs_, count_, scratch_, order_,
                                            stats != nullptr, outcomes_);
          status != STEEPEST_OK)
        return failed_in(function_, status);
    for (int64_t i = 0; i < count_ && stats != nullptr; ++i)
      store_result(stats, i, outcomes_[i].stats);
    if (!skip)
      for (int64_t i = 0; i < count_; ++i)
        if (outcomes_[i].status != STEEPEST_OK)
          return fail(outcomes_[i].status, "%s: tensors[%lld]: %s", function_,
                      static_cast<long long>(i), outcomes_[i].reason);
    for (int64_t i = 0; i < group_count_; ++i)
      if (groups_[i].config.skipped != nullptr) *groups_[i].config.skipped = skip ? 1 : 0;
    return STEEPEST_OK;
  }

  // The gradients of the tensors with SKIP_NONFINITE. If one is not finite, the outcomes say so.
  steepest_status scan(steepest_context& context, bool& skip) {
    for (int64_t i = 0; i < count_; ++i) {
      if (is_empty(jobs_[i]) || !(jobs_[i].config->flags & STEEPEST_MUON_SKIP_NONFINITE)) continue;
      int64_t nonfinite = 0;
      if (const auto status = muon_nonfinite(context, jobs_[i], scratch_, nonfinite);
          status != STEEPEST_OK)
        return failed_in(function_, status);
      outcomes_[i].stats.nonfinite = nonfinite;
      if (nonfinite != 0) outcomes_[i].stats.status = STEEPEST_E_NONFINITE;
      skip |= nonfinite != 0;
    }
    for (int64_t i = 0; i < count_; ++i) {
      steepest_step_stats& stats = outcomes_[i].stats;
      if (skip)
        stats = {0, stats.status, 0, nan, nan, nan, nan, nan, nan, stats.nonfinite};
      else
        stats.nonfinite = 0;
    }
    return STEEPEST_OK;
  }

  static constexpr double nan = std::numeric_limits<double>::quiet_NaN();

  const char* function_;
  const steepest_muon_config* config_;
  const steepest_muon_tensor* tensors_;
  const int64_t count_;
  tensor_list list_;
  muon_schedule schedule_;
  int64_t group_count_ = 0;
  std::byte* scratch_ = nullptr;
  muon_job* jobs_ = nullptr;
  group* groups_ = nullptr;
  muon_outcome* outcomes_ = nullptr;
  int64_t* order_ = nullptr;
};

steepest_status scale_factor(int32_t mode, double value, int64_t fan_out, int64_t fan_in,
                             double* out) {
  constexpr char function[] = "scale_factor";
  if (mode == STEEPEST_SCALE_EXACT_RMS)
    return fail(STEEPEST_E_INVALID_ARGUMENT,
                "%s: mode is EXACT_RMS (1), which depends on the matrix and not on its sizes",
                function);
  if (mode < STEEPEST_SCALE_MATCH_RMS || mode > STEEPEST_SCALE_SQRT_MAX)
    return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: mode is %d: it must be from 0 to 5", function,
                static_cast<int>(mode));
  if (!(value >= 0 && std::isfinite(value)))
    return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: value is %g: it must be finite and not negative",
                function, value);
  if (fan_out < 1 || fan_in < 1)
    return fail(STEEPEST_E_SHAPE, "%s: %s is %lld: it must be positive", function,
                fan_out < 1 ? "fan_out" : "fan_in",
                static_cast<long long>(fan_out < 1 ? fan_out : fan_in));
  if (out == nullptr) return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: out is null", function);
  *out = muon_scale(mode, value, static_cast<double>(fan_out), static_cast<double>(fan_in));
  return STEEPEST_OK;
}

}  // namespace
}  // namespace steepest::api

extern "C" {

steepest_status steepest_muon_step(steepest_context* context, const steepest_muon_config* config,
                                   const steepest_muon_tensor* tensors, int64_t count,
                                   const steepest_workspace* workspace,
                                   steepest_step_stats* stats) {
  return steepest::api::entry("muon_step", [&] {
    return steepest::api::muon_call("muon_step", config, tensors, count)
        .run(context, workspace, stats);
  });
}

steepest_status steepest_muon_workspace_size(steepest_context* context,
                                             const steepest_muon_config* config,
                                             const steepest_muon_tensor* tensors, int64_t count,
                                             size_t* bytes) {
  return steepest::api::entry("muon_workspace_size", [&] {
    return steepest::api::muon_call("muon_workspace_size", config, tensors, count)
        .workspace_size(context, bytes);
  });
}

steepest_status steepest_scale_factor(int32_t mode, double value, int64_t fan_out, int64_t fan_in,
                                      double* out) {
  return steepest::api::entry("scale_factor", [&] {
    return steepest::api::scale_factor(mode, value, fan_out, fan_in, out);
  });
}

}  // extern "C"
