// SPDX-License-Identifier: Apache-2.0
//
// The table at the end.
#pragma once

#include "model.hpp"
#include "optimizer.hpp"
#include "options.hpp"
#include "text.hpp"
#include "train.hpp"

namespace char_lm {

void print_report(const corpus& text, const model<float>& net, const optimizer_context& context,
                  const adamw& optimizer, const training_result& result, const options& chosen);

}  // namespace char_lm
