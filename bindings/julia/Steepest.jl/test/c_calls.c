/* SPDX-License-Identifier: Apache-2.0
 * Calls from C, compiled and loaded by c_calls.jl: the tests compare the bits of theirs with them,
 * bench/ffi/julia.jl the time that they take. Everything is set anew for each call, as a training
 * loop does. And an executor and an allocator in C. */
#include <stdlib.h>
#include <steepest/steepest.h>

/* How many calls failed. dtypes: of param, grad, exp_avg, exp_avg_sq. stats: null, or of the last
 * call. */
int64_t c_adamw(int64_t first_step, int64_t calls, double lr, int64_t count, const int32_t* dtypes,
                void* param, const void* grad, void* exp_avg, void* exp_avg_sq,
                steepest_step_stats* stats) {
  int64_t failures = 0, i;
  for (i = 0; i < calls; ++i) {
    steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT;
    steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
    config.lr = lr;
    config.step = first_step + i;
    tensor.count = count;
    tensor.param = param;
    tensor.grad = grad;
    tensor.exp_avg = exp_avg;
    tensor.exp_avg_sq = exp_avg_sq;
    tensor.param_dtype = dtypes[0];
    tensor.grad_dtype = dtypes[1];
    tensor.exp_avg_dtype = dtypes[2];
    tensor.exp_avg_sq_dtype = dtypes[3];
    failures += steepest_adamw_step(NULL, &config, &tensor, 1, stats) != STEEPEST_OK;
  }
  return failures;
}

int64_t c_grad_norm(int64_t calls, int64_t count, const float* grad) {
  int64_t failures = 0, i;
  for (i = 0; i < calls; ++i) {
    steepest_vector vector = STEEPEST_VECTOR_INIT;
    double norm;
    int64_t nonfinite;
    vector.count = count;
    vector.data = grad;
    failures += steepest_grad_norm(NULL, &vector, 1, &norm, &nonfinite) != STEEPEST_OK;
  }
  return failures;
}

/* A column-major matrix of `out` rows is a row-major one of `in` rows. dtypes: of param, grad,
 * momentum. */
int64_t c_muon(double lr, int64_t out, int64_t in, const int32_t* dtypes, void* param,
               const void* grad, void* momentum, steepest_step_stats* stats) {
  steepest_muon_config config = STEEPEST_MUON_CONFIG_INIT;
  steepest_muon_tensor tensor = STEEPEST_MUON_TENSOR_INIT;
  config.lr = lr;
  config.scale_mode = STEEPEST_SCALE_SQRT_MAX1_OUT_IN;
  tensor.rows = in;
  tensor.cols = out;
  tensor.fan_out = out;
  tensor.fan_in = in;
  tensor.param = param;
  tensor.grad = grad;
  tensor.momentum = momentum;
  tensor.param_dtype = dtypes[0];
  tensor.grad_dtype = dtypes[1];
  tensor.momentum_dtype = dtypes[2];
  tensor.delta_dtype = dtypes[0];
  return steepest_muon_step(NULL, &config, &tensor, 1, NULL, stats) != STEEPEST_OK;
}

/* A step of AdamW and one of Muon with every field of narrow storage, on a row-major matrix of 40
 * rows of 24: bf16 param; m is Q8_DYNAMIC; v, Q8_COMPANDED, is Muon's momentum too. */
int64_t c_narrow(const float* g, void* param, float* copy, int8_t* residual, uint8_t* m,
                 float* m_scales, uint8_t* v, uint16_t* v_scales) {
  enum { rows = 40, cols = 24, count = rows * cols };
  steepest_adamw_config adamw = STEEPEST_ADAMW_CONFIG_INIT;
  steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
  steepest_muon_config muon = STEEPEST_MUON_CONFIG_INIT;
  steepest_muon_tensor matrix = STEEPEST_MUON_TENSOR_INIT;
  int64_t failures = 0;

  adamw.flags = STEEPEST_ADAMW_STOCHASTIC_ROUNDING;
  adamw.seed = 9;
  tensor.count = count;
  tensor.param = param;
  tensor.param_dtype = STEEPEST_BF16;
  tensor.grad = g;
  tensor.exp_avg = m;
  tensor.exp_avg_dtype = STEEPEST_Q8_DYNAMIC;
  tensor.exp_avg_scales = m_scales;
  tensor.exp_avg_sq = v;
  tensor.exp_avg_sq_dtype = STEEPEST_Q8_COMPANDED;
  tensor.exp_avg_sq_scales = v_scales;
  tensor.residual = residual;
  tensor.residual_kind = STEEPEST_RESIDUAL_NEAREST8;
  tensor.param_copy = copy;
  tensor.param_copy_dtype = STEEPEST_F32;
  tensor.random_stream = 4;
  tensor.first_index = 100;
  failures += steepest_adamw_step(NULL, &adamw, &tensor, 1, NULL) != STEEPEST_OK;

  muon.flags |= STEEPEST_MUON_STOCHASTIC_ROUNDING;
  muon.seed = 9;
  muon.step = 2;
  matrix.rows = rows;
  matrix.cols = cols;
  matrix.fan_out = cols;
  matrix.fan_in = rows;
  matrix.param = param;
  matrix.param_dtype = STEEPEST_BF16;
  matrix.grad = g;
  matrix.momentum = v;
  matrix.momentum_dtype = STEEPEST_Q8_COMPANDED;
  matrix.momentum_scales = v_scales;
  matrix.residual = residual;
  matrix.residual_kind = STEEPEST_RESIDUAL_NEAREST8;
  matrix.param_copy = copy;
  matrix.param_copy_dtype = STEEPEST_F32;
  matrix.random_stream = 4;
  matrix.first_index = 100;
  failures += steepest_muon_step(NULL, &muon, &matrix, 1, NULL, NULL) != STEEPEST_OK;
  return failures;
}

int64_t c_msign(int32_t method, int64_t out, int64_t in, int32_t dtype, const void* x, void* o,
                steepest_msign_stats* stats) {
  steepest_msign_config config = STEEPEST_MSIGN_CONFIG_INIT;
  config.method = method;
  return steepest_msign(NULL, &config, in, out, dtype, x, 0, o, 0, NULL, stats) != STEEPEST_OK;
}

/* On the calling thread, and counted. */
static int64_t runs, allocations;

static int32_t concurrency(void* user) {
  (void)user;
  return 3;
}

static steepest_status parallel_for(void* user, int64_t tasks,
                                    void (*body)(void* arg, int64_t task, int32_t worker),
                                    void* arg) {
  int64_t task;
  (void)user;
  ++runs;
  for (task = 0; task < tasks; ++task) body(arg, task, (int32_t)(task % 3));
  return STEEPEST_OK;
}

static void* allocate(void* user, size_t alignment, size_t bytes) {
  (void)user;
  ++allocations;
  return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void release(void* user, void* pointer, size_t bytes) {
  (void)user;
  (void)bytes;
  free(pointer);
}

const steepest_executor* c_executor(void) {
  static steepest_executor executor = STEEPEST_EXECUTOR_INIT;
  executor.concurrency = concurrency;
  executor.parallel_for = parallel_for;
  return &executor;
}

const steepest_allocator* c_allocator(void) {
  static steepest_allocator allocator = STEEPEST_ALLOCATOR_INIT;
  allocator.allocate = allocate;
  allocator.release = release;
  return &allocator;
}

int64_t c_runs(void) { return runs; }
int64_t c_allocations(void) { return allocations; }
