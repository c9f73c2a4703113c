// SPDX-License-Identifier: Apache-2.0
//
// What all tests share: random numbers, ulps, contexts, buffers with guards, child processes.
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

namespace steepest_test {

// Set by `./dev test --long`: the exhaustive form of a test instead of the quick one.
inline bool long_run() {
  const char* value = std::getenv("STEEPEST_TEST_LONG");
  return value != nullptr && std::string(value) == "1";
}

#define EXPECT_OK(call) EXPECT_EQ((call), STEEPEST_OK) << steepest_last_error()
#define ASSERT_OK(call) ASSERT_EQ((call), STEEPEST_OK) << steepest_last_error()

// splitmix64: the same numbers on every platform, unlike the standard library's distributions.
class random_source {
 public:
  explicit random_source(std::uint64_t seed) : state_(seed) {}

  std::uint64_t bits() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  std::int64_t below(std::int64_t n) {
    return static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(n));
  }
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  double normal() {
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }
  // A value of either sign with a magnitude spread evenly over the exponents [low, high).
  template <class Real>
  Real wide(int low, int high) {
    const double mantissa = (1 + uniform()) * ((bits() & 1) != 0 ? 1 : -1);
    const auto exponent = low + static_cast<int>(below(high - low));
    return static_cast<Real>(std::ldexp(mantissa, exponent));
  }

 private:
  std::uint64_t state_;
};

template <class Real>
inline constexpr steepest_dtype dtype_of = sizeof(Real) == 4 ? STEEPEST_F32 : STEEPEST_F64;

template <class Real>
inline const char* type_name() {
  return sizeof(Real) == 4 ? "f32" : "f64";
}

// The distance between neighbouring numbers of type Real at x.
template <class Real>
long double ulp(long double x) {
  constexpr int lowest = std::numeric_limits<Real>::min_exponent - 1;
  const int exponent = x == 0 ? lowest : std::max(std::ilogb(x), lowest);
  return std::ldexp(1.0L, exponent - (std::numeric_limits<Real>::digits - 1));
}

struct context_deleter {
  void operator()(steepest_context* context) const { steepest_context_destroy(context); }
};
using context_pointer = std::unique_ptr<steepest_context, context_deleter>;

struct context_request {
  steepest_isa max_isa = STEEPEST_ISA_AUTO;
  std::int32_t threads = 1;
  std::uint64_t flags = 0;
  const steepest_executor* executor = nullptr;
  const steepest_allocator* allocator = nullptr;
};

// Null, with last_error set, where the library refuses.
inline context_pointer try_context(const context_request& request) {
  steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
  options.flags = request.flags;
  options.num_threads = request.executor != nullptr ? 0 : request.threads;
  options.max_isa = request.max_isa;
  options.executor = request.executor;
  options.allocator = request.allocator;
  steepest_context* context = nullptr;
  steepest_context_create(&options, &context);
  return context_pointer(context);
}

inline context_pointer make_context(const context_request& request = {}) {
  context_pointer context = try_context(request);
  EXPECT_NE(context, nullptr) << steepest_last_error();
  return context;
}

// Every level that this CPU and this build have, lowest first.
inline const std::vector<steepest_isa>& levels() {
  static const std::vector<steepest_isa> available = [] {
    std::vector<steepest_isa> found;
    for (steepest_isa isa = STEEPEST_ISA_GENERIC; isa <= STEEPEST_ISA_ARM64_NEON; ++isa) {
      if (try_context({.max_isa = isa}) != nullptr) found.push_back(isa);
    }
    return found;
  }();
  return available;
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

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class T>
bool same_bits(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

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
