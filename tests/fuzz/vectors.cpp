// SPDX-License-Identifier: Apache-2.0
//
// The reader of conformance vectors: whatever the text is, arrays within their own memory or an
// exception.
#include <exception>
#include <string>

#include "calls.hpp"
#include "conformance_reader.hpp"
#include "target.hpp"

namespace steepest_fuzz {
namespace {

using namespace steepest_test::vectors;

void read_case(const json& one) {
  const json arrays = one.value("arrays", json::object());
  for (const auto& [name, given] : arrays.items()) {
    const array read(given, one.at("arguments"));
    REQUIRE(read.dense().size() == static_cast<std::size_t>(read.rows * read.cols), "%s",
            name.c_str());
    REQUIRE(read.gaps_untouched(), "%s", name.c_str());
  }
  for (const auto& [name, expected] : one.at("expected").items())
    for (const char* const part : {"values", "tolerance"}) list(expected.at(part));
}

void run(const std::uint8_t* data, std::size_t size) {
  try {
    const json content = json::parse(data, data + size);
    for (const json& one : content.at("cases")) read_case(one);
  } catch (const std::exception& error) {
    REQUIRE(error.what()[0] != 0, "an exception without text");
  }
}

const registration registered("vectors", run);

}  // namespace
}  // namespace steepest_fuzz
