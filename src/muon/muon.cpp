// SPDX-License-Identifier: Apache-2.0
#include "muon/muon.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/arena.hpp"
#include "core/dtype.hpp"
#include "diagnostics/signal_to_noise.hpp"
#include "dispatch/tables.hpp"
#include "msign/msign.hpp"
#include "parallel/rows.hpp"

namespace steepest {

namespace {

bool is_f64(const muon_job& job) { return job.buffers.param_dtype == STEEPEST_F64; }

steepest_dtype work_dtype(const muon_job& job) { return is_f64(job) ? STEEPEST_F64 : STEEPEST_F32; }

// A part of the matrix that msign and scale are applied to.
struct block {
  int64_t row, col, rows, cols;
};

// Calls body(block, index) for each block, until it fails.
template <class F>
steepest_status for_each_block(const muon_job& job, F body) {
  int64_t at = 0;
  for (int64_t i = 0; i < job.block_count; ++i) {
    const int64_t length = job.blocks != nullptr ? job.blocks[i]
                           : job.column_blocks   ? job.cols
                                                 : job.rows;
    const block part =
        job.column_blocks ? block{0, at, job.rows, length} : block{at, 0, length, job.cols};
    if (const auto status = body(part, i); status != STEEPEST_OK) return status;
    at += length;
  }
  return STEEPEST_OK;
}

struct scratch {
  std::byte* u;
  std::byte* o;
  double* scales;                // of each block
  muon_gradient_sums* gradient;  // of each group of rows
  double* param;
  squares* partial;
  std::byte* msign;

