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

struct optimizer_settings {
  bool muon;  // on the hidden matrices
  double beta1;
  double beta2;
  double weight_decay;
  double momentum;
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

// AdamW on every tensor, or Muon on the hidden matrices and AdamW on the others.
class optimizer {
 public:
  // Keeps pointers to the tensors' values and gradients.
  optimizer(const optimizer_context& context, std::vector<tensor<float>>& tensors,
            const optimizer_settings& settings);
  optimizer(const optimizer&) = delete;
  optimizer& operator=(const optimizer&) = delete;

  // One step with the gradients that the tensors hold.
  void step(double lr);

  double update_rms() const { return update_rms_; }  // of the last step, over all parameters
  double snr() const { return snr_; }  // of the gradients, from momentum, over all parameters
  double norm_seconds() const { return norm_seconds_; }
  double adamw_seconds() const { return adamw_seconds_; }
  double muon_seconds() const { return muon_seconds_; }

 private:
  void add_adamw(tensor<float>& of, float* moments);
  void add_muon(tensor<float>& of, float* momentum);

  const optimizer_context* context_;
  double clip_;
  std::int64_t step_ = 0;
  steepest_adamw_config decayed_ = STEEPEST_ADAMW_CONFIG_INIT;
  steepest_adamw_config undecayed_ = STEEPEST_ADAMW_CONFIG_INIT;
  steepest_muon_config muon_ = STEEPEST_MUON_CONFIG_INIT;
  std::vector<float> moments_;  // exp_avg and exp_avg_sq, or momentum, of every tensor
  std::vector<steepest_adamw_tensor> adamw_tensors_;
  std::vector<steepest_muon_tensor> muon_tensors_;
  std::vector<steepest_vector> gradients_;  // of AdamW's tensors, then of Muon's
  std::vector<steepest_step_stats> stats_;  // in the same order
  double update_rms_ = 0;
  double snr_ = 0;
  double norm_seconds_ = 0;
  double adamw_seconds_ = 0;
  double muon_seconds_ = 0;
};

// The singular values of a weight matrix, in two numbers.
struct spectrum {
  std::string name;
  double entropy, norm;
};
std::vector<spectrum> hidden_spectra(const optimizer_context& context,
                                     const std::vector<tensor<float>>& tensors);

}  // namespace char_lm
