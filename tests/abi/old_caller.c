/* SPDX-License-Identifier: Apache-2.0
 * A program that knows one header of headers/ and no other: every function and struct that it has,
 * in lists, so that the stride of its structs counts, with results that are known. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <steepest/steepest.h>
#include <string.h>

static void check(int right, const char* what, int line) {
  if (right) return;
  printf("line %d: %s (last error: %s)\n", line, what, steepest_last_error());
  exit(1);
}
#define CHECK(condition) check(condition, #condition, __LINE__)
#define CHECK_OK(call) CHECK((call) == STEEPEST_OK)

static int near(double a, double b, double tolerance) { return fabs(a - b) <= tolerance * fabs(b); }

/* ---- a context with callbacks of its own */

static int64_t tasks_run, bytes_out;

static int32_t concurrency(void* user) {
  (void)user;
  return 3;
}
static steepest_status parallel_for(void* user, int64_t tasks,
                                    void (*body)(void* arg, int64_t task, int32_t worker),
                                    void* arg) {
  int64_t task;
  (void)user;
  for (task = tasks - 1; task >= 0; --task, ++tasks_run) body(arg, task, (int32_t)(task % 3));
  return STEEPEST_OK;
}
static void* allocate(void* user, size_t alignment, size_t bytes) {
  /* The start of the block is kept in front of what is handed out. */
  char* const block = malloc(bytes + 2 * alignment + sizeof(void*));
  char* place;
  (void)user;
  if (block == NULL) return NULL;
  place = block + sizeof(void*);
  place += alignment - (uintptr_t)place % alignment;
  memcpy(place - sizeof(void*), &block, sizeof(void*));
  bytes_out += (int64_t)bytes;
  return place;
}
static void release(void* user, void* pointer, size_t bytes) {
  void* block;
  (void)user;
  memcpy(&block, (char*)pointer - sizeof(void*), sizeof(void*));
  bytes_out -= (int64_t)bytes;
  free(block);
}

static steepest_context* make_context(void) {
  steepest_executor executor = STEEPEST_EXECUTOR_INIT;
  steepest_allocator allocator = STEEPEST_ALLOCATOR_INIT;
  steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
  steepest_context* context = NULL;
  executor.concurrency = concurrency;
  executor.parallel_for = parallel_for;
  allocator.allocate = allocate;
  allocator.release = release;
  options.executor = &executor;
  options.allocator = &allocator;
  options.flags = STEEPEST_FLAG_CONSISTENT;
  CHECK_OK(steepest_context_create(&options, &context));
  CHECK(steepest_context_threads(context) == 3);
  CHECK(strcmp(steepest_isa_name(steepest_context_isa(context)), "unknown isa") != 0);
  CHECK_OK(steepest_context_trim(context));
  return context;
}

/* ---- AdamW */

enum { tensor_count = 5, elements = 1 << 16 };
static double param[tensor_count][elements], grad[tensor_count][elements];
static double exp_avg[tensor_count][elements], exp_avg_sq[tensor_count][elements];
static double largest[tensor_count][elements], delta[tensor_count][elements];

