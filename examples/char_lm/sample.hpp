// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "model.hpp"
#include "options.hpp"
#include "text.hpp"

namespace char_lm {

// Text that the model writes, one character at a time, as the continuation of a paragraph break.
std::string sample(model<float>& net, const vocabulary& known, const std::string& held_out,
                   const options& chosen);

}  // namespace char_lm
