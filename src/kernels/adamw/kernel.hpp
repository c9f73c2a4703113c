// SPDX-License-Identifier: Apache-2.0
// The AdamW kernel, one template for every mix of storage types and every ISA level. It is
// instantiated in generic.cpp, avx2.cpp, ..., each compiled for its level; reference.hpp is the
// same computation as plain scalar code.
//
// Rounding. With u half an ulp of the arithmetic's type, m and v each meet two roundings on either
// term, since every constant is carried as hi + lo:
//   m' = fma(c1_hi, g, fma(beta1_hi, m, small)),  small = c1_lo g + beta1_lo m
// so m is within 2 ulp of beta1 |m| + (1 - beta1) |g| and v within 2 ulp of itself, for any betas
// and any grad_scale. The update uses m and v before they are rounded to a narrower storage type.
#pragma once

#include "core/dtype.hpp"
#include "kernels/adamw/adamw.hpp"
#include "simd/convert.hpp"

namespace steepest {
namespace {

// Elements of one buffer from `i` on, or null for a buffer that is not there.
template <class T>
T* offset(T* base, int64_t i) {
  return base == nullptr ? nullptr : base + i;
}

// std::conditional, which an ISA unit may not use.
template <bool Condition, class Yes, class No>
struct choose {
  using type = Yes;
};
template <class Yes, class No>
struct choose<false, Yes, No> {
  using type = No;
};

// The storage types of param, grad, exp_avg, exp_avg_sq.
template <class P, class G, class M, class V>
struct storage {
  using param = P;
  using grad = G;
  using exp_avg = M;
  using exp_avg_sq = V;
};

using all_f32 = storage<float, float, float, float>;

// What only the rarer flags need is kept out of the plain kernel.
struct variants {
  bool amsgrad, coupled_l2, cautious_decay, emit_delta;
  steepest_dtype delta_dtype;

  bool plain() const { return !(amsgrad || coupled_l2 || cautious_decay || emit_delta); }
};

inline variants variants_of(const adamw_prepared& prepared, const adamw_buffers& buffers) {
  return {(prepared.flags & STEEPEST_ADAMW_AMSGRAD) != 0,
          (prepared.flags & STEEPEST_ADAMW_COUPLED_L2) != 0,
          (prepared.flags & STEEPEST_ADAMW_CAUTIOUS_DECAY) != 0,
          (prepared.flags & STEEPEST_ADAMW_EMIT_DELTA) != 0, buffers.delta_dtype};
}

// Of squares in double for f64; in float for the others, where v has the range of g^2 too.
template <class Level, bool is_f64>
struct running_sums {
  typename choose<is_f64, simd::sums<Level>, simd::float_sums<Level>>::type update, grad, momentum,
      param;

  void flush() {
    if constexpr (!is_f64) {
      update.flush();
      grad.flush();
      momentum.flush();
      param.flush();
    }
  }
  adamw_sums total() const {
    return {update.total(), grad.total(), momentum.total(), param.total(), 0};
  }
};

// Elements between two flushes of the running sums; the blocks of a staged mix are as long.
inline constexpr int64_t flush_interval = 512;

template <class Storage, class Level, simd::rounding Rounding>
struct adamw {
  using P = typename Storage::param;
  using G = typename Storage::grad;
  using M = typename Storage::exp_avg;
  using V = typename Storage::exp_avg_sq;

  static constexpr bool is_f64 = sizeof(P) == 8;
  using T = typename choose<is_f64, double, float>::type;  // of the arithmetic
  using vec = simd::vec<T, Level>;
  using sums = running_sums<Level, is_f64>;

  struct buffers {
    P* param;
    const G* grad;
    M* exp_avg;
    V* exp_avg_sq;
    V* max_exp_avg_sq;
    void* delta;
  };

  static constexpr int64_t lanes = 64 / sizeof(T);  // a block: the same number on every level
  static constexpr int64_t size = vec::size;
  static constexpr unsigned registers = lanes / size;

  static const adamw_constants<T>& constants_of(const adamw_prepared& prepared) {
    if constexpr (is_f64)
      return prepared.f64;
    else
      return prepared.f32;
  }

  static vec fma(vec a, vec b, vec c) { return simd::fma<Rounding>(a, b, c); }

