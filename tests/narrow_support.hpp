// SPDX-License-Identifier: Apache-2.0
//
// A tensor in any narrow storage as plain bytes, its values in f32, and what a step must leave
// there. A narrow step is by contract the f32 step on what was decoded, encoded again: so the f32
// step, which the other tests hold against the oracle, and the rules of encoding, written here from
// the header, give what is expected.
#pragma once

#include <functional>

#include "core/narrow.hpp"
#include "formats.hpp"
#include "q8_oracle.hpp"

namespace steepest_test {

using bytes = std::vector<unsigned char>;

struct storage {
  steepest_dtype param = STEEPEST_F32, grad = STEEPEST_F32;
  std::int32_t residual = STEEPEST_RESIDUAL_NONE;
  steepest_dtype exp_avg = STEEPEST_F32, exp_avg_sq = STEEPEST_F32;
  steepest_dtype copy = 0;  // 0: none
  steepest_dtype delta = STEEPEST_F32;

  std::string name() const {
    char text[96];
    std::snprintf(text, sizeof(text),
                  "param %d residual %d grad %d exp_avg %d exp_avg_sq %d copy %d", int{param},
                  int{residual}, int{grad}, int{exp_avg}, int{exp_avg_sq}, int{copy});
    return text;
  }
};

inline bool has_blocks(steepest_dtype dtype) {
  return dtype == STEEPEST_Q8_DYNAMIC || dtype == STEEPEST_Q8_COMPANDED;
}
inline const format& format_of(steepest_dtype dtype) {
  return dtype == STEEPEST_BF16 ? bf16 : dtype == STEEPEST_F16 ? f16 : f32;
}
inline std::size_t element_size(steepest_dtype dtype) {
  return has_blocks(dtype) ? 1 : size_of(format_of(dtype));
}
inline std::size_t residual_size(std::int32_t kind) {
  return kind == STEEPEST_RESIDUAL_NEAREST8 ? 1 : 2;
}
template <class T>
T read_as(const bytes& from, std::size_t i) {
  T x;
  std::memcpy(&x, from.data() + i * sizeof(T), sizeof(T));
  return x;
}
template <class T>
void write_as(bytes& to, std::size_t i, T x) {
  std::memcpy(to.data() + i * sizeof(T), &x, sizeof(T));
}
inline std::uint32_t bits_of(float x) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}
inline float float_of(std::uint32_t bits) {
  float x = 0;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// The values of an array of a plain format.
inline std::vector<float> plain_values(steepest_dtype dtype, const bytes& from) {
  std::vector<float> out(from.size() / element_size(dtype));
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = dtype == STEEPEST_F32
                 ? read_as<float>(from, i)
                 : static_cast<float>(decode(format_of(dtype), read_as<std::uint16_t>(from, i)));
  return out;
}

// The master of a 16-bit parameter and its residual.
inline float joined(steepest_dtype dtype, std::int32_t kind, float param, const bytes& residual,
                    std::size_t i) {
  switch (kind) {
    case STEEPEST_RESIDUAL_LOW16:
      return float_of(bits_of(param) | read_as<std::uint16_t>(residual, i));
    case STEEPEST_RESIDUAL_NEAREST16:
      return float_of(bits_of(param) +
                      static_cast<std::uint32_t>(read_as<std::int16_t>(residual, i)));
    case STEEPEST_RESIDUAL_NEAREST8:
      return float_of(bits_of(param) +
                      static_cast<std::uint32_t>(read_as<std::int8_t>(residual, i) * 256));
    default:
      return param +
             static_cast<float>(decode(format_of(dtype), read_as<std::uint16_t>(residual, i)));
  }
}

struct narrow_arrays {
  storage kind;
  std::size_t count = 0;
  bytes param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, delta, residual, copy, exp_avg_scales,
      exp_avg_sq_scales;

  narrow_arrays() = default;
  narrow_arrays(const storage& k, const adamw_arrays<float>& a)
      : kind(k), count(a.count()), param(typed_array::encoded(format_of(k.param), a.param)),
        grad(typed_array::encoded(format_of(k.grad), a.grad)),
        max_exp_avg_sq(has_blocks(k.exp_avg_sq)
                           ? bytes()
                           : typed_array::encoded(format_of(k.exp_avg_sq), a.max_exp_avg_sq)),
        delta(count * element_size(k.delta)),
        residual(k.residual != STEEPEST_RESIDUAL_NONE ? count * residual_size(k.residual) : 0),
        copy(k.copy != 0 ? count * element_size(k.copy) : 0) {
    set_moment(k.exp_avg, 1, a.exp_avg, exp_avg, exp_avg_scales);
    set_moment(k.exp_avg_sq, 0, a.exp_avg_sq, exp_avg_sq, exp_avg_sq_scales);
  }
  bool operator==(const narrow_arrays& other) const {
    return const_cast<narrow_arrays*>(this)->all() == const_cast<narrow_arrays&>(other).all();
  }

  std::array<bytes, 10> all() const {
    return {param, grad,     exp_avg, exp_avg_sq,     max_exp_avg_sq,
            delta, residual, copy,    exp_avg_scales, exp_avg_sq_scales};
  }

  // Residuals as they are at any time in training: the parameter is its master, rounded.
  void set_residuals(random_source& random) {
    for (std::size_t i = 0; i < residual.size(); ++i)
      residual[i] = static_cast<unsigned char>(random.bits());
    const format& f = format_of(kind.param);
    const std::vector<float> values = plain_values(kind.param, param);
    if (kind.residual != STEEPEST_RESIDUAL_KAHAN) {
      // A master that is rounded to zero is not below it.
      for (std::size_t i = 0; i < residual.size(); ++i)
        if (values[i / residual_size(kind.residual)] == 0) residual[i] &= 0x7f;
      return;
    }
    for (std::size_t i = 0; i < count; ++i) {
      const double half_ulp =
          std::ldexp(1.0, std::max(std::ilogb(values[i]), f.min_exponent) - f.precision);
      const double rest =
          std::isfinite(values[i]) && values[i] != 0 ? half_ulp * (2 * random.uniform() - 1) : 0;
      write_as(residual, i, encode(f, rounded(f, rest)));
    }
  }

  // Over elements [first, first + n); `first` is a multiple of every block.
  steepest_adamw_tensor tensor(std::size_t first, std::size_t n) {
    steepest_adamw_tensor x = STEEPEST_ADAMW_TENSOR_INIT;
    x.count = static_cast<std::int64_t>(n);
    x.param = param.data() + first * element_size(kind.param);
    x.grad = grad.data() + first * element_size(kind.grad);
    x.exp_avg = exp_avg.data() + first * element_size(kind.exp_avg);
    x.exp_avg_sq = exp_avg_sq.data() + first * element_size(kind.exp_avg_sq);
    if (!max_exp_avg_sq.empty())
      x.max_exp_avg_sq = max_exp_avg_sq.data() + first * element_size(kind.exp_avg_sq);
    x.delta = delta.data() + first * element_size(kind.delta);
    x.residual = residual.data() + first * residual_size(kind.residual);
    x.param_copy = kind.copy != 0 ? copy.data() + first * element_size(kind.copy) : nullptr;
    x.exp_avg_scales = exp_avg_scales.data() + scale_offset(kind.exp_avg, first);
    x.exp_avg_sq_scales = exp_avg_sq_scales.data() + scale_offset(kind.exp_avg_sq, first);
    set_types(x);
    x.random_stream = 5;
    x.first_index = static_cast<std::int64_t>(first);
    return x;
  }
  steepest_adamw_tensor tensor() { return tensor(0, count); }
  void set_types(steepest_adamw_tensor& x) const {
    x.param_dtype = kind.param;
    x.grad_dtype = kind.grad;
    x.exp_avg_dtype = kind.exp_avg;
    x.exp_avg_sq_dtype = kind.exp_avg_sq;
    x.delta_dtype = kind.delta;
    x.residual_kind = kind.residual;
    if (kind.copy != 0) x.param_copy_dtype = kind.copy;
  }

  // Decoded: what the f32 step starts from, or where it has come to.
  adamw_arrays<float> widened() const {
    adamw_arrays<float> a;
    a.param = plain_values(kind.param, param);
    if (kind.residual != STEEPEST_RESIDUAL_NONE)
      for (std::size_t i = 0; i < count; ++i)
        a.param[i] = joined(kind.param, kind.residual, a.param[i], residual, i);
    a.grad = plain_values(kind.grad, grad);
    a.exp_avg = moment(kind.exp_avg, 1, exp_avg, exp_avg_scales);
    a.exp_avg_sq = moment(kind.exp_avg_sq, 0, exp_avg_sq, exp_avg_sq_scales);
    a.max_exp_avg_sq = max_exp_avg_sq.empty() ? std::vector<float>(count)
                                              : plain_values(kind.exp_avg_sq, max_exp_avg_sq);
    a.delta = plain_values(kind.delta, delta);
    return a;
  }

 private:
  static std::size_t scale_offset(steepest_dtype dtype, std::size_t first) {
    const q8_rule rule = {dtype, true};
    return has_blocks(dtype) ? first / rule.block() * rule.scale_size() : 0;
  }
  void set_moment(steepest_dtype dtype, std::int32_t is_signed, const std::vector<float>& values,
                  bytes& codes, bytes& scales) const {
    if (!has_blocks(dtype)) {
      codes = typed_array::encoded(format_of(dtype), values);
      return;
    }
    const q8_rule rule = {dtype, is_signed != 0};
    codes.resize(count);
    scales.resize(rule.blocks(count) * rule.scale_size());
    EXPECT_OK(steepest_q8_encode(nullptr, dtype, is_signed, static_cast<std::int64_t>(count),
                                 values.data(), codes.data(), scales.data()));
  }
  std::vector<float> moment(steepest_dtype dtype, std::int32_t is_signed, const bytes& codes,
                            const bytes& scales) const {
    if (!has_blocks(dtype)) return plain_values(dtype, codes);
    std::vector<float> values(count);
    EXPECT_OK(steepest_q8_decode(nullptr, dtype, is_signed, static_cast<std::int64_t>(count),
                                 codes.data(), scales.data(), values.data()));
    return values;
  }
};

// The random words of a step, element by element from the scalar rule.
struct step_randomness {
  std::uint64_t seed;
  std::int64_t step;
  std::uint64_t stream;
  std::int64_t first_index;
  bool used;

  struct words {
    std::uint32_t param, exp_avg, exp_avg_sq;
  };
  words of(std::size_t i) const {
    const auto source =
        steepest::random_source_of(seed, step, stream, static_cast<std::uint64_t>(first_index) + i);
    const std::uint32_t first = steepest::random_word(source, 0);
    return {first & 0xffff, first >> 16, steepest::random_second_word(source, first) >> 16};
  }
};

// How results differ from those expected. Kernels for narrow moments may round a quotient in
// another place: then a number may be one step of its storage away, in a small share of elements.
struct comparison {
  bool last_places = false;  // of floats may differ: the kernel is not the f32 kernel
  std::size_t compared = 0, beside = 0, wrong = 0;
  std::string first;

  void add(bool same, bool close, const char* what, std::size_t i, double got, double expected) {
    ++compared;
    if (same) return;
    ++(close ? beside : wrong);
    if (!first.empty()) return;
    char text[128];
    std::snprintf(text, sizeof(text), "%s[%zu]: %.9g for %.9g", what, i, got, expected);
    first = text;
  }
  void expect(bool exact) const {
    EXPECT_EQ(wrong, 0u) << first;
    EXPECT_LE(beside, exact ? 0u : 2 + compared / 100) << first << " and others of " << compared;
  }
};

inline bool both_nan(double a, double b) { return std::isnan(a) && std::isnan(b); }

// To 16 bits, to nearest or by 16 random bits. `random` is null to round to nearest.
inline std::uint16_t narrowed(const format& f, float x, const std::uint32_t* random) {
  if (random == nullptr || !std::isfinite(x)) return encode(f, rounded(f, static_cast<double>(x)));
  return static_cast<std::uint16_t>((bits_of(x) + *random) >> 16);
}

// `slack`: for each element what an f32 result may differ by, where a kernel is not the f32 kernel.
inline void compare_plain(comparison& c, const char* what, steepest_dtype dtype, const bytes& got,
                          const std::vector<float>& wide,
                          const std::function<const std::uint32_t*(std::size_t)>& random,
                          const std::vector<double>& slack = {}) {
  const format& f = format_of(dtype);
  for (std::size_t i = 0; i < wide.size(); ++i) {
    const auto exact = static_cast<double>(wide[i]);
    if (dtype == STEEPEST_F32) {
      const auto x = static_cast<double>(read_as<float>(got, i));
      const double allowed = slack.empty() ? 8 * static_cast<double>(ulp<float>(exact)) : slack[i];
      const bool close = std::abs(x - exact) <= allowed;
      c.add(same_bits(read_as<float>(got, i), wide[i]) || both_nan(x, exact) ||
                (c.last_places && close),
            close, what, i, x, exact);
      continue;
    }
    const std::uint16_t expected = narrowed(f, wide[i], random(i));
    const auto bits = read_as<std::uint16_t>(got, i);
    const double x = decode(f, bits);
    const double y = decode(f, expected);
    // Where a difference cancels, many numbers lie within what its terms may be off by.
    const int exponent = y == 0 ? f.min_exponent : std::max(std::ilogb(y), f.min_exponent);
    const bool cancelled =
        !slack.empty() &&
        std::abs(x - exact) <= slack[i] + std::ldexp(1.0, exponent - f.precision + 1);
    c.add(bits == expected || both_nan(x, y), std::abs(bits - expected) <= 1 || cancelled, what, i,
          x, y);
  }
}

inline void compare_master(comparison& c, const narrow_arrays& got, const std::vector<float>& wide,
                           const std::function<const std::uint32_t*(std::size_t)>& random) {
  const storage& k = got.kind;
  const std::vector<float> params = plain_values(k.param, got.param);
  for (std::size_t i = 0; i < wide.size(); ++i) {
    float master = wide[i];
    const float x = joined(k.param, k.residual, params[i], got.residual, i);
    const auto exact = static_cast<double>(master);
    if (!std::isfinite(master)) {
      c.add(same_bits(params[i], master) || both_nan(params[i], exact), false, "param", i,
            params[i], exact);
      continue;
    }
    if (k.residual == STEEPEST_RESIDUAL_KAHAN) {
      const format& f = format_of(k.param);
      const std::uint16_t high = encode(f, rounded(f, exact));
      const double rest = exact - decode(f, high);
      const std::uint16_t low = encode(f, std::isfinite(rest) ? rounded(f, rest) : 0.0);
      c.add(read_as<std::uint16_t>(got.param, i) == high &&
                read_as<std::uint16_t>(got.residual, i) == low,
            std::abs(static_cast<double>(x) - exact) <= 0x1p-14 * std::abs(exact), "Kahan's sum", i,
            x, exact);
      continue;
    }
    std::uint32_t bits = bits_of(master);
    if (k.residual == STEEPEST_RESIDUAL_NEAREST8) {
      const std::uint32_t* r = random(i);
      const std::uint32_t up = r != nullptr ? *r >> 8 : 0x7f + (bits >> 8 & 1);
      bits = (bits + up) / 256 * 256;
    }
    // What is cut off, or rounded half away from zero.
    const std::uint32_t high =
        (k.residual == STEEPEST_RESIDUAL_LOW16 ? bits : bits + 0x8000) / 65536 * 65536;
    const bool infinite =
        k.residual == STEEPEST_RESIDUAL_NEAREST8 && !std::isfinite(float_of(bits));
    c.add(bits_of(params[i]) == high && (infinite || bits_of(x) == bits),
          bits_of(x) - bits + 256 <= 512, "master", i, x, float_of(bits));
  }
}

inline void compare_moment(comparison& c, const char* what, const q8_rule& rule, const bytes& codes,
                           const bytes& scales, const std::vector<float>& wide,
                           const std::function<const std::uint32_t*(std::size_t)>& random) {
  for (std::size_t begin = 0; begin < wide.size(); begin += rule.block()) {
    const std::size_t end = std::min(begin + rule.block(), wide.size());
    double largest = 0;
    for (std::size_t i = begin; i < end; ++i) {
      const double x = std::abs(static_cast<double>(wide[i]));
      if (!std::isnan(largest) && !(x <= largest)) largest = x;
    }
    const double scale = rule.scale(scales.data(), begin / rule.block());
    const double expected = rule.scale_for(largest, random(begin) != nullptr);
    const double step = expected * (rule.scale_size() == 4 ? 0x1p-21 : 0x1p-10);
    c.add(scale == expected || both_nan(scale, expected), std::abs(scale - expected) <= step, what,
          begin, scale, expected);
    if (std::isnan(scale)) continue;
    for (std::size_t i = begin; i < end; ++i) {
      const auto x = static_cast<double>(wide[i]);
      const std::uint32_t* r = random(i);
      const auto fits = [&](int code) {
        if (code < 0 || code > 255) return false;
        return r != nullptr ? rule.stochastic(code, x, scale, (*r + 0.5) / 65536)
                            : rule.nearest(code, x, scale);
      };
      const int code = codes[i];
      c.add(fits(code), fits(code - 1) || fits(code + 1), what, i, rule.value(code, scale), x);
    }
  }
}

// What a kernel that is not the f32 kernel may differ by: eight ulp of the terms, which may cancel.
struct rounding_slack {
  std::vector<double> param, exp_avg;

  rounding_slack() = default;
  rounding_slack(const steepest_adamw_config& config, const narrow_arrays& before,
                 const adamw_arrays<float>& wide)
      : param(before.count), exp_avg(before.count) {
    const adamw_arrays<float> start = before.widened();
    const double bias1 = 1 - std::pow(config.beta1, static_cast<double>(config.step));
    const double bias2 = 1 - std::pow(config.beta2, static_cast<double>(config.step));
    for (std::size_t i = 0; i < before.count; ++i) {
      const auto size = [](float x) { return std::abs(static_cast<double>(x)); };
      const double terms = config.beta1 * size(start.exp_avg[i]) +
                           (1 - config.beta1) * std::abs(config.grad_scale) * size(start.grad[i]);
      const double root = std::sqrt(static_cast<double>(wide.exp_avg_sq[i]) / bias2) + config.eps;
      exp_avg[i] = 0x1p-146 + 0x1p-20 * terms;
      param[i] = 0x1p-146 + 0x1p-20 * (std::max(size(start.param[i]), size(wide.param[i])) +
                                       config.lr * terms / (bias1 * root));
    }
  }
};

// Holds `after` to the f32 step's results `wide`, before encoding.
inline void expect_encoded(const steepest_adamw_config& config, const narrow_arrays& before,
                           const narrow_arrays& after, const adamw_arrays<float>& wide,
                           const step_randomness& randomness) {
  const storage& k = after.kind;
  const bool emit_delta = (config.flags & STEEPEST_ADAMW_EMIT_DELTA) != 0;
  const bool amsgrad = (config.flags & STEEPEST_ADAMW_AMSGRAD) != 0;
  std::vector<step_randomness::words> words;
  if (randomness.used)
    for (std::size_t i = 0; i < after.count; ++i) words.push_back(randomness.of(i));
  const auto nearest = [](std::size_t) -> const std::uint32_t* { return nullptr; };
  const auto by = [&](std::uint32_t step_randomness::words::*which, steepest_dtype dtype) {
    const bool rounds = randomness.used && (dtype == STEEPEST_BF16 || has_blocks(dtype));
    return [&words, which, rounds](std::size_t i) { return rounds ? &(words[i].*which) : nullptr; };
  };
  comparison c;
  const bool all_bf16 = k.param == STEEPEST_BF16 && k.grad == STEEPEST_BF16 &&
                        k.exp_avg == STEEPEST_BF16 && k.exp_avg_sq == STEEPEST_BF16;
  c.last_places =
      all_bf16 || (k.exp_avg == STEEPEST_Q8_COMPANDED && k.exp_avg_sq == STEEPEST_Q8_COMPANDED);
  const rounding_slack slack =
      c.last_places ? rounding_slack(config, before, wide) : rounding_slack();
  if (emit_delta) {
    compare_plain(c, "delta", k.delta, after.delta, wide.delta, nearest);
    EXPECT_EQ(after.param, before.param);
  } else if (k.residual != STEEPEST_RESIDUAL_NONE) {
    compare_master(c, after, wide.param, by(&step_randomness::words::param, k.param));
  } else {
    compare_plain(c, "param", k.param, after.param, wide.param,
                  by(&step_randomness::words::param, k.param), slack.param);
  }
  if (k.copy != 0) compare_plain(c, "param_copy", k.copy, after.copy, wide.param, nearest);
  if (has_blocks(k.exp_avg))
    compare_moment(c, "exp_avg", {k.exp_avg, true}, after.exp_avg, after.exp_avg_scales,
                   wide.exp_avg, by(&step_randomness::words::exp_avg, k.exp_avg));
  else
    compare_plain(c, "exp_avg", k.exp_avg, after.exp_avg, wide.exp_avg,
                  by(&step_randomness::words::exp_avg, k.exp_avg), slack.exp_avg);
  const auto of_v = by(&step_randomness::words::exp_avg_sq, k.exp_avg_sq);
  if (has_blocks(k.exp_avg_sq))
    compare_moment(c, "exp_avg_sq", {k.exp_avg_sq, false}, after.exp_avg_sq,
                   after.exp_avg_sq_scales, wide.exp_avg_sq, of_v);
  else
    compare_plain(c, "exp_avg_sq", k.exp_avg_sq, after.exp_avg_sq, wide.exp_avg_sq, of_v);
  if (amsgrad)
    compare_plain(c, "max_exp_avg_sq", k.exp_avg_sq, after.max_exp_avg_sq, wide.max_exp_avg_sq,
                  nearest);
  else
    EXPECT_EQ(after.max_exp_avg_sq, before.max_exp_avg_sq);
  EXPECT_EQ(after.grad, before.grad);
  c.expect(k.exp_avg == STEEPEST_F32 && k.exp_avg_sq == STEEPEST_F32);
}

}  // namespace steepest_test
