// SPDX-License-Identifier: Apache-2.0
// The text behind steepest_last_error: one fixed array per thread, so that reporting an error never
// allocates.
#pragma once

#include <cstdarg>

#include "steepest/steepest.h"

namespace steepest {

// Formats the text and returns `status`, so that a check reads `return fail(...)`.
[[gnu::format(printf, 2, 3)]] steepest_status fail(steepest_status status, const char* format, ...);
steepest_status fail_v(steepest_status status, const char* format, std::va_list arguments);

const char* last_error();

}  // namespace steepest
