// SPDX-License-Identifier: Apache-2.0
// Buffers are read and written in their own types, register by register; rows that end within one
// pass through a padded copy. What is rounded by random bits or has a residual passes through a row
// of floats, and 8-bit codes, whose blocks do not end with the rows, are decoded row by row and
// written in a pass of their own.
#pragma once

#include "core/dtype.hpp"
#include "kernels/muon/muon.hpp"
#include "simd/stage.hpp"

namespace steepest {
namespace {

template <class T, class Level, simd::rounding Rounding>
struct muon {
  using vec = simd::vec<T, Level>;
  static constexpr int64_t lanes = 64 / sizeof(T);  // a block of simd::sums
  static constexpr unsigned size = vec::size;
  static constexpr unsigned registers = lanes / size;
  static constexpr int64_t widest = muon_widest;    // columns of a part, at most
  static constexpr bool is_float = sizeof(T) == 4;  // else nothing is narrow

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
    const bool coded = is_float && is_q8(b.momentum_dtype);
    float decoded[widest + 16];
    rows g(b.grad, b.grad_dtype, b.grad_stride, part.cols);
    rows m = coded ? rows(decoded, STEEPEST_F32, 0, part.cols)
                   : rows(b.momentum, b.momentum_dtype, b.momentum_stride, part.cols);
    T* to = static_cast<T*>(u);
    for (int64_t row = 0; row < part.rows; ++row, to += part.stride) {
      if (coded) decode(b, b.index + row * b.pitch, part.cols, decoded);
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
    const bool emits = b.delta != nullptr;
    const bool coded = is_float && is_q8(b.momentum_dtype);
    // Through a row of floats:
    const bool random_momentum =
        is_float && k.stochastic_rounding && b.momentum_dtype == STEEPEST_BF16;
    const bool copies = is_float && !emits && b.param_copy != nullptr;
    const bool narrow_param = is_float && !emits && b.param_dtype != STEEPEST_F32 &&
                              (copies || b.residual_kind != STEEPEST_RESIDUAL_NONE ||
                               (k.stochastic_rounding && b.param_dtype == STEEPEST_BF16));
    simd::stage<Level, random_use::exp_avg, widest> momentum;
    simd::param_stage<Level, widest> params;
    rows g(b.grad, b.grad_dtype, b.grad_stride, part.cols);
    rows m = random_momentum ? rows(momentum.copy, STEEPEST_F32, 0, part.cols)
                             : rows(b.momentum, b.momentum_dtype, b.momentum_stride, part.cols);
    rows p = narrow_param ? rows(params.copy, STEEPEST_F32, 0, part.cols)
                          : rows(b.param, b.param_dtype, b.param_stride, part.cols);
    rows out = emits ? rows(b.delta, b.delta_dtype, b.delta_stride, part.cols) : p;
    const T* direction = static_cast<const T*>(o);
    for (int64_t row = 0; row < part.rows; ++row, direction += part.stride) {
      if (random_momentum)
        momentum.open(b.momentum, STEEPEST_BF16, nullptr, row * b.momentum_stride, part.cols);
      if (narrow_param) params.open(b, row * b.param_stride, part.cols);
      p.open();
      if (!coded) {
        g.open();
        m.open();
        for (int64_t at = 0; at < part.cols; at += size)
          m.set(at, fma(take, factor * g[at], keep * m[at]));
        m.close();
        g.advance();
        m.advance();
      }
      for (int64_t i = 0; i < part.cols; i += lanes)
        for (unsigned r = 0; r < registers; ++r) {
          const int64_t at = i + r * size;
          const vec param = p[at];
          const vec step = vec::load_unaligned(direction + at);
          vec decayed = decay * param;
          if (k.cautious_decay) decayed = simd::select(step * param >= zero, decayed, zero);
          const vec change = fma(rate, step, decayed);
          if (param_squares != nullptr) sums.template add_squares<Rounding>(param, r);
          out.set(at, emits ? zero - change : param - change);
        }
      out.close();
      if (copies)
        params.write_copy(
            b,
            narrow_param ? params.copy : static_cast<const float*>(b.param) + row * b.param_stride,
            row * b.param_copy_stride, part.cols);
      p.advance();
      out.advance();
      if (!random_momentum && !narrow_param) continue;
      const random_source source = random_of(k, b, b.index + row * b.pitch);
      if (random_momentum) momentum.close(part.cols, &source);
      if (narrow_param) params.put(b, part.cols, k.stochastic_rounding ? &source : nullptr);
    }
    if (param_squares != nullptr) *param_squares += sums.total();
  }

