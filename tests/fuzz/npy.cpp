// SPDX-License-Identifier: Apache-2.0
//
// The command-line tool's reader of .npy files: whatever the bytes are, a matrix within them or an
// error with a text.
#include "../../tools/npy.hpp"

#include <vector>

#include "calls.hpp"
#include "target.hpp"

namespace steepest_fuzz {
namespace {

void run(const std::uint8_t* data, std::size_t size) {
  // Of its own size, so that AddressSanitizer sees where it ends.
  const std::vector<std::byte> file(reinterpret_cast<const std::byte*>(data),
                                    reinterpret_cast<const std::byte*>(data) + size);
  try {
    const tool::npy::matrix m = tool::npy::parse(file);
    REQUIRE(m.rows >= 1 && m.cols >= 1, "%lld x %lld", static_cast<long long>(m.rows),
            static_cast<long long>(m.cols));
    const auto cells = static_cast<std::int64_t>(m.data.size() / tool::npy::size_of(m.type));
    REQUIRE(m.data.size() % tool::npy::size_of(m.type) == 0 && cells % m.cols == 0 &&
                cells / m.cols == m.rows,
            "%zu bytes", m.data.size());
    REQUIRE(
        m.data.data() >= file.data() && m.data.data() + m.data.size() == file.data() + file.size(),
        "outside of the file");
  } catch (const tool::npy::error& error) {
    const std::string text = error.what();
    REQUIRE(!text.empty() && text.size() < 1000, "%zu characters", text.size());
    for (const char c : text) REQUIRE(c >= ' ' && c <= '~', "character %d in the text", c);
  }
}

const registration registered("npy", run);

}  // namespace
}  // namespace steepest_fuzz
