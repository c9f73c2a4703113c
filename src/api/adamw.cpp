// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <cmath>
#include <limits>
#include <new>

#include "api/arguments.hpp"
#include "core/narrow.hpp"
#include "dispatch/tables.hpp"
#include "kernels/adamw/adamw.hpp"
#include "kernels/sum_squares/sum_squares.hpp"
#include "parallel/tiles.hpp"

namespace steepest::api {
namespace {

constexpr uint64_t known_flags = STEEPEST_ADAMW_AMSGRAD | STEEPEST_ADAMW_MAXIMIZE |
                                 STEEPEST_ADAMW_COUPLED_L2 | STEEPEST_ADAMW_CAUTIOUS_DECAY |
                                 STEEPEST_ADAMW_SKIP_NONFINITE | STEEPEST_ADAMW_EMIT_DELTA |
                                 STEEPEST_ADAMW_STOCHASTIC_ROUNDING | STEEPEST_FLAG_CONSISTENT;

constexpr int64_t buffers_per_tensor = 10;

steepest_status check_config(const argument& where, const steepest_adamw_config& config) {
  if (config.flags & ~known_flags)
    return where.fail(STEEPEST_E_UNSUPPORTED, ".flags has unknown bits (0x%llx)",
                      static_cast<unsigned long long>(config.flags & ~known_flags));
  if ((config.flags & STEEPEST_ADAMW_COUPLED_L2) && (config.flags & STEEPEST_ADAMW_CAUTIOUS_DECAY))
    return where.fail(
        STEEPEST_E_INVALID_ARGUMENT,
        ".flags has COUPLED_L2 and CAUTIOUS_DECAY: there is no decoupled decay to mask");
  return check_numbers(
      where,
      {{"lr", config.lr, config.lr >= 0, "finite and not negative"},
       {"beta1", config.beta1, config.beta1 >= 0 && config.beta1 < 1, "in [0, 1)"},
       {"beta2", config.beta2, config.beta2 >= 0 && config.beta2 < 1, "in [0, 1)"},
       {"eps", config.eps, config.eps >= 0, "finite and not negative"},
       {"weight_decay", config.weight_decay, config.weight_decay >= 0, "finite and not negative"},
       {"grad_scale", config.grad_scale, true, "finite"}},
      config.step);
}

// One buffer of a tensor under one config.
struct buffer_use {
  const char* field;
  const char* dtype_field;  // null for one whose type follows from another
  const void* data;
  int64_t count;
  steepest_dtype dtype;
  bool used, written;
  bool may_be_q8 = false;
};

struct buffer_list {
  buffer_use uses[buffers_per_tensor];
};

buffer_use scales_of(const char* field, const void* data, steepest_dtype of, int64_t count) {
  const bool used = is_q8(of);
  return {field,
          nullptr,
          data,
          used ? q8_blocks(of, count) : 0,
          of == STEEPEST_Q8_DYNAMIC ? STEEPEST_F32 : STEEPEST_F16,
          used,
          true};
}

buffer_list buffers_of(const steepest_adamw_tensor& tensor, uint64_t flags) {
  const bool emit_delta = (flags & STEEPEST_ADAMW_EMIT_DELTA) != 0;
  const bool amsgrad = (flags & STEEPEST_ADAMW_AMSGRAD) != 0;
  const int64_t n = tensor.count;
  // Bytes, or words of 16 bits, which a 16-bit type stands for.
  const steepest_dtype residual =
      tensor.residual_kind == STEEPEST_RESIDUAL_NEAREST8 ? STEEPEST_Q8_COMPANDED : STEEPEST_BF16;
  return {{{"param", "param_dtype", tensor.param, n, tensor.param_dtype, true, !emit_delta},
           {"grad", "grad_dtype", tensor.grad, n, tensor.grad_dtype, true, false},
           {"exp_avg", "exp_avg_dtype", tensor.exp_avg, n, tensor.exp_avg_dtype, true, true, true},
           {"exp_avg_sq", "exp_avg_sq_dtype", tensor.exp_avg_sq, n, tensor.exp_avg_sq_dtype, true,
            true, true},
           {"max_exp_avg_sq", "exp_avg_sq_dtype", tensor.max_exp_avg_sq, n, tensor.exp_avg_sq_dtype,
            amsgrad, true, true},
           {"delta", "delta_dtype", tensor.delta, n, tensor.delta_dtype, emit_delta, true},
           {"residual", nullptr, tensor.residual, n, residual,
            tensor.residual_kind != STEEPEST_RESIDUAL_NONE, true},
           {"param_copy", "param_copy_dtype", tensor.param_copy, n, tensor.param_copy_dtype,
            tensor.param_copy != nullptr, true},
           scales_of("exp_avg_scales", tensor.exp_avg_scales, tensor.exp_avg_dtype, n),
           scales_of("exp_avg_sq_scales", tensor.exp_avg_sq_scales, tensor.exp_avg_sq_dtype, n)}};
}

steepest_status check_narrow(const argument& where, const steepest_adamw_tensor& tensor,
                             uint64_t flags) {
  const bool emit_delta = (flags & STEEPEST_ADAMW_EMIT_DELTA) != 0;
  if (const auto status =
          check_residual(where, tensor.residual_kind, tensor.param_dtype, emit_delta);
      status != STEEPEST_OK)
    return status;
  if (const auto status =
          check_param_copy(where, tensor.param_copy, tensor.param_dtype, emit_delta);
      status != STEEPEST_OK)
    return status;
  if ((flags & STEEPEST_ADAMW_AMSGRAD) != 0 && is_q8(tensor.exp_avg_sq_dtype))
    return where.fail(STEEPEST_E_UNSUPPORTED,
                      ".exp_avg_sq_dtype is %s: AMSGRAD needs f32, f64, bf16 or f16",
                      dtype_name(tensor.exp_avg_sq_dtype));
  return check_first_index(where, tensor.first_index, tensor.count);
}

steepest_status check_tensor(const argument& where, const steepest_adamw_tensor& tensor,
                             uint64_t flags) {
  if (tensor.reserved != 0)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".reserved is not 0 (%d)",
                      static_cast<int>(tensor.reserved));
  const buffer_list buffers = buffers_of(tensor, flags);
  const bool f64 = tensor.param_dtype == STEEPEST_F64;
  for (const buffer_use& use : buffers.uses) {
    if (!use.used || use.dtype_field == nullptr) continue;
    if (!(use.may_be_q8 && is_q8(use.dtype)))
      if (const auto status = check_dtype(where, use.dtype_field, use.dtype); status != STEEPEST_OK)
        return status;
    if ((use.dtype == STEEPEST_F64) != f64)
      return where.fail(STEEPEST_E_DTYPE,
                        ".%s is %s, but param_dtype is %s: f64 goes with f64 alone",
                        use.dtype_field, dtype_name(use.dtype), dtype_name(tensor.param_dtype));
    if (const auto status = check_count(where, tensor.count, use.dtype); status != STEEPEST_OK)
      return status;
  }
  if (const auto status = check_narrow(where, tensor, flags); status != STEEPEST_OK) return status;
  if (tensor.count == 0) return STEEPEST_OK;
  for (const buffer_use& use : buffers.uses)
    if (use.used)
      if (const auto status = check_buffer(where, use.field, use.data, use.count, use.dtype);
          status != STEEPEST_OK)
        return status;
  return STEEPEST_OK;
}

bool representable(const adamw_prepared& prepared, bool f64) {
  const auto finite = [](const auto& k) {
    return std::isfinite(k.grad_factor) && std::isfinite(k.c1_hi) && std::isfinite(k.eps) &&
           std::isfinite(k.rate) && std::isfinite(k.decay) && std::isfinite(k.l2) &&
           std::isfinite(k.c2_hi);
  };
  return f64 ? finite(prepared.f64) : finite(prepared.f32);
}

// Reads each tensor with the config that holds for it; neighbours that share a config check it
// once.
class tensor_list {
 public:
  // `function`: the entry point's name for error texts.
  steepest_status open(const char* entry_point, const steepest_adamw_config* call_config,
                       const steepest_adamw_tensor* tensors, int64_t count) {
    function = entry_point;
    if (const auto status = tensors_.open(function, "tensors", tensors, count);
        status != STEEPEST_OK)
      return status;
    call_config_ = call_config;
    if (call_config == nullptr) return STEEPEST_OK;
    steepest_adamw_config known = STEEPEST_ADAMW_CONFIG_INIT;
    const argument where = {function, "config"};
    if (const auto status = load_struct(where, call_config, known); status != STEEPEST_OK)
      return status;
    return check_config(where, known);
  }

