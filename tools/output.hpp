// SPDX-License-Identifier: Apache-2.0
// Where results go, and what is shown of progress.
#pragma once

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

namespace tool {

// As printf writes it.
[[gnu::format(printf, 1, 2)]] std::string text(const char* format, ...);

// Standard output, or a file that replaces one of its name. What cannot be written is a failure
// with exit_output; so is what turns out so only in the end, in finish().
class output {
 public:
  explicit output(const std::string& path = "");
  output(const output&) = delete;
  output& operator=(const output&) = delete;
  ~output();

  void write(std::string_view bytes);
  void finish();

 private:
  [[noreturn]] void fail() const;
  std::string name_;
  std::FILE* file_;
};

// A whole text to standard output.
void print(std::string_view bytes);

// Control sequences of a terminal; empty if standard output is none, or NO_COLOR is set.
struct style {
  const char *bold, *good, *bad, *off;
  static style of_output();
};

// A bar on standard error, if that is a terminal.
class progress {
 public:
  explicit progress(long steps);
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;
  ~progress();

  void advance(long steps = 1);

 private:
  struct bar;
  std::unique_ptr<bar> bar_;
};

// `share` of `width` characters; what exceeds 1 shows as 1.
std::string drawn(double share, int width = 20);

}  // namespace tool
