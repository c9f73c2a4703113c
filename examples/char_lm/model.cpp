// SPDX-License-Identifier: Apache-2.0
#include "model.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

#include "matmul.hpp"
#include "random.hpp"

namespace char_lm {
namespace {

// Examples, or rows of a weight matrix, that one task takes. Fixed, so that no result depends on
// the number of threads.
constexpr std::int64_t task_rows = 32;

// GELU in its sigmoid form, z sigmoid(1.702 z) (Hendrycks & Gimpel, arXiv 1606.08415).
template <class real>
void gelu(real z, real& y, real& slope) {
  const real sigmoid = 1 / (1 + std::exp(real(-1.702) * z));
  y = z * sigmoid;
  slope = sigmoid + real(1.702) * y * (1 - sigmoid);
}

template <class real>
std::vector<real> buffer(std::int64_t rows, std::int64_t columns) {
  return std::vector<real>(static_cast<std::size_t>(rows * columns));
}

}  // namespace

template <class real>
void model<real>::forward(const examples& batch, const dropout& drop, std::int64_t first,
                          std::int64_t last) {
  const std::int64_t width = shape_.embedding;
  const real* embedding = tensors_.front().value.data();
  for (std::int64_t i = first; i < last; ++i) {
    const std::uint8_t* window = batch.symbols + batch.positions[i] - shape_.context;
    real* x = layers_.front().x.data() + i * shape_.context * width;
    for (std::int64_t c = 0; c < shape_.context; ++c)
      std::copy_n(embedding + window[c] * width, width, x + c * width);
  }

  const real kept = static_cast<real>(1 / (1 - drop.probability));
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    layer& at = layers_[l];
    const real* bias = tensors_[at.weight + 1].value.data();
    matmul(last - first, at.fan_out, at.fan_in, {at.x.data() + first * at.fan_in, at.fan_in, 1},
           at.transposed.data(), at.z.data() + first * at.fan_out);
    for (std::int64_t i = first; i < last; ++i) {
      real* z = at.z.data() + i * at.fan_out;
      for (std::int64_t j = 0; j < at.fan_out; ++j) z[j] += bias[j];
      if (&at == &layers_.back()) continue;

      real* y = layers_[l + 1].x.data() + i * at.fan_out;
      real* slope = at.slope.data() + i * at.fan_out;
      for (std::int64_t j = 0; j < at.fan_out; ++j) gelu(z[j], y[j], slope[j]);
      if (drop.probability == 0) continue;
      random_source random(drop.key + static_cast<std::uint64_t>(i) * layers_.size() + l);
      for (std::int64_t j = 0; j < at.fan_out; ++j) {
        const real factor = random.uniform() < drop.probability ? 0 : kept;
        y[j] *= factor;
        slope[j] *= factor;
      }
    }
  }
}

// Cross-entropy of softmax(z) against the symbol that follows, and its gradient by z.
template <class real>
void model<real>::softmax_loss(const examples& batch, std::int64_t first, std::int64_t last) {
  layer& head = layers_.back();
  const real share = 1 / static_cast<real>(batch.count);
  for (std::int64_t i = first; i < last; ++i) {
    const real* z = head.z.data() + i * head.fan_out;
    real* dz = head.dz.data() + i * head.fan_out;
    const std::uint8_t target = batch.symbols[batch.positions[i]];
    const real largest = *std::max_element(z, z + head.fan_out);
    real sum = 0;
    for (std::int64_t j = 0; j < head.fan_out; ++j) sum += dz[j] = std::exp(z[j] - largest);
    for (std::int64_t j = 0; j < head.fan_out; ++j) dz[j] *= share / sum;
    dz[target] -= share;
    example_loss_[static_cast<std::size_t>(i)] = std::log(sum) + largest - z[target];
  }
}

// dx = dz W, layer by layer downwards; dz of the layer below is dx times the activation's slope.
template <class real>
void model<real>::backward(std::int64_t first, std::int64_t last) {
  for (std::size_t l = layers_.size(); l-- > 0;) {
    layer& at = layers_[l];
    matmul(last - first, at.fan_in, at.fan_out, {at.dz.data() + first * at.fan_out, at.fan_out, 1},
           tensors_[at.weight].value.data(), at.dx.data() + first * at.fan_in);
    if (l == 0) return;
    const real* dx = at.dx.data();
    const real* slope = layers_[l - 1].slope.data();
    real* dz = layers_[l - 1].dz.data();
    for (std::int64_t i = first * at.fan_in; i < last * at.fan_in; ++i) dz[i] = dx[i] * slope[i];
  }
}

// dW = dz^T x and db = the sum of dz over the examples.
template <class real>
void model<real>::weight_gradient(const weight_rows& rows, std::int64_t count) {
  const layer& at = *rows.of;
  matmul(rows.last - rows.first, at.fan_in, count, {at.dz.data() + rows.first, 1, at.fan_out},
         at.x.data(), tensors_[at.weight].gradient.data() + rows.first * at.fan_in);
  real* db = tensors_[at.weight + 1].gradient.data();
  std::fill(db + rows.first, db + rows.last, real(0));
  const real* dz = at.dz.data();
  for (std::int64_t i = 0; i < count; ++i, dz += at.fan_out)
    for (std::int64_t j = rows.first; j < rows.last; ++j) db[j] += dz[j];
}

