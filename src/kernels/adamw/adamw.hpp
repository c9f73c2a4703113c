// SPDX-License-Identifier: Apache-2.0
// The fused AdamW step: what an ISA level's kernels take, and the driver that cuts a call into
// tiles.
#pragma once

#include <cstdint>

#include "core/context.hpp"

namespace steepest {

// The constants of one config in the type T that the arithmetic uses. hi + lo carries a constant
// beyond T's precision; lo is never negative and, where hi is not 0, never 0, so that an infinite
// factor gives infinity and not NaN.
template <class T>
struct adamw_constants {
  T grad_factor;  // power of two nearest grad_scale from below, with its sign: G = grad_factor g f
  T beta1_hi, beta1_lo;
  T beta2_hi, beta2_lo;
  T c1_hi, c1_lo;          // (1 - beta1) f, f = |grad_scale / grad_factor|
  T c2_hi, c2_lo;          // (1 - beta2) f^2
  T beta1, beta2, c1, c2;  // the same to nearest, for moments that are stored in 16 bits
  T eps;    // eps sqrt(1 - beta2^t): the kernel's root is of v, not of v / (1 - beta2^t)
  T rate;   // lr sqrt(1 - beta2^t) / (1 - beta1^t)
  T decay;  // lr weight_decay; 0 with COUPLED_L2
  T l2;     // weight_decay with COUPLED_L2; then grad_factor is all of grad_scale and f = 1
};

// A config, ready for tensors computed in fp32 or, instead, in fp64.
struct adamw_prepared {
  adamw_constants<float> f32;
  adamw_constants<double> f64;
  uint64_t flags;
  double grad_unit;      // f: the true gradient over the kernel's
  double update_unit;    // u over the kernel's m / (sqrt(v) + eps)
  double momentum_unit;  // m / (1 - beta1^t) over m
  double snr_floor;      // alpha_t of NUMERICS: the update's mean square at zero signal
  uint64_t seed;         // of stochastic rounding, with step
  int64_t step;
};

// Sums over one tile, in the kernel's units.
struct adamw_sums {
  double update, grad, momentum, param;
  int64_t nonfinite;
};

struct adamw_buffers {
  void* param;
  const void* grad;
  void* exp_avg;
  void* exp_avg_sq;
  void* max_exp_avg_sq;
  void* delta;
  steepest_dtype param_dtype, grad_dtype, exp_avg_dtype, exp_avg_sq_dtype, delta_dtype;
  // Narrow storage: see the public header.
  int32_t residual_kind;
  void* residual;
  void* param_copy;  // or null
  steepest_dtype param_copy_dtype;
  void* exp_avg_scales;
  void* exp_avg_sq_scales;
  uint64_t random_stream;
  int64_t first_index;
};

using adamw_kernel = void (*)(const adamw_prepared& prepared, const adamw_buffers& buffers,
                              int64_t begin, int64_t end, adamw_sums* sums);

// The mixes of storage types (param, grad, exp_avg, exp_avg_sq) that have a kernel of their own;
// any other mix is staged.
enum adamw_mix : int32_t {
  adamw_f32,
  adamw_f64,
  adamw_f32_grad_bf16,
  adamw_f32_grad_f16,
  adamw_bf16_state_f32,
  adamw_f16_state_f32,
  adamw_bf16,
  adamw_f16,
  adamw_bf16_exp_avg_sq_f32,
  adamw_f32_param_bf16,
  // The residual LOW16 or NEAREST16; f32 state.
  adamw_bf16_low16,
  adamw_bf16_nearest16,
  // Stochastic rounding.
  adamw_stochastic_bf16,
  adamw_stochastic_bf16_state_f32,
  // Both moments Q8_COMPANDED.
  adamw_companded_f32,
  adamw_companded_f32_grad_bf16,
  adamw_companded_bf16,
  adamw_stochastic_companded_f32,
  adamw_stochastic_companded_f32_grad_bf16,
  adamw_stochastic_companded_bf16,
  adamw_staged,
  adamw_mixes,
  adamw_no_mix = -1,
};

// f64 goes with f64 alone: adamw_no_mix otherwise.
adamw_mix adamw_mix_of(const adamw_buffers& buffers, const adamw_prepared& prepared);

struct adamw_kernels {
  adamw_kernel by_mix[adamw_mixes];
};

// One per ISA level. `exact` differs from `fast` only where the level has no fused multiply-add,
// and is what STEEPEST_FLAG_CONSISTENT asks for.
struct adamw_table {
  adamw_kernels fast;
  adamw_kernels exact;
};

adamw_prepared adamw_prepare(const steepest_adamw_config& config, bool f64);

struct adamw_job {
  adamw_buffers buffers;
  const adamw_prepared* prepared;
  adamw_kernel kernel;
  int64_t count;
  int64_t first_tile;  // of this tensor among all tiles of the call
};

// jobs[count] with first_tile set (parallel/tiles.hpp); sums, one per tile, or null.
steepest_status adamw_run(steepest_context& context, const adamw_job* jobs, int64_t count,
                          adamw_sums* sums);

// Elements [from, from + count) of one job, whole tiles of it; sums of all tiles of the call.
steepest_status adamw_run_part(steepest_context& context, const adamw_job& job, int64_t from,
                               int64_t count, adamw_sums* sums);

// The statistics of one tensor from the sums of its tiles.
void adamw_statistics(const adamw_job& job, const adamw_sums* sums, steepest_step_stats& stats);

}  // namespace steepest
