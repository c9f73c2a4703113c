// SPDX-License-Identifier: Apache-2.0
//
// What is shown during training: a line for each tenth of it, and on a terminal a live bar.
#pragma once

#include <cstdint>

#include "clock.hpp"

namespace char_lm {

struct training_state {
  std::int64_t step, steps;
  double train_bits;  // per character, mean since the last line
  double update_rms;  // since the last line
  double snr;         // signal-to-noise ratio of the gradients, since the last line
  double tokens_per_second;
  double seconds_left;
};

class progress {
 public:
  explicit progress(double predicted_update_rms);
  void draw(const training_state& state);
  void line(const training_state& state, double held_out_bits);

 private:
  double predicted_update_rms_;
  bool live_;  // stdout is a terminal
  bool started_ = false;
  stopwatch since_drawn_;
};

}  // namespace char_lm