  // Sets `tensor` and, when it is another than that of the tensor before, `config`.
  steepest_status read(int64_t i) {
    tensor = STEEPEST_ADAMW_TENSOR_INIT;
    if (const auto status = tensors_.load(i, tensor); status != STEEPEST_OK) return status;
    const steepest_adamw_config* source = tensor.config != nullptr ? tensor.config : call_config_;
    const bool same_config = i > 0 && source == source_;
    const bool is_f64 = tensor.param_dtype == STEEPEST_F64;
    new_group = !same_config || is_f64 != f64;
    f64 = is_f64;
    if (same_config) return STEEPEST_OK;
    source_ = source;
    if (source == nullptr)
      return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: config is null, and tensors[%lld].config too",
                  function, static_cast<long long>(i));
    config = STEEPEST_ADAMW_CONFIG_INIT;
    const argument where = source == call_config_ ? argument{function, "config"}
                                                  : argument{function, "tensors", i, ".config"};
    if (const auto status = load_struct(where, source, config); status != STEEPEST_OK)
      return status;
    return check_config(where, config);
  }

  argument at(int64_t i) const { return tensors_.at(i); }

  const char* function = "";
  steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
  steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT;
  bool f64 = false;        // computed in fp64, not fp32
  bool new_group = false;  // config or f64 differs from the tensor before