static void check_adamw(steepest_context* context) {
  steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT, own = STEEPEST_ADAMW_CONFIG_INIT;
  steepest_adamw_config by_function;
  /* What lies behind the arrays is none of the library's business. */
  struct {
    steepest_adamw_tensor list[tensor_count];
    unsigned char behind[256];
  } tensors;
  struct {
    steepest_step_stats list[tensor_count];
    unsigned char behind[256];
  } stats;
  unsigned char behind[256];
  int32_t skipped = -7;
  int i, k;
  memset(behind, 0xa5, sizeof(behind));
  memset(&tensors, 0xa5, sizeof(tensors));
  memset(&stats, 0xa5, sizeof(stats));
  memset(&by_function, 0xa5, sizeof(by_function));
  CHECK_OK(steepest_adamw_config_init(&by_function, sizeof(by_function)));
  CHECK(memcmp(&by_function, &config, sizeof(config)) == 0);
  config.lr = 0.01;
  config.step = 3;
  config.skipped = &skipped;
  own = config;
  own.lr = 0.5;
  own.flags = STEEPEST_ADAMW_AMSGRAD | STEEPEST_ADAMW_EMIT_DELTA;
  for (i = 0; i < tensor_count; ++i) {
    steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
    const steepest_step_stats empty = STEEPEST_STEP_STATS_INIT;
    tensor.count = elements;
    tensor.param = param[i];
    tensor.grad = grad[i];
    tensor.exp_avg = exp_avg[i];
    tensor.exp_avg_sq = exp_avg_sq[i];
    tensor.param_dtype = tensor.grad_dtype = STEEPEST_F64;
    tensor.exp_avg_dtype = tensor.exp_avg_sq_dtype = STEEPEST_F64;
    tensor.delta_dtype = STEEPEST_F64;
    if (i % 2 == 1) {
      tensor.config = &own;
      tensor.max_exp_avg_sq = largest[i];
      tensor.delta = delta[i];
    }
    tensors.list[i] = tensor;
    stats.list[i] = empty;
    for (k = 0; k < elements; ++k) {
      param[i][k] = 1 + i;
      grad[i][k] = 0.25 * (k % 7 - 3);
      exp_avg[i][k] = 0.125;
      exp_avg_sq[i][k] = 0.0625;
      largest[i][k] = 0.25;
    }
  }
  CHECK_OK(steepest_adamw_step(context, &config, tensors.list, tensor_count, stats.list));
  CHECK(tasks_run > 0 && skipped == 0);
  CHECK(memcmp(tensors.behind, behind, sizeof(behind)) == 0);
  CHECK(memcmp(stats.behind, behind, sizeof(behind)) == 0);
  for (i = 0; i < tensor_count; ++i)
    for (k = 0; k < elements; ++k) {
      const int other = i % 2 == 1;
      const double g = 0.25 * (k % 7 - 3);
      const double m = 0.9 * 0.125 + 0.1 * g, v = 0.999 * 0.0625 + 0.001 * g * g;
      const double root = sqrt((other && v < 0.25 ? 0.25 : v) / (1 - 0.999 * 0.999 * 0.999));
      const double u = m / (1 - 0.9 * 0.9 * 0.9) / (root + 1e-8);
      const double change = -(other ? 0.5 : 0.01) * (u + 0.01 * (1 + i));
      CHECK(near(exp_avg[i][k], m, 1e-12) && near(exp_avg_sq[i][k], v, 1e-12));
      CHECK(other ? near(delta[i][k], change, 1e-12) && param[i][k] == 1 + i
                  : near(param[i][k], 1 + i + change, 1e-12));
      if (k > 0) continue;
      CHECK(stats.list[i].struct_size == sizeof(steepest_step_stats));
      CHECK(stats.list[i].nonfinite == 0 && near(stats.list[i].param_rms, 1 + i, 1e-9));
    }
  grad[4][9] = NAN;
  config.flags = STEEPEST_ADAMW_SKIP_NONFINITE;
  CHECK_OK(steepest_adamw_step(context, &config, tensors.list, tensor_count, stats.list));
  CHECK(skipped == 1 && stats.list[4].nonfinite == 1);
  CHECK(stats.list[4].status == STEEPEST_E_NONFINITE && stats.list[0].status == STEEPEST_OK);
}

static void check_grad_norm(steepest_context* context) {
  static const float a[] = {3, 4};
  static const double b[] = {12};
  steepest_vector vectors[2] = {STEEPEST_VECTOR_INIT, STEEPEST_VECTOR_INIT};
  double norm = 0;
  int64_t nonfinite = -7;
  vectors[0].count = 2;
  vectors[0].data = a;
  vectors[1].count = 1;
  vectors[1].data = b;
  vectors[1].dtype = STEEPEST_F64;
  CHECK_OK(steepest_grad_norm(context, vectors, 2, &norm, &nonfinite));
  CHECK(norm == 13 && nonfinite == 0);
}

