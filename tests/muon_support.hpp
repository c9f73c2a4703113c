// SPDX-License-Identifier: Apache-2.0
//
// The matrices of one Muon step in any storage type, and the step as the header has it, in double.
#pragma once

#include <dlfcn.h>

#include "core/half.hpp"
#include "support.hpp"

namespace steepest_test {

// OpenBLAS's own threads may change the last bits of a product. It is there only through the
// library, and so has to be looked up.
inline const bool openblas_is_single_threaded = [] {
  void* const found = dlsym(RTLD_DEFAULT, "openblas_set_num_threads");
  if (found != nullptr) reinterpret_cast<void (*)(int)>(found)(1);
  return found != nullptr;
}();

inline steepest_muon_config make_muon_config() { return STEEPEST_MUON_CONFIG_INIT; }
inline steepest_msign_config make_msign_config() { return STEEPEST_MSIGN_CONFIG_INIT; }

inline std::size_t size_of(steepest_dtype dtype) {
  return dtype == STEEPEST_F64 ? 8 : dtype == STEEPEST_F32 ? 4 : 2;
}

// Half the distance between neighbours of that type at x.
inline double half_ulp(steepest_dtype dtype, double x) {
  const int digits = dtype == STEEPEST_F64    ? 53
                     : dtype == STEEPEST_F32  ? 24
                     : dtype == STEEPEST_BF16 ? 8
                                              : 11;
  const int lowest = dtype == STEEPEST_F64 ? -1022 : dtype == STEEPEST_F16 ? -14 : -126;
  const int exponent = x == 0 ? lowest : std::max(std::ilogb(x), lowest);
  return std::ldexp(1.0, exponent - digits);
}

// A matrix in memory, with guard bytes around it and in the gaps between its rows. Copies are
// independent; two are equal if all bytes are.
class stored {
 public:
  stored() : stored(STEEPEST_F32, 0, 0) {}
  // `gap` elements between rows, the first element `offset` elements behind a 16-byte boundary.
  stored(steepest_dtype type, std::int64_t row_count, std::int64_t col_count, std::int64_t gap = 0,
         std::size_t offset = 0)
      : dtype(type), rows(row_count), cols(col_count), ld(col_count + gap),
        lead_(guard_bytes + offset * size_of(type)) {
    const auto elements = static_cast<std::size_t>(rows * ld);
    bytes_.assign(lead_ + elements * size_of(dtype) + guard_bytes, fill);
  }

  void set(std::int64_t row, std::int64_t col, double value) {
    unsigned char* const to = element(row, col);
    const auto put = [to](const auto& x) { std::memcpy(to, &x, sizeof(x)); };
    switch (dtype) {
      case STEEPEST_F64: return put(value);
      case STEEPEST_F32: return put(static_cast<float>(value));
      case STEEPEST_BF16: return put(steepest::to_bf16(static_cast<float>(value)).bits);
      default: return put(steepest::to_f16(static_cast<float>(value)).bits);
    }
  }
  double at(std::int64_t row, std::int64_t col) const {
    const unsigned char* const from = element(row, col);
    if (dtype == STEEPEST_F64) return read<double>(from);
    if (dtype == STEEPEST_F32) return read<float>(from);
    const auto bits = read<std::uint16_t>(from);
    return dtype == STEEPEST_BF16 ? steepest::to_float(steepest::bf16{bits})
                                  : steepest::to_float(steepest::f16{bits});
  }
  template <class F>
  void fill_with(F value) {
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < cols; ++j) set(i, j, value(i, j));
  }

  void* data() { return bytes_.data() + lead_; }
  // Nothing but the elements was ever written.
  bool intact() const {
    std::vector<bool> own(bytes_.size());
    for (std::int64_t i = 0; i < rows; ++i) {
      const auto first = element(i, 0) - bytes_.data();
      std::fill_n(own.begin() + first, cols * static_cast<std::int64_t>(size_of(dtype)), true);
    }
    for (std::size_t i = 0; i < own.size(); ++i)
      if (!own[i] && bytes_[i] != fill) return false;
    return true;
  }
  bool operator==(const stored&) const = default;

  steepest_dtype dtype;
  std::int64_t rows, cols, ld;

 private:
  static constexpr std::size_t guard_bytes = 64;
  static constexpr unsigned char fill = 0xa5;

