/* SPDX-License-Identifier: Apache-2.0
 * Optimizer state in CPU memory, the model on an accelerator in bf16: gradients come down, weights
 * go up. docs/integrate/offload.md explains it. The accelerator here is a pair of buffers and a
 * thread that copies. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <steepest/steepest.h>
#include <string.h>

enum { layers = 4, count = 50000, steps = 2000, piece = 2 * STEEPEST_ADAMW_CHUNK };

typedef struct device_layer {
  uint16_t *weight, *grad; /* bf16 */
} device_layer;

typedef struct host_layer {
  float *weight, *exp_avg, *exp_avg_sq; /* the weights that count */
  uint16_t *grad, *upload;              /* where transfers arrive and start: pinned memory */
} host_layer;

static device_layer device[layers];
static host_layer host[layers];

static float widen(uint16_t bits) {
  const uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return value;
}

/* To nearest, ties to even, as the library rounds. For finite values. */
static uint16_t narrow(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* The backward pass on the device: the loss is |w - 1|^2 / 2, so the gradient is w - 1. */
static void device_backward(device_layer* d) {
  int i;
  for (i = 0; i < count; ++i) d->grad[i] = narrow(widen(d->weight[i]) - 1.0f);
}

/* Transfers down: pieces of the layers in the order of the backward pass, one after the other. */
typedef struct transfers {
  pthread_mutex_t lock;
  pthread_cond_t arrival;
  int arrived; /* pieces */
} transfers;

enum { pieces_per_layer = (count + piece - 1) / piece, pieces = layers * pieces_per_layer };

static void place_of(int number, int* layer, int* first, int* size) {
  *layer = layers - 1 - number / pieces_per_layer;
  *first = number % pieces_per_layer * piece;
  *size = count - *first < piece ? count - *first : piece;
}

static void* run_transfers(void* argument) {
  transfers* t = argument;
  int number, layer, first, size;
  for (number = 0; number < pieces; ++number) {
    place_of(number, &layer, &first, &size);
    if (first == 0) device_backward(&device[layer]);
    memcpy(host[layer].grad + first, device[layer].grad + first, (size_t)size * sizeof(uint16_t));
    pthread_mutex_lock(&t->lock);
    t->arrived = number + 1;
    pthread_cond_signal(&t->arrival);
    pthread_mutex_unlock(&t->lock);
  }
  return NULL;
}

static void wait_for(transfers* t, int number) {
  pthread_mutex_lock(&t->lock);
  while (t->arrived <= number) pthread_cond_wait(&t->arrival, &t->lock);
  pthread_mutex_unlock(&t->lock);
}

static void send_up(int layer, int first, int size) {
  memcpy(device[layer].weight + first, host[layer].upload + first, (size_t)size * sizeof(uint16_t));
}

/* bf16 gradients, f32 state, and the bf16 weights written in the same pass. */
static void fill_tensors(steepest_adamw_tensor* tensors) {
  int layer;
  for (layer = 0; layer < layers; ++layer) {
    const steepest_adamw_tensor init = STEEPEST_ADAMW_TENSOR_INIT;
    steepest_adamw_tensor* t = &tensors[layer];
    *t = init;
    t->count = count;
    t->param = host[layer].weight;
    t->grad = host[layer].grad;
    t->grad_dtype = STEEPEST_BF16;
    t->exp_avg = host[layer].exp_avg;
    t->exp_avg_sq = host[layer].exp_avg_sq;
    t->param_copy = host[layer].upload;
    t->param_copy_dtype = STEEPEST_BF16;
  }
}

/* Without clipping: each piece is stepped and sent up while the next one is coming down. */
static steepest_status step_in_chunks(const steepest_adamw_config* config,
                                      const steepest_adamw_tensor* tensors, transfers* t) {
  steepest_adamw_plan* plan = NULL;
  steepest_status status = steepest_adamw_begin(NULL, config, tensors, layers, &plan);
  int number, layer, first, size;
  for (number = 0; number < pieces; ++number) {
    wait_for(t, number);
    place_of(number, &layer, &first, &size);
    if (status == STEEPEST_OK) status = steepest_adamw_chunk(plan, layer, first, size);
    if (status == STEEPEST_OK) send_up(layer, first, size);
  }
  if (status == STEEPEST_OK) return steepest_adamw_end(plan, NULL);
  if (plan != NULL) steepest_adamw_end(plan, NULL); /* gives up the rest of the step */
  return status;
}

/* With clipping by the global norm: two calls once all gradients are there. */
static steepest_status step_clipped(const steepest_adamw_config* config,
                                    const steepest_adamw_tensor* tensors, transfers* t) {
  const double max_norm = 100.0;
  steepest_adamw_config clipped = *config;
  steepest_vector grads[layers];
  double norm = 0;
  int64_t nonfinite = 0;
  steepest_status status;
  int layer;
  wait_for(t, pieces - 1);
  for (layer = 0; layer < layers; ++layer) {
    const steepest_vector init = STEEPEST_VECTOR_INIT;
    grads[layer] = init;
    grads[layer].count = count;
    grads[layer].data = host[layer].grad;
    grads[layer].dtype = STEEPEST_BF16;
  }
  status = steepest_grad_norm(NULL, grads, layers, &norm, &nonfinite);
  if (status != STEEPEST_OK) return status;
  if (nonfinite > 0) return STEEPEST_OK; /* skip this step */
  if (norm > max_norm) clipped.grad_scale *= max_norm / norm;
  status = steepest_adamw_step(NULL, &clipped, tensors, layers, NULL);
  for (layer = 0; layer < layers; ++layer) send_up(layer, 0, count);
  return status;
}

/* For comparison: one weight that is kept in bf16 only, with the same gradients. */
static float in_bf16_only(const steepest_adamw_config* config, uint64_t flags) {
  uint16_t weight = narrow(2.0f), grad;
  float exp_avg = 0, exp_avg_sq = 0;
  steepest_adamw_config c = *config;
  steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
  c.flags = flags;
  tensor.count = 1;
  tensor.param = &weight;
  tensor.grad = &grad;
  tensor.exp_avg = &exp_avg;
  tensor.exp_avg_sq = &exp_avg_sq;
  tensor.param_dtype = tensor.grad_dtype = STEEPEST_BF16;
  for (c.step = 1; c.step <= steps; ++c.step) {
    grad = narrow(widen(weight) - 1.0f);
    if (steepest_adamw_step(NULL, &c, &tensor, 1, NULL) != STEEPEST_OK) return NAN;
  }
  return widen(weight);
}

int main(void) {
  steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT;
  steepest_adamw_tensor tensors[layers];
  int layer, i, step;
  float by_chance;
  for (layer = 0; layer < layers; ++layer) {
    device[layer].weight = malloc(count * sizeof(uint16_t));
    device[layer].grad = malloc(count * sizeof(uint16_t));
    host[layer].weight = malloc(count * sizeof(float));
    host[layer].exp_avg = calloc(count, sizeof(float));
    host[layer].exp_avg_sq = calloc(count, sizeof(float));
    host[layer].grad = malloc(count * sizeof(uint16_t));
    host[layer].upload = malloc(count * sizeof(uint16_t));
    for (i = 0; i < count; ++i) {
      host[layer].weight[i] = 2.0f;
      device[layer].weight[i] = narrow(2.0f);
    }
  }
  fill_tensors(tensors);

  /* Small steps: a quarter of half a unit in the last place of a bf16 weight just below 2. */
  config.lr = 1e-3;
  config.weight_decay = 0;
  for (step = 1; step <= steps; ++step) {
    transfers t = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
    pthread_t thread;
    steepest_status status;
    config.step = step;
    if (pthread_create(&thread, NULL, run_transfers, &t) != 0) return 1;
    status =
        step <= 100 ? step_clipped(&config, tensors, &t) : step_in_chunks(&config, tensors, &t);
    pthread_join(thread, NULL);
    if (status != STEEPEST_OK) {
      fprintf(stderr, "%s\n", steepest_last_error());
      return 1;
    }
  }
  by_chance = in_bf16_only(&config, STEEPEST_ADAMW_STOCHASTIC_ROUNDING);
  printf("f32 weights on the host, bf16 on the device: %.4f (optimum 1)\n",
         (double)widen(device[0].weight[0]));
  printf("bf16 weights only: %.4f: steps below half a unit are rounded away\n",
         (double)in_bf16_only(&config, 0));
  printf("bf16 weights only, stochastic rounding: %.4f\n", (double)by_chance);
  return !(fabsf(host[0].weight[count - 1] - 1.0f) < 0.05f && fabsf(by_chance - 1.0f) < 0.1f);
}
