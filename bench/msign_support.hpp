// SPDX-License-Identifier: Apache-2.0
// What the msign benchmark and its counterpart of peers/msign.py have in common.
#pragma once

#include <steepest/steepest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numbers>
#include <vector>

#include "fma_peak.hpp"
#include "library.hpp"

namespace bench {

struct msign_method {
  const char* name;
  int32_t method, steps;
  int32_t coefficients = STEEPEST_COEF_POLAR_EXPRESS;
  steepest_dtype compute = 0;
};

// Those that the benchmarks compare.
inline constexpr msign_method msign_methods[] = {
    {"rational_r3", STEEPEST_MSIGN_RATIONAL, 3},
    {"rational_r3_bf16", STEEPEST_MSIGN_RATIONAL, 3, STEEPEST_COEF_POLAR_EXPRESS, STEEPEST_BF16},
    {"rational_r2", STEEPEST_MSIGN_RATIONAL, 2},
    {"rational_r4", STEEPEST_MSIGN_RATIONAL, 4},
    {"halley_2", STEEPEST_MSIGN_HALLEY, 2},
    {"halley_3", STEEPEST_MSIGN_HALLEY, 3},
    {"newton_schulz_5", STEEPEST_MSIGN_NEWTON_SCHULZ, 5},
    {"keller_5", STEEPEST_MSIGN_NEWTON_SCHULZ, 5, STEEPEST_COEF_KELLER},
    {"gram_newton_schulz_5", STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ, 5},
    {"accurate", STEEPEST_MSIGN_ACCURATE, 0},
    {"svd", STEEPEST_MSIGN_SVD, 0},
};

inline const msign_method* method_named(const char* name) {
  for (const msign_method& each : msign_methods)
    if (std::strcmp(each.name, name) == 0) return &each;
  return nullptr;
}

// The operations that the method cannot do without, symmetric products and inverses counted once:
// in units of n^3, with a = m / n. Those of LAPACK's singular value decomposition are not counted.
inline operations useful(const msign_method& method, int64_t rows, int64_t cols,
                         int64_t count = 1) {
  const auto n = static_cast<double>(std::min(rows, cols));
  const double a = static_cast<double>(std::max(rows, cols)) / n;
  const double unit = n * n * n * static_cast<double>(count);
  const double steps = method.steps;
  switch (method.method) {
    case STEEPEST_MSIGN_RATIONAL:
      if (method.compute == STEEPEST_BF16) return {steps * unit, 3 * a * unit};
      return {(3 * a + steps) * unit};
    case STEEPEST_MSIGN_HALLEY: return {(3 * a + steps + 2 * (steps - 1)) * unit};
    case STEEPEST_MSIGN_NEWTON_SCHULZ: return {(3 * a + 1) * steps * unit};
    case STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ: return {(3 * a + 4 * steps - 3) * unit};
    default: return {};
  }
}

// Standard normal numbers, the same on every platform.
template <class T = float>
std::vector<T> gaussian_matrix(int64_t rows, int64_t cols, std::uint64_t seed = 1) {
  std::vector<T> x(static_cast<std::size_t>(rows * cols));
  std::uint64_t state = seed << 40 | 1;
  const auto uniform = [&] {
    std::uint64_t z = (state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
  };
  for (T& each : x)
    each = static_cast<T>(std::sqrt(-2 * std::log(1 - uniform())) *
                          std::cos(2 * std::numbers::pi * uniform()));
  return x;
}

// A matrix of orthonormal rows (or columns), at random.
inline std::vector<double> orthonormal_matrix(int64_t rows, int64_t cols, std::uint64_t seed) {
  std::vector<double> x = gaussian_matrix<double>(rows, cols, seed);
  steepest_msign_config accurate = STEEPEST_MSIGN_CONFIG_INIT;
  accurate.method = STEEPEST_MSIGN_ACCURATE;
  check(steepest_msign(nullptr, &accurate, rows, cols, STEEPEST_F64, x.data(), 0, x.data(), 0,
                       nullptr, nullptr));
  return x;
}

// rows <= cols, singular values i^-power, i = 1, 2, ...
inline std::vector<float> matrix_of_spectrum(int64_t rows, int64_t cols, double power) {
  std::vector<double> left = orthonormal_matrix(rows, rows, 2);
  const std::vector<double> right = orthonormal_matrix(rows, cols, 3);
  std::vector<float> x(static_cast<std::size_t>(rows * cols));
  std::vector<double> row(static_cast<std::size_t>(cols));
  for (int64_t i = 0; i < rows; ++i) {
    std::fill(row.begin(), row.end(), 0.0);
    for (int64_t k = 0; k < rows; ++k) {
      const double factor = left[static_cast<std::size_t>(i * rows + k)] *
                            std::pow(static_cast<double>(k + 1), -power);
      for (int64_t j = 0; j < cols; ++j)
        row[static_cast<std::size_t>(j)] += factor * right[static_cast<std::size_t>(k * cols + j)];
    }
    for (int64_t j = 0; j < cols; ++j)
      x[static_cast<std::size_t>(i * cols + j)] =
          static_cast<float>(row[static_cast<std::size_t>(j)]);
  }
  return x;
}

// ||O - U V^T||_F / ||U V^T||_F over some matrices, against ACCURATE in double, which is right to
// 1e-7 on these matrices.
class sign_error {
 public:
  void add(int64_t rows, int64_t cols, const float* x, const float* o) {
    const std::vector<double>& exact = exact_sign(rows, cols, x);
    for (std::size_t i = 0; i < exact.size(); ++i) {
      const double d = static_cast<double>(o[i]) - exact[i];
      difference_ += d * d;
      total_ += exact[i] * exact[i];
    }
  }
  double value() const { return std::sqrt(difference_ / total_); }

 private:
  // Kept until another matrix comes: every method is measured on the same one.
  static const std::vector<double>& exact_sign(int64_t rows, int64_t cols, const float* x) {
    static int64_t known_rows;
    static std::vector<float> known;
    static std::vector<double> exact;
    const float* const end = x + rows * cols;
    if (rows != known_rows || !std::equal(x, end, known.begin(), known.end())) {
      known_rows = rows;
      known.assign(x, end);
      exact.assign(x, end);
      steepest_msign_config accurate = STEEPEST_MSIGN_CONFIG_INIT;
      accurate.method = STEEPEST_MSIGN_ACCURATE;
      check(steepest_msign(nullptr, &accurate, rows, cols, STEEPEST_F64, exact.data(), 0,
                           exact.data(), 0, nullptr, nullptr));
    }
    return exact;
  }

  double difference_ = 0, total_ = 0;
};

// `count` matrices in one call.
class msign_problem {
 public:
  msign_problem(const msign_method& method, int64_t rows, int64_t cols, int threads,
                double power = 0, int64_t count = 1)
      : context_(threads), rows_(rows), cols_(cols),
        x_(power == 0 ? gaussian_matrix(count * rows, cols)
                      : matrix_of_spectrum(rows, cols, power)),
        out_(x_.size()) {
    for (int64_t i = 0; i < count; ++i) {
      inputs_.push_back(x_.data() + i * rows * cols);
      outputs_.push_back(out_.data() + i * rows * cols);
    }
    openblas_set_num_threads(threads);
    config_.method = method.method;
    config_.steps = method.steps;
    config_.coefficients = method.coefficients;
    config_.compute_dtype = method.compute;
  }

  void run() {
    check(steepest_msign_batched(context_.get(), &config_, rows_, cols_, STEEPEST_F32,
                                 inputs_.data(), 0, outputs_.data(), 0,
                                 static_cast<int64_t>(inputs_.size()), nullptr, nullptr));
  }

  // Of the last run.
  double error() const {
    sign_error error;
    for (std::size_t i = 0; i < inputs_.size(); ++i)
      error.add(rows_, cols_, static_cast<const float*>(inputs_[i]),
                static_cast<const float*>(outputs_[i]));
    return error.value();
  }

  const library_context& context() const { return context_; }

 private:
  library_context context_;
  int64_t rows_, cols_;
  std::vector<float> x_, out_;
  std::vector<const void*> inputs_;
  std::vector<void*> outputs_;
  steepest_msign_config config_ = STEEPEST_MSIGN_CONFIG_INIT;
};

}  // namespace bench
