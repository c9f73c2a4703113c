// SPDX-License-Identifier: Apache-2.0
// The AdamW kernel, one template for every type and ISA level. It is instantiated in generic.cpp,
// avx2.cpp, avx512.cpp, each compiled for its level; reference.hpp is the same computation as plain
// scalar code.
//
// Rounding. With u half an ulp of the arithmetic's type, m and v each meet two roundings on either
// term, since every constant is carried as hi + lo:
//   m' = fma(c1_hi, g, fma(beta1_hi, m, small)),  small = c1_lo g + beta1_lo m
// so m is within 2 ulp of beta1 |m| + (1 - beta1) |g| and v within 2 ulp of itself, for any betas and
// any grad_scale.
#pragma once

#include "kernels/adamw/adamw.hpp"
#include "simd/simd.hpp"

namespace steepest {
namespace {

template <class T, class Level, simd::rounding Rounding>
struct adamw {
  using vec = simd::vec<T, Level>;

  // What only the rarer flags need is kept out of the plain kernel.
  struct variants {
    bool amsgrad, coupled_l2, cautious_decay, emit_delta;
  };

  struct buffers {
    T* param;
    const T* grad;
    T* exp_avg;
    T* exp_avg_sq;
    T* max_exp_avg_sq;
    T* delta;
  };

  struct running_sums {
    simd::sums<Level> update, grad, momentum, param;
  };

  static constexpr int64_t lanes = 64 / sizeof(T);  // a block: the same number on every level
  static constexpr unsigned registers = lanes / vec::size;

  static vec fma(vec a, vec b, vec c) { return simd::fma<Rounding>(a, b, c); }

  template <bool Plain, bool Stats>
  static void update(const adamw_constants<T>& k, variants flags, const buffers& b, int64_t i,
                     unsigned index, running_sums& sums) {
    const vec theta = simd::load<Level>(b.param + i);
    vec m = simd::load<Level>(b.exp_avg + i);
    vec v = simd::load<Level>(b.exp_avg_sq + i);
    vec g = vec(k.grad_factor) * simd::load<Level>(b.grad + i);
    if (!Plain && flags.coupled_l2) g = fma(vec(k.l2), theta, g);

    m = fma(vec(k.c1_hi), g, fma(vec(k.beta1_hi), m, fma(vec(k.c1_lo), g, vec(k.beta1_lo) * m)));
    v = fma(vec(k.c2_hi) * g, g,
            fma(vec(k.beta2_hi), v, fma(vec(k.c2_lo) * g, g, vec(k.beta2_lo) * v)));
    simd::store(b.exp_avg + i, m);
    simd::store(b.exp_avg_sq + i, v);

    vec v_max = v;
    if (!Plain && flags.amsgrad) {
      const vec largest = simd::load<Level>(b.max_exp_avg_sq + i);
      // Written so that a NaN on either side stays.
      v_max = simd::select((largest >= v) | (largest != largest), largest, v);
      simd::store(b.max_exp_avg_sq + i, v_max);
    }

    const vec denominator = simd::sqrt(v_max) + vec(k.eps);
    // u = 0 where eps and v are both 0.
    const vec u = simd::select(denominator == vec(T(0)), vec(T(0)), m / denominator);

    vec decay = vec(k.decay) * theta;
    if (!Plain && flags.cautious_decay) {
      const vec zero(T(0));
      decay = simd::select(((u > zero) & (theta < zero)) | ((u < zero) & (theta > zero)), zero, decay);
    }
    const vec change = fma(vec(k.rate), u, decay);
    if (!Plain && flags.emit_delta)
      simd::store(b.delta + i, -change);
    else
      simd::store(b.param + i, theta - change);

    if constexpr (Stats) {
      sums.update.template add_squares<Rounding>(u, index);
      sums.grad.template add_squares<Rounding>(g, index);
      sums.momentum.template add_squares<Rounding>(m, index);
      sums.param.template add_squares<Rounding>(theta, index);
    }
  }

