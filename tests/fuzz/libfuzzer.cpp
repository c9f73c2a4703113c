// SPDX-License-Identifier: Apache-2.0
#include "target.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  steepest_fuzz::targets().front().run(data, size);
  return 0;
}
