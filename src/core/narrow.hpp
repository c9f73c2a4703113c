// SPDX-License-Identifier: Apache-2.0
// The rules of narrow storage that are the same on every ISA level: random numbers by counter, the
// scales of 8-bit blocks, and the spacing of their codes.
#pragma once

#include <cstdint>

#include "steepest/steepest.h"

namespace steepest {

// ---- random numbers: word(key, i) for element i, and a second word made from the first

// What the words of elements index, index + 1, ... are made of. `after` stands in for `add` once
// the lower half of the index has wrapped.
struct random_source {
  uint32_t base;
  uint32_t add, after, mix, second;
};

// Steele, Lea & Flood's splitmix64 finaliser (constants of Stafford's mix 13).
constexpr uint64_t scramble(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9U;
  x = (x ^ x >> 27) * 0x94d049bb133111ebU;
  return x ^ x >> 31;
}

constexpr random_source random_source_of(uint64_t seed, int64_t step, uint64_t stream,
                                         uint64_t index) {
  constexpr uint64_t golden = 0x9e3779b97f4a7c15U;
  uint64_t state = scramble(seed + golden);
  state = scramble(state + golden + static_cast<uint64_t>(step));
  state = scramble(state + golden + stream);
  const uint64_t upper = index >> 32;
  return {static_cast<uint32_t>(index), static_cast<uint32_t>(scramble(state + upper * golden)),
          static_cast<uint32_t>(scramble(state + (upper + 1) * golden)),
          static_cast<uint32_t>(scramble(~state)), static_cast<uint32_t>(scramble(~state) >> 32)};
}

// The same, `count` elements on. (A second wrap would need 2^32 of them.)
constexpr random_source random_source_after(random_source source, int64_t elements) {
  const auto count = static_cast<uint32_t>(elements);
  source.base += count;
  if (source.base < count) source.add = source.after;
  return source;
}

// The multipliers and shifts of random_word: Wellons's hash-prospector, the best of its search for
// a 32-bit mixer.
inline constexpr uint32_t random_first = 0x21f0aaadU;
inline constexpr uint32_t random_middle = 0x735a2d97U;
inline constexpr uint32_t random_last = 0xc2b2ae35U;

// Of element base + i, i < 2^32.
constexpr uint32_t random_word(const random_source& source, uint32_t i) {
  const uint32_t counter = source.base + i;
  uint32_t x = counter + (counter < source.base ? source.after : source.add);
  x = (x ^ x >> 16) * random_first;
  x = (x ^ x >> 15 ^ source.mix) * random_middle;
  return x ^ x >> 15;
}
constexpr uint32_t random_second_word(const random_source& source, uint32_t word) {
  return (word ^ source.second) * random_last;
}

// Which 16 bits of the two words round what: the lower half of the first is for the parameter, the
// upper for the first moment, the upper half of the second for the second moment.
enum class random_use { param, exp_avg, exp_avg_sq };

// ---- 8-bit blocks

constexpr bool is_q8(steepest_dtype dtype) {
  return dtype == STEEPEST_Q8_DYNAMIC || dtype == STEEPEST_Q8_COMPANDED;
}
constexpr int64_t q8_block(steepest_dtype dtype) { return dtype == STEEPEST_Q8_DYNAMIC ? 256 : 32; }
constexpr int64_t q8_scale_size(steepest_dtype dtype) {
  return dtype == STEEPEST_Q8_DYNAMIC ? 4 : 2;
}
constexpr int64_t q8_blocks(steepest_dtype dtype, int64_t count) {
  const int64_t block = q8_block(dtype);
  return count / block + (count % block != 0);
}

// In bytes, of any kind but NONE.
constexpr int64_t residual_size(int32_t kind) { return kind == STEEPEST_RESIDUAL_NEAREST8 ? 1 : 2; }

// A scale of 16 bits: no sign, 6 bits of exponent, 10 of fraction, with the precision of f16 but
// from 2^-40 to 2^24. 0 is zero and 65535 NaN. (f16 itself ends at 6e-8, and loses precision from
// 6e-5 down, where the gradients of large models are.)
struct scale16 {
  uint16_t bits;
};
inline constexpr uint32_t scale16_offset = (127U - 40U) << 10;

constexpr float to_float(scale16 x) {
  if (x.bits == 0) return 0.0F;
  if (x.bits == 0xffff) return __builtin_nanf("");
  return __builtin_bit_cast(float, (x.bits + scale16_offset) << 13);
}
// To nearest even, or up; larger than all becomes the largest.
constexpr scale16 to_scale16(float x, bool up = false) {
  const auto bits = __builtin_bit_cast(uint32_t, x);
  if (bits >= 0x7f800000U) return {0xffff};
  const uint32_t rounded = (bits + (up ? 0x1fffU : 0xfffU + (bits >> 13 & 1U))) >> 13;
  if (rounded <= scale16_offset) return {0};
  const uint32_t code = rounded - scale16_offset;
  return {static_cast<uint16_t>(code < 0xfffeU ? code : 0xfffeU)};
}

// The numbers of Q8_DYNAMIC. Decade i = 0 .. 6 holds count = 2^i of them, or 2^(i+1) without sign:
//   10^(i-6) (0.1 + 0.9 (f + 1/2) / count),   f = 0 .. count - 1
// and 0 and 1 come to them. Number them n: count + f in a decade; 0 is n = 0 (without sign 1), 1 is
// n = 128 (without sign 256). The code is 127 +- n, without sign n - 1.
//
// They are computed as step f + base in float: within 1.5 ulp of the formula, within 2 of the
// table that bitsandbytes computes in float, and the same wherever it is computed.
struct q8_map {
  // By the lowest three bits of the exponent field of n, for decoding: slope (n / 2^e - 1) + base.
  // 0 goes in as 3/4 (without sign 3/2), so that it and 1 differ: see simd/narrow.hpp.
  alignas(32) float base[8], slope[8];
  // By region, for encoding: 0 holds the zero, i + 1 decade i.
  alignas(32) float region_base[8], region_step[8], region_inverse[8], region_count[8];
  alignas(32) float nearest_from[8];  // the least value that belongs to the region; [0] not used
  alignas(32) float first[8];         // the region's least number
  float one_from;                     // the least value that is nearest to 1
  // nearest_from and first by binade, for the lowest five bits of the exponent field: in 2^-31 and
  // above each holds one threshold at most. The region at its beginning, and where the next begins.
  alignas(64) float nearest_next[32], first_next[32];
  alignas(64) uint32_t nearest_region[32], first_region[32];
  bool is_signed;
};

namespace q8_detail {
static constexpr double powers[] = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0};

constexpr float at_least(double x) {
  const auto nearest = static_cast<float>(x);
  return static_cast<double>(nearest) >= x
             ? nearest
             : __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, nearest) + 1);
}

