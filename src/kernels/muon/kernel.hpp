// SPDX-License-Identifier: Apache-2.0
// Rows of every buffer are converted to the arithmetic's type in the first-level cache, worked on
// there and converted back, for any mix of storage types. All of it is little beside the n^2 m of
// msign.
#pragma once

#include "core/dtype.hpp"
#include "kernels/muon/muon.hpp"
#include "simd/convert.hpp"

namespace steepest {
namespace {

template <class T, class Level, simd::rounding Rounding>
struct muon {
  using vec = simd::vec<T, Level>;
  static constexpr int64_t widest = 64;  // columns of a part, at most
  static constexpr unsigned size = vec::size;
  static constexpr unsigned registers = 64 / sizeof(T) / size;  // of one block of simd::sums

  // Row `row` of a part.
  static void open(const void* from, steepest_dtype dtype, int64_t stride, int64_t row,
                   int64_t count, T* to) {
    const char* home = static_cast<const char*>(from) + row * stride * dtype_size(dtype);
    if constexpr (sizeof(T) == 8) {
      __builtin_memcpy(to, home, static_cast<size_t>(count) * sizeof(T));
    } else {
      if (dtype == STEEPEST_F32)
        __builtin_memcpy(to, home, static_cast<size_t>(count) * sizeof(T));
      else if (dtype == STEEPEST_BF16)
        simd::convert<Level>(reinterpret_cast<const bf16*>(home), to, count);
      else
        simd::convert<Level>(reinterpret_cast<const f16*>(home), to, count);
    }
    // What lies behind the end joins in the arithmetic, and adds nothing to a sum.
    for (int64_t i = count; i % (64 / static_cast<int64_t>(sizeof(T))) != 0; ++i) to[i] = 0;
  }

  static void close(const T* from, void* to, steepest_dtype dtype, int64_t stride, int64_t row,
                    int64_t count) {
    char* home = static_cast<char*>(to) + row * stride * dtype_size(dtype);
    if constexpr (sizeof(T) == 8) {
      __builtin_memcpy(home, from, static_cast<size_t>(count) * sizeof(T));
    } else {
      if (dtype == STEEPEST_F32)
        __builtin_memcpy(home, from, static_cast<size_t>(count) * sizeof(T));
      else if (dtype == STEEPEST_BF16)
        simd::convert<Level>(from, reinterpret_cast<bf16*>(home), count);
      else
        simd::convert<Level>(from, reinterpret_cast<f16*>(home), count);
    }
  }

  static vec fma(vec a, vec b, vec c) { return simd::fma<Rounding>(a, b, c); }
  static vec all(double x) { return vec(static_cast<T>(x)); }

  STEEPEST_KERNEL static void blend(const muon_constants& k, const muon_buffers& b,
                                    const muon_part& part, void* u, muon_gradient_sums* sums) {
    const vec factor = all(k.grad_factor);
    const vec keep = all(k.momentum_keep);
    const vec take = all(k.momentum_take);
    const vec blend_keep = all(k.blend_keep);
    const vec blend_take = all(k.blend_take);
    simd::sums<Level> grad_sums;
    simd::sums<Level> momentum_sums;
    T g[widest];
    T m[widest];
    for (int64_t row = 0; row < part.rows; ++row) {
      open(b.grad, b.grad_dtype, b.grad_stride, row, part.cols, g);
      open(b.momentum, b.momentum_dtype, b.momentum_stride, row, part.cols, m);
      T* const to = static_cast<T*>(u) + row * part.stride;
      for (int64_t i = 0; i < part.cols; i += registers * size)
        for (unsigned r = 0; r < registers; ++r) {
          const int64_t at = i + r * size;
          const vec grad = factor * vec::load_unaligned(g + at);
          const vec momentum = fma(take, grad, keep * vec::load_unaligned(m + at));
          fma(blend_take, grad, blend_keep * momentum).store_unaligned(to + at);
          if (sums != nullptr) {
            grad_sums.template add_squares<Rounding>(grad, r);
            momentum_sums.template add_squares<Rounding>(momentum, r);
          }
        }
    }
    if (sums == nullptr) return;
    const double squares = grad_sums.total();
    sums->grad += squares;
    sums->momentum += momentum_sums.total();
    if (squares <= __DBL_MAX__) return;
    for (int64_t row = 0; row < part.rows; ++row) {
      open(b.grad, b.grad_dtype, b.grad_stride, row, part.cols, g);
      sums->nonfinite += simd::count_nonfinite(static_cast<const T*>(g), part.cols);
    }
  }

  STEEPEST_KERNEL static void apply(const muon_constants& k, const muon_buffers& b,
                                    const muon_part& part, const void* o, double* param_squares) {
    const vec factor = all(k.grad_factor);
    const vec keep = all(k.momentum_keep);
    const vec take = all(k.momentum_take);
    const vec decay = all(k.decay);
    const vec rate = all(k.rate);
    const vec zero = all(0);
    simd::sums<Level> sums;
    T g[widest];
    T m[widest];
    T p[widest];
    for (int64_t row = 0; row < part.rows; ++row) {
      open(b.grad, b.grad_dtype, b.grad_stride, row, part.cols, g);
      open(b.momentum, b.momentum_dtype, b.momentum_stride, row, part.cols, m);
      open(b.param, b.param_dtype, b.param_stride, row, part.cols, p);
      const T* const direction = static_cast<const T*>(o) + row * part.stride;
      for (int64_t i = 0; i < part.cols; i += registers * size)
        for (unsigned r = 0; r < registers; ++r) {
          const int64_t at = i + r * size;
          const vec grad = factor * vec::load_unaligned(g + at);
          fma(take, grad, keep * vec::load_unaligned(m + at)).store_unaligned(m + at);
          const vec param = vec::load_unaligned(p + at);
          const vec step = vec::load_unaligned(direction + at);
          vec decayed = decay * param;
          if (k.cautious_decay) decayed = simd::select(step * param >= zero, decayed, zero);
          const vec change = fma(rate, step, decayed);
          if (param_squares != nullptr) sums.template add_squares<Rounding>(param, r);
          (b.delta != nullptr ? zero - change : param - change).store_unaligned(p + at);
        }
      close(m, b.momentum, b.momentum_dtype, b.momentum_stride, row, part.cols);
      if (b.delta != nullptr)
        close(p, b.delta, b.delta_dtype, b.delta_stride, row, part.cols);
      else
        close(p, b.param, b.param_dtype, b.param_stride, row, part.cols);
    }
    if (param_squares != nullptr) *param_squares += sums.total();
  }
};

template <class Level, simd::rounding Rounding>
constexpr muon_set make_muon_set() {
  return {{muon<float, Level, Rounding>::blend, muon<float, Level, Rounding>::apply},
          {muon<double, Level, Rounding>::blend, muon<double, Level, Rounding>::apply}};
}

template <class Level, simd::rounding Exact = simd::rounding::fast>
constexpr muon_table make_muon_table() {
  return {make_muon_set<Level, simd::rounding::fast>(), make_muon_set<Level, Exact>()};
}

}  // namespace
}  // namespace steepest
