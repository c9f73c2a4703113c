// SPDX-License-Identifier: Apache-2.0
#include "gradient_check.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "model.hpp"
#include "random.hpp"

namespace char_lm {
namespace {

// |a - b| relative to the larger of the two. Gradients far below the tensor's largest are compared
// on that scale instead, where rounding would dominate.
double relative_error(double a, double b, double largest) {
  return std::abs(a - b) / std::max({std::abs(a), std::abs(b), 1e-2 * largest, 1e-12});
}

// std::max would pass over NaN.
void keep_worst(double& worst, double error) {
  worst = std::isfinite(error) ? std::max(worst, error) : std::numeric_limits<double>::infinity();
}

template <class real>
double largest_gradient(const tensor<real>& of) {
  double largest = 0;
  for (const real gradient : of.gradient)
    largest = std::max(largest, std::abs(static_cast<double>(gradient)));
  return largest;
}

bool verdict(const char* what, double worst, double tolerance) {
  const bool good = worst <= tolerance;
  std::printf("%s: worst relative error %.2e, tolerance %.0e: %s\n", what, worst, tolerance,
              good ? "passed" : "FAILED");
  return good;
}

}  // namespace

bool check_gradients(int threads) {
  // Sizes that leave an edge in every tile of the matrix product, several tasks of examples,
  // symbols that occur more than once in a window, and dropout.
  const model_shape shape{
      .vocabulary = 37, .context = 5, .embedding = 7, .hidden = 45, .layers = 2};
  constexpr std::int64_t examples_in_batch = 71;
  const dropout drop{0.2, 12345};
  workers pool(threads);
  random_source random(7);
  std::vector<std::uint8_t> symbols(500);
  for (std::uint8_t& symbol : symbols)
    symbol = static_cast<std::uint8_t>(random.below(shape.vocabulary));
  std::vector<std::int64_t> positions(examples_in_batch);
  for (std::int64_t& position : positions)
    position = shape.context + random.below(std::ssize(symbols) - shape.context);
  const examples batch{symbols.data(), positions.data(), examples_in_batch};

  model<double> exact(shape, examples_in_batch, 3, pool);
  for (tensor<double>& each : exact.tensors())  // biases start as zeros, where mistakes would hide
    for (double& value : each.value) value += 0.1 * (random.uniform() - 0.5);
  model<float> single(shape, examples_in_batch, 3, pool);
  for (std::size_t t = 0; t < exact.tensors().size(); ++t)
    std::copy(exact.tensors()[t].value.begin(), exact.tensors()[t].value.end(),
              single.tensors()[t].value.begin());
  exact.loss_and_gradient(batch, drop);
  single.loss_and_gradient(batch, drop);

  double worst_difference = 0;
  double worst_single = 0;
  for (std::size_t t = 0; t < exact.tensors().size(); ++t) {
    tensor<double>& each = exact.tensors()[t];
    const double largest = largest_gradient(each);
    for (std::size_t i = 0; i < each.gradient.size(); ++i) {
      const double rounded = single.tensors()[t].gradient[i];
      keep_worst(worst_single, std::abs(each.gradient[i] - rounded) / largest);
    }

    for (int sample = 0; sample < 60; ++sample) {
      const auto i = static_cast<std::size_t>(random.below(std::ssize(each.value)));
      constexpr double h = 1e-5;
      const double value = each.value[i];
      each.value[i] = value + h;
      const double above = exact.loss(batch, drop);
      each.value[i] = value - h;
      const double below = exact.loss(batch, drop);
      each.value[i] = value;
      keep_worst(worst_difference,
                 relative_error(each.gradient[i], (above - below) / (2 * h), largest));
    }
  }
  const bool differences =
      verdict("gradient in double against finite differences", worst_difference, 1e-5);
  const bool precision = verdict("gradient in float against double", worst_single, 1e-4);
  return differences && precision;
}

}  // namespace char_lm
