/* SPDX-License-Identifier: Apache-2.0
 * The calls of same_bits_test.jl, in C: writes the bytes of their results to standard output. */
#include <stdio.h>
#include <stdlib.h>
#include <steepest/steepest.h>

static uint32_t state = 1;

/* Multiples of 2^-10 in [-1, 1). */
static float next(void) {
  state = state * 1664525u + 1013904223u;
  return (float)((int32_t)(state >> 21) - 1024) / 1024.0f;
}

static float* numbers(int64_t count) {
  float* values = malloc((size_t)count * sizeof *values);
  int64_t i;
  for (i = 0; i < count; ++i) values[i] = next();
  return values;
}

static uint16_t* bf16(int64_t count) {
  uint16_t* values = malloc((size_t)count * sizeof *values);
  int64_t i;
  for (i = 0; i < count; ++i) {
    union {
      float value;
      uint32_t bits;
    } u;
    u.value = (float)(int)(next() * 100.0f); /* fits bf16 */
    values[i] = (uint16_t)(u.bits >> 16);
  }
  return values;
}

static void check(steepest_status status) {
  if (status != STEEPEST_OK) {
    fprintf(stderr, "%s\n", steepest_last_error());
    exit(1);
  }
}

static void write_bytes(const void* data, size_t bytes) { fwrite(data, 1, bytes, stdout); }

/* Every field of narrow storage once, on a matrix of 40 rows of 24. */
static void narrow(const float* g) {
  enum { rows = 40, cols = 24, count = rows * cols };
  steepest_adamw_config adamw = STEEPEST_ADAMW_CONFIG_INIT;
  steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
  steepest_muon_config muon = STEEPEST_MUON_CONFIG_INIT;
  steepest_muon_tensor matrix = STEEPEST_MUON_TENSOR_INIT;
  uint16_t* param = bf16(count);
  static float copy[count], m_scales[count / 256 + 1];
  static int8_t residual[count];
  static uint8_t m[count], v[count];
  static uint16_t v_scales[count / 32];

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
  check(steepest_adamw_step(NULL, &adamw, &tensor, 1, NULL));

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
  check(steepest_muon_step(NULL, &muon, &matrix, 1, NULL, NULL));

  write_bytes(param, count * sizeof *param);
  write_bytes(copy, sizeof copy);
  write_bytes(residual, sizeof residual);
  write_bytes(m, sizeof m);
  write_bytes(m_scales, sizeof m_scales);
  write_bytes(v, sizeof v);
  write_bytes(v_scales, sizeof v_scales);
}

int main(void) {
  enum { count = 1003, out = 24, in = 40 };
  steepest_adamw_config adamw = STEEPEST_ADAMW_CONFIG_INIT;
  steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
  steepest_muon_config muon = STEEPEST_MUON_CONFIG_INIT;
  steepest_muon_tensor matrix = STEEPEST_MUON_TENSOR_INIT;
  steepest_step_stats stats[2] = {STEEPEST_STEP_STATS_INIT, STEEPEST_STEP_STATS_INIT};
  float* param = numbers(count);
  uint16_t* grad = bf16(count);
  float* exp_avg = numbers(count);
  float* exp_avg_sq = calloc(count, sizeof(float));
  float *w = numbers(out * in), *g = numbers(out * in), *m = numbers(out * in);
  float* o = malloc(out * in * sizeof(float));

  adamw.lr = 3e-4;
  adamw.weight_decay = 0.1;
  adamw.step = 7;
  tensor.count = count;
  tensor.param = param;
  tensor.grad = grad;
  tensor.grad_dtype = STEEPEST_BF16;
  tensor.exp_avg = exp_avg;
  tensor.exp_avg_sq = exp_avg_sq;
  check(steepest_adamw_step(NULL, &adamw, &tensor, 1, &stats[0]));

  /* A column-major matrix of `out` rows is a row-major one of `in` rows. */
  muon.lr = 3e-4;
  muon.scale_mode = STEEPEST_SCALE_SQRT_MAX1_OUT_IN;
  matrix.rows = in;
  matrix.cols = out;
  matrix.fan_out = out;
  matrix.fan_in = in;
  matrix.param = w;
  matrix.grad = g;
  matrix.momentum = m;
  check(steepest_muon_step(NULL, &muon, &matrix, 1, NULL, &stats[1]));
  check(steepest_msign(NULL, NULL, in, out, STEEPEST_F32, g, 0, o, 0, NULL, NULL));

  fwrite(param, sizeof(float), count, stdout);
  fwrite(exp_avg, sizeof(float), count, stdout);
  fwrite(exp_avg_sq, sizeof(float), count, stdout);
  fwrite(w, sizeof(float), out * in, stdout);
  fwrite(m, sizeof(float), out * in, stdout);
  fwrite(o, sizeof(float), out * in, stdout);
  fwrite(stats, sizeof(steepest_step_stats), 2, stdout);
  narrow(g);
  return 0;
}
