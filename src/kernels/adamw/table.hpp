// SPDX-License-Identifier: Apache-2.0
// The table of AdamW kernels of one ISA level.
#pragma once

#include "kernels/adamw/companded.hpp"
#include "kernels/adamw/kernel.hpp"
#include "kernels/adamw/staged.hpp"

namespace steepest {
namespace {

// A kernel of its own for param and grad of type P and both moments of type M, except on a baseline
// CPU, where it takes long to compile and nobody looks for speed. `Exact`: with the same bits on
// every level, so as there; that matters for 16-bit moments, whose own kernel has other constants
// and another order of sums (kernel.hpp).
template <class P, class M, int32_t Residual, bool Stochastic, class Level, simd::rounding Rounding,
          bool Exact>
constexpr adamw_kernel narrow() {
  if constexpr (simd::float_lanes<Level> < 8 || (Exact && sizeof(M) == 2))
    return staged_adamw<Level, Rounding>::kernel;
  else
    return adamw<storage<P, P, M, M, Residual, Stochastic>, Level, Rounding>::kernel;
}

template <class P, class G, class Level, simd::rounding Rounding, bool Exact, bool Stochastic>
constexpr adamw_kernel companded() {
  if constexpr (Exact || simd::float_lanes<Level> < 8)
    return staged_adamw<Level, Rounding>::kernel;
  else
    return companded_adamw<P, G, Level, Stochastic>::kernel;
}

// In the order of adamw_mix (adamw.hpp).
template <class Level, simd::rounding Rounding, bool Exact>
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
      narrow<bf16, float, STEEPEST_RESIDUAL_LOW16, false, Level, Rounding, Exact>(),
      narrow<bf16, float, STEEPEST_RESIDUAL_NEAREST16, false, Level, Rounding, Exact>(),
      narrow<bf16, bf16, STEEPEST_RESIDUAL_NONE, true, Level, Rounding, Exact>(),
      narrow<bf16, float, STEEPEST_RESIDUAL_NONE, true, Level, Rounding, Exact>(),
      companded<float, float, Level, Rounding, Exact, false>(),
      companded<float, bf16, Level, Rounding, Exact, false>(),
      companded<bf16, bf16, Level, Rounding, Exact, false>(),
      companded<float, float, Level, Rounding, Exact, true>(),
      companded<float, bf16, Level, Rounding, Exact, true>(),
      companded<bf16, bf16, Level, Rounding, Exact, true>(),
      staged_adamw<Level, Rounding>::kernel,
  }};
}

template <class Level, simd::rounding Exact = simd::rounding::fast>
constexpr adamw_table make_adamw_table() {
  return {make_adamw_kernels<Level, simd::rounding::fast, false>(),
          make_adamw_kernels<Level, Exact, true>()};
}

}  // namespace
}  // namespace steepest
