// SPDX-License-Identifier: Apache-2.0
// The table of AdamW kernels of one ISA level.
#pragma once

#include "kernels/adamw/kernel.hpp"
#include "kernels/adamw/staged.hpp"

namespace steepest {
namespace {

// In the order of adamw_mix (adamw.hpp).
template <class Level, simd::rounding Rounding>
constexpr adamw_kernels make_adamw_kernels() {
  return {{
      adamw<all_f32, Level, Rounding>::kernel,
      adamw<storage<double, double, double, double>, Level, Rounding>::kernel,
      adamw<storage<float, bf16, float, float>, Level, Rounding>::kernel,
      adamw<storage<float, f16, float, float>, Level, Rounding>::kernel,
      adamw<storage<bf16, bf16, float, float>, Level, Rounding>::kernel,
      adamw<storage<f16, f16, float, float>, Level, Rounding>::kernel,
      adamw<storage<bf16, bf16, bf16, bf16>, Level, Rounding>::kernel,
      adamw<storage<f16, f16, f16, f16>, Level, Rounding>::kernel,
      adamw<storage<bf16, bf16, bf16, float>, Level, Rounding>::kernel,
      adamw<storage<bf16, float, float, float>, Level, Rounding>::kernel,
      adamw<storage<bf16, bf16, float, float, STEEPEST_RESIDUAL_LOW16>, Level, Rounding>::kernel,
      adamw<storage<bf16, bf16, float, float, STEEPEST_RESIDUAL_NEAREST16>, Level,
            Rounding>::kernel,
      adamw<storage<bf16, bf16, bf16, bf16, STEEPEST_RESIDUAL_NONE, true>, Level, Rounding>::kernel,
      adamw<storage<bf16, bf16, float, float, STEEPEST_RESIDUAL_NONE, true>, Level,
            Rounding>::kernel,
      staged_adamw<Level, Rounding>::kernel,
  }};
}

template <class Level, simd::rounding Exact = simd::rounding::fast>
constexpr adamw_table make_adamw_table() {
  return {make_adamw_kernels<Level, simd::rounding::fast>(), make_adamw_kernels<Level, Exact>()};
}

}  // namespace
}  // namespace steepest
