// SPDX-License-Identifier: Apache-2.0
// What CLI11 is to accept as a number.
#pragma once

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>

namespace tool {

// A decimal number in that range. CLI11 by itself takes 010 for eight.
inline CLI::Validator whole_number(std::int64_t low, std::int64_t high) {
  return CLI::Validator(
      [=](std::string& given) {
        std::int64_t value = 0;
        const char* const end = given.data() + given.size();
        const auto [stopped, error] = std::from_chars(given.data(), end, value);
        if (error != std::errc() || stopped != end || value < low || value > high)
          return "'" + given + "' is not a whole number from " + std::to_string(low) + " to " +
                 std::to_string(high);
        given = std::to_string(value);
        return std::string();
      },
      "", "whole number");
}

// Neither infinite nor NaN. Whether it is in its range is for the library to say.
inline CLI::Validator number() {
  return CLI::Validator(
      [](std::string& given) {
        double value = 0;
        if (CLI::detail::lexical_cast(given, value) && std::isfinite(value)) return std::string();
        return "'" + given + "' is not a number";
      },
      "", "number");
}

}  // namespace tool
