// SPDX-License-Identifier: Apache-2.0
//
// gzip and xz as yardsticks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace char_lm {

// The size of what the program writes to stdout when it reads the text from stdin; nothing if it is
// not installed or fails.
std::optional<std::int64_t> compressed_size(const std::vector<std::string>& command,
                                            const std::string& text);

}  // namespace char_lm
