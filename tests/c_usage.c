/* SPDX-License-Identifier: Apache-2.0
 *
 * The library as a C99 program uses it: minimise a quadratic with two parameter groups, gradient
 * clipping, a learning rate that decays to zero and a checkpoint on the way; it must get there. */
#include <stdio.h>
#include <string.h>

#include <steepest/steepest.h>

enum { WEIGHTS = 300, BIASES = 20, ALL = WEIGHTS + BIASES, STEPS = 2000 };

/* The whole state of training: saving this struct is saving the optimizer. */
typedef struct state {
  float param[ALL], exp_avg[ALL], exp_avg_sq[ALL];
  int64_t step;
} state;

static int fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, steepest_last_error());
  return 1;
}

static float target(int i) { return (float)(i % 17) * 0.25f - 2.0f; }
static float curvature(int i) { return 0.1f + (float)(i % 7); }

/* Gradient of sum_i curvature_i (param_i - target_i)^2 / 2. */
static void gradient(const state* s, float* grad) {
  int i;
  for (i = 0; i < ALL; ++i) grad[i] = curvature(i) * (s->param[i] - target(i));
}

static int train(steepest_context* context, state* s, int64_t until) {
  steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT;
  steepest_adamw_config bias_config;
  steepest_adamw_tensor tensors[2] = {STEEPEST_ADAMW_TENSOR_INIT, STEEPEST_ADAMW_TENSOR_INIT};
  steepest_step_stats stats[2] = {STEEPEST_STEP_STATS_INIT, STEEPEST_STEP_STATS_INIT};
  steepest_vector vector = STEEPEST_VECTOR_INIT;
  float grad[ALL];
  double norm;
  int32_t skipped;

  vector.count = ALL;
  vector.data = grad;
  tensors[0].count = WEIGHTS;
  tensors[0].param = s->param;
  tensors[0].grad = grad;
  tensors[0].exp_avg = s->exp_avg;
  tensors[0].exp_avg_sq = s->exp_avg_sq;
  tensors[1].count = BIASES;
  tensors[1].param = s->param + WEIGHTS;
  tensors[1].grad = grad + WEIGHTS;
  tensors[1].exp_avg = s->exp_avg + WEIGHTS;
  tensors[1].exp_avg_sq = s->exp_avg_sq + WEIGHTS;
  tensors[1].config = &bias_config;
  config.flags = STEEPEST_ADAMW_SKIP_NONFINITE;
  config.weight_decay = 1e-7;
  config.skipped = &skipped;

  while (s->step < until) {
    gradient(s, grad);
    if (steepest_grad_norm(context, &vector, 1, &norm, NULL) != STEEPEST_OK) return fail("norm");
    config.step = ++s->step;
    config.lr = 0.05 * (double)(STEPS - s->step) / STEPS;
    config.grad_scale = norm > 10.0 ? 10.0 / norm : 1.0;
    bias_config = config;
    bias_config.weight_decay = 0.0;
    skipped = -1;
    if (steepest_adamw_step(context, &config, tensors, 2, stats) != STEEPEST_OK)
      return fail("step");
    if (skipped != 0 || stats[0].status != STEEPEST_OK || !(stats[0].update_rms <= 10.0)) {
      return fail("stats");
    }
  }
  return 0;
}

int main(void) {
  steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
  steepest_context* context = NULL;
  state direct, resumed;
  int i;
  double worst = 0.0;

  memset(&direct, 0, sizeof(direct));
  options.num_threads = 2;
  if (steepest_context_create(&options, &context) != STEEPEST_OK) return fail("context");
  if (train(context, &direct, STEPS / 2) != 0) return 1;
  resumed = direct;
  if (train(context, &direct, STEPS) != 0) return 1;
  steepest_context_destroy(context);

  for (i = 0; i < ALL; ++i) {
    const double distance = (double)direct.param[i] - target(i);
    if (!(distance <= worst)) worst = distance;
    if (!(-distance <= worst)) worst = -distance;
  }
  printf("largest distance from the minimum: %g\n", worst);
  if (!(worst < 1e-3)) return fail("training did not reach the minimum");

  if (train(NULL, &resumed, STEPS) != 0) return 1; /* from the checkpoint, on the default context */
  if (memcmp(&direct, &resumed, sizeof(direct)) != 0) return fail("resuming gave other bits");
  return 0;
}