  template <class T>
  static T read(const unsigned char* from) {
    T x;
    std::memcpy(&x, from, sizeof(x));
    return x;
  }
  const unsigned char* element(std::int64_t row, std::int64_t col) const {
    return bytes_.data() + lead_ + static_cast<std::size_t>(row * ld + col) * size_of(dtype);
  }
  unsigned char* element(std::int64_t row, std::int64_t col) {
    return bytes_.data() + lead_ + static_cast<std::size_t>(row * ld + col) * size_of(dtype);
  }

  std::vector<unsigned char> bytes_;
  std::size_t lead_;
};

// What a tensor is made of.
struct muon_layout {
  std::int64_t rows = 0, cols = 0;
  steepest_dtype param = STEEPEST_F32, grad = STEEPEST_F32, momentum = STEEPEST_F32,
                 delta = STEEPEST_F32;
  std::int64_t gap = 0;    // each buffer another, from this one up
  std::size_t offset = 0;  // likewise
  std::int64_t fan_out = 0, fan_in = 0;
  std::vector<std::int64_t> blocks = {};
  std::int32_t block_axis = 0;
};

// The buffers of one tensor.
struct muon_matrices {
  muon_layout layout;
  stored param, grad, momentum, delta;

  muon_matrices() = default;
  explicit muon_matrices(const muon_layout& l)
      : layout(l), param(l.param, l.rows, l.cols, l.gap, l.offset),
        grad(l.grad, l.rows, l.cols, l.gap != 0 ? l.gap + 1 : 0, 2 * l.offset),
        momentum(l.momentum, l.rows, l.cols, l.gap != 0 ? l.gap + 2 : 0, 3 * l.offset),
        delta(l.delta, l.rows, l.cols, l.gap != 0 ? l.gap + 3 : 0, l.offset) {}

  steepest_muon_tensor tensor() {
    steepest_muon_tensor t = STEEPEST_MUON_TENSOR_INIT;
    t.rows = layout.rows;
    t.cols = layout.cols;
    t.fan_out = layout.fan_out;
    t.fan_in = layout.fan_in;
    t.param = param.data();
    t.grad = grad.data();
    t.momentum = momentum.data();
    t.delta = delta.data();
    t.param_ld = layout.gap != 0 ? param.ld : 0;
    t.grad_ld = layout.gap != 0 ? grad.ld : 0;
    t.momentum_ld = layout.gap != 0 ? momentum.ld : 0;
    t.delta_ld = layout.gap != 0 ? delta.ld : 0;
    t.param_dtype = param.dtype;
    t.grad_dtype = grad.dtype;
    t.momentum_dtype = momentum.dtype;
    t.delta_dtype = delta.dtype;
    if (!layout.blocks.empty()) t.blocks = layout.blocks.data();
    t.block_count = static_cast<std::int64_t>(layout.blocks.size());
    t.block_axis = layout.block_axis;
    return t;
  }
  bool intact() const {
    return param.intact() && grad.intact() && momentum.intact() && delta.intact();
  }
};

inline bool same_bits(const muon_matrices& a, const muon_matrices& b) {
  return a.param == b.param && a.grad == b.grad && a.momentum == b.momentum && a.delta == b.delta;
}

// Normal numbers throughout; `fresh`: momentum is zero, as before step 1.
inline muon_matrices random_matrices(random_source& random, const muon_layout& layout,
                                     bool fresh = false) {
  muon_matrices m(layout);
  const auto normal = [&](std::int64_t, std::int64_t) { return random.normal(); };
  m.param.fill_with(normal);
  m.grad.fill_with(normal);
  m.delta.fill_with(normal);
  if (fresh)
    m.momentum.fill_with([](auto, auto) { return 0.0; });
  else
    m.momentum.fill_with(normal);
  return m;
}

inline steepest_status run_muon(steepest_context* context, const steepest_muon_config& config,
                                muon_matrices& m, steepest_step_stats* stats = nullptr) {
  const steepest_muon_tensor tensor = m.tensor();
  return steepest_muon_step(context, &config, &tensor, 1, nullptr, stats);
}

// A wide_values matrix of doubles, and what a step makes of it.
using wide_values = std::vector<double>;

struct exact_muon {
  wide_values param, momentum, delta;
  wide_values change;  // lr s O: what an error of O is relative to
  wide_values pull;    // mu |m| + |g|: what an error of momentum is relative to
  double update_rms = 0, grad_rms = 0, momentum_rms = 0, param_rms = 0, snr_momentum = 0;
};

