// SPDX-License-Identifier: Apache-2.0
// AdamW on storage that has no kernel of its own: blocks of every buffer are brought to f32 in the
// nearest cache, run through the f32 kernel there, and brought back. The arithmetic, and so every
// bit, is that of the f32 kernel between decoding and encoding.
#pragma once

#include "kernels/adamw/kernel.hpp"
#include "simd/stage.hpp"

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

  template <random_use Use>
  using stage = simd::stage<Level, Use, block>;
  using param_stage = simd::param_stage<Level, block>;

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
