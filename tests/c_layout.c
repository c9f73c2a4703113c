/* SPDX-License-Identifier: Apache-2.0
 *
 * The binary interface as numbers: sizes and offsets of every struct, values of every constant and
 * of every INIT macro, and that every function exists. Written out by hand: a change of the header
 * that breaks compiled callers breaks this file. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <steepest/steepest.h>

static int failures = 0;

static void check(int holds, const char* what, int line) {
  if (holds) return;
  fprintf(stderr, "c_layout.c:%d: %s\n", line, what);
  ++failures;
}
#define CHECK(condition) check((condition), #condition, __LINE__)
#define OFFSET(type, field, offset) CHECK(offsetof(type, field) == (offset))
#define FLAG(name, bit) CHECK(sizeof(name) == 8 && (name) == UINT64_C(1) << (bit))

static void check_types(void) {
  CHECK(sizeof(void*) == 8 && sizeof(size_t) == 8);
  CHECK(sizeof(steepest_status) == 4 && sizeof(steepest_dtype) == 4 && sizeof(steepest_isa) == 4);
}

static void check_executor(void) {
  const steepest_executor x = STEEPEST_EXECUTOR_INIT;
  CHECK(sizeof(steepest_executor) == 32);
  OFFSET(steepest_executor, struct_size, 0);
  OFFSET(steepest_executor, user, 8);
  OFFSET(steepest_executor, concurrency, 16);
  OFFSET(steepest_executor, parallel_for, 24);
  CHECK(x.struct_size == 32 && !x.user && !x.concurrency && !x.parallel_for);
}

static void check_allocator(void) {
  const steepest_allocator x = STEEPEST_ALLOCATOR_INIT;
  CHECK(sizeof(steepest_allocator) == 32);
  OFFSET(steepest_allocator, struct_size, 0);
  OFFSET(steepest_allocator, user, 8);
  OFFSET(steepest_allocator, allocate, 16);
  OFFSET(steepest_allocator, release, 24);
  CHECK(x.struct_size == 32 && !x.user && !x.allocate && !x.release);
}

static void check_context_options(void) {
  const steepest_context_options x = STEEPEST_CONTEXT_OPTIONS_INIT;
  CHECK(sizeof(steepest_context_options) == 40);
  OFFSET(steepest_context_options, struct_size, 0);
  OFFSET(steepest_context_options, flags, 8);
  OFFSET(steepest_context_options, num_threads, 16);
  OFFSET(steepest_context_options, max_isa, 20);
  OFFSET(steepest_context_options, executor, 24);
  OFFSET(steepest_context_options, allocator, 32);
  CHECK(x.struct_size == 40 && x.flags == 0 && x.num_threads == 0 && x.max_isa == 0);
  CHECK(!x.executor && !x.allocator);
}

static void check_step_stats(void) {
  const steepest_step_stats x = STEEPEST_STEP_STATS_INIT;
  CHECK(sizeof(steepest_step_stats) == 72);
  OFFSET(steepest_step_stats, struct_size, 0);
  OFFSET(steepest_step_stats, status, 8);
  OFFSET(steepest_step_stats, reserved, 12);
  OFFSET(steepest_step_stats, update_rms, 16);
  OFFSET(steepest_step_stats, grad_rms, 24);
  OFFSET(steepest_step_stats, momentum_rms, 32);
  OFFSET(steepest_step_stats, param_rms, 40);
  OFFSET(steepest_step_stats, snr_update, 48);
  OFFSET(steepest_step_stats, snr_momentum, 56);
  OFFSET(steepest_step_stats, nonfinite, 64);
  CHECK(x.struct_size == 72 && x.status == 0 && x.reserved == 0);
  CHECK(x.update_rms == 0 && x.grad_rms == 0 && x.momentum_rms == 0 && x.param_rms == 0);
  CHECK(x.snr_update == 0 && x.snr_momentum == 0 && x.nonfinite == 0);
}

static void check_adamw_config(void) {
  const steepest_adamw_config x = STEEPEST_ADAMW_CONFIG_INIT;
  CHECK(sizeof(steepest_adamw_config) == 88);
  OFFSET(steepest_adamw_config, struct_size, 0);
  OFFSET(steepest_adamw_config, flags, 8);
  OFFSET(steepest_adamw_config, lr, 16);
  OFFSET(steepest_adamw_config, beta1, 24);
  OFFSET(steepest_adamw_config, beta2, 32);
  OFFSET(steepest_adamw_config, eps, 40);
  OFFSET(steepest_adamw_config, weight_decay, 48);
  OFFSET(steepest_adamw_config, grad_scale, 56);
  OFFSET(steepest_adamw_config, step, 64);
  OFFSET(steepest_adamw_config, seed, 72);
  OFFSET(steepest_adamw_config, skipped, 80);
  CHECK(x.struct_size == 88 && x.flags == 0);
  CHECK(x.lr == 1e-3 && x.beta1 == 0.9 && x.beta2 == 0.999 && x.eps == 1e-8);
  CHECK(x.weight_decay == 1e-2 && x.grad_scale == 1.0);
  CHECK(x.step == 1 && x.seed == 0 && !x.skipped);
}

static void check_adamw_tensor(void) {
  const steepest_adamw_tensor x = STEEPEST_ADAMW_TENSOR_INIT;
  CHECK(sizeof(steepest_adamw_tensor) == 152);
  OFFSET(steepest_adamw_tensor, struct_size, 0);
  OFFSET(steepest_adamw_tensor, count, 8);
  OFFSET(steepest_adamw_tensor, param, 16);
  OFFSET(steepest_adamw_tensor, grad, 24);
  OFFSET(steepest_adamw_tensor, exp_avg, 32);
  OFFSET(steepest_adamw_tensor, exp_avg_sq, 40);
  OFFSET(steepest_adamw_tensor, param_dtype, 48);
  OFFSET(steepest_adamw_tensor, grad_dtype, 52);
  OFFSET(steepest_adamw_tensor, exp_avg_dtype, 56);
  OFFSET(steepest_adamw_tensor, exp_avg_sq_dtype, 60);
  OFFSET(steepest_adamw_tensor, config, 64);
  OFFSET(steepest_adamw_tensor, max_exp_avg_sq, 72);
  OFFSET(steepest_adamw_tensor, delta, 80);
  OFFSET(steepest_adamw_tensor, delta_dtype, 88);
  OFFSET(steepest_adamw_tensor, reserved, 92);
  OFFSET(steepest_adamw_tensor, residual, 96);
  OFFSET(steepest_adamw_tensor, param_copy, 104);
  OFFSET(steepest_adamw_tensor, exp_avg_scales, 112);
  OFFSET(steepest_adamw_tensor, exp_avg_sq_scales, 120);
  OFFSET(steepest_adamw_tensor, residual_kind, 128);
  OFFSET(steepest_adamw_tensor, param_copy_dtype, 132);
  OFFSET(steepest_adamw_tensor, random_stream, 136);
  OFFSET(steepest_adamw_tensor, first_index, 144);
  CHECK(x.struct_size == 152 && x.count == 0);
  CHECK(!x.residual && !x.param_copy && !x.exp_avg_scales && !x.exp_avg_sq_scales);
  CHECK(x.residual_kind == 0 && x.param_copy_dtype == 3);
  CHECK(x.random_stream == 0 && x.first_index == 0);
  CHECK(!x.param && !x.grad && !x.exp_avg && !x.exp_avg_sq);
  CHECK(x.param_dtype == 1 && x.grad_dtype == 1 && x.exp_avg_dtype == 1);
  CHECK(x.exp_avg_sq_dtype == 1 && x.delta_dtype == 1);
  CHECK(!x.config && !x.max_exp_avg_sq && !x.delta && x.reserved == 0);
  CHECK(!x.residual && !x.param_copy && !x.exp_avg_scales && !x.exp_avg_sq_scales);
  CHECK(x.residual_kind == 0 && x.param_copy_dtype == 3);
  CHECK(x.random_stream == 0 && x.first_index == 0);
}

static void check_vector(void) {
  const steepest_vector x = STEEPEST_VECTOR_INIT;
  CHECK(sizeof(steepest_vector) == 32);
  OFFSET(steepest_vector, struct_size, 0);
  OFFSET(steepest_vector, count, 8);
  OFFSET(steepest_vector, data, 16);
  OFFSET(steepest_vector, dtype, 24);
  OFFSET(steepest_vector, reserved, 28);
  CHECK(x.struct_size == 32 && x.count == 0 && !x.data && x.dtype == 1 && x.reserved == 0);
}

static void check_workspace(void) {
  const steepest_workspace x = STEEPEST_WORKSPACE_INIT;
  CHECK(sizeof(steepest_workspace) == 24);
  OFFSET(steepest_workspace, struct_size, 0);
  OFFSET(steepest_workspace, data, 8);
  OFFSET(steepest_workspace, bytes, 16);
  CHECK(x.struct_size == 24 && !x.data && x.bytes == 0);
}

static void check_msign_config(void) {
  const steepest_msign_config x = STEEPEST_MSIGN_CONFIG_INIT;
  CHECK(sizeof(steepest_msign_config) == 96);
  OFFSET(steepest_msign_config, struct_size, 0);
  OFFSET(steepest_msign_config, flags, 8);
  OFFSET(steepest_msign_config, method, 16);
  OFFSET(steepest_msign_config, steps, 20);
  OFFSET(steepest_msign_config, coefficients, 24);
  OFFSET(steepest_msign_config, normalization, 28);
  OFFSET(steepest_msign_config, custom_coefficients, 32);
  OFFSET(steepest_msign_config, lower_bound, 40);
  OFFSET(steepest_msign_config, norm_bound, 48);
  OFFSET(steepest_msign_config, rank_tolerance, 56);
  OFFSET(steepest_msign_config, compute_dtype, 64);
  OFFSET(steepest_msign_config, reserved, 68);
  OFFSET(steepest_msign_config, custom_count, 72);
  OFFSET(steepest_msign_config, restarts, 80);
  OFFSET(steepest_msign_config, restart_count, 88);
  CHECK(x.struct_size == 96 && x.flags == 0);
  CHECK(x.method == 0 && x.steps == 0 && x.coefficients == 5 && x.normalization == 0);
  CHECK(!x.custom_coefficients && x.lower_bound == 0 && x.norm_bound == 0);
  CHECK(x.rank_tolerance == 0 && x.compute_dtype == 0 && x.reserved == 0);
  CHECK(x.custom_count == 0 && !x.restarts && x.restart_count == 0);
}

static void check_msign_stats(void) {
  const steepest_msign_stats x = STEEPEST_MSIGN_STATS_INIT;
  CHECK(sizeof(steepest_msign_stats) == 56);
  OFFSET(steepest_msign_stats, struct_size, 0);
  OFFSET(steepest_msign_stats, status, 8);
  OFFSET(steepest_msign_stats, method, 12);
  OFFSET(steepest_msign_stats, steps, 16);
  OFFSET(steepest_msign_stats, retries, 20);
  OFFSET(steepest_msign_stats, rank, 24);
  OFFSET(steepest_msign_stats, norm, 32);
  OFFSET(steepest_msign_stats, lower_bound, 40);
  OFFSET(steepest_msign_stats, orthogonality, 48);
  CHECK(x.struct_size == 56 && x.status == 0 && x.method == 0 && x.steps == 0);
  CHECK(x.retries == 0 && x.rank == -1);
  CHECK(x.norm == 0 && x.lower_bound == 0 && x.orthogonality == 0);
}

static void check_muon_config(void) {
  const steepest_muon_config x = STEEPEST_MUON_CONFIG_INIT;
  CHECK(sizeof(steepest_muon_config) == 96);
  OFFSET(steepest_muon_config, struct_size, 0);
  OFFSET(steepest_muon_config, flags, 8);
  OFFSET(steepest_muon_config, lr, 16);
  OFFSET(steepest_muon_config, momentum, 24);
  OFFSET(steepest_muon_config, weight_decay, 32);
  OFFSET(steepest_muon_config, scale_value, 40);
  OFFSET(steepest_muon_config, grad_scale, 48);
  OFFSET(steepest_muon_config, step, 56);
  OFFSET(steepest_muon_config, seed, 64);
  OFFSET(steepest_muon_config, momentum_kind, 72);
  OFFSET(steepest_muon_config, scale_mode, 76);
  OFFSET(steepest_muon_config, msign, 80);
  OFFSET(steepest_muon_config, skipped, 88);
  CHECK(x.struct_size == 96 && x.flags == 1);
  CHECK(x.lr == 1e-3 && x.momentum == 0.95 && x.weight_decay == 1e-2);
  CHECK(x.scale_value == 0.2 && x.grad_scale == 1.0 && x.step == 1 && x.seed == 0);
  CHECK(x.momentum_kind == 0 && x.scale_mode == 0 && !x.msign && !x.skipped);
}

static void check_muon_tensor(void) {
  const steepest_muon_tensor x = STEEPEST_MUON_TENSOR_INIT;
  CHECK(sizeof(steepest_muon_tensor) == 208);
  OFFSET(steepest_muon_tensor, struct_size, 0);
  OFFSET(steepest_muon_tensor, rows, 8);
  OFFSET(steepest_muon_tensor, cols, 16);
  OFFSET(steepest_muon_tensor, param_ld, 24);
  OFFSET(steepest_muon_tensor, grad_ld, 32);
  OFFSET(steepest_muon_tensor, momentum_ld, 40);
  OFFSET(steepest_muon_tensor, delta_ld, 48);
  OFFSET(steepest_muon_tensor, fan_out, 56);
  OFFSET(steepest_muon_tensor, fan_in, 64);
  OFFSET(steepest_muon_tensor, param, 72);
  OFFSET(steepest_muon_tensor, grad, 80);
  OFFSET(steepest_muon_tensor, momentum, 88);
  OFFSET(steepest_muon_tensor, delta, 96);
  OFFSET(steepest_muon_tensor, param_dtype, 104);
  OFFSET(steepest_muon_tensor, grad_dtype, 108);
  OFFSET(steepest_muon_tensor, momentum_dtype, 112);
  OFFSET(steepest_muon_tensor, delta_dtype, 116);
  OFFSET(steepest_muon_tensor, blocks, 120);
  OFFSET(steepest_muon_tensor, block_count, 128);
  OFFSET(steepest_muon_tensor, block_axis, 136);
  OFFSET(steepest_muon_tensor, reserved, 140);
  OFFSET(steepest_muon_tensor, config, 144);
  OFFSET(steepest_muon_tensor, residual, 152);
  OFFSET(steepest_muon_tensor, param_copy, 160);
  OFFSET(steepest_muon_tensor, momentum_scales, 168);
  OFFSET(steepest_muon_tensor, param_copy_ld, 176);
  OFFSET(steepest_muon_tensor, residual_kind, 184);
  OFFSET(steepest_muon_tensor, param_copy_dtype, 188);
  OFFSET(steepest_muon_tensor, random_stream, 192);
  OFFSET(steepest_muon_tensor, first_index, 200);
  CHECK(x.struct_size == 208 && x.rows == 0 && x.cols == 0);
  CHECK(x.param_ld == 0 && x.grad_ld == 0 && x.momentum_ld == 0 && x.delta_ld == 0);
  CHECK(x.fan_out == 0 && x.fan_in == 0);
  CHECK(!x.param && !x.grad && !x.momentum && !x.delta);
  CHECK(x.param_dtype == 1 && x.grad_dtype == 1);
  CHECK(x.momentum_dtype == 1 && x.delta_dtype == 1);
  CHECK(!x.blocks && x.block_count == 0 && x.block_axis == 0 && x.reserved == 0);
  CHECK(!x.config && !x.residual && !x.param_copy && !x.momentum_scales && x.param_copy_ld == 0);
  CHECK(x.residual_kind == 0 && x.param_copy_dtype == 3);
  CHECK(x.random_stream == 0 && x.first_index == 0);
}

static void check_schedule(void) {
  const steepest_schedule x = STEEPEST_SCHEDULE_INIT;
  CHECK(sizeof(steepest_schedule) == 48);
  OFFSET(steepest_schedule, struct_size, 0);
  OFFSET(steepest_schedule, kind, 8);
  OFFSET(steepest_schedule, decay_shape, 12);
  OFFSET(steepest_schedule, lr, 16);
  OFFSET(steepest_schedule, final_ratio, 24);
  OFFSET(steepest_schedule, warmup_steps, 32);
  OFFSET(steepest_schedule, decay_steps, 40);
  CHECK(x.struct_size == 48 && x.kind == 1 && x.decay_shape == 0);
  CHECK(x.lr == 1e-3 && x.final_ratio == 0 && x.warmup_steps == 0 && x.decay_steps == 0);
}

static void check_constants(void) {
  CHECK(STEEPEST_OK == 0);
  CHECK(STEEPEST_E_INVALID_ARGUMENT == -1);
  CHECK(STEEPEST_E_SHAPE == -2);
  CHECK(STEEPEST_E_DTYPE == -3);
  CHECK(STEEPEST_E_OUT_OF_MEMORY == -4);
  CHECK(STEEPEST_E_NONFINITE == -5);
  CHECK(STEEPEST_E_NOT_CONVERGED == -6);
  CHECK(STEEPEST_E_UNSUPPORTED == -7);
  CHECK(STEEPEST_E_INTERNAL == -8);
  CHECK(STEEPEST_F32 == 1);
  CHECK(STEEPEST_F64 == 2);
  CHECK(STEEPEST_BF16 == 3);
  CHECK(STEEPEST_F16 == 4);
  CHECK(STEEPEST_Q8_DYNAMIC == 5);
  CHECK(STEEPEST_Q8_COMPANDED == 6);
  CHECK(STEEPEST_ISA_AUTO == 0);
  CHECK(STEEPEST_ISA_GENERIC == 1);
  CHECK(STEEPEST_ISA_X86_AVX2 == 2);
  CHECK(STEEPEST_ISA_X86_AVX512 == 3);
  CHECK(STEEPEST_ISA_X86_AVX512_BF16 == 4);
  CHECK(STEEPEST_ISA_ARM64_NEON == 16);
  FLAG(STEEPEST_ADAMW_AMSGRAD, 0);
  FLAG(STEEPEST_ADAMW_MAXIMIZE, 1);
  FLAG(STEEPEST_ADAMW_COUPLED_L2, 2);
  FLAG(STEEPEST_ADAMW_CAUTIOUS_DECAY, 3);
  FLAG(STEEPEST_ADAMW_SKIP_NONFINITE, 4);
  FLAG(STEEPEST_ADAMW_EMIT_DELTA, 5);
  FLAG(STEEPEST_ADAMW_STOCHASTIC_ROUNDING, 6);
  CHECK(STEEPEST_RESIDUAL_NONE == 0);
  CHECK(STEEPEST_RESIDUAL_LOW16 == 1);
  CHECK(STEEPEST_RESIDUAL_NEAREST16 == 2);
  CHECK(STEEPEST_RESIDUAL_NEAREST8 == 3);
  CHECK(STEEPEST_RESIDUAL_KAHAN == 4);
  FLAG(STEEPEST_MUON_NESTEROV, 0);
  FLAG(STEEPEST_MUON_CAUTIOUS_DECAY, 1);
  FLAG(STEEPEST_MUON_SKIP_NONFINITE, 2);
  FLAG(STEEPEST_MUON_EMIT_DELTA, 3);
  FLAG(STEEPEST_MUON_MAXIMIZE, 4);
  FLAG(STEEPEST_MUON_STOCHASTIC_ROUNDING, 5);
  CHECK(STEEPEST_MOMENTUM_EMA == 0);
  CHECK(STEEPEST_MOMENTUM_CLASSIC == 1);
  CHECK(STEEPEST_SCALE_MATCH_RMS == 0);
  CHECK(STEEPEST_SCALE_EXACT_RMS == 1);
  CHECK(STEEPEST_SCALE_NONE == 2);
  CHECK(STEEPEST_SCALE_SQRT_MAX1_OUT_IN == 3);
  CHECK(STEEPEST_SCALE_SQRT_OUT_IN == 4);
  CHECK(STEEPEST_SCALE_SQRT_MAX == 5);
  CHECK(STEEPEST_MSIGN_AUTO == 0);
  CHECK(STEEPEST_MSIGN_NEWTON_SCHULZ == 1);
  CHECK(STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ == 2);
  CHECK(STEEPEST_MSIGN_RATIONAL == 3);
  CHECK(STEEPEST_MSIGN_HALLEY == 4);
  CHECK(STEEPEST_MSIGN_SVD == 5);
  CHECK(STEEPEST_MSIGN_ACCURATE == 6);
  CHECK(STEEPEST_COEF_KELLER == 1);
  CHECK(STEEPEST_COEF_CLASSIC == 2);
  CHECK(STEEPEST_COEF_CUBIC == 3);
  CHECK(STEEPEST_COEF_YOU == 4);
  CHECK(STEEPEST_COEF_POLAR_EXPRESS == 5);
  CHECK(STEEPEST_COEF_CUSTOM == 6);
  CHECK(STEEPEST_NORM_AUTO == 0);
  CHECK(STEEPEST_NORM_FROBENIUS == 1);
  CHECK(STEEPEST_NORM_SCHATTEN4 == 2);
  CHECK(STEEPEST_NORM_BOUND == 3);
  CHECK(STEEPEST_SCHEDULE_CONSTANT == 0);
  CHECK(STEEPEST_SCHEDULE_LINEAR == 1);
  CHECK(STEEPEST_SCHEDULE_COSINE == 2);
  CHECK(STEEPEST_SCHEDULE_INVERSE_SQRT == 3);
  CHECK(STEEPEST_SCHEDULE_INVERSE == 4);
  CHECK(STEEPEST_SCHEDULE_WARMUP_STABLE_DECAY == 5);
  CHECK(STEEPEST_DECAY_LINEAR == 0);
  CHECK(STEEPEST_DECAY_COSINE == 1);
  CHECK(STEEPEST_DECAY_ONE_MINUS_SQRT == 2);
  CHECK(STEEPEST_REFINE_SGD == 0);
  CHECK(STEEPEST_REFINE_ADAM == 1);
  FLAG(STEEPEST_FLAG_CONSISTENT, 32);
  CHECK(STEEPEST_ABI_VERSION == 1);
}

/* Assigned to a pointer of the exact type, so that a changed signature does not compile. */
static void check_functions(void) {
  uint32_t (*version)(void) = steepest_version;
  uint32_t (*abi_version)(void) = steepest_abi_version;
  const char* (*build_info)(void) = steepest_build_info;
  const char* (*status_name)(int32_t) = steepest_status_name;
  const char* (*last_error)(void) = steepest_last_error;
  const char* (*isa_name)(int32_t) = steepest_isa_name;
  int32_t (*context_create)(const steepest_context_options*, steepest_context**) =
      steepest_context_create;
  void (*context_destroy)(steepest_context*) = steepest_context_destroy;
  int32_t (*context_trim)(steepest_context*) = steepest_context_trim;
  int32_t (*context_isa)(const steepest_context*) = steepest_context_isa;
  int32_t (*context_threads)(const steepest_context*) = steepest_context_threads;
  int32_t (*adamw_step)(steepest_context*, const steepest_adamw_config*,
                        const steepest_adamw_tensor*, int64_t, steepest_step_stats*) =
      steepest_adamw_step;
  int32_t (*adamw_begin)(steepest_context*, const steepest_adamw_config*,
                         const steepest_adamw_tensor*, int64_t, steepest_adamw_plan**) =
      steepest_adamw_begin;
  int32_t (*adamw_chunk)(steepest_adamw_plan*, int64_t, int64_t, int64_t) = steepest_adamw_chunk;
  int32_t (*adamw_end)(steepest_adamw_plan*, steepest_step_stats*) = steepest_adamw_end;
  int32_t (*q8_scales)(int32_t, int64_t, int64_t*, int64_t*) = steepest_q8_scales;
  int32_t (*q8_encode)(steepest_context*, int32_t, int32_t, int64_t, const float*, uint8_t*,
                       void*) = steepest_q8_encode;
  int32_t (*q8_decode)(steepest_context*, int32_t, int32_t, int64_t, const uint8_t*, const void*,
                       float*) = steepest_q8_decode;
  int32_t (*grad_norm)(steepest_context*, const steepest_vector*, int64_t, double*, int64_t*) =
      steepest_grad_norm;
  int32_t (*msign)(steepest_context*, const steepest_msign_config*, int64_t, int64_t, int32_t,
                   const void*, int64_t, void*, int64_t, const steepest_workspace*,
                   steepest_msign_stats*) = steepest_msign;
  int32_t (*msign_batched)(steepest_context*, const steepest_msign_config*, int64_t, int64_t,
                           int32_t, const void* const*, int64_t, void* const*, int64_t, int64_t,
                           const steepest_workspace*, steepest_msign_stats*) =
      steepest_msign_batched;
  int32_t (*msign_workspace_size)(steepest_context*, const steepest_msign_config*, int64_t, int64_t,
                                  int32_t, int64_t, size_t*) = steepest_msign_workspace_size;
  int32_t (*msign_band)(const steepest_msign_config*, double, double*, double*) =
      steepest_msign_band;
  int32_t (*msign_coefficients)(double, int64_t, double*) = steepest_msign_coefficients;
  int32_t (*muon_step)(steepest_context*, const steepest_muon_config*, const steepest_muon_tensor*,
                       int64_t, const steepest_workspace*, steepest_step_stats*) =
      steepest_muon_step;
  int32_t (*muon_workspace_size)(steepest_context*, const steepest_muon_config*,
                                 const steepest_muon_tensor*, int64_t, size_t*) =
      steepest_muon_workspace_size;
  int32_t (*scale_factor)(int32_t, double, int64_t, int64_t, double*) = steepest_scale_factor;
  int32_t (*adam_update_rms)(double, double, int64_t, double*) = steepest_adam_update_rms;
  int32_t (*snr_from_update_rms)(double, double, int64_t, double*) = steepest_snr_from_update_rms;
  int32_t (*snr_from_momentum)(double, double, double, int64_t, double*) =
      steepest_snr_from_momentum;
  int32_t (*singular_values)(steepest_context*, int64_t, int64_t, int32_t, const void*, int64_t,
                             double*) = steepest_singular_values;
  int32_t (*singular_entropy)(const double*, int64_t, double*) = steepest_singular_entropy;
  int32_t (*adam_update_rms_second_order)(double, double, double, double, int64_t, double*) =
      steepest_adam_update_rms_second_order;
  int32_t (*rms)(steepest_context*, const steepest_vector*, int64_t, double*, int64_t*) =
      steepest_rms;
  int32_t (*spectral_norm)(steepest_context*, int64_t, int64_t, int32_t, const void*, int64_t,
                           double*) = steepest_spectral_norm;
  int32_t (*spectral_norm_bounds)(steepest_context*, int64_t, int64_t, int32_t, const void*,
                                  int64_t, double, double*, double*) =
      steepest_spectral_norm_bounds;
  int32_t (*schedule_fill)(const steepest_schedule*, int64_t, double*) = steepest_schedule_fill;
  int32_t (*schedule_at)(const steepest_schedule*, int64_t, int64_t, double*) =
      steepest_schedule_at;
  int32_t (*schedule_bound)(const double*, int64_t, double, double, const double*, double*) =
      steepest_schedule_bound;
  int32_t (*schedule_optimal)(int64_t, double, double, const double*, double*, double*) =
      steepest_schedule_optimal;
  int32_t (*schedule_refine)(const double*, int64_t, int32_t, double, double, double*) =
      steepest_schedule_refine;
  int32_t (*const init[])(void*, size_t) = {
      steepest_executor_init,    steepest_allocator_init,    steepest_context_options_init,
      steepest_step_stats_init,  steepest_adamw_config_init, steepest_adamw_tensor_init,
      steepest_vector_init,      steepest_workspace_init,    steepest_msign_config_init,
      steepest_msign_stats_init, steepest_muon_config_init,  steepest_muon_tensor_init,
      steepest_schedule_init};
  size_t i;
  for (i = 0; i < sizeof(init) / sizeof(init[0]); ++i) CHECK(init[i] != NULL);
  CHECK(version && abi_version && build_info && status_name && last_error && isa_name);
  CHECK(context_create && context_destroy && context_trim && context_isa && context_threads);
  CHECK(adamw_step && grad_norm && adamw_begin && adamw_chunk && adamw_end);
  CHECK(q8_scales && q8_encode && q8_decode);
  CHECK(msign && msign_batched && msign_workspace_size && msign_band && msign_coefficients);
  CHECK(muon_step && muon_workspace_size && scale_factor);
  CHECK(adam_update_rms && snr_from_update_rms && snr_from_momentum);
  CHECK(adam_update_rms_second_order && rms);
  CHECK(singular_values && singular_entropy && spectral_norm && spectral_norm_bounds);
  CHECK(schedule_fill && schedule_at && schedule_bound && schedule_optimal && schedule_refine);
  CHECK(version() ==
        (STEEPEST_VERSION_MAJOR << 16 | STEEPEST_VERSION_MINOR << 8 | STEEPEST_VERSION_PATCH));
  CHECK(abi_version() == STEEPEST_ABI_VERSION);
  CHECK(strlen(build_info()) > 0);
}

int main(void) {
  check_types();
  check_executor();
  check_allocator();
  check_context_options();
  check_step_stats();
  check_adamw_config();
  check_adamw_tensor();
  check_vector();
  check_workspace();
  check_msign_config();
  check_msign_stats();
  check_muon_config();
  check_muon_tensor();
  check_schedule();
  check_constants();
  check_functions();
  if (failures == 0) printf("layout as pinned\n");
  return failures == 0 ? 0 : 1;
}
