// SPDX-License-Identifier: Apache-2.0
// Blocks of narrow storage as floats in the nearest cache, and back.
#pragma once

#include "core/dtype.hpp"
#include "simd/narrow.hpp"

namespace steepest::simd {

// body(p) for an array of which body reads or writes whole registers: on a copy where the array
// ends within one.
template <int64_t Block, class T, class F>
void in_registers(T* array, int64_t count, bool reads, F body) {
  if (count % 16 == 0) return body(array);
  T copy[Block] = {};
  const size_t bytes = static_cast<size_t>(count) % Block * sizeof(T);  // less than a Block
  if (reads) __builtin_memcpy(copy, array, bytes);
  body(static_cast<T*>(copy));
  if (!reads) __builtin_memcpy(array, copy, bytes);
}

// values[count] from the codes of elements first, first + 1, ..., wherever their blocks begin;
// `values` has room for a register more.
template <class Codec, class Level>
void q8_decode_part(const uint8_t* codes, const typename Codec::scale* scales, int64_t first,
                    int64_t count, float* values) {
  constexpr int64_t size = float_lanes<Level>;
  for (int64_t i = 0; i < count;) {
    const int64_t block = (first + i) / Codec::block;
    const int64_t behind = (block + 1) * Codec::block - first;
    const int64_t end = behind < count ? behind : count;
    const float factor = Codec::decode_factor(scales[block]);
    for (; i < end; i += size) {
      const uint8_t* from = codes + first + i;
      uint8_t last[size] = {};
      if (i + size > count) {
        __builtin_memcpy(last, from, static_cast<size_t>(count - i));
        from = last;
      }
      store<Level>(values + i, Codec::decode(lanes_of<Level>::load(from), factor));
    }
    i = end;
  }
}

// Up to Block elements of a buffer: as floats, and the way back.
template <class Level, random_use Use, int64_t Block>
struct stage {
  alignas(64) float copy[Block];
  char* home;
  char* scales;
  steepest_dtype dtype;

  using dynamic = q8_dynamic<Level, Use != random_use::exp_avg_sq>;
  using companded = q8_companded<Level, Use != random_use::exp_avg_sq>;

  float* open(const void* base, steepest_dtype type, const void* all_scales, int64_t begin,
              int64_t count) {
    if (base == nullptr) return nullptr;
    dtype = type;
    if (is_q8(type)) {
      home = const_cast<char*>(static_cast<const char*>(base)) + begin;
      scales = const_cast<char*>(static_cast<const char*>(all_scales)) +
               begin / q8_block(type) * q8_scale_size(type);
      if (type == STEEPEST_Q8_DYNAMIC)
        decode<dynamic>(count);
      else
        decode<companded>(count);
      return copy;
    }
    home = const_cast<char*>(static_cast<const char*>(base)) + begin * dtype_size(type);
    if (type == STEEPEST_F32) return reinterpret_cast<float*>(home);
    if (type == STEEPEST_BF16)
      convert<Level>(reinterpret_cast<const bf16*>(home), copy, count);
    else
      convert<Level>(reinterpret_cast<const f16*>(home), copy, count);
    return copy;
  }

  // `random`: null to round to nearest.
  void close(int64_t count, const random_source* random) {
    if (dtype == STEEPEST_F32) return;
    end_in_zeros(count);
    if (dtype == STEEPEST_Q8_DYNAMIC)
      encode<dynamic>(count, random);
    else if (dtype == STEEPEST_Q8_COMPANDED)
      encode<companded>(count, random);
    else if (dtype == STEEPEST_BF16 && random != nullptr)
      in_registers<Block>(reinterpret_cast<bf16*>(home), count, false,
                          [&](bf16* to) { stochastic_bf16<Level, Use>(copy, to, count, *random); });
    else if (dtype == STEEPEST_BF16)
      convert<Level>(copy, reinterpret_cast<bf16*>(home), count);
    else
      convert<Level>(copy, reinterpret_cast<f16*>(home), count);
  }

 protected:
  // The end of the last register counts for nothing.
  void end_in_zeros(int64_t count) {
    for (int64_t i = count; i % 16 != 0; ++i) copy[i] = 0;
  }

 private:
  template <class Codec>
  void decode(int64_t count) {
    in_registers<Block>(reinterpret_cast<uint8_t*>(home), count, true, [&](const uint8_t* codes) {
      q8_decode<Codec, Level>(codes, reinterpret_cast<const typename Codec::scale*>(scales), copy,
                              count);
    });
  }
  template <class Codec>
  void encode(int64_t count, const random_source* random) {
    in_registers<Block>(reinterpret_cast<uint8_t*>(home), count, false, [&](uint8_t* codes) {
      q8_encode<Codec, Level, Use>(copy, codes, reinterpret_cast<typename Codec::scale*>(scales),
                                   count, random);
    });
  }
};

// The parameter: with its residual, and with the copy that is written beside it. Buffers has the
// fields of the public struct that say where they are.
template <class Level, int64_t Block>
struct param_stage : stage<Level, random_use::param, Block> {
  using base = stage<Level, random_use::param, Block>;
  using base::copy;
  using base::home;

