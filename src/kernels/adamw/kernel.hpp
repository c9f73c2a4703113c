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
// Moments that are stored in 16 bits do without the lo parts (docs/decisions/0007): g^2 is exact
// for a 16-bit g, and what the constants' rounding adds is far below the storage's.
#pragma once

#include "core/dtype.hpp"
#include "kernels/adamw/adamw.hpp"
#include "simd/narrow.hpp"

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

template <class T>
constexpr bool is_bf16 = false;
template <>
constexpr bool is_bf16<bf16> = true;

// The storage types of param, grad, exp_avg, exp_avg_sq; the residual of a bf16 param, and whether
// what is stored as bf16 is rounded stochastically. With either the loops are plain ones only.
template <class P, class G, class M, class V, int32_t Residual = STEEPEST_RESIDUAL_NONE,
          bool Stochastic = false>
struct storage {
  using param = P;
  using grad = G;
  using exp_avg = M;
  using exp_avg_sq = V;
  static constexpr int32_t residual = Residual;
  static constexpr bool stochastic = Stochastic;
};

using all_f32 = storage<float, float, float, float>;

// What a loop is compiled for. Plain: without what only the rarer flags need, and with eps > 0.
// Unit: a grad_factor of 1, which a kernel that is bound by its multiplications need not apply.
template <bool Plain, bool Unit, bool Stats>
struct loop_kind {
  static constexpr bool plain = Plain, unit = Unit, stats = Stats;
};

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

