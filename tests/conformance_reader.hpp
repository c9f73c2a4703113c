// SPDX-License-Identifier: Apache-2.0
//
// Numbers and arrays of the vectors of tests/conformance, whose README.md has the format. What is
// not in that format is a std::exception.
#pragma once

#include <steepest/steepest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace steepest_test::vectors {

using nlohmann::json;
using numbers = std::vector<double>;

// A scalar; "nan", "inf" and "-inf" too.
inline double number(const json& value) {
  return value.is_string() ? std::stod(value.get<std::string>()) : value.get<double>();
}

inline numbers list(const json& values) {
  numbers result;
  for (const json& value : values) result.push_back(number(value));
  return result;
}

inline constexpr double gap = 7;

inline std::int64_t whole(const json& value, std::int64_t least, std::int64_t most) {
  if (!value.is_number_integer()) throw std::invalid_argument("not an integer: " + value.dump());
  const auto number = value.get<std::int64_t>();
  if (number < least || number > most) throw std::out_of_range(value.dump());
  return number;
}

// Files of vectors are small: no array has more elements.
inline constexpr std::int64_t most = std::int64_t{1} << 20;

inline std::int64_t length(const json& of, const char* name, std::int64_t otherwise) {
  return of.contains(name) ? whole(of.at(name), 0, most) : otherwise;
}

// Types of codes, residuals and scales, by negative numbers that no storage type has.
enum : steepest_dtype { u8 = -1, i8 = -2, u16 = -3, i16 = -4 };

// A buffer as the case lays it out, with sevens in the gaps between rows.
struct array {
  steepest_dtype dtype = 0;
  std::int64_t rows = 1, cols = 0, ld = 0;
  std::vector<std::uint8_t> bytes;

  array(const json& given, const json& arguments) {
    static const std::map<std::string, steepest_dtype> types = {{"F32", STEEPEST_F32},
                                                                {"F64", STEEPEST_F64},
                                                                {"BF16", STEEPEST_BF16},
                                                                {"F16", STEEPEST_F16},
                                                                {"U8", u8},
                                                                {"I8", i8},
                                                                {"U16", u16},
                                                                {"I16", i16}};
    dtype = types.at(given.at("dtype"));
    const json values = given.value("values", json::array());
    const auto size = static_cast<std::int64_t>(values.size());
    cols = given.contains("count")  // a vector with a length of its own
               ? length(given, "count", 0)
               : length(arguments, "cols", length(arguments, "count", size));
    rows = given.contains("count") ? 1 : length(arguments, "rows", 1);
    ld = length(given, "ld", cols);
    if (ld < cols || rows * ld > most || size > rows * cols)
      throw std::invalid_argument("more values than there is room for");
    bytes.resize(static_cast<std::size_t>(rows * ld * element()));
    const bool bits = dtype == STEEPEST_BF16 || dtype == STEEPEST_F16;
    for (std::int64_t i = 0; i < rows * ld; ++i) set(i, gap);
    for (std::int64_t i = 0; i < size; ++i) {
      const std::int64_t place = i / cols * ld + i % cols;
      if (bits) {
        const auto pattern =
            static_cast<std::uint16_t>(whole(values[static_cast<std::size_t>(i)], 0, 65535));
        std::memcpy(&bytes[static_cast<std::size_t>(2 * place)], &pattern, 2);
      } else {
        const json& value = values[static_cast<std::size_t>(i)];
        set(place, dtype < 0 ? static_cast<double>(whole(value, -32768, 65535)) : number(value));
      }
    }
  }

  std::int64_t element() const {
    if (dtype == u8 || dtype == i8) return 1;
    return dtype == STEEPEST_F64 ? 8 : dtype == STEEPEST_F32 ? 4 : 2;
  }

  void set(std::int64_t i, double value) {
    void* const to = &bytes[static_cast<std::size_t>(i * element())];
    if (dtype < 0) {
      const auto whole = static_cast<std::int32_t>(value);  // little-endian, like the formats
      std::memcpy(to, &whole, static_cast<std::size_t>(element()));
      return;
    }
    const auto single = static_cast<float>(value);
    // Of the 16-bit types only the seven between the rows.
    const std::uint16_t seven = dtype == STEEPEST_BF16 ? 0x40e0 : 0x4700;
    if (dtype == STEEPEST_F64)
      std::memcpy(to, &value, 8);
    else if (dtype == STEEPEST_F32)
      std::memcpy(to, &single, 4);
    else
      std::memcpy(to, &seven, 2);
  }

  double at(std::int64_t i) const {
    const void* const from = &bytes[static_cast<std::size_t>(i * element())];
    double value = 0;
    float single = 0;
    std::uint16_t bits = 0;
    switch (dtype) {
      case STEEPEST_F64: std::memcpy(&value, from, 8); return value;
      case STEEPEST_F32: std::memcpy(&single, from, 4); return static_cast<double>(single);
      case u8: return *static_cast<const std::uint8_t*>(from);
      case i8: return *static_cast<const std::int8_t*>(from);
      case u16: std::memcpy(&bits, from, 2); return bits;
      case i16: std::memcpy(&bits, from, 2); return static_cast<std::int16_t>(bits);
      default: std::memcpy(&bits, from, 2);
    }
    if (dtype == STEEPEST_BF16)
      return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16));
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double size =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    return exponent == 31 ? NAN : (bits & 0x8000) != 0 ? -size : size;
  }

  numbers dense() const {
    numbers result;
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < cols; ++j) result.push_back(at(i * ld + j));
    return result;
  }

  bool gaps_untouched() const {
    for (std::int64_t i = 0; i < rows * ld; ++i)
      if (i % ld >= cols && at(i) != gap) return false;
    return true;
  }
};

}  // namespace steepest_test::vectors
