// SPDX-License-Identifier: Apache-2.0
// AdamW with both moments as Q8_COMPANDED, in two passes over blocks of 16 groups: the first
// decodes, steps and leaves m and sqrt(v) as floats in the nearest cache, with the largest of each
// group; the second encodes them with the scales that follow. The bits differ from those of the
// staged kernel in the last places only: quotients whose result is a code or comes from one are by
// approximation and one Newton step, and the second moment's code is of the root that the update
// uses.
#pragma once

#include "kernels/adamw/kernel.hpp"

namespace steepest {
namespace {

template <class P, class G, class Level, bool Stochastic>
struct companded_adamw {
  static constexpr int64_t block = flush_interval;
  static constexpr int64_t group = 32;
  static constexpr int64_t groups = block / group;
  static constexpr int64_t size = simd::float_lanes<Level>;
  static constexpr unsigned registers = 16 / size;
  static_assert(groups == 16);

  using vec = simd::vec<float, Level>;
  using V = simd::floats<Level>;
  using I = simd::ints<Level>;
  using W = simd::words<Level>;
  using sums = running_sums<Level, false>;
  // One lane per group.
  using group_floats = simd::raw_vector<float, groups>;
  using group_words = simd::raw_vector<uint32_t, groups>;
  using group_halves = simd::raw_vector<uint16_t, groups>;

  struct buffers {
    P* param;
    const G* grad;
    uint8_t* m;
    uint8_t* v;
    scale16* m_scales;
    scale16* v_scales;
    random_source random;
  };

  static constexpr float magic = 0x1.8p23F;  // x + magic has x to nearest in its lowest bits

  static V all(float x) { return simd::plain<Level>(vec(x)); }
  static V fma(V a, V b, V c) {
    return simd::plain<Level>(simd::fma<simd::rounding::fast>(
        simd::as_vec<Level>(a), simd::as_vec<Level>(b), simd::as_vec<Level>(c)));
  }
  static V load(const float* p) { return simd::plain<Level>(simd::load<Level>(p)); }
  static void store(float* p, V x) { simd::store<Level>(p, simd::as_vec<Level>(x)); }

  static void load_scales(const scale16* scales, float* to, float factor) {
    group_halves halves;
    __builtin_memcpy(&halves, scales, sizeof halves);
    const group_words code = __builtin_convertvector(halves, group_words);
    group_words bits = (code + scale16_offset) << 13;
    bits = code == 0U ? group_words{} : bits;
    bits = code == 0xffffU ? group_words{} + 0x7fc00000U : bits;
    const group_floats product = reinterpret_cast<group_floats>(bits) * factor;
    __builtin_memcpy(to, &product, sizeof product);
  }

  // to_scale16 on one lane per group (upwards where values are rounded by chance), and what becomes
  // of it. False where it had to be lowered to the largest scale.
  static bool store_scales(const uint32_t* of, scale16* scales, float* to) {
    group_words largest;
    __builtin_memcpy(&largest, of, sizeof largest);
    const group_words bias = Stochastic ? group_words{} + 0x1fffU : (largest >> 13 & 1U) + 0xfffU;
    const group_words rounded = (largest + bias) >> 13;
    group_words code = rounded <= scale16_offset ? group_words{} : rounded - scale16_offset;
    code = largest >= 0x7f800000U ? group_words{} + 0xffffU : code;
    const group_words capped = code < 0xfffeU ? code : group_words{} + 0xfffeU;
    const group_words stored = largest >= 0x7f800000U ? code : capped;
    const group_halves halves = __builtin_convertvector(stored, group_halves);
    __builtin_memcpy(scales, &halves, sizeof halves);
    const group_words bits = stored == 0U ? group_words{} : (stored + scale16_offset) << 13;
    __builtin_memcpy(to, &bits, sizeof bits);
    const group_words over = code ^ stored;
    uint64_t any[sizeof over / 8];
    __builtin_memcpy(any, &over, sizeof over);
    uint64_t all_bits = 0;
    for (const uint64_t x : any) all_bits |= x;
    return all_bits == 0;
  }

