// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "api/msign_config.hpp"
#include "diagnostics/signal_to_noise.hpp"
#include "diagnostics/singular.hpp"

namespace steepest::api {
namespace {

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

steepest_status update_rms_second_order(double beta1, double beta2, double snr, double kurtosis,
                                        int64_t step, double* rms) {
  constexpr char function[] = "adam_update_rms_second_order";
  if (const auto status =
          check_number(function, "beta2", beta2, beta2 >= 0 && beta2 < 1, "in [0, 1)");
      status != STEEPEST_OK)
    return status;
  if (const auto status = check_number(function, "snr", snr, snr >= 0, "not negative");
      status != STEEPEST_OK)
    return status;
  if (const auto status =
          check_number(function, "kurtosis", kurtosis, kurtosis >= 1 && std::isfinite(kurtosis),
                       "finite and at least 1, as any kurtosis is");
      status != STEEPEST_OK)
    return status;
  if (const auto status = check_average(function, "beta1", beta1, step, rms, "rms");
      status != STEEPEST_OK)
    return status;
  const double square = adam_update_square(beta1, beta2, snr, kurtosis, step);
  if (!(square > 0))
    return fail(STEEPEST_E_INVALID_ARGUMENT,
                "%s: kurtosis is %g: too large for a beta2 of %g, the expansion does not hold",
                function, kurtosis, beta2);
  *rms = std::sqrt(square);
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

// Checks a matrix argument and calls use(context, matrix); the matrix has no data if it has no
// elements.
template <class F>
steepest_status open_matrix(const char* function, steepest_context* given_context, int64_t rows,
                            int64_t cols, steepest_dtype dtype, const void* x, int64_t& ldx,
                            F&& use) {
  const argument where = {function, ""};
  if (const auto status = check_msign_shape(where, rows, cols); status != STEEPEST_OK)
    return status;
  if (const auto status = check_dtype(where, "dtype", dtype); status != STEEPEST_OK) return status;
  steepest_context* context = nullptr;
  if (const auto status = resolve_context(function, given_context, context); status != STEEPEST_OK)
    return status;
  if (rows == 0 || cols == 0) return use(*context, stored_matrix{});
  if (ldx == 0) ldx = cols;
  if (const auto status = check_matrix(where, "x", "ldx", x, rows, cols, ldx, dtype);
      status != STEEPEST_OK)
    return status;
  // Of one row it may be anything, and is never taken.
  if (rows == 1) ldx = cols;
  return use(*context, stored_matrix{const_cast<void*>(x), ldx, dtype});
}

// Runs compute(memory, reason) with that many bytes of the context's memory.
template <class F>
steepest_status with_memory(const char* function, steepest_context& context, size_t bytes,
                            F&& compute) {
  workspace memory(context.pool);
  const auto count = static_cast<int64_t>(bytes);
  memory.plan<std::byte>(count);
  if (const auto status = obtain(function, memory, nullptr); status != STEEPEST_OK) return status;
  const char* reason = "";
  const auto status = compute(memory.take<std::byte>(count), reason);
  return status == STEEPEST_OK ? status : fail(status, "%s: x: %s", function, reason);
}

steepest_status values_of(steepest_context* given_context, int64_t rows, int64_t cols,
                          steepest_dtype dtype, const void* x, int64_t ldx, double* values) {
  constexpr char function[] = "singular_values";
  return open_matrix(function, given_context, rows, cols, dtype, x, ldx,
                     [&](steepest_context& context, const stored_matrix& matrix) {
                       if (matrix.data == nullptr) return steepest_status{STEEPEST_OK};
                       if (const auto status = check_buffer({function, ""}, "values", values,
                                                            std::min(rows, cols), STEEPEST_F64);
                           status != STEEPEST_OK)
                         return status;
                       return with_memory(function, context, singular_values_bytes(rows, cols),
                                          [&](std::byte* memory, const char*& reason) {
                                            return singular_values(context, rows, cols, matrix,
                                                                   memory, values, reason);
                                          });
                     });
}

steepest_status spectral_norm(steepest_context* given_context, int64_t rows, int64_t cols,
                              steepest_dtype dtype, const void* x, int64_t ldx, double* norm) {
  constexpr char function[] = "spectral_norm";
  return open_matrix(function, given_context, rows, cols, dtype, x, ldx,
                     [&](steepest_context& context, const stored_matrix& matrix) {
                       if (norm == nullptr)
                         return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: norm is null", function);
                       if (matrix.data == nullptr) {
                         *norm = 0;
                         return steepest_status{STEEPEST_OK};
                       }
                       const int64_t n = std::min(rows, cols);
                       const size_t bytes = singular_values_bytes(rows, cols);
                       return with_memory(
                           function, context, bytes + static_cast<size_t>(n) * sizeof(double),
                           [&](std::byte* memory, const char*& reason) {
                             auto* values = reinterpret_cast<double*>(memory + bytes);
                             const auto status = singular_values(context, rows, cols, matrix,
                                                                 memory, values, reason);
                             if (status == STEEPEST_OK) *norm = values[0];
                             return status;
                           });
                     });
}

steepest_status spectral_norm_bounds(steepest_context* given_context, int64_t rows, int64_t cols,
                                     steepest_dtype dtype, const void* x, int64_t ldx,
                                     double tolerance, double* lower, double* upper) {
  constexpr char function[] = "spectral_norm_bounds";
  return open_matrix(function, given_context, rows, cols, dtype, x, ldx,
                     [&](steepest_context& context, const stored_matrix& matrix) {
                       if (const auto status =
                               check_number(function, "tolerance", tolerance,
                                            tolerance == 0 || (tolerance >= 1e-6 && tolerance <= 1),
                                            "from 1e-6 to 1, or 0 for 0.01");
                           status != STEEPEST_OK)
                         return status;
                       if (lower == nullptr)
                         return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: lower is null", function);
                       if (upper == nullptr)
                         return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: upper is null", function);
                       if (matrix.data == nullptr) {
                         *lower = *upper = 0;
                         return steepest_status{STEEPEST_OK};
                       }
                       return with_memory(
                           function, context, spectral_bounds_bytes(context, rows, cols),
                           [&](std::byte* memory, const char*& reason) {
                             norm_bounds bounds = {};
                             const auto status = spectral_bounds(context, rows, cols, matrix,
                                                                 tolerance == 0 ? 0.01 : tolerance,
                                                                 memory, bounds, reason);
                             if (status == STEEPEST_OK) {
                               *lower = bounds.lower;
                               *upper = bounds.upper;
                             }
                             return status;
                           });
                     });
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

steepest_status steepest_adam_update_rms_second_order(double beta1, double beta2, double snr,
                                                      double kurtosis, int64_t step, double* rms) {
  return steepest::api::entry("adam_update_rms_second_order", [&] {
    return steepest::api::update_rms_second_order(beta1, beta2, snr, kurtosis, step, rms);
  });
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

steepest_status steepest_spectral_norm(steepest_context* context, int64_t rows, int64_t cols,
                                       steepest_dtype dtype, const void* x, int64_t ldx,
                                       double* norm) {
  return steepest::api::entry("spectral_norm", [&] {
    return steepest::api::spectral_norm(context, rows, cols, dtype, x, ldx, norm);
  });
}

steepest_status steepest_spectral_norm_bounds(steepest_context* context, int64_t rows, int64_t cols,
                                              steepest_dtype dtype, const void* x, int64_t ldx,
                                              double tolerance, double* lower, double* upper) {
  return steepest::api::entry("spectral_norm_bounds", [&] {
    return steepest::api::spectral_norm_bounds(context, rows, cols, dtype, x, ldx, tolerance, lower,
                                               upper);
  });
}

steepest_status steepest_singular_entropy(const double* values, int64_t count, double* entropy) {
  return steepest::api::entry("singular_entropy",
                              [&] { return steepest::api::entropy_of(values, count, entropy); });
}

}  // extern "C"