 private:
  struct_array<steepest_adamw_tensor> tensors_;
  const steepest_adamw_config* call_config_ = nullptr;
  const steepest_adamw_config* source_ = nullptr;
};

// One step, as one call or as the plan of several.
class step_call {
 public:
  enum kind { one_call, one_call_with_statistics, chunks };

  step_call(steepest_context& context, tensor_list& list, int64_t count, kind how)
      : context_(context), list_(list), count_(count), kind_(how), memory_(context.pool) {}

  // Everything up to the first write.
  steepest_status open() {
    if (const auto status = check(); status != STEEPEST_OK) return status;
    if (const auto status = obtain_memory(); status != STEEPEST_OK) return status;
    return prepare();
  }

  steepest_status run(steepest_step_stats* stats) {
    if (const auto status = open(); status != STEEPEST_OK) return status;
    bool skip = false;
    if (scans_ > 0)
      if (const auto status = scan(skip, stats); status != STEEPEST_OK) return status;
    if (!skip) {
      const auto status = adamw_run(context_, jobs_, count_, sums_);
      if (status != STEEPEST_OK) return failed_in(list_.function, status);
      write_statistics(stats);
    }
    set_skipped(skip);
    return STEEPEST_OK;
  }

  void set_skipped(bool skip) {
    for (int64_t i = 0; i < groups_; ++i)
      if (skipped_[i] != nullptr) *skipped_[i] = skip ? 1 : 0;
  }