  template <bool Plain, bool Stats>
  static void loop(const adamw_constants<T>& k, variants flags, const buffers& b, int64_t count,
                   adamw_sums* result) {
    running_sums sums;
    const int64_t whole = count / lanes * lanes;
    for (int64_t i = 0; i < whole; i += lanes)
      for (unsigned r = 0; r < registers; ++r)
        update<Plain, Stats>(k, flags, b, i + r * vec::size, r, sums);
    if (whole < count) {
      // The tail runs through the same code on a copy, padded with zeros, for which u and every sum
      // are zero: the same bits as inside a vector, and nothing outside the buffers is touched.
      T copy[6][lanes] = {};
      const auto bytes = static_cast<size_t>(count - whole) * sizeof(T);
      const buffers tail = {copy[0], copy[1], copy[2], copy[3], copy[4], copy[5]};
      __builtin_memcpy(copy[0], b.param + whole, bytes);
      __builtin_memcpy(copy[1], b.grad + whole, bytes);
      __builtin_memcpy(copy[2], b.exp_avg + whole, bytes);
      __builtin_memcpy(copy[3], b.exp_avg_sq + whole, bytes);
      if (!Plain && flags.amsgrad) __builtin_memcpy(copy[4], b.max_exp_avg_sq + whole, bytes);
      for (unsigned r = 0; r < registers; ++r)
        update<Plain, Stats>(k, flags, tail, r * vec::size, r, sums);
      __builtin_memcpy(b.exp_avg + whole, copy[2], bytes);
      __builtin_memcpy(b.exp_avg_sq + whole, copy[3], bytes);
      if (!Plain && flags.amsgrad) __builtin_memcpy(b.max_exp_avg_sq + whole, copy[4], bytes);
      if (!Plain && flags.emit_delta)
        __builtin_memcpy(b.delta + whole, copy[5], bytes);
      else
        __builtin_memcpy(b.param + whole, copy[0], bytes);
    }
    if constexpr (Stats) {
      *result = {sums.update.total(), sums.grad.total(), sums.momentum.total(), sums.param.total(), 0};
      // Squares of finite floats cannot overflow a double, so a finite sum has nothing to count.
      if (!(result->grad <= __DBL_MAX__))
        for (int64_t i = 0; i < count; ++i)
          result->nonfinite += !(__builtin_fabs(static_cast<double>(b.grad[i])) <= __DBL_MAX__);
    }
  }

  [[gnu::flatten]] static void kernel(const adamw_prepared& prepared, const adamw_buffers& whole,
                                      int64_t begin, int64_t end, adamw_sums* sums) {
    const auto& k = [&]() -> const adamw_constants<T>& {
      if constexpr (sizeof(T) == 4)
        return prepared.f32;
      else
        return prepared.f64;
    }();
    const variants flags = {(prepared.flags & STEEPEST_ADAMW_AMSGRAD) != 0,
                            (prepared.flags & STEEPEST_ADAMW_COUPLED_L2) != 0,
                            (prepared.flags & STEEPEST_ADAMW_CAUTIOUS_DECAY) != 0,
                            (prepared.flags & STEEPEST_ADAMW_EMIT_DELTA) != 0};
    const auto at = [&](auto* base) { return base == nullptr ? nullptr : static_cast<T*>(base) + begin; };
    const buffers b = {at(whole.param),
                       static_cast<const T*>(whole.grad) + begin,
                       at(whole.exp_avg),
                       at(whole.exp_avg_sq),
                       at(whole.max_exp_avg_sq),
                       at(whole.delta)};
    const int64_t count = end - begin;
    const bool plain =
        !(flags.amsgrad || flags.coupled_l2 || flags.cautious_decay || flags.emit_delta);
    if (plain && sums == nullptr)
      loop<true, false>(k, flags, b, count, sums);
    else if (plain)
      loop<true, true>(k, flags, b, count, sums);
    else if (sums == nullptr)
      loop<false, false>(k, flags, b, count, sums);
    else
      loop<false, true>(k, flags, b, count, sums);
  }
};

template <class Level, simd::rounding Exact = simd::rounding::fast>
constexpr adamw_table make_adamw_table() {
  using simd::rounding;
  return {{adamw<float, Level, rounding::fast>::kernel, adamw<double, Level, rounding::fast>::kernel},
          {adamw<float, Level, Exact>::kernel, adamw<double, Level, Exact>::kernel}};
}

}  // namespace
}  // namespace steepest