  struct scratch {
    alignas(64) float m[block];
    alignas(64) float root[block];
    alignas(64) uint32_t largest_m[groups * size];
    alignas(64) uint32_t largest_root[groups * size];
    // By group: to decode with, and to encode with.
    alignas(64) float m_factor[groups];
    alignas(64) float v_factor[groups];
    alignas(64) float m_base[groups];
    alignas(64) float v_inverse[groups];
    bool in_range;
  };

  struct constants {
    float c1, c2, beta1, root_beta2, eps, rate, decay;
    float unit;  // 1, or the sign and power of two in c1
  };

  template <bool Stats, class Sum>
  static void add(Sum& sum, V x, unsigned index) {
    if constexpr (Stats)
      sum.template add_squares<simd::rounding::fast>(simd::as_vec<Level>(x), index);
  }

  // m and root of one register, left in `s`.
  template <bool Stats>
  static void moments(const constants& k, const buffers& b, int64_t e, int64_t i, unsigned index,
                      vec gradient, scratch& s, V m_factor, V v_factor, W& largest_m,
                      W& largest_root, sums& total) {
    const V g = simd::plain<Level>(gradient);
    const V q = __builtin_convertvector(
        reinterpret_cast<I>(simd::lanes_of<Level>::load_signed(b.m + e)), V);
    const V ratio = q * simd::reciprocal<Level>(254.0F - simd::magnitude<Level>(q));
    const V m = fma(ratio, m_factor, all(k.c1) * g);
    const V old_root =
        __builtin_convertvector(reinterpret_cast<I>(simd::lanes_of<Level>::load(b.v + e)), V) *
        v_factor;
    const V v = fma(all(k.c2) * g, g, old_root * old_root);
    const V root = simd::plain<Level>(simd::sqrt(simd::as_vec<Level>(v)));
    store(s.m + i, m);
    store(s.root + i, root);
    // As bits, among which NaN is larger than all. The root's has a sign if it is NaN at most.
    largest_m = simd::larger(largest_m, reinterpret_cast<W>(simd::magnitude<Level>(m)));
    largest_root = simd::larger(largest_root, reinterpret_cast<W>(root));
    add<Stats>(total.grad, g * k.unit, index);
    add<Stats>(total.momentum, m, index);
  }

  // The new moments of group j.
  template <bool Stats>
  static void begin_group(const constants& k, const buffers& b, int64_t at, int64_t j, scratch& s,
                          sums& total) {
    const V m_factor = all(s.m_factor[j]);
    const V v_factor = all(s.v_factor[j]);
    W largest_m = {};
    W largest_root = {};
#pragma GCC unroll 2
    for (int64_t r = 0; r < group / size; r += 2) {
      const int64_t i = j * group + r * size;
      const int64_t e = at + i;
      const simd::two<Level> g = simd::load_two<Level>(b.grad + e);
      const auto index = static_cast<unsigned>(r) % registers;
      moments<Stats>(k, b, e, i, index, g.first, s, m_factor, v_factor, largest_m, largest_root,
                     total);
      moments<Stats>(k, b, e + size, i + size, (index + 1) % registers, g.second, s, m_factor,
                     v_factor, largest_m, largest_root, total);
    }
    __builtin_memcpy(s.largest_m + j * size, &largest_m, sizeof largest_m);
    __builtin_memcpy(s.largest_root + j * size, &largest_root, sizeof largest_root);
  }

  // The new moments of a block, and the scales to encode them with.
  template <bool Stats>
  static void begin(const constants& k, const buffers& b, int64_t at, scratch& s, sums& total) {
    load_scales(b.m_scales + at / group, s.m_factor, k.beta1);
    load_scales(b.v_scales + at / group, s.v_factor, k.root_beta2 / 255.0F);
    for (int64_t j = 0; j < groups; ++j) begin_group<Stats>(k, b, at, j, s, total);
    uint32_t largest[groups];
    simd::largest_of_rows<Level>(s.largest_m, largest);
    s.in_range = store_scales(largest, b.m_scales + at / group, s.m_base);
    simd::largest_of_rows<Level>(s.largest_root, largest);
    s.in_range &= store_scales(largest, b.v_scales + at / group, s.v_inverse);
    for (int64_t j = 0; j < groups; ++j) {
      s.m_base[j] = s.m_base[j] == 0 ? 1.0F : s.m_base[j] * (1.0F / 254.0F);
      s.v_inverse[j] = s.v_inverse[j] == 0 ? 0.0F : 255.0F / s.v_inverse[j];
    }
  }

