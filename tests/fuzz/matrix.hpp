// SPDX-License-Identifier: Apache-2.0
//
// Matrices and msign configs as the matrix functions take them, and what the contract says of them.
#pragma once

#include <cfloat>
#include <cmath>

#include "calls.hpp"
#include "ranges.hpp"

namespace steepest_fuzz {

constexpr std::int64_t largest_side = 64;

inline std::int64_t some_side(choices& input) {
  if (input.rarely(64)) return input.wild_size();
  if (input.rarely(16)) return input.of<std::int64_t>({0, 1, largest_side});
  return 1 + input.below(input.even_chance() ? 6 : 40);
}
inline bool has_memory(std::int64_t rows, std::int64_t cols) {
  return rows >= 0 && cols >= 0 && rows <= largest_side && cols <= largest_side;
}
inline verdict shape_rule(std::int64_t rows, std::int64_t cols) {
  return refuse_if(rows < 0 || cols < 0 || rows > INT32_MAX || cols > INT32_MAX ||
                   rows * cols > std::int64_t{1} << 48);
}

// 0 stands for cols.
inline std::int64_t some_stride(choices& input, std::int64_t cols) {
  if (cols < 0 || cols > largest_side) return 0;
  if (input.rarely(64)) return input.wild_size();
  if (input.rarely(32)) return cols - 1;
  return input.of<std::int64_t>({0, cols, cols + 1, cols + 16});
}

struct matrix {
  void* data = nullptr;
  std::int64_t rows = 0, cols = 0, stride = 0;
  steepest_dtype dtype = STEEPEST_F32;

