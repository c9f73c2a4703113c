// SPDX-License-Identifier: Apache-2.0
//
// What all tests share besides numbers.hpp: buffers with guards, child processes.
#pragma once

#include <gtest/gtest.h>
#include <steepest/steepest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <numbers>
#include <string>
#include <vector>

#include "numbers.hpp"

namespace steepest_test {

// Set by `./dev test --long`: the exhaustive form of a test instead of the quick one.
inline bool long_run() {
  const char* value = std::getenv("STEEPEST_TEST_LONG");
  return value != nullptr && std::string(value) == "1";
}

#define EXPECT_OK(call) EXPECT_EQ((call), STEEPEST_OK) << steepest_last_error()
#define ASSERT_OK(call) ASSERT_EQ((call), STEEPEST_OK) << steepest_last_error()

inline context_pointer make_context(const context_request& request = {}) {
  context_pointer context = try_context(request);
  EXPECT_NE(context, nullptr) << steepest_last_error();
  return context;
}

// An array with guard bytes on both sides, its first element `offset` elements past a 64-byte
// boundary.
template <class Real>
class guarded {
 public:
  explicit guarded(const std::vector<Real>& values, std::size_t offset = 0)
      : count_(values.size()), lead_(guard_bytes + offset * sizeof(Real)) {
    bytes_.assign(guard_bytes + lead_ + count_ * sizeof(Real) + guard_bytes, fill);
    const auto address = reinterpret_cast<std::uintptr_t>(bytes_.data());
    lead_ += (guard_bytes - address % guard_bytes) % guard_bytes;
    if (count_ != 0) std::memcpy(data(), values.data(), count_ * sizeof(Real));
  }
  guarded(const guarded&) = delete;
  guarded& operator=(const guarded&) = delete;

  Real* data() { return reinterpret_cast<Real*>(bytes_.data() + lead_); }
  std::vector<Real> values() { return std::vector<Real>(data(), data() + count_); }
  bool intact() const {
    const auto is_fill = [](unsigned char byte) { return byte == fill; };
    const auto first = bytes_.begin() + static_cast<std::ptrdiff_t>(lead_);
    const auto last = first + static_cast<std::ptrdiff_t>(count_ * sizeof(Real));
    return std::all_of(bytes_.begin(), first, is_fill) && std::all_of(last, bytes_.end(), is_fill);
  }

 private:
  static constexpr std::size_t guard_bytes = 64;
  static constexpr unsigned char fill = 0xa5;
  std::vector<unsigned char> bytes_;
  std::size_t count_;
  std::size_t lead_;
};

// An array between two pages that may not be touched, flush against the one after it (or before).
template <class Real>
class fenced {
 public:
  fenced(const std::vector<Real>& values, bool at_end) : count_(values.size()) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t used = std::max<std::size_t>(1, (count_ * sizeof(Real) + page - 1) / page);
    bytes_ = (used + 2) * page;
    void* map = mmap(nullptr, bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) std::abort();
    base_ = static_cast<unsigned char*>(map);
    if (mprotect(base_ + page, used * page, PROT_READ | PROT_WRITE) != 0) std::abort();
    unsigned char* start =
        at_end ? base_ + (used + 1) * page - count_ * sizeof(Real) : base_ + page;
    data_ = reinterpret_cast<Real*>(start);
    std::copy(values.begin(), values.end(), data_);
  }
  ~fenced() { munmap(base_, bytes_); }
  fenced(const fenced&) = delete;
  fenced& operator=(const fenced&) = delete;

  Real* data() { return data_; }
  std::vector<Real> values() { return std::vector<Real>(data_, data_ + count_); }
  bool intact() const { return true; }  // a touched fence has already ended the process

 private:
  std::size_t count_, bytes_;
  unsigned char* base_;
  Real* data_;
};

// Runs `body` in a child made by fork(), which then exits normally (atexit handlers included).
// Returns the child's exit code: what body returned, or -signal; an alarm ends a child that hangs.
template <class Body>
int in_child(Body body, unsigned seconds = 30) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    alarm(seconds);
    std::exit(body());
  }
  int state = 0;
  waitpid(child, &state, 0);
  return WIFEXITED(state) ? WEXITSTATUS(state) : -WTERMSIG(state);
}

}  // namespace steepest_test
