// SPDX-License-Identifier: Apache-2.0
//
// What there is to fuzz. A fuzzer has one target in it, the test that replays inputs has them all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace steepest_fuzz {

struct target {
  std::string name;
  void (*run)(const std::uint8_t* data, std::size_t size);  // ends the process at a finding
};

inline std::vector<target>& targets() {
  static std::vector<target> all;
  return all;
}

struct registration {
  registration(const char* name, void (*run)(const std::uint8_t*, std::size_t)) {
    targets().push_back({name, run});
  }
};

}  // namespace steepest_fuzz