  // One register: the codes, m as q = m / (scale / 254 + |m| / 254) and the root as root 255 /
  // scale, and what theta becomes.
  template <bool Stats>
  static vec update(const constants& k, const buffers& b, int64_t e, int64_t i, unsigned index,
                    vec parameter, const scratch& s, V base, V inverse, sums& total) {
    const V theta = simd::plain<Level>(parameter);
    const V m = load(s.m + i);
    const V root = load(s.root + i);
    const V u = m / (root + k.eps);
    const V below = fma(simd::magnitude<Level>(m), all(1.0F / 254.0F), base);
    V q = m * simd::quick_reciprocal<Level>(below);
    V z = root * inverse;
    if (Stochastic || __builtin_expect(!s.in_range, 0)) {
      q = simd::larger(simd::smaller(q, all(127.0F)), all(-127.0F));
      z = simd::smaller(z, all(255.0F));
    }
    W word = {};
    if constexpr (Stochastic) {
      word = simd::random_word_at<Level>(b.random, simd::counters<Level>(static_cast<uint32_t>(e)));
      q = stochastic_m(q, simd::random_bits<random_use::exp_avg, Level>(b.random, word));
      z = stochastic_root(z, simd::random_bits<random_use::exp_avg_sq, Level>(b.random, word));
    }
    z = root > 0.0F ? simd::larger(z, all(1.0F)) : z;
    simd::lanes_of<Level>::store_low(b.m + e, reinterpret_cast<W>(q + magic));
    simd::lanes_of<Level>::store_low(b.v + e, reinterpret_cast<W>(z + magic));
    add<Stats>(total.param, theta, index);
    add<Stats>(total.update, u, index);
    const vec after = simd::as_vec<Level>(theta - fma(all(k.rate), u, all(k.decay) * theta));
    if constexpr (Stochastic && is_bf16<P>)
      return simd::stochastic_bf16<Level>(
          after, simd::random_bits<random_use::param, Level>(b.random, word));
    else
      return after;
  }

  template <bool Stats>
  static void finish_group(const constants& k, const buffers& b, int64_t at, int64_t j,
                           const scratch& s, sums& total) {
    const V base = all(s.m_base[j]);
    const V inverse = all(s.v_inverse[j]);
#pragma GCC unroll 2
    for (int64_t r = 0; r < group / size; r += 2) {
      const int64_t i = j * group + r * size;
      const int64_t e = at + i;
      const auto index = static_cast<unsigned>(r) % registers;
      const simd::two<Level> theta = simd::load_two<Level>(b.param + e);
      simd::store_two<Level>(
          b.param + e, {update<Stats>(k, b, e, i, index, theta.first, s, base, inverse, total),
                        update<Stats>(k, b, e + size, i + size, (index + 1) % registers,
                                      theta.second, s, base, inverse, total)});
    }
  }

  template <bool Stats>
  static void finish(const constants& k, const buffers& b, int64_t at, const scratch& s,
                     sums& total) {
    for (int64_t j = 0; j < groups; ++j) finish_group<Stats>(k, b, at, j, s, total);
    if constexpr (Stats) total.flush();
  }

  // q = k + f, k whole: to k + 1 with the probability (x(k+f) - x(k)) / (x(k+1) - x(k)) for x(q) =
  // q / (254 - q), which is f (253 - k) / (254 - k - f). To whole numbers.
  static V stochastic_m(V q, W random) {
    const V a = simd::magnitude<Level>(q);
    const V k = simd::floor_of<Level>(a);
    const V f = a - k;
    const V u = simd::uniform<Level>(random);
    const V up = f * (253.0F - k) > u * (254.0F - a) ? k + 1.0F : k;
    const W sign = reinterpret_cast<W>(q) & 0x80000000U;
    return reinterpret_cast<V>(reinterpret_cast<W>(up) | sign);
  }
  static V stochastic_root(V z, W random) {
    const V k = simd::floor_of<Level>(z);
    const V u = simd::uniform<Level>(random);
    return z * z - k * k > u * (k + k + 1.0F) ? k + 1.0F : k;
  }

