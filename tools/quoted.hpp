// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace tool {

// A part of a file for an error's text: short, and with nothing that a terminal would obey.
inline std::string quoted(std::string_view part) {
  std::string shown = "'";
  for (const char c : part.substr(0, 60)) shown += c >= ' ' && c <= '~' ? c : '?';
  return shown + (part.size() > 60 ? "...'" : "'");
}

}  // namespace tool