  steepest_status chunk(int64_t tensor, int64_t first, int64_t count) {
    constexpr char function[] = "adamw_chunk";
    if (tensor < 0 || tensor >= count_)
      return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: tensor is %lld: the plan has %lld", function,
                  static_cast<long long>(tensor), static_cast<long long>(count_));
    const adamw_job& job = jobs_[tensor];
    if (first < 0 || first > job.count || (first % tile_elements != 0 && first != job.count))
      return fail(STEEPEST_E_INVALID_ARGUMENT,
                  "%s: first is %lld: a multiple of %d is needed, at most tensors[%lld].count = "
                  "%lld",
                  function, static_cast<long long>(first), STEEPEST_ADAMW_CHUNK,
                  static_cast<long long>(tensor), static_cast<long long>(job.count));
    if (count < 0 || count > job.count - first ||
        (count % tile_elements != 0 && first + count != job.count))
      return fail(
          STEEPEST_E_INVALID_ARGUMENT,
          "%s: count is %lld: a multiple of %d is needed, or the rest of tensors[%lld], %lld",
          function, static_cast<long long>(count), STEEPEST_ADAMW_CHUNK,
          static_cast<long long>(tensor), static_cast<long long>(job.count - first));
    if (count == 0) return STEEPEST_OK;
    tile_state* const tiles = tiles_done_ + job.first_tile + first / tile_elements;
    const int64_t tile_number = tile_count(count);
    for (int64_t i = 0; i < tile_number; ++i) {
      uint8_t state = tile_open;
      if (tiles[i].compare_exchange_strong(state, tile_claimed)) continue;
      for (int64_t back = 0; back < i; ++back) tiles[back] = tile_open;
      return fail(STEEPEST_E_INVALID_ARGUMENT,
                  "%s: first is %lld, count %lld: element %lld of tensors[%lld] has been stepped",
                  function, static_cast<long long>(first), static_cast<long long>(count),
                  static_cast<long long>(first + i * tile_elements),
                  static_cast<long long>(tensor));
    }
    if (const auto status = adamw_run_part(context_, job, first, count, sums_);
        status != STEEPEST_OK)
      return failed_in(function, status);
    for (int64_t i = 0; i < tile_number; ++i) tiles[i] = tile_done;
    return STEEPEST_OK;
  }

  // After the last chunk.
  steepest_status close(steepest_step_stats* stats) {
    constexpr char function[] = "adamw_end";
    for (int64_t i = 0; i < count_; ++i)
      for (int64_t tile = 0; tile < tile_count(jobs_[i].count); ++tile)
        if (tiles_done_[jobs_[i].first_tile + tile] != tile_done)
          return fail(STEEPEST_E_INVALID_ARGUMENT,
                      "%s: tensors[%lld] has not been stepped from element %lld on", function,
                      static_cast<long long>(i), static_cast<long long>(tile * tile_elements));
    if (const auto status =
            check_results(function, stats, count_, steepest_step_stats STEEPEST_STEP_STATS_INIT);
        status != STEEPEST_OK)
      return status;
    write_statistics(stats);
    return STEEPEST_OK;
  }

 private:
  using tile_state = std::atomic<uint8_t>;
  static constexpr uint8_t tile_open = 0, tile_claimed = 1, tile_done = 2;

  steepest_status check() {
    for (int64_t i = 0; i < count_; ++i) {
      if (const auto status = list_.read(i); status != STEEPEST_OK) return status;
      const uint64_t flags = list_.config.flags;
      if (const auto status = check_tensor(list_.at(i), list_.tensor, flags); status != STEEPEST_OK)
        return status;
      if (kind_ == chunks && (flags & STEEPEST_ADAMW_SKIP_NONFINITE) != 0)
        return list_.at(i).fail(STEEPEST_E_UNSUPPORTED,
                                ": its config has SKIP_NONFINITE, which chunks cannot have: use "
                                "steepest_grad_norm");
      groups_ += list_.new_group;
      scans_ += (flags & STEEPEST_ADAMW_SKIP_NONFINITE) != 0;
      if (__builtin_add_overflow(elements_, list_.tensor.count, &elements_))
        return list_.at(i).fail(STEEPEST_E_SHAPE, ".count: the elements of all tensors overflow");
      tiles_ += tile_count(list_.tensor.count);
    }
    return STEEPEST_OK;
  }

  steepest_status obtain_memory() {
    memory_.plan<adamw_job>(count_);
    memory_.plan<adamw_prepared>(groups_);
    memory_.plan<int32_t*>(groups_);
    memory_.plan<memory_range>(count_ * buffers_per_tensor);
    memory_.plan<range_key>(count_ == 1 ? 0 : count_ * buffers_per_tensor);
    memory_.plan<adamw_sums>(kind_ != one_call ? tiles_ : 0);
    memory_.plan<tile_state>(kind_ == chunks ? tiles_ : 0);
    memory_.plan<sum_squares_job>(scans_);
    memory_.plan<squares>(scans_ > 0 ? tiles_ : 0);
    if (!memory_.reserve())
      return fail(STEEPEST_E_OUT_OF_MEMORY, "%s: out of memory (%lld tensors, %lld elements)",
                  list_.function, static_cast<long long>(count_),
                  static_cast<long long>(elements_));
    jobs_ = memory_.take<adamw_job>(count_);
    prepared_ = memory_.take<adamw_prepared>(groups_);
    skipped_ = memory_.take<int32_t*>(groups_);
    ranges_ = memory_.take<memory_range>(count_ * buffers_per_tensor);
    keys_ = memory_.take<range_key>(count_ == 1 ? 0 : count_ * buffers_per_tensor);
    sums_ = memory_.take<adamw_sums>(kind_ != one_call ? tiles_ : 0);
    if (kind_ == one_call) sums_ = nullptr;
    tiles_done_ = memory_.take<tile_state>(kind_ == chunks ? tiles_ : 0);
    for (int64_t i = 0; kind_ == chunks && i < tiles_; ++i) new (tiles_done_ + i) tile_state(0);
    scan_jobs_ = memory_.take<sum_squares_job>(scans_);
    scan_results_ = memory_.take<squares>(scans_ > 0 ? tiles_ : 0);
    return STEEPEST_OK;
  }

  steepest_status prepare() {
    int64_t group = -1;
    int64_t first_tile = 0;
    int64_t scan_tile = 0;
    int64_t range_count = 0;
    int64_t scan_index = 0;
    for (int64_t i = 0; i < count_; ++i) {
      list_.read(i);
      const steepest_adamw_tensor& tensor = list_.tensor;
      const uint64_t flags = list_.config.flags | (context_.flags & STEEPEST_FLAG_CONSISTENT);
      if (list_.new_group) {
        prepared_[++group] = adamw_prepare(list_.config, list_.f64);
        skipped_[group] = list_.config.skipped;
      }
      const bool f64 = list_.f64;
      const adamw_prepared& prepared = prepared_[group];
      if (!representable(prepared, f64))
        return list_.at(i).fail(STEEPEST_E_INVALID_ARGUMENT,
                                ": lr, eps, weight_decay or grad_scale of its config overflows %s",
                                f64 ? "f64" : "f32");
      const adamw_table& table = context_.tables->adamw;
      const adamw_kernels& kernels = (flags & STEEPEST_FLAG_CONSISTENT) ? table.exact : table.fast;
      const adamw_buffers buffers = {tensor.param,
                                     tensor.grad,
                                     tensor.exp_avg,
                                     tensor.exp_avg_sq,
                                     tensor.max_exp_avg_sq,
                                     tensor.delta,
                                     tensor.param_dtype,
                                     tensor.grad_dtype,
                                     tensor.exp_avg_dtype,
                                     tensor.exp_avg_sq_dtype,
                                     tensor.delta_dtype,
                                     tensor.residual_kind,
                                     tensor.residual,
                                     tensor.param_copy,
                                     tensor.param_copy_dtype,
                                     tensor.exp_avg_scales,
                                     tensor.exp_avg_sq_scales,
                                     tensor.random_stream,
                                     tensor.first_index};
      jobs_[i] = {buffers, &prepared, kernels.by_mix[adamw_mix_of(buffers, prepared)], tensor.count,
                  first_tile};
      first_tile += tile_count(tensor.count);
      if (flags & STEEPEST_ADAMW_SKIP_NONFINITE) {
        scan_jobs_[scan_index++] = {tensor.grad,
                                    context_.tables->sum_squares.fast.of(tensor.grad_dtype),
                                    tensor.count, scan_tile, f64};
        scan_tile += tile_count(tensor.count);
      }
      if (tensor.count == 0) continue;
      const int64_t first_range = range_count;
      for (const buffer_use& use : buffers_of(tensor, flags).uses)
        if (use.used) {
          const auto begin = reinterpret_cast<uintptr_t>(use.data);
          const auto bytes = static_cast<uintptr_t>(use.count << dtype_shift(use.dtype));
          ranges_[range_count++] = {begin, begin + bytes, use.field, i, use.written, 0, 0};
        }
      if (const auto status =
              check_disjoint(list_.at(i), ranges_ + first_range, range_count - first_range);
          status != STEEPEST_OK)
        return status;
    }
    return count_ == 1 ? STEEPEST_OK
                       : check_overlap(list_.function, "tensors", ranges_, range_count, keys_);
  }

  steepest_status scan(bool& skip, steepest_step_stats* stats) {
    if (const auto status = sum_squares_run(context_, scan_jobs_, scans_, 1.0, scan_results_);
        status != STEEPEST_OK)
      return failed_in(list_.function, status);
    int64_t tile = 0;
    for (int64_t i = 0; i < scans_; ++i)
      for (const int64_t end = tile + tile_count(scan_jobs_[i].count); tile < end; ++tile)
        skip |= scan_results_[tile].nonfinite != 0;
    if (skip && count_ > 0 && stats != nullptr) write_skipped_statistics(stats);
    return STEEPEST_OK;
  }

  void write_skipped_statistics(steepest_step_stats* results) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    int64_t scan_index = 0;
    int64_t tile = 0;
    for (int64_t i = 0; i < count_; ++i) {
      steepest_step_stats stats = {0, STEEPEST_OK, 0, nan, nan, nan, nan, nan, nan, 0};
      if (jobs_[i].prepared->flags & STEEPEST_ADAMW_SKIP_NONFINITE) {
        const int64_t end = tile + tile_count(scan_jobs_[scan_index++].count);
        for (; tile < end; ++tile) stats.nonfinite += scan_results_[tile].nonfinite;
      }
      if (stats.nonfinite > 0) stats.status = STEEPEST_E_NONFINITE;
      store_result(results, i, stats);
    }
  }

  void write_statistics(steepest_step_stats* results) {
    if (results == nullptr) return;
    for (int64_t i = 0; i < count_; ++i) {
      steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
      adamw_statistics(jobs_[i], sums_ + jobs_[i].first_tile, stats);
      store_result(results, i, stats);
    }
  }

  steepest_context& context_;
  tensor_list& list_;
  const int64_t count_;
  const kind kind_;
  workspace memory_;

  int64_t groups_ = 0;
  int64_t scans_ = 0;
  int64_t elements_ = 0;
  int64_t tiles_ = 0;
  adamw_job* jobs_ = nullptr;
  adamw_prepared* prepared_ = nullptr;
  int32_t** skipped_ = nullptr;
  memory_range* ranges_ = nullptr;
  range_key* keys_ = nullptr;
  adamw_sums* sums_ = nullptr;
  tile_state* tiles_done_ = nullptr;
  sum_squares_job* scan_jobs_ = nullptr;
  squares* scan_results_ = nullptr;
};

