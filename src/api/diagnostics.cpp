// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "api/msign_config.hpp"
#include "diagnostics/signal_to_noise.hpp"
#include "diagnostics/singular.hpp"

namespace steepest::api {
namespace {

// An argument that is a number: `valid` says whether it keeps the rule.
steepest_status check_number(const char* function, const char* name, double value, bool valid,
                             const char* rule) {
  if (valid) return STEEPEST_OK;
  return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: %s is %g: it must be %s", function, name, value,
              rule);
}

steepest_status check_average(const char* function, const char* name, double beta, int64_t step,
                              const double* out, const char* out_name) {
  if (const auto status = check_number(function, name, beta, beta >= 0 && beta < 1, "in [0, 1)");
      status != STEEPEST_OK)
    return status;
  if (step < 0)
    return fail(STEEPEST_E_INVALID_ARGUMENT,
                "%s: step is %lld: the first step is 1, and 0 is the steady state", function,
                static_cast<long long>(step));
  if (out == nullptr)
    return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: %s is null", function, out_name);
  return STEEPEST_OK;
}

steepest_status update_rms(double beta1, double snr, int64_t step, double* rms) {
  constexpr char function[] = "adam_update_rms";
  if (const auto status = check_number(function, "snr", snr, snr >= 0, "not negative");
      status != STEEPEST_OK)
    return status;
  if (const auto status = check_average(function, "beta1", beta1, step, rms, "rms");
      status != STEEPEST_OK)
    return status;
  *rms = adam_update_rms(beta1, snr, step);
  return STEEPEST_OK;
}

steepest_status snr_of_update(double rms, double beta1, int64_t step, double* snr) {
  constexpr char function[] = "snr_from_update_rms";
  if (const auto status =
          check_number(function, "update_rms", rms, rms >= 0 && rms < 1, "in [0, 1)");
      status != STEEPEST_OK)
    return status;
  if (const auto status = check_average(function, "beta1", beta1, step, snr, "snr");
      status != STEEPEST_OK)
    return status;
  *snr = snr_above(noise_floor(beta1, step), rms * rms);
  return STEEPEST_OK;
}

steepest_status snr_of_momentum(double momentum_rms, double grad_rms, double beta, int64_t step,
                                double* snr) {
  constexpr char function[] = "snr_from_momentum";
  if (const auto status =
          check_number(function, "grad_rms", grad_rms, grad_rms > 0 && std::isfinite(grad_rms),
                       "finite and positive");
      status != STEEPEST_OK)
    return status;
  if (const auto status =
          check_number(function, "momentum_rms", momentum_rms,
                       momentum_rms >= 0 && momentum_rms < grad_rms, "in [0, grad_rms)");
      status != STEEPEST_OK)
    return status;
  if (const auto status = check_average(function, "beta", beta, step, snr, "snr");
      status != STEEPEST_OK)
    return status;
  *snr = snr_from_momentum(momentum_rms, grad_rms, beta, step);
  return STEEPEST_OK;
}

steepest_status values_of(steepest_context* given_context, int64_t rows, int64_t cols,
                          steepest_dtype dtype, const void* x, int64_t ldx, double* values) {
  constexpr char function[] = "singular_values";
  const argument where = {function, ""};
  if (const auto status = check_msign_shape(where, rows, cols); status != STEEPEST_OK)
    return status;
  if (const auto status = check_dtype(where, "dtype", dtype); status != STEEPEST_OK) return status;
  steepest_context* context = nullptr;
  if (const auto status = resolve_context(function, given_context, context); status != STEEPEST_OK)
    return status;
  if (rows == 0 || cols == 0) return STEEPEST_OK;
  if (ldx == 0) ldx = cols;
  if (const auto status = check_matrix(where, "x", "ldx", x, rows, cols, ldx, dtype);
      status != STEEPEST_OK)
    return status;
  const int64_t n = rows < cols ? rows : cols;
  if (const auto status = check_buffer(where, "values", values, n, STEEPEST_F64);
      status != STEEPEST_OK)
    return status;
  workspace memory(context->pool);
  const auto bytes = static_cast<int64_t>(singular_values_bytes(rows, cols));
  memory.plan<std::byte>(bytes);
  if (const auto status = obtain(function, memory, nullptr); status != STEEPEST_OK) return status;
  const char* reason = "";
  const auto status = singular_values(*context, rows, cols, {const_cast<void*>(x), ldx, dtype},
                                      memory.take<std::byte>(bytes), values, reason);
  return status == STEEPEST_OK ? status : fail(status, "%s: x: %s", function, reason);
}

steepest_status entropy_of(const double* values, int64_t count, double* entropy) {
  constexpr char function[] = "singular_entropy";
  if (count < 0)
    return fail(STEEPEST_E_SHAPE, "%s: count is negative (%lld)", function,
                static_cast<long long>(count));
  if (values == nullptr && count > 0)
    return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: values is null (count = %lld)", function,
                static_cast<long long>(count));
  if (entropy == nullptr) return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: entropy is null", function);
  for (int64_t i = 0; i < count; ++i)
    if (!(values[i] >= 0 && std::isfinite(values[i])))
      return fail(STEEPEST_E_INVALID_ARGUMENT,
                  "%s: values[%lld] is %g: it must be finite and not negative", function,
                  static_cast<long long>(i), values[i]);
  *entropy = singular_entropy(values, count);
  return STEEPEST_OK;
}

}  // namespace
}  // namespace steepest::api

extern "C" {

steepest_status steepest_adam_update_rms(double beta1, double snr, int64_t step, double* rms) {
  return steepest::api::entry("adam_update_rms",
                              [&] { return steepest::api::update_rms(beta1, snr, step, rms); });
}

steepest_status steepest_snr_from_update_rms(double update_rms, double beta1, int64_t step,
                                             double* snr) {
  return steepest::api::entry("snr_from_update_rms", [&] {
    return steepest::api::snr_of_update(update_rms, beta1, step, snr);
  });
}

steepest_status steepest_snr_from_momentum(double momentum_rms, double grad_rms, double beta,
                                           int64_t step, double* snr) {
  return steepest::api::entry("snr_from_momentum", [&] {
    return steepest::api::snr_of_momentum(momentum_rms, grad_rms, beta, step, snr);
  });
}

steepest_status steepest_singular_values(steepest_context* context, int64_t rows, int64_t cols,
                                         steepest_dtype dtype, const void* x, int64_t ldx,
                                         double* values) {
  return steepest::api::entry("singular_values", [&] {
    return steepest::api::values_of(context, rows, cols, dtype, x, ldx, values);
  });
}

steepest_status steepest_singular_entropy(const double* values, int64_t count, double* entropy) {
  return steepest::api::entry("singular_entropy",
                              [&] { return steepest::api::entropy_of(values, count, entropy); });
}

}  // extern "C"