  scratch(arena& memory, const steepest_context& context, const muon_job& job) {
    const int64_t elements = job.rows * job.cols;
    const int64_t bytes = elements * dtype_size(work_dtype(job));
    u = memory.take<std::byte>(bytes);
    o = memory.take<std::byte>(bytes);
    scales = memory.take<double>(job.block_count);
    // Of a block as well as of the whole: never more than one group a row.
    gradient = memory.take<muon_gradient_sums>(job.rows);
    param = memory.take<double>(job.rows);
    partial = memory.take<squares>(job.rows);
    size_t most = 0;
    for_each_block(job, [&](const block& part, int64_t) {
      const msign_plan plan =
          msign_plan_for(*job.msign, work_dtype(job), part.rows, part.cols, job.consistent);
      most = std::max(most, msign_bytes(context, plan, part.rows, part.cols));
      return STEEPEST_OK;
    });
    msign = memory.take<std::byte>(static_cast<int64_t>(most));
  }
};

void* at(const void* base, steepest_dtype dtype, int64_t element) {
  return base == nullptr
             ? nullptr
             : static_cast<std::byte*>(const_cast<void*>(base)) + element * dtype_size(dtype);
}

muon_buffers piece(const muon_job& job, int64_t row, int64_t col) {
  muon_buffers b = job.buffers;
  b.param = at(b.param, b.param_dtype, row * job.param_stride + col);
  b.grad = at(b.grad, b.grad_dtype, row * job.grad_stride + col);
  b.momentum = at(b.momentum, b.momentum_dtype, row * job.momentum_stride + col);
  b.delta = at(b.delta, b.delta_dtype, row * job.delta_stride + col);
  return b;
}

muon_constants constants_of(const steepest_muon_config& config) {
  const double mu = config.momentum;
  const double take = config.momentum_kind == STEEPEST_MOMENTUM_EMA ? 1 - mu : 1;
  const bool nesterov = (config.flags & STEEPEST_MUON_NESTEROV) != 0;
  const double sign = (config.flags & STEEPEST_MUON_MAXIMIZE) != 0 ? -1 : 1;
  return {sign * config.grad_scale,
          mu,
          take,
          nesterov ? mu : 1,
          nesterov ? take : 0,
          config.lr * config.weight_decay,
          0,  // per block
          (config.flags & STEEPEST_MUON_CAUTIOUS_DECAY) != 0};
}

}  // namespace

double muon_scale(int32_t mode, double value, double fan_out, double fan_in) {
  switch (mode) {
    case STEEPEST_SCALE_MATCH_RMS: return value * std::sqrt(std::max(fan_out, fan_in));
    case STEEPEST_SCALE_SQRT_MAX1_OUT_IN: return std::sqrt(std::max(1.0, fan_out / fan_in));
    case STEEPEST_SCALE_SQRT_OUT_IN: return std::sqrt(fan_out / fan_in);
    case STEEPEST_SCALE_SQRT_MAX: return std::sqrt(std::max(fan_out, fan_in));
    default: return 1;
  }
}

size_t muon_bytes(const steepest_context& context, const muon_job& job) {
  arena counter;
  const scratch unused(counter, context, job);
  return counter.used();
}

steepest_status muon_nonfinite(steepest_context& context, const muon_job& job, std::byte* memory,
                               int64_t& nonfinite) {
  arena slices(memory);
  const scratch s(slices, context, job);
  norm_result norm = {};
  const stored_matrix grad = {const_cast<void*>(job.buffers.grad), job.grad_stride,
                              job.buffers.grad_dtype};
  const auto status = matrix_norm(context, job.rows, job.cols, grad, false, s.partial, norm);
  nonfinite = norm.nonfinite;
  return status;
}

namespace {

// `memory` has muon_bytes. Returns INTERNAL if the executor failed; what is wrong with the tensor
// itself is in `status` and `reason`.
steepest_status muon_run(steepest_context& context, const muon_job& job, std::byte* memory,
                         steepest_step_stats* stats, steepest_status& status, const char*& reason) {
  const steepest_muon_config& config = *job.config;
  arena slices(memory);
  const scratch s(slices, context, job);
  const steepest_dtype dtype = work_dtype(job);
  const muon_table& table = context.tables->muon;
  const muon_set& set = job.consistent ? table.exact : table.fast;
  const muon_kernels& kernels = is_f64(job) ? set.f64 : set.f32;
  const muon_constants k = constants_of(config);
  const row_groups all(job.rows, job.cols);
  const auto elements = static_cast<double>(job.rows) * static_cast<double>(job.cols);

  // u, and nothing else is written yet.
  auto executed = for_each_row_group(context, all, [&](int64_t from, int64_t to, int64_t group) {
    muon_gradient_sums& total = s.gradient[group] = {0.0, 0.0, 0};
    for (int64_t row = from; row < to; ++row) {
      muon_gradient_sums sums = {};
      kernels.blend(k, piece(job, row, 0), at(s.u, dtype, row * job.cols), job.cols,
                    stats != nullptr ? &sums : nullptr);
      total.grad += sums.grad;
      total.momentum += sums.momentum;
      total.nonfinite += sums.nonfinite;
    }
  });
  if (executed != STEEPEST_OK) return executed;
  muon_gradient_sums gradient = {};
  for (int64_t group = 0; group < all.count; ++group) {
    gradient.grad += s.gradient[group].grad;
    gradient.momentum += s.gradient[group].momentum;
    gradient.nonfinite += s.gradient[group].nonfinite;
  }

  double update_squares = 0;
  const auto stored = [&](std::byte* base, const block& part) {
    return stored_matrix{at(base, dtype, part.row * job.cols + part.col), job.cols, dtype};
  };
  status = STEEPEST_OK;
  executed = for_each_block(job, [&](const block& part, int64_t i) {
    const msign_plan plan = msign_plan_for(*job.msign, dtype, part.rows, part.cols, job.consistent);
    msign_result result = {};
    const stored_matrix o = stored(s.o, part);
    msign_run(context, plan, part.rows, part.cols, stored(s.u, part), o, s.msign, false, result);
    status = result.status;
    reason = result.reason;
    if (status != STEEPEST_OK) return status;
    const bool exact = config.scale_mode == STEEPEST_SCALE_EXACT_RMS;
    norm_result norm = {};
    if (exact || stats != nullptr)
      if (const auto failed =
              matrix_norm(context, part.rows, part.cols, o, job.consistent, s.partial, norm);
          failed != STEEPEST_OK)
        return failed;
    const double rms =
        norm.norm / std::sqrt(static_cast<double>(part.rows) * static_cast<double>(part.cols));
    s.scales[i] = !exact    ? muon_scale(config.scale_mode, config.scale_value,
                                         static_cast<double>(job.fan_out ? job.fan_out : part.rows),
                                         static_cast<double>(job.fan_in ? job.fan_in : part.cols))
                  : rms > 0 ? config.scale_value / rms
                            : 0;
    const double length = s.scales[i] * norm.norm;
    update_squares += length * length;
    return STEEPEST_OK;
  });
  if (stats != nullptr) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    *stats = {0, status, 0, nan, nan, nan, nan, nan, nan, gradient.nonfinite};
  }
  if (status != STEEPEST_OK) return status == STEEPEST_E_INTERNAL ? status : STEEPEST_OK;
  if (executed != STEEPEST_OK) return executed;