  template <class Buffers>
  float* open(const Buffers& whole, int64_t begin, int64_t count) {
    float* const values = base::open(whole.param, whole.param_dtype, nullptr, begin, count);
    const int32_t kind = whole.residual_kind;
    if (kind == STEEPEST_RESIDUAL_NONE) return values;
    residual = static_cast<char*>(whole.residual) + begin * residual_size(kind);
    if (kind == STEEPEST_RESIDUAL_NEAREST8)
      join(kind, reinterpret_cast<uint8_t*>(residual), count);
    else if (kind != STEEPEST_RESIDUAL_KAHAN)
      join(kind, reinterpret_cast<uint16_t*>(residual), count);
    else if (whole.param_dtype == STEEPEST_BF16)
      add(reinterpret_cast<const bf16*>(residual), count);
    else
      add(reinterpret_cast<const f16*>(residual), count);
    return values;
  }

  template <class Buffers>
  void close(const Buffers& whole, const float* values, int64_t begin, int64_t count,
             const random_source* random) {
    if (whole.param_copy != nullptr) write_copy(whole, values, begin, count);
    put(whole, count, random);
  }

  // The same without the copy.
  template <class Buffers>
  void put(const Buffers& whole, int64_t count, const random_source* random) {
    const int32_t kind = whole.residual_kind;
    if (kind == STEEPEST_RESIDUAL_NONE) return base::close(count, random);
    base::end_in_zeros(count);
    if (kind == STEEPEST_RESIDUAL_NEAREST8)
      split(kind, reinterpret_cast<uint8_t*>(residual), count, random);
    else if (kind != STEEPEST_RESIDUAL_KAHAN)
      split(kind, reinterpret_cast<uint16_t*>(residual), count, nullptr);
    else if (whole.param_dtype == STEEPEST_BF16)
      compensate(reinterpret_cast<bf16*>(home), reinterpret_cast<bf16*>(residual), count);
    else
      compensate(reinterpret_cast<f16*>(home), reinterpret_cast<f16*>(residual), count);
  }

  template <class Buffers>
  static void write_copy(const Buffers& whole, const float* values, int64_t begin, int64_t count) {
    char* const to =
        static_cast<char*>(whole.param_copy) + begin * dtype_size(whole.param_copy_dtype);
    if (whole.param_copy_dtype == STEEPEST_BF16)
      convert<Level>(values, reinterpret_cast<bf16*>(to), count);
    else if (whole.param_copy_dtype == STEEPEST_F16)
      convert<Level>(values, reinterpret_cast<f16*>(to), count);
    else
      __builtin_memcpy(to, values, static_cast<size_t>(count) * sizeof(float));
  }

 private:
  char* residual;

  template <class Low>
  void join(int32_t kind, Low* low, int64_t count) {
    in_registers<Block>(low, count, true, [&](const Low* from) {
      for (int64_t i = 0; i < count; i += float_lanes<Level>)
        store<Level>(copy + i,
                     from_bits<Level>(simd::join<Level>(kind, bits_of<Level>(load<Level>(copy + i)),
                                                        lanes_of<Level>::load(from + i))));
    });
  }
  template <class Low>
  void split(int32_t kind, Low* low, int64_t count, const random_source* random) {
    in_registers<Block>(low, count, false, [&](Low* to) {
      for (int64_t i = 0; i < count; i += float_lanes<Level>) {
        words<Level> bits = {};
        if (random != nullptr)
          bits = random_bits<random_use::param, Level>(
              *random, random_word_at<Level>(*random, counters<Level>(static_cast<uint32_t>(i))));
        const auto parts = simd::split<Level>(kind, load<Level>(copy + i), random != nullptr, bits);
        store<Level>(copy + i, from_bits<Level>(parts.high));
        lanes_of<Level>::store(to + i, parts.low);
      }
    });
    convert<Level>(copy, reinterpret_cast<bf16*>(home), count);
  }

  template <class Half>
  void add(const Half* low, int64_t count) {
    alignas(64) float rest[Block];
    convert<Level>(low, rest, count);
    for (int64_t i = 0; i < count; ++i) copy[i] += rest[i];
  }
  template <class Half>
  void compensate(Half* param, Half* low, int64_t count) {
    alignas(64) float rounded[Block];
    convert<Level>(copy, param, count);
    convert<Level>(param, rounded, count);
    for (int64_t i = 0; i < count; ++i) {
      const float rest = copy[i] - rounded[i];
      copy[i] = __builtin_fabsf(rest) <= __FLT_MAX__ ? rest : 0.0F;
    }
    convert<Level>(copy, low, count);
  }
};

}  // namespace steepest::simd