  static void store_delta(void* delta, steepest_dtype dtype, int64_t i, vec value) {
    if constexpr (is_f64) {
      simd::store<Level>(static_cast<double*>(delta) + i, value);
    } else {
      if (dtype == STEEPEST_F32)
        simd::store<Level>(static_cast<float*>(delta) + i, value);
      else if (dtype == STEEPEST_BF16)
        simd::store<Level>(static_cast<bf16*>(delta) + i, value);
      else
        simd::store<Level>(static_cast<f16*>(delta) + i, value);
    }
  }

  // The hardware follows this many streams late or not at all where tensors are short. 96 elements
  // ahead was best of 0 to 4096 on Zen 4, for lists of 4,096 and for a whole GPT-2: there 512 took
  // 12 and 24 % longer. Streams of 16-bit elements it follows better by itself: asked for, they
  // took 8 % longer.
  template <class S>
  static void prefetch(const S* p, int64_t i) {
    if constexpr (sizeof(S) > 2) simd::prefetch(p, i + 96);
  }

  // One register of elements, half done: what needs no root.
  struct moments {
    vec theta, g, m, v;
  };
  template <bool Plain>
  static moments next_moments(const adamw_constants<T>& k, variants flags, const buffers& b,
                              int64_t i) {
    const vec theta = simd::load<Level>(b.param + i);
    const vec m = simd::load<Level>(b.exp_avg + i);
    const vec v = simd::load<Level>(b.exp_avg_sq + i);
    vec g = vec(k.grad_factor) * simd::load<Level>(b.grad + i);
    if (!Plain && flags.coupled_l2) g = fma(vec(k.l2), theta, g);
    return {
        theta, g,
        fma(vec(k.c1_hi), g, fma(vec(k.beta1_hi), m, fma(vec(k.c1_lo), g, vec(k.beta1_lo) * m))),
        fma(vec(k.c2_hi) * g, g,
            fma(vec(k.beta2_hi), v, fma(vec(k.c2_lo) * g, g, vec(k.beta2_lo) * v)))};
  }

  // The other half. `index` is the register's place in the block.
  template <bool Plain, bool Stats>
  static void update(const adamw_constants<T>& k, variants flags, const buffers& b, int64_t i,
                     unsigned index, const moments& next, sums& total) {
    const vec zero(T(0));
    const auto [theta, g, m, v] = next;

    vec v_max = v;
    if (!Plain && flags.amsgrad) {
      const vec largest = simd::load<Level>(b.max_exp_avg_sq + i);
      // Written so that a NaN on either side stays.
      v_max = simd::select((largest >= v) | (largest != largest), largest, v);
      simd::store<Level>(b.max_exp_avg_sq + i, v_max);
    }

    const vec denominator = simd::sqrt(v_max) + vec(k.eps);
    // u = 0 where eps and v are both 0.
    const vec u = simd::select(denominator == zero, zero, simd::divide(m, denominator));

    vec decay = vec(k.decay) * theta;
    if (!Plain && flags.cautious_decay)
      decay =
          simd::select(((u > zero) & (theta < zero)) | ((u < zero) & (theta > zero)), zero, decay);
    const vec change = fma(vec(k.rate), u, decay);
    if (!Plain && flags.emit_delta) {
      simd::store<Level>(b.exp_avg + i, m);
      simd::store<Level>(b.exp_avg_sq + i, v);
      // 0 - x: xsimd's -x has another sign for 0 on some levels
      store_delta(b.delta, flags.delta_dtype, i, zero - change);
    } else {
      simd::store<Level>(b.exp_avg + i, m, b.exp_avg_sq + i, v, b.param + i, theta - change);
    }

    if constexpr (Stats) {
      total.update.template add_squares<Rounding>(u, index);
      total.grad.template add_squares<Rounding>(g, index);
      total.momentum.template add_squares<Rounding>(m, index);
      total.param.template add_squares<Rounding>(theta, index);
    }
  }

