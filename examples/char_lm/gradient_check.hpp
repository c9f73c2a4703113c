// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace char_lm {

// Compares the model's gradient with finite differences of its loss, prints the worst relative
// error, and returns whether it is small enough.
bool check_gradients(int threads);

}  // namespace char_lm
