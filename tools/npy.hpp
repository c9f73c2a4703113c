// SPDX-License-Identifier: Apache-2.0
//
// NumPy's .npy files, format versions 1 to 3, for matrices of floating-point numbers. Only bytes go
// in: no file is opened here, and whatever the bytes are, the answer is a matrix or a text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

namespace tool::npy {

// Why the bytes are no such matrix.
class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class type : std::uint8_t { f16, f32, f64 };
constexpr std::size_t size_of(type t) { return t == type::f16 ? 2 : t == type::f32 ? 4 : 8; }
constexpr const char* name_of(type t) {
  return t == type::f16 ? "f16" : t == type::f32 ? "f32" : "f64";
}

// rows and cols are at least 1, and data holds exactly rows * cols elements, little-endian, at any
// alignment: element (i, j) is number i * cols + j, or with `fortran_order` j * rows + i.
struct matrix {
  std::int64_t rows, cols;
  npy::type type;
  bool fortran_order;
  std::span<const std::byte> data;
};

// Views the bytes of a whole file. What is refused, with an error that says it: anything but the
// types f2, f4 and f8, byte order '>', more or less than two dimensions or none of an extent, fewer
// or more bytes than the shape asks for.
matrix parse(std::span<const std::byte> file);

}  // namespace tool::npy