  template <bool Plain, bool Stats>
  static void loop(const adamw_constants<T>& k, variants flags, const buffers& b, int64_t count,
                   sums& total) {
    const int64_t whole = count / lanes * lanes;
    moments next = {};
    if (whole > 0) next = next_moments<Plain>(k, flags, b, 0);
    for (int64_t i = 0; i < whole; i += lanes) {
      prefetch(b.param, i);
      prefetch(b.grad, i);
      prefetch(b.exp_avg, i);
      prefetch(b.exp_avg_sq, i);
      if (!Plain && flags.amsgrad) prefetch(b.max_exp_avg_sq, i);
      for (unsigned r = 0; r < registers; ++r) {
        // One register ahead: independent of the root and quotient that this one waits for.
        const int64_t at = i + r * size;
        const int64_t ahead = at + size < whole ? at + size : at;
        const moments now = next;
        next = next_moments<Plain>(k, flags, b, ahead);
        update<Plain, Stats>(k, flags, b, at, r, now, total);
      }
      if (Stats && (i + lanes) % flush_interval == 0) total.flush();
    }
    if (whole == count) {
      if (Stats) total.flush();
      return;
    }
    // The tail runs through the same code on a copy, padded with zeros, for which u and every sum
    // are zero: the same bits as inside a vector, and nothing outside the buffers is touched.
    P param[lanes] = {};
    G grad[lanes] = {};
    M exp_avg[lanes] = {};
    V exp_avg_sq[lanes] = {};
    V max_exp_avg_sq[lanes] = {};
    T delta[lanes] = {};
    const buffers tail = {param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, delta};
    const auto n = static_cast<size_t>(count - whole);
    __builtin_memcpy(param, b.param + whole, n * sizeof(P));
    __builtin_memcpy(grad, b.grad + whole, n * sizeof(G));
    __builtin_memcpy(exp_avg, b.exp_avg + whole, n * sizeof(M));
    __builtin_memcpy(exp_avg_sq, b.exp_avg_sq + whole, n * sizeof(V));
    if (!Plain && flags.amsgrad)
      __builtin_memcpy(max_exp_avg_sq, b.max_exp_avg_sq + whole, n * sizeof(V));
    for (unsigned r = 0; r < registers; ++r) {
      const int64_t at = r * size;
      update<Plain, Stats>(k, flags, tail, at, r, next_moments<Plain>(k, flags, tail, at), total);
    }
    if (Stats) total.flush();
    __builtin_memcpy(b.exp_avg + whole, exp_avg, n * sizeof(M));
    __builtin_memcpy(b.exp_avg_sq + whole, exp_avg_sq, n * sizeof(V));
    if (!Plain && flags.amsgrad)
      __builtin_memcpy(b.max_exp_avg_sq + whole, max_exp_avg_sq, n * sizeof(V));
    if (!Plain && flags.emit_delta) {
      const auto bytes = static_cast<size_t>(dtype_size(flags.delta_dtype));
      __builtin_memcpy(static_cast<char*>(b.delta) + static_cast<size_t>(whole) * bytes, delta,
                       n * bytes);
    } else {
      __builtin_memcpy(b.param + whole, param, n * sizeof(P));
    }
  }

  template <bool Stats>
  static void run(const adamw_prepared& prepared, variants flags, const buffers& b, int64_t count,
                  sums& total) {
    // A copy: the stores of the loop cannot change it, so it stays in registers.
    const adamw_constants<T> k = constants_of(prepared);
    if (flags.plain())
      loop<true, Stats>(k, flags, b, count, total);
    else
      loop<false, Stats>(k, flags, b, count, total);
  }

  STEEPEST_KERNEL static void kernel(const adamw_prepared& prepared, const adamw_buffers& whole,
                                     int64_t begin, int64_t end, adamw_sums* result) {
    const auto delta_offset = static_cast<size_t>(begin * dtype_size(whole.delta_dtype));
    const buffers b = {static_cast<P*>(whole.param) + begin,
                       static_cast<const G*>(whole.grad) + begin,
                       static_cast<M*>(whole.exp_avg) + begin,
                       static_cast<V*>(whole.exp_avg_sq) + begin,
                       offset(static_cast<V*>(whole.max_exp_avg_sq), begin),
                       offset(static_cast<char*>(whole.delta), static_cast<int64_t>(delta_offset))};
    const variants flags = variants_of(prepared, whole);
    sums total;
    if (result == nullptr) return run<false>(prepared, flags, b, end - begin, total);
    run<true>(prepared, flags, b, end - begin, total);
    *result = total.total();
    // A finite sum has nothing to count.
    if (!(result->grad <= __DBL_MAX__))
      result->nonfinite = simd::count_nonfinite(b.grad, end - begin);
  }
};

// The mixes that have no kernel of their own: blocks are converted to f32 in the first-level cache,
// run through the f32 kernel and converted back. Arithmetic, and so every bit, is the same.
template <class Level, simd::rounding Rounding>
struct staged_adamw {
  using f32_kernel = adamw<all_f32, Level, Rounding>;
  static constexpr int64_t block = flush_interval;

