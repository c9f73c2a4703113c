// SPDX-License-Identifier: Apache-2.0
// AdamW on storage that has no kernel of its own: blocks of every buffer are brought to f32 in the
// nearest cache, run through the f32 kernel there, and brought back. The arithmetic, and so every
// bit, is that of the f32 kernel between decoding and encoding.
#pragma once

#include "kernels/adamw/kernel.hpp"
#include "simd/narrow.hpp"

namespace steepest {
namespace {

template <class Level, simd::rounding Rounding>
struct staged_adamw {
  using f32_kernel = adamw<all_f32, Level, Rounding>;
  static constexpr int64_t block = flush_interval;
  static_assert(block % 256 == 0, "whole blocks of 8-bit codes");

  static int64_t nonfinite(const adamw_buffers& whole, int64_t begin, int64_t end) {
    const auto count = [&](auto* grad) { return simd::count_nonfinite(grad + begin, end - begin); };
    if (whole.grad_dtype == STEEPEST_F32) return count(static_cast<const float*>(whole.grad));
    if (whole.grad_dtype == STEEPEST_BF16) return count(static_cast<const bf16*>(whole.grad));
    return count(static_cast<const f16*>(whole.grad));
  }

  static int64_t whole_registers(int64_t count) { return (count + 15) / 16 * 16; }

  // One block of one buffer: where the f32 kernel finds it, and how it gets back.
  template <random_use Use>
  struct stage {
    alignas(64) float copy[block];
    char* home;
    char* scales;
    steepest_dtype dtype;

    using dynamic = simd::q8_dynamic<Level, Use != random_use::exp_avg_sq>;
    using companded = simd::q8_companded<Level, Use != random_use::exp_avg_sq>;

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
        simd::convert<Level>(reinterpret_cast<const bf16*>(home), copy, count);
      else
        simd::convert<Level>(reinterpret_cast<const f16*>(home), copy, count);
      return copy;
    }

    // `random`: null to round to nearest.
    void close(int64_t count, const random_source* random) {
      if (dtype == STEEPEST_F32) return;
      // The end of the last register counts for nothing.
      for (int64_t i = count; i < whole_registers(count); ++i) copy[i] = 0;
      if (dtype == STEEPEST_Q8_DYNAMIC)
        encode<dynamic>(count, random);
      else if (dtype == STEEPEST_Q8_COMPANDED)
        encode<companded>(count, random);
      else if (dtype == STEEPEST_BF16 && random != nullptr)
        in_registers(reinterpret_cast<bf16*>(home), count, false, [&](bf16* to) {
          simd::stochastic_bf16<Level, Use>(copy, to, count, *random);
        });
      else if (dtype == STEEPEST_BF16)
        simd::convert<Level>(copy, reinterpret_cast<bf16*>(home), count);
      else
        simd::convert<Level>(copy, reinterpret_cast<f16*>(home), count);
    }

   private:
    template <class Codec>
    void decode(int64_t count) {
      in_registers(reinterpret_cast<uint8_t*>(home), count, true, [&](const uint8_t* codes) {
        simd::q8_decode<Codec, Level>(codes, reinterpret_cast<const typename Codec::scale*>(scales),
                                      copy, count);
      });
    }
    template <class Codec>
    void encode(int64_t count, const random_source* random) {
      in_registers(reinterpret_cast<uint8_t*>(home), count, false, [&](uint8_t* codes) {
        simd::q8_encode<Codec, Level, Use>(
            copy, codes, reinterpret_cast<typename Codec::scale*>(scales), count, random);
      });
    }
  };

  // body(p) for an array of which body reads or writes whole registers: on a copy where the array
  // ends within one.
  template <class T, class F>
  static void in_registers(T* array, int64_t count, bool reads, F body) {
    if (count % 16 == 0) return body(array);
    T copy[block] = {};
    const auto bytes = static_cast<size_t>(count) * sizeof(T);
    if (reads) __builtin_memcpy(copy, array, bytes);
    body(static_cast<T*>(copy));
    if (!reads) __builtin_memcpy(array, copy, bytes);
  }

  // The parameter: with its residual, and with the copy that is written beside it.
  struct param_stage : stage<random_use::param> {
    using base = stage<random_use::param>;
    using base::copy;
    using base::home;

