// SPDX-License-Identifier: Apache-2.0
// Buffers are read and written in their own types, register by register; rows that end within one
// pass through a padded copy.
#pragma once

#include "core/dtype.hpp"
#include "kernels/muon/muon.hpp"
#include "simd/convert.hpp"

namespace steepest {
namespace {

template <class T, class Level, simd::rounding Rounding>
struct muon {
  using vec = simd::vec<T, Level>;
  static constexpr int64_t lanes = 64 / sizeof(T);  // a block of simd::sums
  static constexpr unsigned size = vec::size;
  static constexpr unsigned registers = lanes / size;
  static constexpr int64_t widest = muon_widest;  // columns of a part, at most

  static vec load(const char* row, steepest_dtype dtype, int64_t at) {
    if constexpr (sizeof(T) == 8) {
      return vec::load_unaligned(reinterpret_cast<const double*>(row) + at);
    } else {
      if (dtype == STEEPEST_F32)
        return vec::load_unaligned(reinterpret_cast<const float*>(row) + at);
      if (dtype == STEEPEST_BF16) return simd::load<Level>(reinterpret_cast<const bf16*>(row) + at);
      return simd::load<Level>(reinterpret_cast<const f16*>(row) + at);
    }
  }

  static void store(char* row, steepest_dtype dtype, int64_t at, vec x) {
    if constexpr (sizeof(T) == 8) {
      x.store_unaligned(reinterpret_cast<double*>(row) + at);
    } else {
      if (dtype == STEEPEST_F32)
        x.store_unaligned(reinterpret_cast<float*>(row) + at);
      else if (dtype == STEEPEST_BF16)
        simd::store<Level>(reinterpret_cast<bf16*>(row) + at, x);
      else
        simd::store<Level>(reinterpret_cast<f16*>(row) + at, x);
    }
  }

  // One row of a buffer after the other. What lies behind the end of a copy joins in the
  // arithmetic, and adds nothing to a sum.
  class rows {
   public:
    rows(const void* data, steepest_dtype dtype, int64_t stride, int64_t cols)
        : dtype_(dtype), home_(static_cast<char*>(const_cast<void*>(data))),
          step_(stride * dtype_size(dtype)), bytes_(static_cast<size_t>(cols * dtype_size(dtype))),
          ragged_(cols % lanes != 0) {
      if (ragged_) __builtin_memset(copy_, 0, sizeof copy_);
    }

    void open() {
      if (ragged_) __builtin_memcpy(copy_, home_, bytes_);
    }
    vec operator[](int64_t at) const { return load(row(), dtype_, at); }
    void set(int64_t at, vec x) { store(row(), dtype_, at, x); }
    void close() {
      if (ragged_) __builtin_memcpy(home_, copy_, bytes_);
    }
    void advance() { home_ += step_; }

   private:
    const char* row() const { return ragged_ ? copy_ : home_; }
    char* row() { return ragged_ ? copy_ : home_; }

    const steepest_dtype dtype_;
    char* home_;
    const int64_t step_;
    const size_t bytes_;
    const bool ragged_;
    alignas(64) char copy_[widest * sizeof(T)];
  };

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
    rows g(b.grad, b.grad_dtype, b.grad_stride, part.cols);
    rows m(b.momentum, b.momentum_dtype, b.momentum_stride, part.cols);
    T* to = static_cast<T*>(u);
    for (int64_t row = 0; row < part.rows; ++row, to += part.stride) {
      g.open();
      m.open();
      for (int64_t i = 0; i < part.cols; i += lanes)
        for (unsigned r = 0; r < registers; ++r) {
          const int64_t at = i + r * size;
          const vec grad = factor * g[at];
          const vec momentum = fma(take, grad, keep * m[at]);
          fma(blend_take, grad, blend_keep * momentum).store_unaligned(to + at);
          if (sums != nullptr) {
            grad_sums.template add_squares<Rounding>(grad, r);
            momentum_sums.template add_squares<Rounding>(momentum, r);
          }
        }
      g.advance();
      m.advance();
    }
    if (sums == nullptr) return;
    const double squares = grad_sums.total();
    sums->grad += squares;
    sums->momentum += momentum_sums.total();
    if (squares <= __DBL_MAX__) return;
    rows again(b.grad, b.grad_dtype, b.grad_stride, part.cols);
    for (int64_t row = 0; row < part.rows; ++row, again.advance()) {
      again.open();
      T values[widest];
      for (int64_t at = 0; at < part.cols; at += size) again[at].store_unaligned(values + at);
      sums->nonfinite += simd::count_nonfinite(static_cast<const T*>(values), part.cols);
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
    rows g(b.grad, b.grad_dtype, b.grad_stride, part.cols);
    rows m(b.momentum, b.momentum_dtype, b.momentum_stride, part.cols);
    rows p(b.param, b.param_dtype, b.param_stride, part.cols);
    const bool emits = b.delta != nullptr;
    rows out = emits ? rows(b.delta, b.delta_dtype, b.delta_stride, part.cols) : p;
    const T* direction = static_cast<const T*>(o);
    for (int64_t row = 0; row < part.rows; ++row, direction += part.stride) {
      g.open();
      m.open();
      p.open();
      for (int64_t i = 0; i < part.cols; i += lanes)
        for (unsigned r = 0; r < registers; ++r) {
          const int64_t at = i + r * size;
          m.set(at, fma(take, factor * g[at], keep * m[at]));
          const vec param = p[at];
          const vec step = vec::load_unaligned(direction + at);
          vec decayed = decay * param;
          if (k.cautious_decay) decayed = simd::select(step * param >= zero, decayed, zero);
          const vec change = fma(rate, step, decayed);
          if (param_squares != nullptr) sums.template add_squares<Rounding>(param, r);
          out.set(at, emits ? zero - change : param - change);
        }
      m.close();
      out.close();
      g.advance();
      m.advance();
      p.advance();
      out.advance();
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
