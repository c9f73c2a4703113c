// SPDX-License-Identifier: Apache-2.0
#include "progress.hpp"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <string>

namespace char_lm {
namespace {

// Carriage return, then "erase to the end of the line".
constexpr const char* back_to_start = "\r\033[K";

std::string minutes(double seconds) {
  char text[32];
  const long long whole = std::llround(seconds);
  std::snprintf(text, sizeof text, "%lld:%02lld", whole / 60, whole % 60);
  return text;
}

}  // namespace

progress::progress(double predicted_update_rms)
    : predicted_update_rms_(predicted_update_rms), live_(isatty(STDOUT_FILENO) == 1) {
  std::printf("%9s %15s %10s %12s %10s %8s %10s %6s\n", "step", "train bits/char", "held-out",
              "update RMS", "predicted", "SNR", "tokens/s", "left");
}

void progress::draw(const training_state& state) {
  if (!live_ || (started_ && since_drawn_.seconds() < 0.1)) return;
  started_ = true;
  since_drawn_ = {};
  constexpr std::int64_t width = 20;
  const auto filled = static_cast<std::size_t>(state.step * width / state.steps);
  std::string bar(filled, '#');
  bar.resize(width, '.');
  std::printf("%s[%s] %lld/%lld  %.3f  RMS %.3f (%.3f)  SNR %.3f  %.0f/s  %s", back_to_start,
              bar.c_str(), static_cast<long long>(state.step), static_cast<long long>(state.steps),
              state.train_bits, state.update_rms, predicted_update_rms_, state.snr,
              state.tokens_per_second, minutes(state.seconds_left).c_str());
  std::fflush(stdout);
}

void progress::line(const training_state& state, double held_out_bits) {
  std::printf("%s%9lld %15.3f %10.3f %12.4f %10.4f %8.4f %10.0f %6s\n", live_ ? back_to_start : "",
              static_cast<long long>(state.step), state.train_bits, held_out_bits, state.update_rms,
              predicted_update_rms_, state.snr, state.tokens_per_second,
              minutes(state.seconds_left).c_str());
  std::fflush(stdout);
}

}  // namespace char_lm
