// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

namespace char_lm {

class stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Adds its lifetime, in seconds, to a total.
class add_elapsed {
 public:
  explicit add_elapsed(double& total) : total_(&total) {}
  add_elapsed(const add_elapsed&) = delete;
  add_elapsed& operator=(const add_elapsed&) = delete;
  ~add_elapsed() { *total_ += watch_.seconds(); }

 private:
  double* total_;
  stopwatch watch_;
};

}  // namespace char_lm