  std::int64_t size() const { return size_of(dtype); }
  bool empty() const { return rows == 0 || cols == 0; }
  // Of one with elements.
  verdict rule() const {
    if (data == nullptr || stride < cols || !is_aligned(data, size())) return verdict::refuse;
    std::int64_t bytes = 0;
    return refuse_if(__builtin_mul_overflow(rows - 1, stride, &bytes) ||
                     __builtin_add_overflow(bytes, cols, &bytes) ||
                     __builtin_mul_overflow(bytes, size(), &bytes) ||
                     static_cast<std::uintptr_t>(bytes) >
                         UINTPTR_MAX - reinterpret_cast<std::uintptr_t>(data));
  }
  // Whether there is as much memory as its numbers say.
  bool exists() const { return has_memory(rows, cols) && (rows == 1 || stride <= cols + 16); }
  range bytes(bool written, std::int64_t tensor) const {
    return {data, rows, cols * size(), rows > 1 ? stride * size() : 0, written, tensor};
  }
};

// `stride` as given, 0 for cols. Without elements it may be anything.
inline matrix some_matrix(choices& input, memory& seen, memory::access how, std::int64_t rows,
                          std::int64_t cols, std::int64_t stride, steepest_dtype dtype,
                          content kind) {
  matrix m = {nullptr, rows, cols, stride != 0 ? stride : cols, dtype};
  const bool exists = !m.empty() && m.exists() && m.stride >= cols;
  const std::int64_t elements = exists ? (rows - 1) * m.stride + cols : 8;
  m.data = some_buffer(input, seen, how, elements * m.size(), m.size());
  if (m.data != nullptr) fill(input, kind, m.data, elements, dtype);
  seen.holds(m.data, dtype);
  return m;
}

inline double number_at(const matrix& m, std::int64_t i, std::int64_t j) {
  const char* const at = static_cast<const char*>(m.data) + (i * m.stride + j) * m.size();
  std::uint64_t bits = 0;
  std::memcpy(&bits, at, static_cast<std::size_t>(m.size()));
  const auto [fraction_bits, bytes] = format_of(m.dtype);
  const int exponent_bits = 8 * bytes - 1 - fraction_bits;
  const auto largest = (std::int64_t{1} << exponent_bits) - 1;
  const auto exponent = static_cast<std::int64_t>(bits >> fraction_bits) & largest;
  const auto fraction = static_cast<double>(bits & ((std::uint64_t{1} << fraction_bits) - 1));
  const double sign = (bits >> (8 * bytes - 1)) != 0 ? -1 : 1;
  if (exponent == largest) return fraction != 0 ? NAN : sign * INFINITY;
  const double significand = exponent == 0 ? fraction : std::ldexp(1, fraction_bits) + fraction;
  return sign * std::ldexp(significand, static_cast<int>(std::max<std::int64_t>(exponent, 1) -
                                                         largest / 2 - fraction_bits));
}
// The largest magnitude; NaN if there is one.
inline double largest_of(const matrix& m) {
  double largest = 0;
  for (std::int64_t i = 0; i < m.rows; ++i)
    for (std::int64_t j = 0; j < m.cols; ++j) {
      const double x = std::fabs(number_at(m, i, j));
      if (!(x <= largest)) largest = x;
      if (std::isnan(x)) return x;
    }
  return largest;
}

inline bool rows_unchanged(memory& seen, const range& r) {
  for (std::int64_t i = 0; i < r.rows; ++i)
    if (!seen.unchanged(reinterpret_cast<const void*>(r.row(i)), r.width)) return false;
  return true;
}
inline bool gaps_unchanged(memory& seen, const range& r) {
  for (std::int64_t i = 0; i + 1 < r.rows; ++i)
    if (!seen.unchanged(reinterpret_cast<const void*>(r.row(i) + std::uintptr_t(r.width)),
                        r.pitch - r.width))
      return false;
  return true;
}

// ---- configs of msign

struct msign_given : given<steepest_msign_config> {
  bool polynomial() const {
    return seen.method == STEEPEST_MSIGN_NEWTON_SCHULZ ||
           seen.method == STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ;
  }
  bool consistent() const { return (seen.flags & STEEPEST_FLAG_CONSISTENT) != 0; }
};

inline verdict rule_of_config(const steepest_msign_config& c, bool polynomial) {
  const bool rational = c.method == STEEPEST_MSIGN_RATIONAL || c.method == STEEPEST_MSIGN_HALLEY;
  const bool svd = c.method == STEEPEST_MSIGN_SVD;
  const bool accurate = c.method == STEEPEST_MSIGN_ACCURATE;
  const auto dtype = c.compute_dtype;
  if ((c.flags & ~(STEEPEST_MSIGN_SPLIT_BF16 | STEEPEST_FLAG_CONSISTENT)) != 0 || c.reserved != 0 ||
      c.method < 0 || c.method > 6 || c.coefficients < 1 || c.coefficients > 6 ||
      c.normalization < 0 || c.normalization > 3 ||
      (polynomial && (c.steps < 0 || c.steps > 100)) ||
      (rational && (c.steps < 0 || c.steps > 8)) ||
      (c.normalization == STEEPEST_NORM_BOUND && !(c.norm_bound > 0 && c.norm_bound <= DBL_MAX)) ||
      !(c.rank_tolerance >= 0 && c.rank_tolerance < 1) || dtype < 0 || dtype > STEEPEST_BF16 ||
      (accurate && dtype != 0 && dtype != STEEPEST_F64) || (svd && dtype == STEEPEST_BF16))
    return verdict::refuse;
  if (!polynomial) return verdict::accept;
  const std::int64_t steps = c.steps != 0 ? c.steps : 5;
  verdict rule = steps < 4 ? verdict::either : verdict::accept;
  if (c.coefficients == STEEPEST_COEF_CUSTOM) {
    const std::int64_t count = c.custom_count != 0 ? c.custom_count : c.steps;
    if (c.custom_coefficients == nullptr || count < 1 || count > 100) return verdict::refuse;
    for (std::int64_t i = 0; i < 3 * count; ++i)
      if (!(std::fabs(c.custom_coefficients[i]) <= DBL_MAX)) return verdict::refuse;
    rule = verdict::either;  // the scan decides
  }
  if (c.restarts == nullptr) return rule;
  if (c.restart_count < 0 || c.restart_count >= steps) return verdict::refuse;
  std::int32_t before = 1;
  for (std::int64_t i = 0; i < c.restart_count; ++i) {
    if (c.restarts[i] <= before || c.restarts[i] > steps) return verdict::refuse;
    before = c.restarts[i];
  }
  return rule;
}

inline msign_given some_msign_config(choices& input, memory& seen) {
  steepest_msign_config c = STEEPEST_MSIGN_CONFIG_INIT;
  c.method = static_cast<std::int32_t>(input.integer({0, 1, 2, 3, 4, 5, 6}));
  c.steps = static_cast<std::int32_t>(input.integer({0, 0, 0, 1, 3, 5, 8, 100}));
  c.coefficients = static_cast<std::int32_t>(input.integer({5, 1, 2, 3, 4, 6}));
  c.normalization = static_cast<std::int32_t>(input.integer({0, 0, 1, 2, 3}));
  c.lower_bound = input.number({0, 0, 1e-3, 1e-2, 0.5, 1e-8});
  c.norm_bound = input.number({100, 1, 1e6});
  c.rank_tolerance = input.number({0, 0, 1e-6, 0.5});
  c.compute_dtype = input.of<steepest_dtype>({0, 0, 0, STEEPEST_F32, STEEPEST_F64, STEEPEST_BF16});
  if (input.rarely(32)) c.compute_dtype = some_dtype(input);
  if (input.rarely(4)) c.flags |= STEEPEST_FLAG_CONSISTENT;
  if (input.rarely(8)) c.flags |= STEEPEST_MSIGN_SPLIT_BF16;
  if (input.rarely(64)) c.flags ^= std::uint64_t{1} << input.below(64);
  if (input.rarely(64)) c.reserved = -1;
  if (c.coefficients == STEEPEST_COEF_CUSTOM && !input.rarely(16)) {
    c.custom_count = input.integer({0, 1, 5, 8, 100});
    const std::int64_t rows =
        std::min<std::int64_t>(std::max<std::int64_t>({c.custom_count, c.steps, 1}), 100);
    auto* const k = static_cast<double*>(seen.bytes(memory::input, 24 * rows));
    for (std::int64_t i = 0; i < rows; ++i) {
      k[3 * i] = input.number({1.5, 1.875, 2, 3.4445});
      k[3 * i + 1] = input.number({-0.5, -1.25, -1.5, -4.775});
      k[3 * i + 2] = input.number({0, 0.375, 0.5, 2.0315});
    }
    c.custom_coefficients = k;
  }
  if (input.rarely(8)) {
    c.restart_count = input.integer({0, 1, 2, 3});
    const std::int64_t n = c.restart_count > 0 && c.restart_count < 100 ? c.restart_count : 1;
    auto* const steps = static_cast<std::int32_t*>(seen.bytes(memory::input, 4 * n));
    for (std::int64_t i = 0; i < n; ++i)
      steps[i] = static_cast<std::int32_t>(input.integer({2 + i, 3 + i, 5}));
    c.restarts = steps;
  }
  msign_given result = {
      hand_over(input, seen, memory::input, steepest_msign_config STEEPEST_MSIGN_CONFIG_INIT, c)};
  result.rule = worse(result.rule, rule_of_config(result.seen, result.polynomial()));
  return result;
}

// For matrices of a type, in a context of a level. `consistent`: asked for elsewhere.
inline verdict rule_in_use(const steepest_msign_config& c, steepest_dtype dtype, bool consistent,
                           bool openblas) {
  consistent |= (c.flags & STEEPEST_FLAG_CONSISTENT) != 0;
  const bool bf16 = c.compute_dtype == STEEPEST_BF16;
  if (consistent && (bf16 || openblas || c.method == STEEPEST_MSIGN_SVD)) return verdict::refuse;
  if (bf16 && openblas) return verdict::refuse;
  verdict rule = bf16 ? verdict::either : verdict::accept;  // the CPU decides
  if (c.method == STEEPEST_MSIGN_RATIONAL || c.method == STEEPEST_MSIGN_HALLEY) {
    const bool f64 =
        c.compute_dtype == STEEPEST_F64 || (c.compute_dtype == 0 && dtype == STEEPEST_F64);
    const double least = f64 ? 1e-8 : 1e-3;
    if (c.lower_bound != 0 && !(c.lower_bound >= least && c.lower_bound < 1))
      return verdict::refuse;
  }
  return rule;
}

// ---- workspaces

struct workspace_given {
  const steepest_workspace* pointer = nullptr;
  verdict rule = verdict::accept;
};

// For a call that needs `bytes`.
inline workspace_given some_workspace(choices& input, memory& seen, std::size_t bytes) {
  if (!input.rarely(3) || bytes > std::size_t{1} << 26) return {};
  steepest_workspace w = STEEPEST_WORKSPACE_INIT;
  w.bytes = bytes;
  if (input.rarely(8)) w.bytes = bytes - 1 - static_cast<std::size_t>(input.below(200)) % bytes;
  if (!input.rarely(16))
    w.data = seen.bytes(memory::scratch, static_cast<std::int64_t>(w.bytes), input.below(64));
  const auto result =
      hand_over(input, seen, memory::input, steepest_workspace STEEPEST_WORKSPACE_INIT, w);
  return {result.pointer,
          worse(result.rule, refuse_if(result.seen.bytes < bytes || result.seen.data == nullptr))};
}

// Judges a call of a matrix function that the contract has `rule` for. True if there is an answer
// to look at: not after a callback's failure or a refusal.
inline bool has_answer(const callback_context& context, steepest_status status, verdict rule,
                       const char* function) {
  const bool out_of_order = status == STEEPEST_E_INTERNAL || status == STEEPEST_E_OUT_OF_MEMORY;
  if (context.failed()) {
    REQUIRE(out_of_order, "a callback failed, the status is %d", status);
    return false;
  }
  REQUIRE(!out_of_order, "status %d", status);
  const bool answered =
      status == STEEPEST_OK || status == STEEPEST_E_NONFINITE || status == STEEPEST_E_NOT_CONVERGED;
  expect(rule, answered ? STEEPEST_OK : status, function);
  return answered;
}

}  // namespace steepest_fuzz