constexpr void spread(const float* from, float begin, uint32_t& region, float& next) {
  region = 0;
  while (region < 7 && from[region + 1] <= begin) ++region;
  next = region < 7 ? from[region + 1] : __builtin_inff();
}

constexpr q8_map make_map(bool is_signed) {
  q8_map map = {};
  map.is_signed = is_signed;
  const int shift = is_signed ? 7 : 0;  // of the exponent field's lowest three bits
  double last = 0;
  for (int i = 0; i < 7; ++i) {
    const int count = is_signed ? 1 << i : 2 << i;
    const auto base = static_cast<float>(powers[i] * (0.1 + 0.45 / count));
    const auto slope = static_cast<float>(powers[i] * 0.9);
    map.base[(i + shift) % 8] = base;
    map.slope[(i + shift) % 8] = slope;
    map.region_base[i + 1] = base;
    map.region_step[i + 1] = slope / static_cast<float>(count);
    map.region_inverse[i + 1] = static_cast<float>(count / (powers[i] * 0.9));
    map.region_count[i + 1] = static_cast<float>(count);
    map.nearest_from[i + 1] = at_least((last + static_cast<double>(base)) / 2);
    map.first[i + 1] = base;
    last = static_cast<double>(map.region_step[i + 1] * static_cast<float>(count - 1) + base);
  }
  map.base[(7 + shift) % 8] = 1.0F;
  map.slope[(7 + shift) % 8] = -2.0F;
  map.region_count[0] = is_signed ? 0.0F : 1.0F;
  map.one_from = at_least((last + 1.0) / 2);
  for (int i = 0; i < 32; ++i) {
    // 2^-31 to 1, by the exponent field 96 to 127.
    const auto begin = __builtin_bit_cast(float, static_cast<uint32_t>(96 + i) << 23);
    spread(map.nearest_from, begin, map.nearest_region[i], map.nearest_next[i]);
    spread(map.first, begin, map.first_region[i], map.first_next[i]);
  }
  return map;
}
}  // namespace q8_detail

// Each unit has its own copy: a shared one would be a weak symbol in the units of ISA levels.
static constexpr q8_map q8_signed_map = q8_detail::make_map(true);
static constexpr q8_map q8_unsigned_map = q8_detail::make_map(false);

}  // namespace steepest
