// SPDX-License-Identifier: Apache-2.0
//
// The training loop: mini-batches, learning-rate schedule, held-out loss.
#pragma once

#include "model.hpp"
#include "optimizer.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "text.hpp"

namespace char_lm {

struct measurement {
  std::int64_t step;
  double held_out_bits;  // per character
};

struct training_result {
  std::int64_t steps;
  double seconds;                  // without the time for measuring the held-out loss
  std::vector<measurement> curve;  // after each tenth of the steps
  double held_out_bits() const { return curve.back().held_out_bits; }  // in the end
};

// Bits per character of the model on the text.
double bits_per_character(model<float>& net, const encoded_text& text);

// Throws std::runtime_error if the loss becomes infinite or NaN.
training_result train(model<float>& net, optimizer& with, const encoded_text& training,
                      const encoded_text& held_out, const options& chosen, progress& display);

}  // namespace char_lm
