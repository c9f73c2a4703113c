// SPDX-License-Identifier: Apache-2.0
// Fits a linear map Y = W X + b to noisy data with steepest.hpp: Muon for the matrix, AdamW for the
// bias, one schedule for both. Prints the error as it falls.
#include <steepest/steepest.hpp>

#include <cmath>
#include <cstdio>
#include <random>
#include <span>
#include <vector>

namespace {

constexpr std::int64_t outputs = 16, inputs = 24, points = 256, steps = 300;

struct data {
  std::vector<float> x, y, truth;  // x: points x inputs, y: points x outputs

  data() : x(points * inputs), y(points * outputs), truth(outputs * inputs) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (float& value : truth) value = normal(random);
    for (float& value : x) value = normal(random);
    for (std::int64_t p = 0; p < points; ++p)
      for (std::int64_t i = 0; i < outputs; ++i) {
        float sum = 1 + 0.01f * normal(random);  // the bias is 1
        for (std::int64_t j = 0; j < inputs; ++j) sum += truth[i * inputs + j] * x[p * inputs + j];
        y[p * outputs + i] = sum;
      }
  }
};

// The gradients of the mean squared error, which it returns.
double gradients(const data& d, std::span<const float> w, std::span<const float> b,
                 std::span<float> grad_w, std::span<float> grad_b) {
  std::fill(grad_w.begin(), grad_w.end(), 0.0f);
  std::fill(grad_b.begin(), grad_b.end(), 0.0f);
  double loss = 0;
  for (std::int64_t p = 0; p < points; ++p)
    for (std::int64_t i = 0; i < outputs; ++i) {
      const float* const x = &d.x[p * inputs];
      float error = b[i] - d.y[p * outputs + i];
      for (std::int64_t j = 0; j < inputs; ++j) error += w[i * inputs + j] * x[j];
      loss += static_cast<double>(error) * error / (points * outputs);
      grad_b[i] += error / points;
      for (std::int64_t j = 0; j < inputs; ++j) grad_w[i * inputs + j] += error * x[j] / points;
    }
  return loss;
}

}  // namespace

int main() try {
  const data d;
  const steepest::context context;
  std::vector<float> w(outputs * inputs), grad_w(w.size()), momentum(w.size());
  std::vector<float> b(outputs), grad_b(outputs), m(outputs), v(outputs);

  steepest::muon_config muon;
  steepest::adamw_config adamw;
  muon.weight_decay = adamw.weight_decay = 0;
  steepest::schedule schedule(STEEPEST_SCHEDULE_COSINE);
  schedule.lr = 0.1;
  schedule.warmup_steps = 10;

  using matrix = steepest::matrix_view<float>;
  const steepest::muon_tensor weight(matrix(w, outputs, inputs), matrix(grad_w, outputs, inputs),
                                     matrix(momentum, outputs, inputs));
  const steepest::adamw_tensor bias(b, grad_b, m, v);

  double loss = 0;
  for (std::int64_t step = 1; step <= steps; ++step) {
    loss = gradients(d, w, b, grad_w, grad_b);
    muon.lr = adamw.lr = steepest::schedule_at(schedule, steps, step);
    muon.step = adamw.step = step;
    steepest::muon_step(context, muon, weight);
    steepest::adamw_step(context, adamw, bias);
    if (step % 50 == 0 || step == 1)
      std::printf("step %3d  root mean square error %.4f\n", static_cast<int>(step),
                  std::sqrt(loss));
  }
  if (std::sqrt(loss) < 0.05) return 0;
  std::fputs("the fit is worse than it should be\n", stderr);
  return 1;
} catch (const steepest::error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
