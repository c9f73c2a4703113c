// SPDX-License-Identifier: Apache-2.0
#include "optimizer.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "clock.hpp"

namespace char_lm {
namespace {

void check(steepest_status status) {
  if (status != STEEPEST_OK)
    throw std::runtime_error(std::string(steepest_status_name(status)) + ": " +
                             steepest_last_error());
}

}  // namespace

optimizer_context::optimizer_context(int threads) {
  steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
  options.num_threads = threads;
  steepest_context* context = nullptr;
  check(steepest_context_create(&options, &context));
  context_.reset(context);
}

optimizer::optimizer(const optimizer_context& context, std::vector<tensor<float>>& tensors,
                     const optimizer_settings& settings)
    : context_(&context), clip_(settings.clip) {
  decayed_.beta1 = settings.beta1;
  decayed_.beta2 = settings.beta2;
  decayed_.weight_decay = settings.weight_decay;
  undecayed_ = decayed_;
  undecayed_.weight_decay = 0;
  muon_.momentum = settings.momentum;
  muon_.weight_decay = settings.weight_decay;
  // Updates as large as AdamW's own, so that its learning rate and decay hold for Muon too.
  check(steepest_adam_update_rms(settings.beta1, 0, 0, &muon_.scale_value));

  std::size_t parameters = 0;
  for (const tensor<float>& each : tensors) parameters += each.value.size();
  moments_.resize(2 * parameters);
  float* moments = moments_.data();
  for (tensor<float>& each : tensors) {
    if (settings.muon && each.kind == role::hidden)
      add_muon(each, moments);
    else
      add_adamw(each, moments);
    moments += 2 * each.rows * each.columns;
  }
  const auto add_gradient = [&](const void* data, std::int64_t count) {
    steepest_vector gradient = STEEPEST_VECTOR_INIT;
    gradient.count = count;
    gradient.data = data;
    gradients_.push_back(gradient);
  };
  for (const steepest_adamw_tensor& each : adamw_tensors_) add_gradient(each.grad, each.count);
  for (const steepest_muon_tensor& each : muon_tensors_)
    add_gradient(each.grad, each.rows * each.cols);
  stats_.assign(gradients_.size(), STEEPEST_STEP_STATS_INIT);
}

void optimizer::add_adamw(tensor<float>& of, float* moments) {
  steepest_adamw_tensor step = STEEPEST_ADAMW_TENSOR_INIT;
  step.count = of.rows * of.columns;
  step.param = of.value.data();
  step.grad = of.gradient.data();
  step.exp_avg = moments;
  step.exp_avg_sq = moments + step.count;
  const bool matrix = of.kind == role::hidden || of.kind == role::head;
  step.config = matrix ? &decayed_ : &undecayed_;
  adamw_tensors_.push_back(step);
}

void optimizer::add_muon(tensor<float>& of, float* momentum) {
  steepest_muon_tensor step = STEEPEST_MUON_TENSOR_INIT;
  step.rows = of.rows;
  step.cols = of.columns;
  step.param = of.value.data();
  step.grad = of.gradient.data();
  step.momentum = momentum;
  muon_tensors_.push_back(step);
}

void optimizer::step(double lr) {
  double norm = 0;
  {
    const add_elapsed timer(norm_seconds_);
    check(steepest_grad_norm(context_->get(), gradients_.data(), std::ssize(gradients_), &norm,
                             nullptr));
  }

  step_ += 1;
  const double scale = norm > clip_ ? clip_ / norm : 1.0;
  for (steepest_adamw_config* config : {&decayed_, &undecayed_}) {
    config->lr = lr;
    config->step = step_;
    config->grad_scale = scale;
  }
  muon_.lr = lr;
  muon_.step = step_;
  muon_.grad_scale = scale;
  {
    const add_elapsed timer(adamw_seconds_);
    check(steepest_adamw_step(context_->get(), &decayed_, adamw_tensors_.data(),
                              std::ssize(adamw_tensors_), stats_.data()));
  }
  if (!muon_tensors_.empty()) {
    const add_elapsed timer(muon_seconds_);
    check(steepest_muon_step(context_->get(), &muon_, muon_tensors_.data(),
                             std::ssize(muon_tensors_), nullptr,
                             stats_.data() + adamw_tensors_.size()));
  }

  double squares = 0;
  double snr = 0;
  double elements = 0;
  for (std::size_t i = 0; i < stats_.size(); ++i) {
    const auto size = static_cast<double>(gradients_[i].count);
    squares += stats_[i].update_rms * stats_[i].update_rms * size;
    snr += stats_[i].snr_momentum * size;
    elements += size;
  }
  update_rms_ = std::sqrt(squares / elements);
  snr_ = step_ == 1 ? 0 : snr / elements;  // not defined at the first step
}

std::vector<spectrum> hidden_spectra(const optimizer_context& context,
                                     const std::vector<tensor<float>>& tensors) {
  std::vector<spectrum> spectra;
  for (const tensor<float>& each : tensors) {
    if (each.kind != role::hidden) continue;
    const std::int64_t count = std::min(each.rows, each.columns);
    std::vector<double> values(static_cast<std::size_t>(count));
    check(steepest_singular_values(context.get(), each.rows, each.columns, STEEPEST_F32,
                                   each.value.data(), 0, values.data()));
    double entropy = 0;
    check(steepest_singular_entropy(values.data(), count, &entropy));
    spectra.push_back({each.name, entropy, values[0]});
  }
  return spectra;
}

}  // namespace char_lm