    float* open(const adamw_buffers& whole, int64_t begin, int64_t count) {
      float* const values = base::open(whole.param, whole.param_dtype, nullptr, begin, count);
      const int32_t kind = whole.residual_kind;
      if (kind == STEEPEST_RESIDUAL_NONE) return values;
      residual =
          static_cast<char*>(whole.residual) + begin * (kind == STEEPEST_RESIDUAL_NEAREST8 ? 1 : 2);
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

    void close(const adamw_buffers& whole, const float* values, int64_t begin, int64_t count,
               const random_source* random) {
      if (whole.param_copy != nullptr) write_copy(whole, values, begin, count);
      const int32_t kind = whole.residual_kind;
      if (kind == STEEPEST_RESIDUAL_NONE) return base::close(count, random);
      for (int64_t i = count; i < whole_registers(count); ++i) copy[i] = 0;
      if (kind == STEEPEST_RESIDUAL_NEAREST8)
        split(kind, reinterpret_cast<uint8_t*>(residual), count, random);
      else if (kind != STEEPEST_RESIDUAL_KAHAN)
        split(kind, reinterpret_cast<uint16_t*>(residual), count, nullptr);
      else if (whole.param_dtype == STEEPEST_BF16)
        compensate(reinterpret_cast<bf16*>(home), reinterpret_cast<bf16*>(residual), count);
      else
        compensate(reinterpret_cast<f16*>(home), reinterpret_cast<f16*>(residual), count);
    }

   private:
    char* residual;

    template <class Low>
    void join(int32_t kind, Low* low, int64_t count) {
      in_registers(low, count, true, [&](const Low* from) {
        for (int64_t i = 0; i < count; i += simd::float_lanes<Level>)
          simd::store<Level>(copy + i, simd::from_bits<Level>(simd::join<Level>(
                                           kind, simd::bits_of<Level>(simd::load<Level>(copy + i)),
                                           simd::lanes_of<Level>::load(from + i))));
      });
    }
    template <class Low>
    void split(int32_t kind, Low* low, int64_t count, const random_source* random) {
      in_registers(low, count, false, [&](Low* to) {
        for (int64_t i = 0; i < count; i += simd::float_lanes<Level>) {
          simd::words<Level> bits = {};
          if (random != nullptr)
            bits = simd::random_bits<random_use::param, Level>(
                *random, simd::random_word_at<Level>(
                             *random, simd::counters<Level>(static_cast<uint32_t>(i))));
          const auto parts =
              simd::split<Level>(kind, simd::load<Level>(copy + i), random != nullptr, bits);
          simd::store<Level>(copy + i, simd::from_bits<Level>(parts.high));
          simd::lanes_of<Level>::store(to + i, parts.low);
        }
      });
      simd::convert<Level>(copy, reinterpret_cast<bf16*>(home), count);
    }

    template <class Half>
    void add(const Half* low, int64_t count) {
      alignas(64) float rest[block];
      simd::convert<Level>(low, rest, count);
      for (int64_t i = 0; i < count; ++i) copy[i] += rest[i];
    }
    template <class Half>
    void compensate(Half* param, Half* low, int64_t count) {
      alignas(64) float rounded[block];
      simd::convert<Level>(copy, param, count);
      simd::convert<Level>(param, rounded, count);
      for (int64_t i = 0; i < count; ++i) {
        const float rest = copy[i] - rounded[i];
        copy[i] = __builtin_fabsf(rest) <= __FLT_MAX__ ? rest : 0.0F;
      }
      simd::convert<Level>(copy, low, count);
    }

    static void write_copy(const adamw_buffers& whole, const float* values, int64_t begin,
                           int64_t count) {
      char* const to =
          static_cast<char*>(whole.param_copy) + begin * dtype_size(whole.param_copy_dtype);
      if (whole.param_copy_dtype == STEEPEST_BF16)
        simd::convert<Level>(values, reinterpret_cast<bf16*>(to), count);
      else if (whole.param_copy_dtype == STEEPEST_F16)
        simd::convert<Level>(values, reinterpret_cast<f16*>(to), count);
      else
        __builtin_memcpy(to, values, static_cast<size_t>(count) * sizeof(float));
    }
  };

  STEEPEST_KERNEL static void kernel(const adamw_prepared& prepared, const adamw_buffers& whole,
                                     int64_t begin, int64_t end, adamw_sums* result) {
    const variants flags = variants_of(prepared, whole);
    const bool rounds = (prepared.flags & STEEPEST_ADAMW_STOCHASTIC_ROUNDING) != 0;
    random_source source = random_of(prepared, whole, begin);
    const random_source* const random = rounds ? &source : nullptr;
    typename f32_kernel::sums total;
    param_stage param;
    stage<random_use::param> grad;
    stage<random_use::exp_avg> exp_avg;
    stage<random_use::exp_avg_sq> exp_avg_sq;
    stage<random_use::exp_avg_sq> max_exp_avg_sq;
    for (int64_t i = begin; i < end; i += block) {
      const int64_t count = end - i < block ? end - i : block;
      const typename f32_kernel::buffers b = {
          param.open(whole, i, count),
          grad.open(whole.grad, whole.grad_dtype, nullptr, i, count),
          exp_avg.open(whole.exp_avg, whole.exp_avg_dtype, whole.exp_avg_scales, i, count),
          exp_avg_sq.open(whole.exp_avg_sq, whole.exp_avg_sq_dtype, whole.exp_avg_sq_scales, i,
                          count),
          flags.amsgrad
              ? max_exp_avg_sq.open(whole.max_exp_avg_sq, whole.exp_avg_sq_dtype, nullptr, i, count)
              : nullptr,
          offset(static_cast<char*>(whole.delta), i * dtype_size(whole.delta_dtype))};
      if (result == nullptr)
        f32_kernel::template run<false>(prepared, flags, b, count, total);
      else
        f32_kernel::template run<true>(prepared, flags, b, count, total);
      if (!flags.emit_delta) param.close(whole, b.param, i, count, random);
      exp_avg.close(count, random);
      exp_avg_sq.close(count, random);
      if (flags.amsgrad) max_exp_avg_sq.close(count, nullptr);
      source = random_source_after(source, block);
    }
    if (result == nullptr) return;
    *result = total.total();
    if (!(result->grad <= __DBL_MAX__)) result->nonfinite = nonfinite(whole, begin, end);
  }
};

}  // namespace
}  // namespace steepest
