// SPDX-License-Identifier: Apache-2.0
// The same step with an installed steepest.hpp.
#include <cmath>
#include <steepest/steepest.hpp>

int main() {
  std::vector<float> param = {1, 2, 3}, exp_avg(3), exp_avg_sq(3);
  const std::vector<float> grad = {0.5f, -0.5f, 0.25f};
  steepest::adamw_config config;
  config.lr = 0.125;
  config.weight_decay = 0;
  steepest::adamw_step(steepest::context(), config,
                       steepest::adamw_tensor(param, grad, exp_avg, exp_avg_sq));
  return std::abs(param[1] - 2.125f) < 1e-5f ? 0 : 1;
}