static void check_errors(steepest_context* context) {
  CHECK(steepest_grad_norm(context, NULL, 2, NULL, NULL) == STEEPEST_E_INVALID_ARGUMENT);
  CHECK(strstr(steepest_last_error(), "vectors is null") != NULL);
  CHECK(strcmp(steepest_status_name(STEEPEST_E_SHAPE), "STEEPEST_E_SHAPE") == 0);
  CHECK(steepest_abi_version() == STEEPEST_ABI_VERSION);
  CHECK(steepest_version() > 0 && steepest_build_info()[0] != '\0');
}

#if defined(STEEPEST_MSIGN_AUTO)

/* ---- matrices, diagnostics and schedules */

static void check_msign(steepest_context* context) {
  static const float x[] = {0, 3, 0, -2, 0, 0}; /* 2 x 3: singular values 3 and 2 */
  static const float expected[] = {0, 1, 0, -1, 0, 0};
  steepest_msign_config config = STEEPEST_MSIGN_CONFIG_INIT;
  steepest_msign_stats stats[2] = {STEEPEST_MSIGN_STATS_INIT, STEEPEST_MSIGN_STATS_INIT};
  steepest_workspace workspace = STEEPEST_WORKSPACE_INIT;
  const void* from[] = {x, x};
  float out[2][6];
  void* to[2];
  double low = 0, high = 0, rows[15], values[2] = {0, 0}, norm = 0, bounds[2], entropy = 0;
  size_t bytes = 0;
  int i;
  to[0] = out[0];
  to[1] = out[1];
  config.method = STEEPEST_MSIGN_ACCURATE;
  CHECK_OK(steepest_msign_workspace_size(context, &config, 2, 3, STEEPEST_F32, 2, &bytes));
  workspace.bytes = bytes;
  workspace.data = malloc(bytes);
  CHECK_OK(steepest_msign_batched(context, &config, 2, 3, STEEPEST_F32, from, 0, to, 0, 2,
                                  &workspace, stats));
  free(workspace.data);
  for (i = 0; i < 12; ++i) CHECK(fabs(out[i / 6][i % 6] - expected[i % 6]) < 1e-6);
  CHECK(stats[1].method == STEEPEST_MSIGN_ACCURATE && stats[1].struct_size == sizeof(stats[1]));
  config.method = STEEPEST_MSIGN_AUTO;
  CHECK_OK(steepest_msign(context, &config, 2, 3, STEEPEST_F32, x, 0, out[0], 0, NULL, stats));
  for (i = 0; i < 6; ++i) CHECK(fabs(out[0][i] - expected[i]) < 0.07);
  CHECK(stats[0].method == STEEPEST_MSIGN_RATIONAL && stats[0].steps == 3);
  CHECK_OK(steepest_msign_band(&config, 1e-3, &low, &high));
  CHECK(low > 0.93 && low < 0.95 && high > 1.05 && high < 1.07);
  CHECK_OK(steepest_msign_coefficients(1e-3, 5, rows));
  CHECK(rows[0] > 8 && rows[1] < -20);
  CHECK_OK(steepest_singular_values(context, 2, 3, STEEPEST_F32, x, 0, values));
  CHECK(near(values[0], 3, 1e-12) && near(values[1], 2, 1e-12));
  CHECK_OK(steepest_spectral_norm(context, 2, 3, STEEPEST_F32, x, 0, &norm));
  CHECK(near(norm, 3, 1e-12));
  CHECK_OK(steepest_spectral_norm_bounds(context, 2, 3, STEEPEST_F32, x, 0, 0, bounds, bounds + 1));
  CHECK(bounds[0] <= 3 && bounds[1] >= 3 && bounds[1] < 3.04);
  CHECK_OK(steepest_singular_entropy(values, 2, &entropy));
  CHECK(entropy > 0.8 && entropy < 0.95);
  CHECK_OK(steepest_rms(context, NULL, 0, &norm, NULL));
  CHECK(norm == 0);
}