steepest_status adamw_step(steepest_context* given_context, const steepest_adamw_config* config,
                           const steepest_adamw_tensor* tensors, int64_t count,
                           steepest_step_stats* stats) {
  constexpr char function[] = "adamw_step";
  tensor_list list;
  if (const auto status = list.open(function, config, tensors, count); status != STEEPEST_OK)
    return status;
  steepest_context* context = nullptr;
  if (const auto status = resolve_context(function, given_context, context); status != STEEPEST_OK)
    return status;
  if (const auto status =
          check_results(function, stats, count, steepest_step_stats STEEPEST_STEP_STATS_INIT);
      status != STEEPEST_OK)
    return status;
  const bool with_statistics = count > 0 && stats != nullptr;
  return step_call(*context, list, count,
                   with_statistics ? step_call::one_call_with_statistics : step_call::one_call)
      .run(stats);
}

static_assert(STEEPEST_ADAMW_CHUNK == tile_elements);

}  // namespace
}  // namespace steepest::api

// In the context's memory, as what `call` holds.
struct steepest_adamw_plan {
  steepest_adamw_plan(steepest_context& context, const steepest::api::tensor_list& read,
                      int64_t count)
      : pool(context.pool), list(read),
        call(context, list, count, steepest::api::step_call::chunks) {}

