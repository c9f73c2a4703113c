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
  CHECK(sizeof(steepest_adamw_tensor) == 96);
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
  CHECK(x.struct_size == 96 && x.count == 0);
  CHECK(!x.param && !x.grad && !x.exp_avg && !x.exp_avg_sq);
  CHECK(x.param_dtype == 1 && x.grad_dtype == 1 && x.exp_avg_dtype == 1);
  CHECK(x.exp_avg_sq_dtype == 1 && x.delta_dtype == 1);
  CHECK(!x.config && !x.max_exp_avg_sq && !x.delta && x.reserved == 0);
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
  int32_t (*grad_norm)(steepest_context*, const steepest_vector*, int64_t, double*, int64_t*) =
      steepest_grad_norm;
  int32_t (*const init[])(void*, size_t) = {
      steepest_executor_init,   steepest_allocator_init,    steepest_context_options_init,
      steepest_step_stats_init, steepest_adamw_config_init, steepest_adamw_tensor_init,
      steepest_vector_init};
  size_t i;
  for (i = 0; i < sizeof(init) / sizeof(init[0]); ++i) CHECK(init[i] != NULL);
  CHECK(version && abi_version && build_info && status_name && last_error && isa_name);
  CHECK(context_create && context_destroy && context_trim && context_isa && context_threads);
  CHECK(adamw_step && grad_norm);
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
  check_constants();
  check_functions();
  if (failures == 0) printf("layout as pinned\n");
  return failures == 0 ? 0 : 1;
}
