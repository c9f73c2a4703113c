// SPDX-License-Identifier: Apache-2.0
// What the system says of the machine.
#pragma once

#include <string>

namespace tool {

std::string cpu_model();
int usable_cores();  // that this process may use

}  // namespace tool
