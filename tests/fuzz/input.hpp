// SPDX-License-Identifier: Apache-2.0
//
// The bytes of a fuzzer's input as the choices that a target makes. Past their end every choice is
// the first, so that an input may be cut anywhere; first choices are the ordinary ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>

#include "numbers.hpp"

namespace steepest_fuzz {

class choices {
 public:
  choices(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size) {}

  bool at_end() const { return at_ == end_; }
  std::size_t left() const { return static_cast<std::size_t>(end_ - at_); }

  // The next bytes as they are, zeros past the end.
  template <class T>
  T raw() {
    T value = {};
    const std::size_t size = left() < sizeof(T) ? left() : sizeof(T);
    if (size > 0) std::memcpy(&value, at_, size);
    at_ += size;
    return value;
  }
  std::int64_t below(std::int64_t n) {
    const std::uint64_t bits = n <= 256 ? raw<std::uint8_t>() : raw<std::uint32_t>();
    return static_cast<std::int64_t>(bits % static_cast<std::uint64_t>(n));
  }
  bool even_chance() { return (raw<std::uint8_t>() & 1) != 0; }
  // Once in `n` times, n <= 256; not past the end.
  bool rarely(std::int64_t n) { return below(n) == n - 1; }
  template <class T>
  T of(std::initializer_list<T> values) {
    return values.begin()[below(static_cast<std::int64_t>(values.size()))];
  }

  // Mostly one of the ordinary values; else from anywhere.
  double number(std::initializer_list<double> ordinary) {
    if (!rarely(8)) return of(ordinary);
    if (even_chance()) return raw<double>();
    using limits = std::numeric_limits<double>;
    return of({0.0,
               -0.0,
               1.0,
               -1.0,
               0.5,
               1e-3,
               1e3,
               0.9999999999999999,
               1e-8,
               1e30,
               1e39,
               1e200,
               -1e-300,
               limits::max(),
               limits::min(),
               limits::denorm_min(),
               limits::infinity(),
               -limits::infinity(),
               limits::quiet_NaN(),
               limits::epsilon()});
  }
  std::int64_t integer(std::initializer_list<std::int64_t> ordinary) {
    if (!rarely(8)) return of(ordinary);
    if (even_chance()) return raw<std::int64_t>();
    return wild_size();
  }
  // Sizes that no memory has, or near what fits in so many bits.
  std::int64_t wild_size() {
    const std::int64_t base = std::int64_t{1} << below(63);
    switch (below(4)) {
      case 0: return -base;
      case 1: return base;
      case 2: return INT64_MAX - below(300);
      default: return INT64_MAX / of<std::int64_t>({2, 3, 4, 8, 16, 64}) + below(3);
    }
  }

 private:
  const std::uint8_t* at_;
  const std::uint8_t* end_;
};

// A storage type's number of bits after the point, and its size in bytes.
struct number_format {
  int fraction_bits, bytes;
};
inline number_format format_of(steepest_dtype dtype) {
  switch (dtype) {
    case STEEPEST_F64: return {52, 8};
    case STEEPEST_BF16: return {7, 2};
    case STEEPEST_F16: return {10, 2};
    case STEEPEST_F32: return {23, 4};
    default: return {0, 1};
  }
}
inline std::int64_t size_of(steepest_dtype dtype) { return format_of(dtype).bytes; }

// Numbers to fill a buffer with.
enum class content { moderate, zero, special, any_bits, input };

inline content some_content(choices& input) {
  return input.of({content::moderate, content::moderate, content::moderate, content::zero,
                   content::special, content::any_bits, content::input});
}

// `count` numbers of a type. moderate: magnitudes from 2^-7 to 4, of either sign unless `positive`.
inline void fill(choices& input, content kind, void* data, std::int64_t count, steepest_dtype dtype,
                 bool positive = false) {
  const auto [fraction_bits, bytes] = format_of(dtype);
  const int exponent_bits = 8 * bytes - 1 - fraction_bits;
  const std::uint64_t sign = std::uint64_t{1} << (8 * bytes - 1);
  const std::uint64_t one =
      bytes == 1 ? 1 : ((std::uint64_t{1} << (exponent_bits - 1)) - 1) << fraction_bits;
  const std::uint64_t least_normal = std::uint64_t{1} << fraction_bits;
  const std::uint64_t infinity =
      bytes == 1 ? 127 : ((std::uint64_t{1} << exponent_bits) - 1) << fraction_bits;
  const std::uint64_t specials[] = {0,
                                    one,
                                    1,
                                    least_normal - 1,
                                    least_normal,
                                    infinity - 1,
                                    infinity,
                                    infinity | 1,
                                    infinity | least_normal >> 1,
                                    infinity | (least_normal - 1)};
  steepest_test::random_source random(kind == content::zero ? 0 : input.raw<std::uint16_t>());
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint64_t bits = random.bits();
    if (kind == content::moderate && bytes > 1) {
      const std::uint64_t fraction = bits & (least_normal - 1);
      const std::uint64_t exponent = (one >> fraction_bits) + (bits >> 56) % 9 - 7;
      bits = (bits >> 40 & 1) * sign | exponent << fraction_bits | fraction;
    } else if (kind == content::special) {
      bits = specials[bits % std::size(specials)] | (bits >> 40 & 1) * sign;
    } else if (kind == content::input) {
      bits = input.raw<std::uint64_t>();
      // One pattern is enough for a long buffer.
      if (input.at_end()) bits += random.bits();
    } else if (kind == content::zero) {
      bits = 0;
    }
    if (positive && kind == content::moderate) bits &= ~sign;
    std::memcpy(static_cast<std::uint8_t*>(data) + i * bytes, &bits,
                static_cast<std::size_t>(bytes));
  }
}

}  // namespace steepest_fuzz