inline random_source random_of(const adamw_prepared& prepared, const adamw_buffers& whole,
                               int64_t begin) {
  return random_source_of(prepared.seed, prepared.step, whole.random_stream,
                          static_cast<uint64_t>(whole.first_index) + static_cast<uint64_t>(begin));
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
  static constexpr bool all_bf16 = is_bf16<P> && is_bf16<G> && is_bf16<M> && is_bf16<V>;
  static constexpr int32_t residual_kind = Storage::residual;
  static constexpr bool has_residual = residual_kind != STEEPEST_RESIDUAL_NONE;
  static constexpr bool stochastic = Storage::stochastic;
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
    uint16_t* residual = nullptr;
    random_source random = {};  // its base is element 0
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

  // Kernels that do without the lo parts of the constants.
  template <class Kind>
  static constexpr bool short_m = Kind::plain && sizeof(M) == 2;
  template <class Kind>
  static constexpr bool short_v = Kind::plain && sizeof(V) == 2 && sizeof(G) == 2;

  // One register of elements, half done.
  struct half {
    vec theta, m, v;
    vec denominator;  // in plain kernels; the others form it when they know v_max
  };
  // `index`: the register's place in its block.
  template <class Kind>
  static half begin(const adamw_constants<T>& k, variants flags, unsigned index, sums& total,
                    vec theta, vec grad, vec m, vec v) {
    vec g = grad;
    if constexpr (!Kind::unit) g = vec(k.grad_factor) * g;
    if (!Kind::plain && flags.coupled_l2) g = fma(vec(k.l2), theta, g);
    if constexpr (short_m<Kind>)
      m = fma(vec(k.c1), g, vec(k.beta1) * m);
    else
      m = fma(vec(k.c1_hi), g, fma(vec(k.beta1_hi), m, fma(vec(k.c1_lo), g, vec(k.beta1_lo) * m)));
    if constexpr (short_v<Kind>) {
      const vec g_squared = g * g;
      v = fma(vec(k.c2), g_squared, vec(k.beta2) * v);
      // It is exact: the same bits as from add_squares.
      if constexpr (Kind::stats) total.grad.add(g_squared, index);
    } else {
      if constexpr (Kind::stats) total.grad.template add_squares<Rounding>(g, index);
      v = fma(vec(k.c2_hi) * g, g,
              fma(vec(k.beta2_hi), v, fma(vec(k.c2_lo) * g, g, vec(k.beta2_lo) * v)));
    }
    if constexpr (Kind::stats) {
      total.momentum.template add_squares<Rounding>(m, index);
      total.param.template add_squares<Rounding>(theta, index);
    }
    if constexpr (Kind::plain)
      return {theta, m, v, simd::sqrt(v) + vec(k.eps)};
    else
      return {theta, m, v, v};
  }

  // The other half: what theta loses.
  template <class Kind>
  static vec change_of(const adamw_constants<T>& k, variants flags, const half& x, vec denominator,
                       unsigned index, sums& total) {
    const vec zero(T(0));
    vec u = simd::divide(x.m, denominator);
    // u = 0 where eps and v are both 0. Plain kernels have eps > 0.
    if constexpr (!Kind::plain) u = simd::select(denominator == zero, zero, u);

    vec decay = vec(k.decay) * x.theta;
    if (!Kind::plain && flags.cautious_decay)
      decay = simd::select(((u > zero) & (x.theta < zero)) | ((u < zero) & (x.theta > zero)), zero,
                           decay);
    if constexpr (Kind::stats) total.update.template add_squares<Rounding>(u, index);
    return fma(vec(k.rate), u, decay);
  }

  static vec load_theta(const buffers& b, int64_t i) {
    const vec high = simd::load<Level>(b.param + i);
    if constexpr (has_residual)
      return simd::from_bits<Level>(simd::join<Level>(residual_kind, simd::bits_of<Level>(high),
                                                      simd::lanes_of<Level>::load(b.residual + i)));
    else
      return high;
  }

  static void store_all(const buffers& b, int64_t i, vec m, vec v, vec theta) {
    if constexpr (stochastic) {
      const auto word =
          simd::random_word_at<Level>(b.random, simd::counters<Level>(static_cast<uint32_t>(i)));
      const auto rounded = [&]<random_use Use, class S>(S*, vec x) {
        if constexpr (is_bf16<S>)
          return simd::stochastic_bf16<Level>(x, simd::random_bits<Use, Level>(b.random, word));
        else
          return x;
      };
      m = rounded.template operator()<random_use::exp_avg>(b.exp_avg, m);
      v = rounded.template operator()<random_use::exp_avg_sq>(b.exp_avg_sq, v);
      theta = rounded.template operator()<random_use::param>(b.param, theta);
    }
    if constexpr (has_residual) {
      const auto parts = simd::split<Level>(residual_kind, theta, false, simd::words<Level>{});
      simd::store<Level>(b.exp_avg + i, m);
      simd::store<Level>(b.exp_avg_sq + i, v);
      simd::lanes_of<Level>::store(reinterpret_cast<uint16_t*>(b.param + i), parts.high >> 16);
      simd::lanes_of<Level>::store(b.residual + i, parts.low);
    } else {
      simd::store<Level>(b.exp_avg + i, m, b.exp_avg_sq + i, v, b.param + i, theta);
    }
  }

  // A step of the loop, over the elements from `i` on: one register, which is number `index` of its
  // block.
  template <class Kind>
  struct single {
    static constexpr int64_t size = vec::size;
    half x;

    static single begin(const adamw_constants<T>& k, variants flags, const buffers& b, int64_t i,
                        unsigned index, sums& total) {
      using simd::load;
      return {adamw::begin<Kind>(k, flags, index, total, load_theta(b, i), load<Level>(b.grad + i),
                                 load<Level>(b.exp_avg + i), load<Level>(b.exp_avg_sq + i))};
    }
    void finish(const adamw_constants<T>& k, variants flags, const buffers& b, int64_t i,
                unsigned index, sums& total) const {
      vec denominator = x.denominator;
      if constexpr (!Kind::plain) {
        vec v_max = x.v;
        if (flags.amsgrad) {
          const vec largest = simd::load<Level>(b.max_exp_avg_sq + i);
          // Written so that a NaN on either side stays; to xsimd no NaN is != another with AVX.
          v_max = simd::select((largest >= x.v) | ~(largest == largest), largest, x.v);
          simd::store<Level>(b.max_exp_avg_sq + i, v_max);
        }
        denominator = simd::sqrt(v_max) + vec(k.eps);
      }
      const vec change = change_of<Kind>(k, flags, x, denominator, index, total);
      if (!Kind::plain && flags.emit_delta) {
        simd::store<Level>(b.exp_avg + i, x.m);
        simd::store<Level>(b.exp_avg_sq + i, x.v);
        // 0 - x: xsimd's -x has another sign for 0 on some levels
        store_delta(b.delta, flags.delta_dtype, i, vec(T(0)) - change);
      } else {
        store_all(b, i, x.m, x.v, x.theta - change);
      }
    }
  };

  // For bf16 throughout: two registers, of the elements with even and with odd index, which a
  // shift and a mask widen and narrow instead of a shuffle.
  template <class Kind>
  struct even_and_odd {
    static constexpr int64_t size = 2 * vec::size;
    half even, odd;

    static even_and_odd begin(const adamw_constants<T>& k, variants flags, const buffers& b,
                              int64_t i, unsigned index, sums& total) {
      using simd::load_even;
      using simd::load_odd;
      return {adamw::begin<Kind>(k, flags, index, total, load_even<Level>(b.param + i),
                                 load_even<Level>(b.grad + i), load_even<Level>(b.exp_avg + i),
                                 load_even<Level>(b.exp_avg_sq + i)),
              adamw::begin<Kind>(k, flags, index, total, load_odd<Level>(b.param + i),
                                 load_odd<Level>(b.grad + i), load_odd<Level>(b.exp_avg + i),
                                 load_odd<Level>(b.exp_avg_sq + i))};
    }
    void finish(const adamw_constants<T>& k, variants flags, const buffers& b, int64_t i,
                unsigned index, sums& total) const {
      const vec of_even = change_of<Kind>(k, flags, even, even.denominator, index, total);
      const vec of_odd = change_of<Kind>(k, flags, odd, odd.denominator, index, total);
      if constexpr (stochastic)
        simd::store_in_turn<Level>(b.random, i, b.exp_avg + i, even.m, odd.m, b.exp_avg_sq + i,
                                   even.v, odd.v, b.param + i, even.theta - of_even,
                                   odd.theta - of_odd);
      else
        simd::store_in_turn<Level>(b.exp_avg + i, even.m, odd.m, b.exp_avg_sq + i, even.v, odd.v,
                                   b.param + i, even.theta - of_even, odd.theta - of_odd);
    }
  };

  template <class Kind>
  using step_of =
      typename choose<(Kind::plain && all_bf16), even_and_odd<Kind>, single<Kind>>::type;

  template <class Kind>
  static void loop(const adamw_constants<T>& k, variants flags, const buffers& b, int64_t count,
                   sums& total) {
    using step = step_of<Kind>;
    constexpr int64_t block = registers * step::size;
    const int64_t whole = count / block * block;
    for (int64_t i = 0; i < whole; i += flush_interval) {
      const int64_t end = i + flush_interval < whole ? i + flush_interval : whole;
      // Each step begins before the one before it ends: it is independent of the quotients that
      // that one waits for.
      step next = step::begin(k, flags, b, i, 0, total);
      for (int64_t at = i; at < end; at += block) {
        prefetch(b.param, at);
        prefetch(b.grad, at);
        prefetch(b.exp_avg, at);
        prefetch(b.exp_avg_sq, at);
        if (!Kind::plain && flags.amsgrad) prefetch(b.max_exp_avg_sq, at);
        for (unsigned r = 0; r < registers; ++r) {
          const int64_t here = at + r * step::size;
          const step now = next;
          if (r + 1 < registers || here + step::size < end)
            next = step::begin(k, flags, b, here + step::size, (r + 1) % registers, total);
          now.finish(k, flags, b, here, r, total);
        }
      }
      if (Kind::stats) total.flush();
    }
    if (whole == count) return;
    // The tail runs through the same code on a copy, padded with zeros, for which u and every sum
    // are zero: the same bits as inside a vector, and nothing outside the buffers is touched.
    P param[block] = {};
    G grad[block] = {};
    M exp_avg[block] = {};
    V exp_avg_sq[block] = {};
    V max_exp_avg_sq[block] = {};
    T delta[block] = {};
    uint16_t residual[block] = {};
    const buffers tail = {param,          grad,  exp_avg,  exp_avg_sq,
                          max_exp_avg_sq, delta, residual, random_source_after(b.random, whole)};
    const auto n = static_cast<size_t>(count - whole);
    __builtin_memcpy(param, b.param + whole, n * sizeof(P));
    if constexpr (has_residual)
      __builtin_memcpy(residual, b.residual + whole, n * sizeof(uint16_t));
    __builtin_memcpy(grad, b.grad + whole, n * sizeof(G));
    __builtin_memcpy(exp_avg, b.exp_avg + whole, n * sizeof(M));
    __builtin_memcpy(exp_avg_sq, b.exp_avg_sq + whole, n * sizeof(V));
    if (!Kind::plain && flags.amsgrad)
      __builtin_memcpy(max_exp_avg_sq, b.max_exp_avg_sq + whole, n * sizeof(V));
    for (unsigned r = 0; r < registers; ++r)
      step::begin(k, flags, tail, r * step::size, r, total)
          .finish(k, flags, tail, r * step::size, r, total);
    if (Kind::stats) total.flush();
    __builtin_memcpy(b.exp_avg + whole, exp_avg, n * sizeof(M));
    __builtin_memcpy(b.exp_avg_sq + whole, exp_avg_sq, n * sizeof(V));
    if (!Kind::plain && flags.amsgrad)
      __builtin_memcpy(b.max_exp_avg_sq + whole, max_exp_avg_sq, n * sizeof(V));
    if (!Kind::plain && flags.emit_delta) {
      const auto bytes = static_cast<size_t>(dtype_size(flags.delta_dtype));
      __builtin_memcpy(static_cast<char*>(b.delta) + static_cast<size_t>(whole) * bytes, delta,
                       n * bytes);
    } else {
      __builtin_memcpy(b.param + whole, param, n * sizeof(P));
      if constexpr (has_residual)
        __builtin_memcpy(b.residual + whole, residual, n * sizeof(uint16_t));
    }
  }

  template <bool Stats>
  static void run(const adamw_prepared& prepared, variants flags, const buffers& b, int64_t count,
                  sums& total) {
    // A copy: the stores of the loop cannot change it, so it stays in registers.
    const adamw_constants<T> k = constants_of(prepared);
    if constexpr (!has_residual && !stochastic)
      if (!flags.plain() || !(k.eps > T(0)))
        return loop<loop_kind<false, false, Stats>>(k, flags, b, count, total);
    if constexpr (all_bf16)
      if (k.grad_factor == 1) return loop<loop_kind<true, true, Stats>>(k, flags, b, count, total);
    loop<loop_kind<true, false, Stats>>(k, flags, b, count, total);
  }

  STEEPEST_KERNEL static void kernel(const adamw_prepared& prepared, const adamw_buffers& whole,
                                     int64_t begin, int64_t end, adamw_sums* result) {
    const auto delta_offset = static_cast<size_t>(begin * dtype_size(whole.delta_dtype));
    const buffers b = {static_cast<P*>(whole.param) + begin,
                       static_cast<const G*>(whole.grad) + begin,
                       static_cast<M*>(whole.exp_avg) + begin,
                       static_cast<V*>(whole.exp_avg_sq) + begin,
                       offset(static_cast<V*>(whole.max_exp_avg_sq), begin),
                       offset(static_cast<char*>(whole.delta), static_cast<int64_t>(delta_offset)),
                       offset(static_cast<uint16_t*>(whole.residual), begin),
                       random_of(prepared, whole, begin)};
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

}  // namespace
}  // namespace steepest
