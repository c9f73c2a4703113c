// SPDX-License-Identifier: Apache-2.0
//
// The language model: embeddings of a window of characters, hidden layers, a softmax over the next
// character. All parameters and gradients are plain arrays.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "workers.hpp"

namespace char_lm {

struct model_shape {
  std::int64_t vocabulary;
  std::int64_t context;    // characters in the window
  std::int64_t embedding;  // numbers per character
  std::int64_t hidden;     // units per hidden layer
  std::int64_t layers;     // hidden layers
};

// Bytes that training takes in f32, with AdamW's two moments.
double training_memory(const model_shape& shape, std::int64_t capacity);

// What a tensor is decides how it is optimized.
enum class role { embedding, hidden, head, bias };

// Row-major. A weight matrix is [fan_out, fan_in]: it maps x to W x.
template <class real>
struct tensor {
  std::string name;
  role kind;
  std::int64_t rows;
  std::int64_t columns;
  std::vector<real> value;
  std::vector<real> gradient;
};

// For each position: predict symbols[position] from the `context` symbols before it.
struct examples {
  const std::uint8_t* symbols;
  const std::int64_t* positions;
  std::int64_t count;
};

// Each hidden unit of each example is dropped with this probability; `key` chooses which.
struct dropout {
  double probability = 0;
  std::uint64_t key = 0;
};

template <class real>
class model {
 public:
  // `capacity` is the largest number of examples in one call.
  model(const model_shape& shape, std::int64_t capacity, std::uint64_t seed, workers& threads);
  model(const model&) = delete;
  model& operator=(const model&) = delete;

  std::vector<tensor<real>>& tensors() { return tensors_; }
  std::int64_t parameters() const;
  std::int64_t capacity() const { return static_cast<std::int64_t>(example_loss_.size()); }

  // The mean cross-entropy in nats. Leaves its gradient in the tensors.
  double loss_and_gradient(const examples& batch, const dropout& drop);
  // The same without the gradient, for at most `capacity` examples.
  double loss(const examples& batch, const dropout& drop = {});
  // The logits for one position.
  std::span<const real> logits(const examples& one);

 private:
  // z = W x + b for all examples of a call: one row of x and of z per example. In a hidden layer
  // the activation of z is the next layer's x; in the head z are the logits.
  struct layer {
    std::size_t weight;  // W's place in the tensors; b follows it
    std::int64_t fan_in, fan_out;
    std::vector<real> transposed;  // W as [fan_in, fan_out]
    std::vector<real> x, z;
    std::vector<real> slope;   // d (next x) / d z
    std::vector<real> dx, dz;  // d loss / d x, d loss / d z
  };
  // Rows [first, last) of a layer's W: a task that one thread does.
  struct weight_rows {
    layer* of;
    std::int64_t first, last;
  };

  double run(const examples& batch, const dropout& drop, bool with_gradient);
  void forward(const examples& batch, const dropout& drop, std::int64_t first, std::int64_t last);
  void softmax_loss(const examples& batch, std::int64_t first, std::int64_t last);
  void backward(std::int64_t first, std::int64_t last);
  void transpose(const weight_rows& rows);
  void weight_gradient(const weight_rows& rows, std::int64_t count);
  void embedding_gradient(const examples& batch);

  model_shape shape_;
  workers* threads_;
  std::vector<tensor<real>> tensors_;  // embedding, W1, b1, W2, b2, ..., head W, head b
  std::vector<layer> layers_;          // the last one is the head
  std::vector<weight_rows> weight_rows_;
  std::vector<double> example_loss_;
};

}  // namespace char_lm
