/* SPDX-License-Identifier: Apache-2.0
 * A training loop in plain C: all parameters in one block of memory, all gradients in another, and
 * a function that updates them. docs/integrate/c-training-loop.md explains it.
 *
 * The model is a perceptron with one hidden layer that learns the parity of four bits. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <steepest/steepest.h>
#include <string.h>

enum { inputs = 4, hidden = 32, examples = 16, tensors = 4, steps = 400 };
static const int64_t sizes[tensors] = {hidden * inputs, hidden, hidden, 1};
static const int decayed[tensors] = {1, 0, 1, 0}; /* matrices decay, biases do not */

typedef struct model {
  int64_t count;
  float *params, *grads, *m, *v; /* a block each, tensor after tensor */
  float *w1, *b1, *w2, *b2;      /* into params */
} model;

static void model_init(model* p) {
  float* at;
  int64_t i;
  memset(p, 0, sizeof *p);
  for (i = 0; i < tensors; ++i) p->count += sizes[i];
  p->params = calloc((size_t)p->count, sizeof(float));
  p->grads = calloc((size_t)p->count, sizeof(float));
  p->m = calloc((size_t)p->count, sizeof(float));
  p->v = calloc((size_t)p->count, sizeof(float));
  at = p->params;
  p->w1 = at, at += sizes[0];
  p->b1 = at, at += sizes[1];
  p->w2 = at, at += sizes[2];
  p->b2 = at;
  srand(1);
  for (i = 0; i < p->count; ++i) p->params[i] = (float)rand() / (float)RAND_MAX - 0.5f;
}

/* Forward and backward over all examples: the mean squared error; gradients into p->grads. */
static double loss_and_gradients(model* p) {
  float *gw1 = p->grads, *gb1 = gw1 + sizes[0], *gw2 = gb1 + sizes[1], *gb2 = gw2 + sizes[2];
  double loss = 0;
  int e, h, i;
  memset(p->grads, 0, (size_t)p->count * sizeof(float));
  for (e = 0; e < examples; ++e) {
    float x[inputs], a[hidden], y = p->b2[0], target = -1, error;
    for (i = 0; i < inputs; ++i) {
      x[i] = e >> i & 1 ? 1.0f : -1.0f;
      target *= x[i];
    }
    for (h = 0; h < hidden; ++h) {
      float sum = p->b1[h];
      for (i = 0; i < inputs; ++i) sum += p->w1[h * inputs + i] * x[i];
      a[h] = tanhf(sum);
      y += p->w2[h] * a[h];
    }
    error = y - target;
    loss += error * error / examples;
    for (h = 0; h < hidden; ++h) {
      const float back = 2 * error / examples * p->w2[h] * (1 - a[h] * a[h]);
      gw2[h] += 2 * error / examples * a[h];
      gb1[h] += back;
      for (i = 0; i < inputs; ++i) gw1[h * inputs + i] += back * x[i];
    }
    gb2[0] += 2 * error / examples;
  }
  return loss;
}

/* What stood here: a loop over all parameters. Now one call, with clipping and two groups. */
static int model_update(model* p, int step, double lr) {
  steepest_adamw_tensor list[tensors] = {STEEPEST_ADAMW_TENSOR_INIT, STEEPEST_ADAMW_TENSOR_INIT,
                                         STEEPEST_ADAMW_TENSOR_INIT, STEEPEST_ADAMW_TENSOR_INIT};
  steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT, no_decay;
  steepest_vector grads = STEEPEST_VECTOR_INIT;
  double norm = 0;
  int64_t at = 0;
  int i;

  grads.count = p->count;
  grads.data = p->grads;
  if (steepest_grad_norm(NULL, &grads, 1, &norm, NULL) != STEEPEST_OK) return -1;

  config.lr = lr;
  config.weight_decay = 0.01;
  config.step = step; /* from 1 */
  config.grad_scale = norm > 1 ? 1 / norm : 1;
  no_decay = config;
  no_decay.weight_decay = 0;
  for (i = 0; i < tensors; ++i) {
    list[i].count = sizes[i];
    list[i].param = p->params + at;
    list[i].grad = p->grads + at;
    list[i].exp_avg = p->m + at;
    list[i].exp_avg_sq = p->v + at;
    list[i].config = decayed[i] ? &config : &no_decay;
    at += sizes[i];
  }
  return steepest_adamw_step(NULL, NULL, list, tensors, NULL) == STEEPEST_OK ? 0 : -1;
}

int main(void) {
  const steepest_schedule init = STEEPEST_SCHEDULE_INIT;
  steepest_schedule schedule = init;
  double lr[steps], first = 0, last = 0;
  model p;
  int step;
  schedule.kind = STEEPEST_SCHEDULE_COSINE;
  schedule.lr = 0.02;
  schedule.warmup_steps = 20;
  if (steepest_schedule_fill(&schedule, steps, lr) != STEEPEST_OK) goto failed;

  model_init(&p);
  for (step = 1; step <= steps; ++step) {
    last = loss_and_gradients(&p);
    if (step == 1) first = last;
    if (step % 100 == 1) printf("step %4d  loss %.4f\n", step, last);
    if (model_update(&p, step, lr[step - 1]) != 0) goto failed;
  }
  last = loss_and_gradients(&p);
  printf("end        loss %.4f\n", last);
  return !(last < first / 20);

failed:
  fprintf(stderr, "%s\n", steepest_last_error());
  return 1;
}