  void release() {
    steepest::workspace_pool& from = pool;
    this->~steepest_adamw_plan();
    from.release(this);
  }

  steepest::workspace_pool& pool;
  steepest::api::tensor_list list;
  steepest::api::step_call call;
};

namespace steepest::api {
namespace {

steepest_status adamw_begin(steepest_context* given_context, const steepest_adamw_config* config,
                            const steepest_adamw_tensor* tensors, int64_t count,
                            steepest_adamw_plan** out) {
  constexpr char function[] = "adamw_begin";
  if (out == nullptr)
    return argument{function, "plan"}.fail(STEEPEST_E_INVALID_ARGUMENT, " is null");
  tensor_list list;
  if (const auto status = list.open(function, config, tensors, count); status != STEEPEST_OK)
    return status;
  steepest_context* context = nullptr;
  if (const auto status = resolve_context(function, given_context, context); status != STEEPEST_OK)
    return status;
  void* const memory = context->pool.acquire(sizeof(steepest_adamw_plan));
  if (memory == nullptr) return fail(STEEPEST_E_OUT_OF_MEMORY, "%s: out of memory", function);
  auto* const plan = new (memory) steepest_adamw_plan(*context, list, count);
  if (const auto status = plan->call.open(); status != STEEPEST_OK) {
    plan->release();
    return status;
  }
  plan->call.set_skipped(false);
  *out = plan;
  return STEEPEST_OK;
}

}  // namespace
}  // namespace steepest::api

