// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace tool {

using json = nlohmann::ordered_json;

// As the commands print it. A file's name need not be UTF-8.
inline std::string dumped(const json& all) {
  return all.dump(2, ' ', false, json::error_handler_t::replace) + '\n';
}

}  // namespace tool
