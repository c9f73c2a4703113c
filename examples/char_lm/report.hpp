// SPDX-License-Identifier: Apache-2.0
//
// The tables at the end.
#pragma once

#include "model.hpp"
#include "optimizer.hpp"
#include "options.hpp"
#include "text.hpp"
#include "train.hpp"

namespace char_lm {

// What is left of one training.
struct outcome {
  std::string optimizer;
  training_result training;
  double norm_seconds, adamw_seconds, muon_seconds;
  std::vector<spectrum> hidden;
};

// `outcomes` are of models of the same shape; the first is what the others are compared with.
void print_report(const corpus& text, std::int64_t parameters, const optimizer_context& context,
                  const std::vector<outcome>& outcomes, const options& chosen);

}  // namespace char_lm