static void check_muon(steepest_context* context) {
  static const float g[3][4] = {{2, 0, 0, 5}, {0, 1, -1, 0}, {-3, 0, 0, 1}};
  static const float sign[3][4] = {{1, 0, 0, 1}, {0, 1, -1, 0}, {-1, 0, 0, 1}};
  float w[3][4], m[3][4], change[4] = {-7, -7, -7, -7};
  steepest_muon_config config = STEEPEST_MUON_CONFIG_INIT;
  steepest_muon_config own = STEEPEST_MUON_CONFIG_INIT;
  steepest_msign_config method = STEEPEST_MSIGN_CONFIG_INIT;
  steepest_muon_tensor tensors[3];
  steepest_step_stats stats[3] = {STEEPEST_STEP_STATS_INIT, STEEPEST_STEP_STATS_INIT,
                                  STEEPEST_STEP_STATS_INIT};
  static const int64_t blocks[] = {1, 1};
  size_t bytes = 0;
  double scale = 0;
  int i, k;
  method.method = STEEPEST_MSIGN_ACCURATE;
  config.msign = &method;
  config.lr = 0.5;
  config.scale_mode = STEEPEST_SCALE_NONE;
  own = config;
  own.flags |= STEEPEST_MUON_EMIT_DELTA;
  for (i = 0; i < 3; ++i) {
    const steepest_muon_tensor init = STEEPEST_MUON_TENSOR_INIT;
    for (k = 0; k < 4; ++k) {
      w[i][k] = 2;
      m[i][k] = 0;
    }
    tensors[i] = init;
    tensors[i].rows = tensors[i].cols = 2;
    tensors[i].param = w[i];
    tensors[i].grad = g[i];
    tensors[i].momentum = m[i];
  }
  tensors[1].blocks = blocks; /* each row by itself: the same signs here */
  tensors[1].block_count = 2;
  tensors[2].config = &own;
  tensors[2].delta = change;
  CHECK_OK(steepest_muon_workspace_size(context, &config, tensors, 3, &bytes));
  CHECK_OK(steepest_muon_step(context, &config, tensors, 3, NULL, stats));
  for (i = 0; i < 3; ++i)
    for (k = 0; k < 4; ++k) {
      const double by = -0.5 * (sign[i][k] + 0.01 * 2);
      CHECK(fabs(m[i][k] - 0.05 * g[i][k]) < 1e-6);
      CHECK(fabs((i == 2 ? change[k] : w[i][k] - 2) - by) < 1e-5);
      CHECK(i < 2 || w[i][k] == 2);
      CHECK(near(stats[i].param_rms, 2, 1e-6));
    }
  CHECK_OK(steepest_scale_factor(STEEPEST_SCALE_SQRT_MAX, 1, 9, 4, &scale));
  CHECK(scale == 3);
}

static void check_schedules(void) {
  steepest_schedule schedule = STEEPEST_SCHEDULE_INIT;
  double lr[10], bound = 0, rms = 0;
  int i;
  schedule.lr = 11;
  CHECK_OK(steepest_schedule_fill(&schedule, 10, lr));
  for (i = 0; i < 10; ++i) CHECK(near(lr[i], 10 - i, 1e-12));
  CHECK_OK(steepest_schedule_at(&schedule, 10, 4, lr));
  CHECK(near(lr[0], 7, 1e-12));
  CHECK_OK(steepest_schedule_optimal(10, 1, 1, NULL, lr, &bound));
  CHECK(near(bound, 0.57801, 1e-4));
  CHECK_OK(steepest_schedule_bound(lr, 10, 1, 1, NULL, &rms));
  CHECK(near(rms, bound, 1e-12));
  CHECK(steepest_schedule_refine(lr, 10, STEEPEST_REFINE_ADAM, 0, 0, lr) ==
        STEEPEST_E_INVALID_ARGUMENT); /* they overlap */
  CHECK_OK(steepest_adam_update_rms(0.9, 0, 0, &rms));
  CHECK(near(rms, 0.2294, 1e-3));
  CHECK_OK(steepest_snr_from_update_rms(rms, 0.9, 0, &bound));
  CHECK(fabs(bound) < 1e-12);
}

#endif

int main(void) {
  steepest_context* const context = make_context();
  check_errors(context);
  check_adamw(context);
  check_grad_norm(context);
#if defined(STEEPEST_MSIGN_AUTO)
  check_msign(context);
  check_muon(context);
  check_schedules();
#endif
  steepest_context_destroy(context);
  CHECK(bytes_out == 0);
  return 0;
}