  double param_squares = 0;
  executed = for_each_block(job, [&](const block& part, int64_t i) {
    muon_constants constants = k;
    constants.rate = config.lr * s.scales[i];
    const row_groups groups(part.rows, part.cols);
    const auto applied =
        for_each_row_group(context, groups, [&](int64_t from, int64_t to, int64_t group) {
          double& total = s.param[group] = 0;
          for (int64_t row = part.row + from; row < part.row + to; ++row) {
            double sum = 0;
            kernels.apply(constants, piece(job, row, part.col),
                          at(s.o, dtype, row * job.cols + part.col), part.cols,
                          stats != nullptr ? &sum : nullptr);
            total += sum;
          }
        });
    for (int64_t group = 0; group < groups.count; ++group) param_squares += s.param[group];
    return applied;
  });
  if (executed != STEEPEST_OK || stats == nullptr) return executed;

  const bool ema = config.momentum_kind == STEEPEST_MOMENTUM_EMA;
  const double correction =
      (ema ? 1 : 1 - config.momentum) / one_minus_power(config.momentum, config.step);
  stats->update_rms = std::sqrt(update_squares / elements);
  stats->grad_rms = std::sqrt(gradient.grad / elements);
  stats->momentum_rms = std::sqrt(gradient.momentum / elements) * correction;
  stats->param_rms = std::sqrt(param_squares / elements);
  stats->snr_momentum =
      snr_from_momentum(stats->momentum_rms, stats->grad_rms, config.momentum, config.step);
  return STEEPEST_OK;
}

}  // namespace

void muon_schedule::add(const steepest_context& context, const muon_job& job) {
  const size_t bytes = muon_bytes(context, job);
  const bool small = is_small(job.rows, job.cols);
  small_count += small;
  size_t& most = small ? small_bytes : large_bytes;
  most = std::max(most, bytes);
}

size_t muon_schedule::bytes(const steepest_context& context) const {
  const auto at_once = static_cast<size_t>(in_parallel(context) ? context.threads : 1);
  return std::max(large_bytes, at_once * small_bytes);
}

steepest_status muon_run_list(steepest_context& context, const muon_schedule& schedule,
                              const muon_job* jobs, int64_t count, std::byte* memory,
                              bool with_stats, muon_outcome* outcomes) {
  const auto run = [&](int64_t i, std::byte* scratch_memory) {
    muon_outcome& outcome = outcomes[i];
    if (jobs[i].rows == 0 || jobs[i].cols == 0) return;
    const auto status =
        muon_run(context, jobs[i], scratch_memory, with_stats ? &outcome.stats : nullptr,
                 outcome.status, outcome.reason);
    if (status != STEEPEST_OK) outcome.status = status;
  };
  const bool in_parallel = schedule.in_parallel(context);
  const auto alone = [&](int64_t i) { return in_parallel && is_small(jobs[i].rows, jobs[i].cols); };
  if (in_parallel) {
    auto small = [&](int64_t i, int32_t worker) {
      if (alone(i)) run(i, memory + static_cast<size_t>(worker) * schedule.small_bytes);
    };
    if (const auto status = parallel_for(context, count, small); status != STEEPEST_OK)
      return status;
  }
  for (int64_t i = 0; i < count; ++i)
    if (!alone(i)) run(i, memory);
  for (int64_t i = 0; i < count; ++i)
    if (outcomes[i].status == STEEPEST_E_INTERNAL) return STEEPEST_E_INTERNAL;
  return STEEPEST_OK;
}

}  // namespace steepest
