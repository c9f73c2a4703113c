/* SPDX-License-Identifier: Apache-2.0
 * What julia.jl compares with: the same calls from C, with everything set anew for each call as a
 * training loop does. */
#include <steepest/steepest.h>

int c_adamw(int64_t calls, int64_t count, float* param, const float* grad, float* exp_avg,
            float* exp_avg_sq) {
  int failures = 0;
  int64_t i;
  for (i = 1; i <= calls; ++i) {
    steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT;
    steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
    config.lr = 1e-6;
    config.step = i;
    tensor.count = count;
    tensor.param = param;
    tensor.grad = grad;
    tensor.exp_avg = exp_avg;
    tensor.exp_avg_sq = exp_avg_sq;
    failures += steepest_adamw_step(NULL, &config, &tensor, 1, NULL) != STEEPEST_OK;
  }
  return failures;
}

int c_grad_norm(int64_t calls, int64_t count, const float* grad) {
  int failures = 0;
  int64_t i;
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