// msign(u) of part of a matrix, in the arithmetic's type.
inline void exact_sign(steepest_dtype dtype, const steepest_msign_config* config,
                       const wide_values& u, std::int64_t ld, std::int64_t first, std::int64_t rows,
                       std::int64_t cols, wide_values& o) {
  stored part(dtype, rows, cols);
  part.fill_with([&](std::int64_t i, std::int64_t j) {
    return u[static_cast<std::size_t>(first + i * ld + j)];
  });
  ASSERT_OK(steepest_msign(nullptr, config, rows, cols, dtype, part.data(), 0, part.data(), 0,
                           nullptr, nullptr));
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j)
      o[static_cast<std::size_t>(first + i * ld + j)] = part.at(i, j);
}

inline double exact_scale(const steepest_muon_config& c, double out, double in, double rms) {
  switch (c.scale_mode) {
    case STEEPEST_SCALE_MATCH_RMS: return c.scale_value * std::sqrt(std::max(out, in));
    case STEEPEST_SCALE_EXACT_RMS: return rms == 0 ? 0 : c.scale_value / rms;
    case STEEPEST_SCALE_SQRT_MAX1_OUT_IN: return std::sqrt(std::max(1.0, out / in));
    case STEEPEST_SCALE_SQRT_OUT_IN: return std::sqrt(out / in);
    case STEEPEST_SCALE_SQRT_MAX: return std::sqrt(std::max(out, in));
    default: return 1;
  }
}

inline exact_muon oracle(const steepest_muon_config& c, const muon_matrices& before) {
  const std::int64_t rows = before.layout.rows, cols = before.layout.cols;
  const auto count = static_cast<std::size_t>(rows * cols);
  const steepest_dtype dtype = before.param.dtype == STEEPEST_F64 ? STEEPEST_F64 : STEEPEST_F32;
  const double mu = c.momentum;
  const bool ema = c.momentum_kind == STEEPEST_MOMENTUM_EMA;
  exact_muon r;
  wide_values u(count), o(count), w(count), s(count);
  double g_squares = 0, m_squares = 0, w_squares = 0, update_squares = 0;
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < cols; ++j) {
      const auto at = static_cast<std::size_t>(i * cols + j);
      const double sign = (c.flags & STEEPEST_MUON_MAXIMIZE) != 0 ? -1 : 1;
      const double g = sign * c.grad_scale * before.grad.at(i, j);
      const double old = before.momentum.at(i, j);
      const double m = ema ? mu * old + (1 - mu) * g : mu * old + g;
      u[at] = m;
      if ((c.flags & STEEPEST_MUON_NESTEROV) != 0) u[at] = ema ? mu * m + (1 - mu) * g : mu * m + g;
      w[at] = before.param.at(i, j);
      r.momentum.push_back(m);
      r.pull.push_back(mu * std::abs(old) + std::abs(g));
      g_squares += g * g;
      m_squares += m * m;
      w_squares += w[at] * w[at];
    }
  }
  std::vector<std::int64_t> blocks = before.layout.blocks;
  const bool by_rows = before.layout.block_axis == 0;
  if (blocks.empty()) blocks = {by_rows ? rows : cols};
  std::int64_t from = 0;
  for (const std::int64_t length : blocks) {
    const std::int64_t first = by_rows ? from * cols : from;
    const std::int64_t height = by_rows ? length : rows, width = by_rows ? cols : length;
    exact_sign(dtype, c.msign, u, cols, first, height, width, o);
    const auto each = [&](auto body) {
      for (std::int64_t i = 0; i < height; ++i)
        for (std::int64_t j = 0; j < width; ++j)
          body(static_cast<std::size_t>(first + i * cols + j));
    };
    double squares = 0;
    each([&](std::size_t at) { squares += o[at] * o[at]; });
    const std::int64_t out = before.layout.fan_out, in = before.layout.fan_in;
    const double scale = exact_scale(c, static_cast<double>(out != 0 ? out : height),
                                     static_cast<double>(in != 0 ? in : width),
                                     std::sqrt(squares / static_cast<double>(height * width)));
    each([&](std::size_t at) { s[at] = scale; });
    update_squares += scale * scale * squares;
    from += length;
  }
  for (std::size_t at = 0; at < count; ++at) {
    const bool decays = (c.flags & STEEPEST_MUON_CAUTIOUS_DECAY) == 0 || o[at] * w[at] >= 0;
    r.change.push_back(c.lr * s[at] * o[at]);
    r.delta.push_back(-c.lr * (s[at] * o[at] + (decays ? c.weight_decay * w[at] : 0)));
    r.param.push_back(w[at] + r.delta[at]);
  }
  const auto n = static_cast<double>(count);
  const double power = std::pow(mu, static_cast<double>(c.step));
  r.update_rms = std::sqrt(update_squares / n);
  r.grad_rms = std::sqrt(g_squares / n);
  r.momentum_rms = std::sqrt(m_squares / n) / (1 - power) * (ema ? 1 : 1 - mu);
  r.param_rms = std::sqrt(w_squares / n);
  const double noise = (1 - mu) * (1 + power) / ((1 + mu) * (1 - power));
  const double q = std::pow(r.momentum_rms / r.grad_rms, 2);
  r.snr_momentum = (q - noise) / (1 - q);
  return r;
}

