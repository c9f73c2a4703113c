// SPDX-License-Identifier: Apache-2.0
// What the msign benchmark and its counterpart of peers/msign.py have in common.
#pragma once

#include <steepest/steepest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <numbers>
#include <vector>

#include "program.hpp"

// OpenBLAS's own; a program that uses the library says how many threads it may have.
extern "C" void openblas_set_num_threads(int threads);

namespace bench {

struct msign_method {
  const char* name;
  int32_t method, steps;
};

inline constexpr msign_method msign_methods[] = {
    {"rational_r3", STEEPEST_MSIGN_RATIONAL, 3},
    {"rational_r2", STEEPEST_MSIGN_RATIONAL, 2},
    {"rational_r4", STEEPEST_MSIGN_RATIONAL, 4},
    {"halley_2", STEEPEST_MSIGN_HALLEY, 2},
    {"halley_3", STEEPEST_MSIGN_HALLEY, 3},
    {"newton_schulz_5", STEEPEST_MSIGN_NEWTON_SCHULZ, 5},
    {"gram_newton_schulz_5", STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ, 5},
    {"accurate", STEEPEST_MSIGN_ACCURATE, 0},
    {"svd", STEEPEST_MSIGN_SVD, 0},
};

inline const msign_method* method_named(const char* name) {
  for (const msign_method& each : msign_methods)
    if (std::strcmp(each.name, name) == 0) return &each;
  return nullptr;
}

// Standard normal numbers, the same on every platform.
inline std::vector<float> gaussian_matrix(int64_t rows, int64_t cols) {
  std::vector<float> x(static_cast<std::size_t>(rows * cols));
  std::uint64_t state = 1;
  const auto uniform = [&] {
    std::uint64_t z = (state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
  };
  for (float& each : x)
    each = static_cast<float>(std::sqrt(-2 * std::log(1 - uniform())) *
                              std::cos(2 * std::numbers::pi * uniform()));
  return x;
}

class msign_problem {
 public:
  msign_problem(const msign_method& method, int64_t rows, int64_t cols, int threads)
      : context_(threads), rows_(rows), cols_(cols), x_(gaussian_matrix(rows, cols)),
        out_(x_.size()) {
    openblas_set_num_threads(threads);
    config_.method = method.method;
    config_.steps = method.steps;
  }

  void run() {
    check(steepest_msign(context_.get(), &config_, rows_, cols_, STEEPEST_F32, x_.data(), 0,
                         out_.data(), 0, nullptr, nullptr));
  }

  // ||O - U V^T||_F / ||U V^T||_F of the last run, against ACCURATE in double, which is right to
  // 1e-7 on these matrices.
  double error() const {
    steepest_msign_config accurate = STEEPEST_MSIGN_CONFIG_INIT;
    accurate.method = STEEPEST_MSIGN_ACCURATE;
    const std::vector<double> x(x_.begin(), x_.end());
    std::vector<double> exact(x.size());
    check(steepest_msign(context_.get(), &accurate, rows_, cols_, STEEPEST_F64, x.data(), 0,
                         exact.data(), 0, nullptr, nullptr));
    double difference = 0;
    double total = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      const double d = static_cast<double>(out_[i]) - exact[i];
      difference += d * d;
      total += exact[i] * exact[i];
    }
    return std::sqrt(difference / total);
  }

  int threads() const { return context_.threads(); }
  steepest_context* context() const { return context_.get(); }

 private:
  library_context context_;
  int64_t rows_, cols_;
  std::vector<float> x_, out_;
  steepest_msign_config config_ = STEEPEST_MSIGN_CONFIG_INIT;
};

}  // namespace bench
