// SPDX-License-Identifier: Apache-2.0
#include "matrix.hpp"

#include <cmath>
#include <cstring>

#include "command.hpp"
#include "core/half.hpp"
#include "output.hpp"

namespace tool {
namespace {

template <class T, class Stored>
T element(const std::byte* from) {
  Stored value;
  std::memcpy(&value, from, sizeof value);
  return static_cast<T>(steepest::to_float(value));
}

template <class T>
T element(const std::byte* from, npy::type type) {
  switch (type) {
    case npy::type::f16: return element<T, steepest::f16>(from);
    case npy::type::f32: return element<T, float>(from);
    default: return element<T, double>(from);
  }
}

}  // namespace

template <class T>
dense<T> read_matrix(const std::string& file, const npy::matrix& m) {
  dense<T> x{m.rows, m.cols, std::vector<T>(static_cast<std::size_t>(m.rows * m.cols))};
  for (std::int64_t i = 0; i < m.rows; ++i)
    for (std::int64_t j = 0; j < m.cols; ++j) {
      const auto from = static_cast<std::size_t>(m.fortran_order ? j * m.rows + i : i * m.cols + j);
      const T value = element<T>(m.data.data() + from * npy::size_of(m.type), m.type);
      if (!std::isfinite(value))
        throw failure(exit_input,
                      file + text(": its element (%lld, %lld) is %g", static_cast<long long>(i),
                                  static_cast<long long>(j), static_cast<double>(value)));
      x.values[static_cast<std::size_t>(i * m.cols + j)] = value;
    }
  return x;
}

template dense<float> read_matrix(const std::string&, const npy::matrix&);
template dense<double> read_matrix(const std::string&, const npy::matrix&);

}  // namespace tool