using namespace steepest;
using namespace steepest::api;

steepest_status steepest_adamw_step(steepest_context* context, const steepest_adamw_config* config,
                                    const steepest_adamw_tensor* tensors, int64_t count,
                                    steepest_step_stats* stats) {
  return entry("adamw_step", [&] { return adamw_step(context, config, tensors, count, stats); });
}

steepest_status steepest_adamw_begin(steepest_context* context, const steepest_adamw_config* config,
                                     const steepest_adamw_tensor* tensors, int64_t count,
                                     steepest_adamw_plan** plan) {
  return entry("adamw_begin", [&] { return adamw_begin(context, config, tensors, count, plan); });
}

steepest_status steepest_adamw_chunk(steepest_adamw_plan* plan, int64_t tensor, int64_t first,
                                     int64_t count) {
  return entry("adamw_chunk", [&] {
    if (plan == nullptr)
      return argument{"adamw_chunk", "plan"}.fail(STEEPEST_E_INVALID_ARGUMENT, " is null");
    return plan->call.chunk(tensor, first, count);
  });
}

steepest_status steepest_adamw_end(steepest_adamw_plan* plan, steepest_step_stats* stats) {
  return entry("adamw_end", [&] {
    if (plan == nullptr)
      return argument{"adamw_end", "plan"}.fail(STEEPEST_E_INVALID_ARGUMENT, " is null");
    const auto status = plan->call.close(stats);
    plan->release();
    return status;
  });
}
