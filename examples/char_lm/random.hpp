// SPDX-License-Identifier: Apache-2.0
//
// splitmix64: the same numbers on every platform, unlike the standard library's distributions.
#pragma once

#include <cstdint>

namespace char_lm {

constexpr std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

class random_source {
 public:
  explicit random_source(std::uint64_t seed) : state_(mix(seed)) {}

  std::uint64_t bits() { return mix(state_ += 0x9e3779b97f4a7c15); }
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }  // [0, 1)
  std::int64_t below(std::int64_t n) {
    return static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(n));
  }

 private:
  std::uint64_t state_;
};

}  // namespace char_lm
