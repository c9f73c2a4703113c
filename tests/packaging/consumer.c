/* SPDX-License-Identifier: Apache-2.0
 * What a program that uses an installed Steepest does: one step on three parameters. */
#include <stdio.h>
#include <steepest/steepest.h>

int main(void) {
  float param[3] = {1.0f, 2.0f, 3.0f};
  const float grad[3] = {0.5f, -0.5f, 0.25f};
  float exp_avg[3] = {0.0f, 0.0f, 0.0f};
  float exp_avg_sq[3] = {0.0f, 0.0f, 0.0f};
  /* At step 1, with zero moments, u is the sign of the gradient. */
  const float expected[3] = {0.875f, 2.125f, 2.875f};
  const uint32_t version =
      STEEPEST_VERSION_MAJOR << 16 | STEEPEST_VERSION_MINOR << 8 | STEEPEST_VERSION_PATCH;
  int failures = 0;
  int i;

  steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT;
  steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
  config.lr = 0.125;
  config.weight_decay = 0.0;
  tensor.count = 3;
  tensor.param = param;
  tensor.grad = grad;
  tensor.exp_avg = exp_avg;
  tensor.exp_avg_sq = exp_avg_sq;

  if (steepest_version() != version || steepest_abi_version() != STEEPEST_ABI_VERSION) {
    fprintf(stderr, "the header and the library are of different versions\n");
    return 1;
  }
  if (steepest_adamw_step(NULL, &config, &tensor, 1, NULL) != STEEPEST_OK) {
    fprintf(stderr, "%s\n", steepest_last_error());
    return 1;
  }
  for (i = 0; i < 3; ++i) {
    const float error = param[i] - expected[i];
    if (!(error > -1e-5f && error < 1e-5f)) {
      fprintf(stderr, "param[%d] is %g instead of %g\n", i, (double)param[i], (double)expected[i]);
      ++failures;
    }
  }
  return failures != 0;
}
