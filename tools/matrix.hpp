// SPDX-License-Identifier: Apache-2.0
// The matrix of a .npy file in memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "npy.hpp"

namespace tool {

// Row-major.
template <class T>
struct dense {
  std::int64_t rows, cols;
  std::vector<T> values;
};

// As float, or for f64 as double: exactly. An element that is not finite is a failure with
// exit_input that names the file.
template <class T>
dense<T> read_matrix(const std::string& file, const npy::matrix& m);

}  // namespace tool
