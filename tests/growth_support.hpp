// SPDX-License-Identifier: Apache-2.0
//
// Structs as callers with other headers have them.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "support.hpp"

namespace steepest_test {

using bytes = std::vector<unsigned char>;

template <class Struct>
bytes to_bytes(const Struct& value) {
  bytes image(sizeof(Struct));
  std::memcpy(image.data(), &value, sizeof(Struct));
  return image;
}

inline void set_size(unsigned char* at, std::size_t size) { std::memcpy(at, &size, sizeof(size)); }

inline bool error_names(const char* text) {
  return std::string(steepest_last_error()).find(text) != std::string::npos;
}

// An array of structs as a caller with structs of `size` bytes has it: cut off, or with zeros
// added; what lies beyond the last one is no part of it.
template <class Struct>
bytes resized(const std::vector<Struct>& values, std::size_t size) {
  bytes all(values.size() * size + 64, 0xff);
  for (std::size_t i = 0; i < values.size(); ++i) {
    unsigned char* at = all.data() + i * size;
    std::fill_n(at, size, 0);
    std::memcpy(at, &values[i], std::min(size, sizeof(Struct)));
    set_size(at, size);
  }
  return all;
}

// What the library must take a struct of `size` bytes for: INIT values where it ends.
template <class Struct>
Struct completed(Struct value, std::size_t size, const Struct& init) {
  Struct whole = init;
  std::memcpy(&whole, &value, std::min(size, sizeof(Struct)));
  whole.struct_size = sizeof(Struct);
  return whole;
}

}  // namespace steepest_test