// Each character of a window adds its part of dx to its row of the embedding.
template <class real>
void model<real>::embedding_gradient(const examples& batch) {
  std::vector<real>& gradient = tensors_.front().gradient;
  std::fill(gradient.begin(), gradient.end(), real(0));
  const std::int64_t width = shape_.embedding;
  const real* dx = layers_.front().dx.data();
  for (std::int64_t i = 0; i < batch.count; ++i) {
    const std::uint8_t* window = batch.symbols + batch.positions[i] - shape_.context;
    for (std::int64_t c = 0; c < shape_.context; ++c, dx += width) {
      real* row = gradient.data() + window[c] * width;
      for (std::int64_t j = 0; j < width; ++j) row[j] += dx[j];
    }
  }
}

// The matrix product wants its second factor row-major, and forward multiplies by W transposed.
template <class real>
void model<real>::transpose(const weight_rows& rows) {
  layer& at = *rows.of;
  const real* weight = tensors_[at.weight].value.data();
  real* transposed = at.transposed.data();
  for (std::int64_t j = 0; j < at.fan_in; ++j)
    for (std::int64_t i = rows.first; i < rows.last; ++i)
      transposed[j * at.fan_out + i] = weight[i * at.fan_in + j];
}

template <class real>
double model<real>::run(const examples& batch, const dropout& drop, bool with_gradient) {
  const auto all_rows = static_cast<std::int64_t>(weight_rows_.size());
  threads_->parallel_for(all_rows,
                         [&](std::int64_t task) { transpose(weight_rows_.data()[task]); });

  threads_->parallel_for((batch.count + task_rows - 1) / task_rows, [&](std::int64_t task) {
    const std::int64_t first = task * task_rows;
    const std::int64_t last = std::min(first + task_rows, batch.count);
    forward(batch, drop, first, last);
    softmax_loss(batch, first, last);
    if (with_gradient) backward(first, last);
  });

  if (with_gradient)
    threads_->parallel_for(all_rows + 1, [&](std::int64_t task) {
      if (task == 0)
        embedding_gradient(batch);
      else
        weight_gradient(weight_rows_.data()[task - 1], batch.count);
    });
  const double* losses = example_loss_.data();
  return std::accumulate(losses, losses + batch.count, 0.0) / static_cast<double>(batch.count);
}

template <class real>
double model<real>::loss(const examples& batch, const dropout& drop) {
  return run(batch, drop, false);
}

template <class real>
double model<real>::loss_and_gradient(const examples& batch, const dropout& drop) {
  return run(batch, drop, true);
}

template <class real>
std::span<const real> model<real>::logits(const examples& one) {
  run(one, {}, false);
  return {layers_.back().z.data(), static_cast<std::size_t>(shape_.vocabulary)};
}

template <class real>
std::int64_t model<real>::parameters() const {
  std::int64_t sum = 0;
  for (const tensor<real>& each : tensors_) sum += each.rows * each.columns;
  return sum;
}

template <class real>
model<real>::model(const model_shape& shape, std::int64_t capacity, std::uint64_t seed,
                   workers& threads)
    : shape_(shape), threads_(&threads), example_loss_(static_cast<std::size_t>(capacity)) {
  random_source random(seed);
  const auto add = [&](std::string name, role kind, std::int64_t rows, std::int64_t columns,
                       double deviation) {
    tensor<real> made{std::move(name),
                      kind,
                      rows,
                      columns,
                      buffer<real>(rows, columns),
                      buffer<real>(rows, columns)};
    // Uniform in [-w, w] has the standard deviation w / sqrt(3).
    for (real& value : made.value)
      value = static_cast<real>(deviation * std::sqrt(3.0) * (2 * random.uniform() - 1));
    tensors_.push_back(std::move(made));
  };

  add("embedding", role::embedding, shape.vocabulary, shape.embedding, 0.2);
  for (std::int64_t l = 0; l <= shape.layers; ++l) {
    const bool head = l == shape.layers;
    const std::int64_t fan_in = l == 0 ? shape.context * shape.embedding : shape.hidden;
    const std::int64_t fan_out = head ? shape.vocabulary : shape.hidden;
    // sqrt(2) keeps the size of the activations from layer to layer; a small head starts the
    // training from nearly equal probabilities.
    const double gain = head ? 0.3 : std::sqrt(2.0);
    const std::string name = head ? "head" : "hidden " + std::to_string(l + 1);
    layers_.push_back({tensors_.size(), fan_in, fan_out, buffer<real>(fan_in, fan_out),
                       buffer<real>(capacity, fan_in), buffer<real>(capacity, fan_out),
                       buffer<real>(capacity, fan_out), buffer<real>(capacity, fan_in),
                       buffer<real>(capacity, fan_out)});
    add(name, head ? role::head : role::hidden, fan_out, fan_in,
        gain / std::sqrt(static_cast<double>(fan_in)));
    add(name + " bias", role::bias, 1, fan_out, 0);
  }
  for (layer& at : layers_)
    for (std::int64_t first = 0; first < at.fan_out; first += task_rows)
      weight_rows_.push_back({&at, first, std::min(first + task_rows, at.fan_out)});
}

double training_memory(const model_shape& shape, std::int64_t capacity) {
  const auto vocabulary = static_cast<double>(shape.vocabulary);
  const auto hidden = static_cast<double>(shape.hidden);
  const auto layers = static_cast<double>(shape.layers);
  const double window = static_cast<double>(shape.context) * static_cast<double>(shape.embedding);
  const double weights = window * hidden + (layers - 1) * hidden * hidden + hidden * vocabulary;
  const double units = 2 * window + 5 * layers * hidden + 3 * vocabulary;
  return 4 * (5 * weights + units * static_cast<double>(capacity));
}

template class model<float>;
template class model<double>;

}  // namespace char_lm
