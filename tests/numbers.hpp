// SPDX-License-Identifier: Apache-2.0
//
// Random numbers, ulps, contexts of every level: what the oracles need. No GoogleTest here, since
// `steepest selftest` runs the oracles too.
#pragma once

#include <steepest/steepest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <numbers>
#include <string>
#include <vector>

namespace steepest_test {

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

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class T>
bool same_bits(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

}  // namespace steepest_test
