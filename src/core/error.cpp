// SPDX-License-Identifier: Apache-2.0
#include "core/error.hpp"

#include <cstdio>

namespace steepest {

namespace {
constexpr unsigned long text_size = 512;
thread_local char text[text_size] = "";
}  // namespace

steepest_status fail_v(steepest_status status, const char* format, std::va_list arguments) {
  // Formatted aside first: an argument may be the present text itself.
  char fresh[text_size];
  std::vsnprintf(fresh, text_size, format, arguments);
  std::snprintf(text, text_size, "%s", fresh);
  return status;
}

steepest_status fail(steepest_status status, const char* format, ...) {
  std::va_list arguments;
  va_start(arguments, format);
  fail_v(status, format, arguments);
  va_end(arguments);
  return status;
}

const char* last_error() { return text; }

}  // namespace steepest