  template <bool Stats>
  static void run(const constants& constants_given, const buffers& buffers_given, int64_t count,
                  sums& total) {
    // Copies, which the stores of bytes cannot change, so that they stay in registers.
    const constants k = constants_given;
    const buffers b = buffers_given;
    // A block is finished when the next one has begun: its scales take long to be known.
    scratch both[2];
    int64_t at = 0;
    for (; at + block <= count; at += block) {
      begin<Stats>(k, b, at, both[at / block % 2], total);
      if (at > 0) finish<Stats>(k, b, at - block, both[(at / block + 1) % 2], total);
    }
    if (at > 0) finish<Stats>(k, b, at - block, both[(at / block + 1) % 2], total);
    if (at == count) return;
    scratch& s = both[0];
    // The rest on a copy, padded with zeros, which stay zeros.
    const auto n = static_cast<size_t>(count - at);
    const size_t used = (n + group - 1) / group;
    P param[block] = {};
    G grad[block] = {};
    uint8_t m[block] = {};
    uint8_t v[block] = {};
    scale16 m_scales[groups] = {};
    scale16 v_scales[groups] = {};
    __builtin_memcpy(param, b.param + at, n * sizeof(P));
    __builtin_memcpy(grad, b.grad + at, n * sizeof(G));
    __builtin_memcpy(m, b.m + at, n);
    __builtin_memcpy(v, b.v + at, n);
    __builtin_memcpy(m_scales, b.m_scales + at / group, used * sizeof(scale16));
    __builtin_memcpy(v_scales, b.v_scales + at / group, used * sizeof(scale16));
    const buffers rest = {param, grad, m, v, m_scales, v_scales, random_source_after(b.random, at)};
    begin<Stats>(k, rest, 0, s, total);
    finish<Stats>(k, rest, 0, s, total);
    __builtin_memcpy(b.param + at, param, n * sizeof(P));
    __builtin_memcpy(b.m + at, m, n);
    __builtin_memcpy(b.v + at, v, n);
    __builtin_memcpy(b.m_scales + at / group, m_scales, used * sizeof(scale16));
    __builtin_memcpy(b.v_scales + at / group, v_scales, used * sizeof(scale16));
  }

  STEEPEST_KERNEL static void kernel(const adamw_prepared& prepared, const adamw_buffers& whole,
                                     int64_t begin, int64_t end, adamw_sums* result) {
    const adamw_constants<float>& f32 = prepared.f32;
    // The power of two of grad_scale goes into the constants: see adamw_mix_of.
    const float unit = f32.grad_factor;
    const constants k = {f32.c1 * unit, f32.c2 * unit * unit,
                         f32.beta1,     __builtin_sqrtf(f32.beta2),
                         f32.eps,       f32.rate,
                         f32.decay,     unit};
    const buffers b = {static_cast<P*>(whole.param) + begin,
                       static_cast<const G*>(whole.grad) + begin,
                       static_cast<uint8_t*>(whole.exp_avg) + begin,
                       static_cast<uint8_t*>(whole.exp_avg_sq) + begin,
                       static_cast<scale16*>(whole.exp_avg_scales) + begin / group,
                       static_cast<scale16*>(whole.exp_avg_sq_scales) + begin / group,
                       random_of(prepared, whole, begin)};
    sums total;
    if (result == nullptr) return run<false>(k, b, end - begin, total);
    run<true>(k, b, end - begin, total);
    *result = total.total();
    if (!(result->grad <= __DBL_MAX__))
      result->nonfinite = simd::count_nonfinite(b.grad, end - begin);
  }
};

}  // namespace
}  // namespace steepest
