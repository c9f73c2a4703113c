// SPDX-License-Identifier: Apache-2.0
// Whole files. What cannot be read is a failure with exit_input that names the file.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace tool {

std::vector<std::byte> read_file(const std::string& path);

// Numbers separated by spaces or lines; a '#' begins a comment.
std::vector<double> read_numbers(const std::string& path);

}  // namespace tool
