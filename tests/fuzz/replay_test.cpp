// SPDX-License-Identifier: Apache-2.0
//
// The inputs of corpus/ once more, by any compiler: the ordinary ones and those that found a fault.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "target.hpp"

namespace steepest_fuzz {
namespace {

TEST(fuzz_corpus, is_replayed) {
  ASSERT_GE(targets().size(), 7U);
  for (const target& t : targets()) {
    std::size_t count = 0;
    for (const auto& entry :
         std::filesystem::directory_iterator(std::string(STEEPEST_FUZZ_CORPUS) + "/" + t.name)) {
      std::ifstream file(entry.path(), std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(file), {}};
      // A finding ends the process: this is what it was about.
      std::fprintf(stderr, "%s\r", entry.path().c_str());
      t.run(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
      ++count;
    }
    EXPECT_GE(count, 5U) << t.name;
  }
}

// No file for it, and of any length.
TEST(fuzz_corpus, cut_inputs) {
  std::vector<std::uint8_t> bytes(256);
  std::uint32_t state = 1;
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>((state *= 48271) >> 16);
  for (const target& t : targets())
    for (std::size_t size = 0; size < bytes.size(); size += 7) t.run(bytes.data(), size);
}

}  // namespace
}  // namespace steepest_fuzz
