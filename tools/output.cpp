// SPDX-License-Identifier: Apache-2.0
#include "output.hpp"

#include <unistd.h>

#include <algorithm>
#include <boost/timer/progress_display.hpp>
#include <cerrno>
#include <cmath>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <utility>

#include "command.hpp"

namespace tool {

std::string text(const char* format, ...) {
  std::va_list values;
  va_start(values, format);
  std::va_list again;
  va_copy(again, values);
  const int length = std::vsnprintf(nullptr, 0, format, values);
  va_end(values);
  std::string result(static_cast<std::size_t>(std::max(length, 0)), '\0');
  std::vsnprintf(result.data(), result.size() + 1, format, again);
  va_end(again);
  return result;
}

output::output(const std::string& path)
    : name_(path.empty() ? "standard output" : path),
      file_(path.empty() ? stdout : std::fopen(path.c_str(), "w")) {
  if (file_ == nullptr) fail();
}

output::~output() {
  if (file_ != nullptr && file_ != stdout) std::fclose(file_);
}

void output::write(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) fail();
}

// Standard output is closed too: some file systems report a failed write only then.
void output::finish() {
  std::FILE* const file = std::exchange(file_, nullptr);
  if (std::fflush(file) != 0) fail();
  if (file == stdout) {
    // It may be written to again, so that only a copy is closed.
    const int copy = dup(STDOUT_FILENO);
    if (copy < 0 || close(copy) != 0) fail();
  } else if (std::fclose(file) != 0) {
    fail();
  }
}

void output::fail() const {
  throw failure(exit_output, "cannot write " + name_ + ": " + std::strerror(errno));
}

void print(std::string_view bytes) {
  output out;
  out.write(bytes);
  out.finish();
}

style style::of_output() {
  const char* const no_color = std::getenv("NO_COLOR");
  const char* const terminal = std::getenv("TERM");
  const bool wanted = (no_color == nullptr || *no_color == '\0') && terminal != nullptr &&
                      std::strcmp(terminal, "dumb") != 0;
  if (!wanted || isatty(STDOUT_FILENO) == 0) return {"", "", "", ""};
  return {"\033[1m", "\033[32m", "\033[1;31m", "\033[0m"};
}

struct progress::bar {
  boost::timer::progress_display display;
  explicit bar(long steps) : display(static_cast<unsigned long>(steps), std::cerr) {}
};

progress::progress(long steps) {
  if (steps > 0 && isatty(STDERR_FILENO) != 0) bar_ = std::make_unique<bar>(steps);
}

progress::~progress() {
  if (bar_ != nullptr && bar_->display.count() < bar_->display.expected_count()) std::cerr << '\n';
}

void progress::advance(long steps) {
  if (bar_ != nullptr) bar_->display += static_cast<unsigned long>(steps);
}

std::string drawn(double share, int width) {
  const double shown = std::isfinite(share) ? std::clamp(share, 0.0, 1.0) : 0;
  std::string bar(static_cast<std::size_t>(std::lround(shown * width)), '#');
  bar.resize(static_cast<std::size_t>(width), '.');
  return bar;
}

}  // namespace tool