  STEEPEST_KERNEL static void encode(const muon_constants& k, const muon_buffers& b, int64_t begin,
                                     int64_t end) {
    constexpr int64_t block = 512;
    const vec factor = all(k.grad_factor);
    const vec keep = all(k.momentum_keep);
    const vec take = all(k.momentum_take);
    simd::stage<Level, random_use::exp_avg, block> momentum;
    float grad[block] = {};
    for (int64_t i = begin; i < end; i += block) {
      const int64_t count = end - i < block ? end - i : block;
      float* const m = momentum.open(b.momentum, b.momentum_dtype, b.momentum_scales, i, count);
      gather(b, i, count, grad);
      for (int64_t at = 0; at < count; at += size)
        fma(take, factor * vec::load_unaligned(grad + at), keep * vec::load_unaligned(m + at))
            .store_unaligned(m + at);
      const random_source source = random_of(k, b, i);
      momentum.close(count, k.stochastic_rounding ? &source : nullptr);
    }
  }

 private:
  static random_source random_of(const muon_constants& k, const muon_buffers& b, int64_t index) {
    return random_source_of(k.seed, k.step, b.random_stream,
                            static_cast<uint64_t>(b.first_index) + static_cast<uint64_t>(index));
  }

  static void decode(const muon_buffers& b, int64_t first, int64_t count, float* to) {
    const auto* const codes = static_cast<const uint8_t*>(b.momentum);
    if (b.momentum_dtype == STEEPEST_Q8_DYNAMIC)
      simd::q8_decode_part<simd::q8_dynamic<Level, true>, Level>(
          codes, static_cast<const float*>(b.momentum_scales), first, count, to);
    else
      simd::q8_decode_part<simd::q8_companded<Level, true>, Level>(
          codes, static_cast<const scale16*>(b.momentum_scales), first, count, to);
  }

  // Elements first, first + 1, ... of the gradient, row by row.
  static void gather(const muon_buffers& b, int64_t first, int64_t count, float* to) {
    int64_t row = first / b.pitch;
    int64_t col = first % b.pitch;
    while (count > 0) {
      const int64_t n = b.pitch - col < count ? b.pitch - col : count;
      const char* const from =
          static_cast<const char*>(b.grad) + (row * b.grad_stride + col) * dtype_size(b.grad_dtype);
      if (b.grad_dtype == STEEPEST_F32)
        __builtin_memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
      else if (b.grad_dtype == STEEPEST_BF16)
        simd::convert<Level>(reinterpret_cast<const bf16*>(from), to, n);
      else
        simd::convert<Level>(reinterpret_cast<const f16*>(from), to, n);
      to += n;
      count -= n;
      ++row;
      col = 0;
    }
  }
};

template <class Level, simd::rounding Rounding>
constexpr muon_set make_muon_set() {
  using f32 = muon<float, Level, Rounding>;
  using f64 = muon<double, Level, Rounding>;
  return {{f32::blend, f32::apply, f32::encode}, {f64::blend, f64::apply, nullptr}};
}

template <class Level, simd::rounding Exact = simd::rounding::fast>
constexpr muon_table make_muon_table() {
  return {make_muon_set<Level, simd::rounding::fast>(), make_muon_set<Level, Exact>()};
}

}  // namespace
}  // namespace steepest