// The arithmetic's error on top of half an ulp of the storage type. O's comes from a u that is
// rounded otherwise; it is measured against the RMS of the change, as a matrix's error is. (The
// inputs of these tests are well conditioned.)
inline void expect_near_elements(const char* name, const stored& got, const wide_values& exact,
                                 const wide_values& slack) {
  for (std::int64_t i = 0; i < got.rows; ++i) {
    for (std::int64_t j = 0; j < got.cols; ++j) {
      const auto at = static_cast<std::size_t>(i * got.cols + j);
      const double allowed = half_ulp(got.dtype, std::abs(exact[at]) + slack[at]) + slack[at];
      ASSERT_LE(std::abs(got.at(i, j) - exact[at]), allowed)
          << name << " (" << i << ", " << j << ") is " << got.at(i, j) << ", not " << exact[at];
    }
  }
}

// What a step on `before` must have made of it.
inline void expect_step(const steepest_muon_config& config, const muon_matrices& before,
                        const muon_matrices& after, double o_error = 0) {
  const exact_muon exact = oracle(config, before);
  const bool f64 = before.param.dtype == STEEPEST_F64;
  const double eps = f64 ? DBL_EPSILON : FLT_EPSILON;
  if (o_error == 0) o_error = 200 * eps;
  double change = 0;
  for (const double x : exact.change) change += x * x;
  change = std::sqrt(change / static_cast<double>(std::max<std::size_t>(1, exact.change.size())));
  wide_values momentum_slack, param_slack, delta_slack;
  for (std::size_t i = 0; i < exact.param.size(); ++i) {
    momentum_slack.push_back(4 * eps * exact.pull[i]);
    delta_slack.push_back(o_error * change + 4 * eps * std::abs(exact.delta[i]));
    param_slack.push_back(delta_slack[i] + 2 * eps * std::abs(exact.param[i] - exact.delta[i]));
  }
  expect_near_elements("momentum", after.momentum, exact.momentum, momentum_slack);
  if ((config.flags & STEEPEST_MUON_EMIT_DELTA) != 0) {
    expect_near_elements("delta", after.delta, exact.delta, delta_slack);
    EXPECT_TRUE(after.param == before.param);
  } else {
    expect_near_elements("param", after.param, exact.param, param_slack);
    EXPECT_TRUE(after.delta == before.delta);
  }
  EXPECT_TRUE(after.grad == before.grad);
  EXPECT_TRUE(after.intact());
}

// Runs one step and compares it with the oracle.
inline void check_step(steepest_context* context, const steepest_muon_config& config,
                       const muon_matrices& before, double o_error = 0) {
  muon_matrices after = before;
  ASSERT_OK(run_muon(context, config, after));
  expect_step(config, before, after, o_error);
}

// H1 D H2 with two Householder reflections I - 2 v v^T: the singular values are those of D.
inline stored rotated(random_source& random, steepest_dtype dtype, std::int64_t rows,
                      std::int64_t cols, const std::vector<double>& spectrum, std::int64_t gap,
                      double factor = 1) {
  const auto reflection = [&](std::int64_t n) {
    std::vector<double> v(static_cast<std::size_t>(n));
    double sum = 0;
    for (double& x : v) {
      x = random.normal();
      sum += x * x;
    }
    for (double& x : v) x *= std::sqrt(2 / sum);
    return v;  // H = I - v v^T
  };
  const auto left = reflection(rows), right = reflection(cols);
  const auto entry = [](const std::vector<double>& v, std::int64_t i, std::int64_t j) {
    return (i == j ? 1 : 0) - v[static_cast<std::size_t>(i)] * v[static_cast<std::size_t>(j)];
  };
  stored x(dtype, rows, cols, gap);
  x.fill_with([&](std::int64_t i, std::int64_t j) {
    double sum = 0;
    for (std::size_t k = 0; k < spectrum.size(); ++k) {
      const auto at = static_cast<std::int64_t>(k);
      sum += entry(left, i, at) * spectrum[k] * entry(right, at, j);
    }
    return sum * factor;
  });
  return x;
}

}  // namespace steepest_test
