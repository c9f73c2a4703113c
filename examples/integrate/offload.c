/* SPDX-License-Identifier: Apache-2.0
 * Optimizer state in CPU memory, the model on an accelerator in bf16: gradients come down, weights
 * go up. docs/integrate/offload.md explains it. The accelerator here is a pair of buffers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <steepest/steepest.h>
#include <string.h>

enum { layers = 4, count = 50000, steps = 2000 };

typedef struct device_layer {
  uint16_t *weight, *grad; /* bf16 */
} device_layer;

typedef struct host_layer {
  float *weight, *exp_avg, *exp_avg_sq; /* the weights that count */
  uint16_t *grad, *upload;              /* where transfers arrive and start: pinned memory */
} host_layer;

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

/* A layer at a time, as its gradient arrives: the update of one overlaps the transfer of the next
 * where transfers run by themselves. */
static steepest_status step_layer(host_layer* h, const steepest_adamw_config* config) {
  steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
  steepest_status status;
  int i;
  tensor.count = count;
  tensor.param = h->weight;
  tensor.grad = h->grad;
  tensor.grad_dtype = STEEPEST_BF16;
  tensor.exp_avg = h->exp_avg;
  tensor.exp_avg_sq = h->exp_avg_sq;
  status = steepest_adamw_step(NULL, config, &tensor, 1, NULL);
  for (i = 0; status == STEEPEST_OK && i < count; ++i) h->upload[i] = narrow(h->weight[i]);
  return status;
}

/* For comparison: one weight that is kept in bf16 only, with the same gradients. */
static float in_bf16_only(const steepest_adamw_config* config) {
  uint16_t weight = narrow(2.0f), grad;
  float exp_avg = 0, exp_avg_sq = 0;
  steepest_adamw_config c = *config;
  steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
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
  device_layer device[layers];
  host_layer host[layers];
  int layer, i, step;
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

  /* Small steps: a quarter of half a unit in the last place of a bf16 weight just below 2. */
  config.lr = 1e-3;
  config.weight_decay = 0;
  for (step = 1; step <= steps; ++step) {
    config.step = step;
    for (layer = layers - 1; layer >= 0; --layer) { /* in the order of the backward pass */
      device_backward(&device[layer]);
      memcpy(host[layer].grad, device[layer].grad, count * sizeof(uint16_t)); /* down */
      if (step_layer(&host[layer], &config) != STEEPEST_OK) {
        fprintf(stderr, "%s\n", steepest_last_error());
        return 1;
      }
      memcpy(device[layer].weight, host[layer].upload, count * sizeof(uint16_t)); /* up */
    }
  }
  printf("f32 weights on the host, bf16 on the device: %.4f (optimum 1)\n",
         (double)widen(device[0].weight[0]));
  printf("bf16 weights only: %.4f: steps below half a unit are rounded away\n",
         (double)in_bf16_only(&config));
  return !(fabsf(host[0].weight[count - 1] - 1.0f) < 0.05f);
}