  static int64_t nonfinite(const adamw_buffers& whole, int64_t begin, int64_t end) {
    const auto count = [&](auto* grad) { return simd::count_nonfinite(grad + begin, end - begin); };
    if (whole.grad_dtype == STEEPEST_F32) return count(static_cast<const float*>(whole.grad));
    if (whole.grad_dtype == STEEPEST_BF16) return count(static_cast<const bf16*>(whole.grad));
    return count(static_cast<const f16*>(whole.grad));
  }

  // One block of one buffer: where the f32 kernel finds it, and how it gets back.
  struct stage {
    float copy[block];
    char* home;
    steepest_dtype dtype;

    float* open(const void* base, steepest_dtype type, int64_t begin, int64_t count) {
      if (base == nullptr) return nullptr;
      dtype = type;
      home = const_cast<char*>(static_cast<const char*>(base)) + begin * dtype_size(type);
      if (type == STEEPEST_F32) return reinterpret_cast<float*>(home);
      if (type == STEEPEST_BF16)
        simd::convert<Level>(reinterpret_cast<const bf16*>(home), copy, count);
      else
        simd::convert<Level>(reinterpret_cast<const f16*>(home), copy, count);
      return copy;
    }
    void close(int64_t count) {
      if (dtype == STEEPEST_BF16)
        simd::convert<Level>(copy, reinterpret_cast<bf16*>(home), count);
      else if (dtype == STEEPEST_F16)
        simd::convert<Level>(copy, reinterpret_cast<f16*>(home), count);
    }
  };

  STEEPEST_KERNEL static void kernel(const adamw_prepared& prepared, const adamw_buffers& whole,
                                     int64_t begin, int64_t end, adamw_sums* result) {
    const variants flags = variants_of(prepared, whole);
    typename f32_kernel::sums total;
    stage param;
    stage grad;
    stage exp_avg;
    stage exp_avg_sq;
    stage max_exp_avg_sq;
    for (int64_t i = begin; i < end; i += block) {
      const int64_t count = end - i < block ? end - i : block;
      const typename f32_kernel::buffers b = {
          param.open(whole.param, whole.param_dtype, i, count),
          grad.open(whole.grad, whole.grad_dtype, i, count),
          exp_avg.open(whole.exp_avg, whole.exp_avg_dtype, i, count),
          exp_avg_sq.open(whole.exp_avg_sq, whole.exp_avg_sq_dtype, i, count),
          flags.amsgrad
              ? max_exp_avg_sq.open(whole.max_exp_avg_sq, whole.exp_avg_sq_dtype, i, count)
              : nullptr,
          offset(static_cast<char*>(whole.delta), i * dtype_size(whole.delta_dtype))};
      if (result == nullptr)
        f32_kernel::template run<false>(prepared, flags, b, count, total);
      else
        f32_kernel::template run<true>(prepared, flags, b, count, total);
      if (!flags.emit_delta) param.close(count);
      exp_avg.close(count);
      exp_avg_sq.close(count);
      if (flags.amsgrad) max_exp_avg_sq.close(count);
    }
    if (result == nullptr) return;
    *result = total.total();
    if (!(result->grad <= __DBL_MAX__)) result->nonfinite = nonfinite(whole, begin, end);
  }
};

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
      staged_adamw<Level, Rounding>::kernel,
  }};
}

template <class Level, simd::rounding Exact = simd::rounding::fast>
constexpr adamw_table make_adamw_table() {
  return {make_adamw_kernels<Level, simd::rounding::fast>(), make_adamw_kernels<Level, Exact>()};
}

}  // namespace
}  // namespace steepest
