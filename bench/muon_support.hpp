// SPDX-License-Identifier: Apache-2.0
// What the Muon benchmark and its counterpart of peers/muon.py have in common.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "msign_support.hpp"

namespace bench {

struct muon_model {
  const char* name;
  int64_t layers;
  struct shape {
    int64_t rows, cols;
  };
  std::vector<shape> matrices;  // of a layer, out x in
};

// The hidden matrices of GPT-2 124M: query-key-value, projection, and the two of the MLP.
inline const muon_model gpt2_124m = {
    "gpt2_124m", 12, {{2304, 768}, {768, 768}, {3072, 768}, {768, 3072}}};

// Half of the operations in a few matrices that go on all threads, the rest in many that go one on
// each.
inline const muon_model mixed = {"mixed",
                                 4,
                                 {{64, 64},
                                  {512, 512},
                                  {256, 256},
                                  {768, 64},
                                  {128, 512},
                                  {256, 1024},
                                  {256, 256},
                                  {16, 768},
                                  {256, 256},
                                  {1024, 64},
                                  {256, 1024},
                                  {128, 128}}};

// How momentum and parameters are stored.
struct muon_storage {
  const char* name;
  steepest_dtype momentum = STEEPEST_F32;
  bool split_param = false;  // bf16 and a residual of 16 bits
  uint64_t flags = 0;
};

// Of the default method, three poles, as in msign_support.hpp.
inline operations useful(const muon_model& model, bool bf16) {
  double products = 0;
  double inverses = 0;
  for (const auto& size : model.matrices) {
    const auto n = static_cast<double>(std::min(size.rows, size.cols));
    const auto m = static_cast<double>(std::max(size.rows, size.cols));
    products += static_cast<double>(model.layers) * 3 * n * n * m;
    inverses += static_cast<double>(model.layers) * 3 * n * n * n;
  }
  if (bf16) return {inverses, products};
  return {inverses + products};
}

class muon_problem {
 public:
  muon_problem(steepest_dtype compute, int threads, const muon_model& model = gpt2_124m,
               const muon_storage& storage = {"f32"})
      : model_(model), context_(threads) {
    config_.flags |= storage.flags;
    openblas_set_num_threads(threads);
    msign_.compute_dtype = compute;
    config_.msign = &msign_;
    for (int64_t layer = 0; layer < model.layers; ++layer)
      for (const auto& size : model.matrices) {
        grads_.push_back(gaussian_matrix(size.rows, size.cols, grads_.size() + 1));
        const std::size_t size_of_all = grads_.back().size();
        params_.emplace_back(size_of_all);
        momenta_.emplace_back(size_of_all);
        steepest_muon_tensor tensor = STEEPEST_MUON_TENSOR_INIT;
        tensor.rows = size.rows;
        tensor.cols = size.cols;
        tensor.param = params_.back().data();
        tensor.grad = grads_.back().data();
        tensor.momentum = momenta_.back().data();
        tensor.random_stream = tensors_.size();
        state_bytes_ +=
            static_cast<int64_t>(size_of_all) * (storage.momentum == STEEPEST_F32    ? 4
                                                 : storage.momentum == STEEPEST_BF16 ? 2
                                                                                     : 1);
        if (storage.momentum == STEEPEST_Q8_DYNAMIC || storage.momentum == STEEPEST_Q8_COMPANDED) {
          int64_t bytes = 0;
          check(steepest_q8_scales(storage.momentum, static_cast<int64_t>(size_of_all), nullptr,
                                   &bytes));
          scales_.emplace_back(static_cast<std::size_t>(bytes));
          tensor.momentum_scales = scales_.back().data();
          state_bytes_ += bytes;
        }
        tensor.momentum_dtype = storage.momentum;
        if (storage.split_param) {
          scales_.emplace_back(2 * size_of_all);
          tensor.residual = scales_.back().data();
          tensor.residual_kind = STEEPEST_RESIDUAL_NEAREST16;
          tensor.param_dtype = STEEPEST_BF16;
        }
        elements_ += static_cast<int64_t>(size_of_all);
        tensors_.push_back(tensor);
        out_.resize(std::max(out_.size(), grads_.back().size()));
      }
  }

  void step() {
    check(steepest_muon_step(context_.get(), &config_, tensors_.data(),
                             static_cast<int64_t>(tensors_.size()), nullptr, nullptr));
    ++config_.step;
  }

  // msign of every matrix, and nothing else.
  void msign_alone() {
    for (const steepest_muon_tensor& each : tensors_)
      check(steepest_msign(context_.get(), &msign_, each.rows, each.cols, STEEPEST_F32, each.grad,
                           0, out_.data(), 0, nullptr, nullptr));
  }

  // Of msign, in a first step of one layer: what it takes from parameters of zero is O.
  double error() const {
    steepest_muon_config config = config_;
    config.lr = 1;
    config.weight_decay = 0;
    config.scale_mode = STEEPEST_SCALE_NONE;
    config.grad_scale = -1;
    sign_error error;
    for (std::size_t i = 0; i < model_.matrices.size(); ++i) {
      std::vector<float> param(grads_[i].size());
      std::vector<float> momentum(grads_[i].size());
      steepest_muon_tensor tensor = tensors_[i];
      tensor.param = param.data();
      tensor.momentum = momentum.data();
      check(steepest_muon_step(context_.get(), &config, &tensor, 1, nullptr, nullptr));
      error.add(tensor.rows, tensor.cols, grads_[i].data(), param.data());
    }
    return error.value();
  }

  const library_context& context() const { return context_; }
  // Of momentum with its scales.
  double state_bytes_per_element() const {
    return static_cast<double>(state_bytes_) / static_cast<double>(elements_);
  }
  std::size_t workspace_bytes() const {
    std::size_t bytes = 0;
    check(steepest_muon_workspace_size(context_.get(), &config_, tensors_.data(),
                                       static_cast<int64_t>(tensors_.size()), &bytes));
    return bytes;
  }

 private:
  const muon_model& model_;
  library_context context_;
  steepest_msign_config msign_ = STEEPEST_MSIGN_CONFIG_INIT;
  steepest_muon_config config_ = STEEPEST_MUON_CONFIG_INIT;
  std::vector<std::vector<float>> params_, grads_, momenta_;
  std::vector<std::vector<unsigned char>> scales_;  // and residuals
  int64_t state_bytes_ = 0, elements_ = 0;
  std::vector<steepest_muon_tensor> tensors_;
  std::vector<float> out_;
};

}  // namespace bench
