// SPDX-License-Identifier: Apache-2.0
//
// Random calls of every public function. A call is drawn from a seed alone, and by the library's
// contract so are its results: any context of the same level, whatever its threads, executor and
// allocator, must leave the same digest. What else must hold is checked within; a `violation` is
// thrown where it does not.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <stdexcept>

#include "numbers.hpp"

namespace soak {

using steepest_test::random_source;

struct violation : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The call was refused for want of memory and has left everything as it was.
struct out_of_memory {};

[[gnu::format(printf, 2, 3)]] inline void require(bool holds, const char* format, ...) {
  if (holds) return;
  char text[400];
  std::va_list values;
  va_start(values, format);
  std::vsnprintf(text, sizeof(text), format, values);
  va_end(values);
  throw violation(text);
}

// Of every byte that a call has written (FNV-1a, in words).
class digest {
 public:
  void add(const void* data, std::size_t bytes) {
    const auto* from = static_cast<const unsigned char*>(data);
    for (; bytes >= 8; bytes -= 8, from += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, from, 8);
      mix(word);
    }
    for (; bytes > 0; --bytes) mix(*from++);
  }
  template <class T>
  void add(const std::vector<T>& values) {
    add(values.data(), values.size() * sizeof(T));
  }
  std::uint64_t value() const { return state_; }

 private:
  void mix(std::uint64_t word) {
    state_ = (state_ ^ word) * 0x100000001b3;
    state_ ^= state_ >> 29;
  }
  std::uint64_t state_ = 0xcbf29ce484222325;
};

// An array of `count` values of one storage type, and its scales where that has some.
struct array {
  steepest_dtype dtype = STEEPEST_F32;
  std::vector<unsigned char> data, scales;

  array() = default;
  array(steepest_dtype type, const std::vector<double>& values, bool is_signed = true);
  void add_to(digest& d) const {
    d.add(data);
    d.add(scales);
  }
};
std::size_t size_of(steepest_dtype dtype);
double value_at(const array& a, std::size_t i);

std::vector<double> normal_values(random_source& random, std::size_t count, double deviation);

// Ok, or out of memory (thrown) where the context's allocator refuses now and then.
void check(steepest_status status);

// One kind of call. `bits`: its results are the same on every context of a level.
struct call {
  const char* name;
  bool bits;
  void (*run)(random_source& random, steepest_context* context, digest& results);
};

void adamw_call(random_source&, steepest_context*, digest&);
void adamw_skipped_call(random_source&, steepest_context*, digest&);
void adamw_abandoned_call(random_source&, steepest_context*, digest&);
void norm_call(random_source&, steepest_context*, digest&);
void q8_call(random_source&, steepest_context*, digest&);
void msign_call(random_source&, steepest_context*, digest&);
void batched_call(random_source&, steepest_context*, digest&);
void muon_call(random_source&, steepest_context*, digest&);
void svd_call(random_source&, steepest_context*, digest&);
void singular_call(random_source&, steepest_context*, digest&);
void schedule_call(random_source&, steepest_context*, digest&);
void formula_call(random_source&, steepest_context*, digest&);
void refused_call(random_source&, steepest_context*, digest&);

inline constexpr call calls[] = {
    {"adamw_step, adamw_chunk", true, adamw_call},
    {"adamw_step, skipped", true, adamw_skipped_call},
    {"adamw_end, abandoned", true, adamw_abandoned_call},
    {"grad_norm, rms", true, norm_call},
    {"q8_encode, q8_decode", true, q8_call},
    {"msign", true, msign_call},
    {"msign_batched", true, batched_call},
    {"muon_step", true, muon_call},
    {"msign by SVD", false, svd_call},
    {"singular values, norms, entropy", false, singular_call},
    {"schedules", true, schedule_call},
    {"formulas", true, formula_call},
    {"refused calls", true, refused_call},
};
inline constexpr std::size_t call_kinds = std::size(calls);

}  // namespace soak
