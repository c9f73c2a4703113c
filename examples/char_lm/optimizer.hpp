// SPDX-License-Identifier: Apache-2.0
//
// All that this program has to do to train with libsteepest.
#pragma once

#include <steepest/steepest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model.hpp"

namespace char_lm {

struct adamw_settings {
  double beta1;
  double beta2;
  double weight_decay;
  double clip;
};

// The library's context, which knows the CPU's level and the threads. 0 threads: the cores that
// this process may use.
class optimizer_context {
 public:
  explicit optimizer_context(int threads);
  steepest_context* get() const { return context_.get(); }
  int threads() const { return steepest_context_threads(context_.get()); }
  std::string isa() const { return steepest_isa_name(steepest_context_isa(context_.get())); }

 private:
  struct destroy {
    void operator()(steepest_context* context) const { steepest_context_destroy(context); }
  };
  std::unique_ptr<steepest_context, destroy> context_;
};

class adamw {
 public:
  // Keeps pointers to the tensors' values and gradients.
  adamw(const optimizer_context& context, std::vector<tensor<float>>& tensors,
        const adamw_settings& settings);
  adamw(const adamw&) = delete;
  adamw& operator=(const adamw&) = delete;

  // One step with the gradients that the tensors hold.
  void step(double lr);

  double update_rms() const { return update_rms_; }  // of the last step, over all parameters
  double snr() const { return snr_; }  // of the gradients, from momentum, over all parameters
  double norm_seconds() const { return norm_seconds_; }
  double step_seconds() const { return step_seconds_; }

 private:
  const optimizer_context* context_;
  double clip_;
  std::int64_t step_ = 0;
  steepest_adamw_config decayed_ = STEEPEST_ADAMW_CONFIG_INIT;
  steepest_adamw_config undecayed_ = STEEPEST_ADAMW_CONFIG_INIT;
  std::vector<float> moments_;  // exp_avg and exp_avg_sq of every tensor
  std::vector<steepest_adamw_tensor> tensors_;
  std::vector<steepest_vector> gradients_;
  std::vector<steepest_step_stats> stats_;
  double update_rms_ = 0;
  double snr_ = 0;
  double norm_seconds_ = 0;
  double step_seconds_ = 0;
};

}  // namespace char_lm
