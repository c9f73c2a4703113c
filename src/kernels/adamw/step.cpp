// SPDX-License-Identifier: Apache-2.0
// What surrounds the kernels: the constants of a config, the tiles of a call, the statistics.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "core/double_double.hpp"
#include "core/narrow.hpp"
#include "diagnostics/signal_to_noise.hpp"
#include "kernels/adamw/adamw.hpp"
#include "parallel/tiles.hpp"

namespace steepest {

namespace {

// x to nearest, and as hi + lo with hi rounded towards zero: see adamw_constants.
template <class T>
void split(double_double x, T& nearest, T& hi, T& lo) {
  nearest = static_cast<T>(x.hi);
  hi = static_cast<T>(x.hi);
  lo = T(0);
  if (!std::isfinite(hi)) return;  // refused by the caller
  if (double{hi} > x.hi || (double{hi} == x.hi && x.lo < 0)) hi = std::nextafter(hi, T(0));
  lo = static_cast<T>((x.hi - double{hi}) + x.lo);
  if (lo <= 0) lo = hi * static_cast<T>(0x1p-60);
}

template <class T>
adamw_constants<T> constants(const steepest_adamw_config& config, double grad_factor, double f,
                             double bias1, double bias2) {
  adamw_constants<T> k = {};
  const bool coupled = (config.flags & STEEPEST_ADAMW_COUPLED_L2) != 0;
  k.grad_factor = static_cast<T>(grad_factor);
  split({config.beta1, 0.0}, k.beta1, k.beta1_hi, k.beta1_lo);
  split({config.beta2, 0.0}, k.beta2, k.beta2_hi, k.beta2_lo);
  split(two_sum(1.0, -config.beta1) * f, k.c1, k.c1_hi, k.c1_lo);
  split(two_sum(1.0, -config.beta2) * two_product(f, f), k.c2, k.c2_hi, k.c2_lo);
  k.eps = static_cast<T>(config.eps * std::sqrt(bias2));
  k.rate = static_cast<T>(config.lr * std::sqrt(bias2) / bias1);
  k.decay = coupled ? T(0) : static_cast<T>(config.lr * config.weight_decay);
  k.l2 = coupled ? static_cast<T>(config.weight_decay) : T(0);
  return k;
}

constexpr steepest_dtype f32_type = STEEPEST_F32, f64_type = STEEPEST_F64,
                         bf16_type = STEEPEST_BF16, f16_type = STEEPEST_F16,
                         companded = STEEPEST_Q8_COMPANDED;

// In the order of adamw_mix.
constexpr struct {
  steepest_dtype param, grad, exp_avg, exp_avg_sq;
  int32_t residual = STEEPEST_RESIDUAL_NONE;
  bool stochastic = false;
} own_kernels[] = {
    {f32_type, f32_type, f32_type, f32_type},
    {f64_type, f64_type, f64_type, f64_type},
    {f32_type, bf16_type, f32_type, f32_type},
    {f32_type, f16_type, f32_type, f32_type},
    {bf16_type, bf16_type, f32_type, f32_type},
    {f16_type, f16_type, f32_type, f32_type},
    {bf16_type, bf16_type, bf16_type, bf16_type},
    {f16_type, f16_type, f16_type, f16_type},
    {bf16_type, bf16_type, bf16_type, f32_type},
    {bf16_type, f32_type, f32_type, f32_type},
    {bf16_type, bf16_type, f32_type, f32_type, STEEPEST_RESIDUAL_LOW16},
    {bf16_type, bf16_type, f32_type, f32_type, STEEPEST_RESIDUAL_NEAREST16},
    {bf16_type, bf16_type, bf16_type, bf16_type, STEEPEST_RESIDUAL_NONE, true},
    {bf16_type, bf16_type, f32_type, f32_type, STEEPEST_RESIDUAL_NONE, true},
    {f32_type, f32_type, companded, companded},
    {f32_type, bf16_type, companded, companded},
    {bf16_type, bf16_type, companded, companded},
    {f32_type, f32_type, companded, companded, STEEPEST_RESIDUAL_NONE, true},
    {f32_type, bf16_type, companded, companded, STEEPEST_RESIDUAL_NONE, true},
    {bf16_type, bf16_type, companded, companded, STEEPEST_RESIDUAL_NONE, true},
};
static_assert(std::size(own_kernels) == adamw_staged);

// What a step rounds at random: what it stores as bf16 or in 8 bits.
bool rounds_at_random(const adamw_buffers& b, uint64_t flags) {
  if ((flags & STEEPEST_ADAMW_STOCHASTIC_ROUNDING) == 0) return false;
  const auto is_narrow = [](steepest_dtype dtype) { return dtype == bf16_type || is_q8(dtype); };
  const bool param = b.residual_kind == STEEPEST_RESIDUAL_NONE
                         ? b.param_dtype == bf16_type
                         : b.residual_kind == STEEPEST_RESIDUAL_NEAREST8;
  return param || is_narrow(b.exp_avg_dtype) || is_narrow(b.exp_avg_sq_dtype);
}

}  // namespace

adamw_mix adamw_mix_of(const adamw_buffers& b, const adamw_prepared& prepared) {
  const bool any_f64 = b.param_dtype == f64_type || b.grad_dtype == f64_type ||
                       b.exp_avg_dtype == f64_type || b.exp_avg_sq_dtype == f64_type;
  const bool stochastic = rounds_at_random(b, prepared.flags);
  const bool narrow =
      b.residual_kind != STEEPEST_RESIDUAL_NONE || stochastic || is_q8(b.exp_avg_dtype);
  constexpr uint64_t rarer = STEEPEST_ADAMW_AMSGRAD | STEEPEST_ADAMW_COUPLED_L2 |
                             STEEPEST_ADAMW_CAUTIOUS_DECAY | STEEPEST_ADAMW_EMIT_DELTA;
  // The companded kernels put the power of two of grad_scale into other constants.
  const float unit = std::abs(prepared.f32.grad_factor);
  const bool plain = (prepared.flags & rarer) == 0 && prepared.f32.eps > 0 &&
                     (!is_q8(b.exp_avg_dtype) || (unit >= 0x1p-30F && unit <= 0x1p30F));
  if (b.param_copy == nullptr && (plain || !narrow))
    for (int32_t mix = 0; mix < adamw_staged; ++mix) {
      const auto& own = own_kernels[mix];
      if (own.param == b.param_dtype && own.grad == b.grad_dtype &&
          own.exp_avg == b.exp_avg_dtype && own.exp_avg_sq == b.exp_avg_sq_dtype &&
          own.residual == b.residual_kind && own.stochastic == stochastic)
        return static_cast<adamw_mix>(mix);
    }
  return any_f64 ? adamw_no_mix : adamw_staged;
}

adamw_prepared adamw_prepare(const steepest_adamw_config& config, bool f64) {
  const double bias1 = one_minus_power(config.beta1, config.step);
  const double bias2 = one_minus_power(config.beta2, config.step);
  // grad_scale = grad_factor * f. The kernel multiplies by the power of two, which is exact; f goes
  // into the constants. With COUPLED_L2 the scaled gradient itself is needed, so f = 1.
  double grad_factor =
      (config.flags & STEEPEST_ADAMW_MAXIMIZE) ? -config.grad_scale : config.grad_scale;
  double f = 1.0;
  if (!(config.flags & STEEPEST_ADAMW_COUPLED_L2) && grad_factor != 0.0) {
    const int limit = f64 ? 1022 : 126;  // normal in the arithmetic's type
    const int exponent = std::clamp(std::ilogb(grad_factor), -limit, limit);
    const double power = std::copysign(std::ldexp(1.0, exponent), grad_factor);
    f = grad_factor / power;
    grad_factor = power;
  }
  adamw_prepared prepared = {};
  if (f64)
    prepared.f64 = constants<double>(config, grad_factor, f, bias1, bias2);
  else
    prepared.f32 = constants<float>(config, grad_factor, f, bias1, bias2);
  prepared.flags = config.flags;
  prepared.grad_unit = f;
  prepared.update_unit = std::sqrt(bias2) / bias1;
  prepared.momentum_unit = 1.0 / bias1;
  // Where m is the gradient itself, at step 1 or without momentum, there is no answer.
  prepared.snr_floor = noise_floor(config.beta1, config.step);
  prepared.seed = config.seed;
  prepared.step = config.step;
  return prepared;
}

namespace {
constexpr int64_t parallel_threshold = int64_t{1} << 16;
}  // namespace

steepest_status adamw_run(steepest_context& context, const adamw_job* jobs, int64_t count,
                          adamw_sums* sums) {
  return for_each_tile(context, jobs, count, parallel_threshold,
                       [&](const adamw_job& job, int64_t from, int64_t to, int64_t tile) {
                         job.kernel(*job.prepared, job.buffers, from, to,
                                    sums == nullptr ? nullptr : sums + tile);
                       });
}

steepest_status adamw_run_part(steepest_context& context, const adamw_job& job, int64_t from,
                               int64_t count, adamw_sums* sums) {
  const struct { int64_t count, first_tile; } part = {count, 0};
  adamw_sums* const part_sums = sums + job.first_tile + from / tile_elements;
  return for_each_tile(context, &part, 1, parallel_threshold,
                       [&](const auto&, int64_t begin, int64_t end, int64_t tile) {
                         job.kernel(*job.prepared, job.buffers, from + begin, from + end,
                                    part_sums + tile);
                       });
}

void adamw_statistics(const adamw_job& job, const adamw_sums* sums, steepest_step_stats& stats) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  stats.snr_update = nan;
  stats.snr_momentum = nan;
  if (job.count == 0) return;
  adamw_sums total = {};
  for (int64_t tile = 0; tile < tile_count(job.count); ++tile) {
    total.update += sums[tile].update;
    total.grad += sums[tile].grad;
    total.momentum += sums[tile].momentum;
    total.param += sums[tile].param;
    total.nonfinite += sums[tile].nonfinite;
  }
  const adamw_prepared& prepared = *job.prepared;
  const auto rms = [&](double sum, double unit) {
    return std::sqrt(sum / static_cast<double>(job.count)) * unit;
  };
  stats.update_rms = rms(total.update, prepared.update_unit);
  stats.grad_rms = rms(total.grad, prepared.grad_unit);
  stats.momentum_rms = rms(total.momentum, prepared.momentum_unit);
  stats.param_rms = rms(total.param, 1.0);
  stats.nonfinite = total.nonfinite;
  const double momentum_over_grad = stats.momentum_rms / stats.grad_rms;
  stats.snr_update = snr_above(prepared.snr_floor, stats.update_rms * stats.update_rms);
  stats.snr_momentum = snr_above(prepared.snr_floor, momentum_over_grad * momentum_over_grad);
}

}  // namespace steepest
