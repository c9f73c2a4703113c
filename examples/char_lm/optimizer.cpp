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

adamw::adamw(const optimizer_context& context, std::vector<tensor<float>>& tensors,
             const adamw_settings& settings)
    : context_(&context), clip_(settings.clip) {
  decayed_.beta1 = settings.beta1;
  decayed_.beta2 = settings.beta2;
  decayed_.weight_decay = settings.weight_decay;
  undecayed_ = decayed_;
  undecayed_.weight_decay = 0;

  std::size_t parameters = 0;
  for (const tensor<float>& each : tensors) parameters += each.value.size();
  moments_.resize(2 * parameters);
  float* moments = moments_.data();
  for (tensor<float>& each : tensors) {
    steepest_adamw_tensor step = STEEPEST_ADAMW_TENSOR_INIT;
    step.count = each.rows * each.columns;
    step.param = each.value.data();
    step.grad = each.gradient.data();
    step.exp_avg = moments;
    step.exp_avg_sq = moments + step.count;
    const bool matrix = each.kind == role::hidden || each.kind == role::head;
    step.config = matrix ? &decayed_ : &undecayed_;
    tensors_.push_back(step);
    moments += 2 * step.count;

    steepest_vector gradient = STEEPEST_VECTOR_INIT;
    gradient.count = step.count;
    gradient.data = step.grad;
    gradients_.push_back(gradient);
  }
  stats_.assign(tensors_.size(), STEEPEST_STEP_STATS_INIT);
}

void adamw::step(double lr) {
  const auto count = static_cast<std::int64_t>(tensors_.size());
  double norm = 0;
  {
    const add_elapsed timer(norm_seconds_);
    check(steepest_grad_norm(context_->get(), gradients_.data(), count, &norm, nullptr));
  }

  step_ += 1;
  for (steepest_adamw_config* config : {&decayed_, &undecayed_}) {
    config->lr = lr;
    config->step = step_;
    config->grad_scale = norm > clip_ ? clip_ / norm : 1.0;
  }
  {
    const add_elapsed timer(step_seconds_);
    check(steepest_adamw_step(context_->get(), &decayed_, tensors_.data(), count, stats_.data()));
  }

  double squares = 0;
  double snr = 0;
  double elements = 0;
  for (std::size_t i = 0; i < stats_.size(); ++i) {
    const auto size = static_cast<double>(tensors_[i].count);
    squares += stats_[i].update_rms * stats_[i].update_rms * size;
    snr += stats_[i].snr_momentum * size;
    elements += size;
  }
  update_rms_ = std::sqrt(squares / elements);
  snr_ = step_ == 1 ? 0 : snr / elements;  // not defined at the first step
}

}  // namespace char_lm
