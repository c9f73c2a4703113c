// SPDX-License-Identifier: Apache-2.0
#include "api/msign_config.hpp"

#include <cmath>

#include "dispatch/cpu.hpp"
#include "dispatch/tables.hpp"
#include "linalg/linalg.hpp"
#include "msign/msign.hpp"

namespace steepest::api {

namespace {

bool is_newton_schulz(int32_t method) {
  return method == STEEPEST_MSIGN_NEWTON_SCHULZ || method == STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ;
}

bool is_rational(int32_t method) {
  return method == STEEPEST_MSIGN_RATIONAL || method == STEEPEST_MSIGN_HALLEY;
}

steepest_status check_range(const argument& where, const char* field, int32_t value, int32_t low,
                            int32_t high) {
  if (value >= low && value <= high) return STEEPEST_OK;
  return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".%s is %d: it must be from %d to %d", field,
                    static_cast<int>(value), static_cast<int>(low), static_cast<int>(high));
}

steepest_status check_custom_rows(const argument& where, const steepest_msign_config& config) {
  if (config.custom_coefficients == nullptr)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT,
                      ".custom_coefficients is null (coefficients = CUSTOM)");
  const int64_t count = config.custom_count != 0 ? config.custom_count : config.steps;
  if (count < 1 || count > 100)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT,
                      ".custom_count is %lld and steps is %d: 1 to 100 rows are needed",
                      static_cast<long long>(config.custom_count), static_cast<int>(config.steps));
  for (int64_t i = 0; i < 3 * count; ++i)
    if (!std::isfinite(config.custom_coefficients[i]))
      return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".custom_coefficients[%lld] is not finite",
                        static_cast<long long>(i));
  return STEEPEST_OK;
}

// The presets are known to be safe from four steps on.
steepest_status check_safety(const argument& where, const steepest_msign_config& config) {
  const int64_t steps = config.steps != 0 ? config.steps : 5;
  if (config.coefficients != STEEPEST_COEF_CUSTOM && steps >= 4) return STEEPEST_OK;
  double at = 0;
  double value = 0;
  const auto result = msign::scan(msign_coefficients(config, steps), steps, at, value);
  if (result == msign::scan_result::safe) return STEEPEST_OK;
  return where.fail(STEEPEST_E_INVALID_ARGUMENT,
                    ".coefficients (%d) with steps = %lld take the singular value %.4g to %.4g: "
                    "%s is not safe",
                    static_cast<int>(config.coefficients), static_cast<long long>(steps), at, value,
                    result == msign::scan_result::negative ? "a negative value" : "more than 1.6");
}

steepest_status check_restarts(const argument& where, const steepest_msign_config& config) {
  if (config.restarts == nullptr) return STEEPEST_OK;
  const int32_t steps = config.steps != 0 ? config.steps : 5;
  if (config.restart_count < 0 || config.restart_count >= steps)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT,
                      ".restart_count is %lld: it must be from 0 to steps - 1 (%d)",
                      static_cast<long long>(config.restart_count), static_cast<int>(steps - 1));
  int32_t before = 1;
  for (int64_t i = 0; i < config.restart_count; ++i) {
    const int32_t step = config.restarts[i];
    if (step <= before || step > steps)
      return where.fail(STEEPEST_E_INVALID_ARGUMENT,
                        ".restarts[%lld] is %d: they must rise and lie in 2..%d",
                        static_cast<long long>(i), static_cast<int>(step), static_cast<int>(steps));
    before = step;
  }
  return STEEPEST_OK;
}

steepest_status check(const argument& where, const steepest_msign_config& config) {
  constexpr uint64_t known_flags = STEEPEST_MSIGN_SPLIT_BF16 | STEEPEST_FLAG_CONSISTENT;
  if (config.flags & ~known_flags)
    return where.fail(STEEPEST_E_UNSUPPORTED, ".flags has unknown bits (0x%llx)",
                      static_cast<unsigned long long>(config.flags & ~known_flags));
  if (config.reserved != 0)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".reserved is not 0 (%d)",
                      static_cast<int>(config.reserved));
  if (const auto status =
          check_range(where, "method", config.method, STEEPEST_MSIGN_AUTO, STEEPEST_MSIGN_ACCURATE);
      status != STEEPEST_OK)
    return status;
  if (const auto status = check_range(where, "coefficients", config.coefficients,
                                      STEEPEST_COEF_KELLER, STEEPEST_COEF_CUSTOM);
      status != STEEPEST_OK)
    return status;
  if (const auto status = check_range(where, "normalization", config.normalization,
                                      STEEPEST_NORM_AUTO, STEEPEST_NORM_BOUND);
      status != STEEPEST_OK)
    return status;
  const bool polynomial = is_newton_schulz(config.method);
  if (polynomial || is_rational(config.method))
    if (const auto status =
            check_range(where, "steps", config.steps, 0, polynomial ? 100 : msign::max_poles);
        status != STEEPEST_OK)
      return status;
  if (config.normalization == STEEPEST_NORM_BOUND &&
      !(config.norm_bound > 0 && std::isfinite(config.norm_bound)))
    return where.fail(STEEPEST_E_INVALID_ARGUMENT,
                      ".norm_bound is %g: it must be finite and positive", config.norm_bound);
  if (!(config.rank_tolerance >= 0 && config.rank_tolerance < 1))
    return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".rank_tolerance is %g: it must be in [0, 1)",
                      config.rank_tolerance);
  switch (config.compute_dtype) {
    case 0:
    case STEEPEST_F32:
    case STEEPEST_F64:
    case STEEPEST_BF16: break;
    default:
      return where.fail(STEEPEST_E_DTYPE, ".compute_dtype is %s (%d): f32, f64 or bf16 is needed",
                        dtype_name(config.compute_dtype), static_cast<int>(config.compute_dtype));
  }
  if (config.method == STEEPEST_MSIGN_ACCURATE && config.compute_dtype != 0 &&
      config.compute_dtype != STEEPEST_F64)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT,
                      ".compute_dtype is %s: ACCURATE needs an f64 Gram matrix",
                      dtype_name(config.compute_dtype));
  if (config.method == STEEPEST_MSIGN_SVD && config.compute_dtype == STEEPEST_BF16)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT,
                      ".compute_dtype is bf16: LAPACK has no such SVD");
  if (!polynomial) return STEEPEST_OK;
  if (config.coefficients == STEEPEST_COEF_CUSTOM)
    if (const auto status = check_custom_rows(where, config); status != STEEPEST_OK) return status;
  if (const auto status = check_safety(where, config); status != STEEPEST_OK) return status;
  return check_restarts(where, config);
}

}  // namespace

steepest_status load_msign_config(const argument& where, const steepest_msign_config* given,
                                  steepest_msign_config& config) {
  config = STEEPEST_MSIGN_CONFIG_INIT;
  if (given == nullptr) return STEEPEST_OK;
  if (const auto status = load_struct(where, given, config); status != STEEPEST_OK) return status;
  return check(where, config);
}

steepest_status check_msign_types(const argument& where, const steepest_msign_config& config,
                                  steepest_dtype dtype) {
  if (!is_rational(config.method) || config.lower_bound == 0) return STEEPEST_OK;
  const bool f64 = msign_compute_dtype(config, dtype) == STEEPEST_F64;
  const double least = f64 ? 1e-8 : 1e-3;
  if (config.lower_bound >= least && config.lower_bound < 1) return STEEPEST_OK;
  return where.fail(STEEPEST_E_INVALID_ARGUMENT,
                    ".lower_bound is %g: it must be in [%g, 1) with %s arithmetic, whose Gram "
                    "matrix has lost smaller singular values%s",
                    config.lower_bound, least, f64 ? "f64" : "f32",
                    f64 ? "" : " (compute_dtype = f64 allows [1e-08, 1))");
}

steepest_status check_context(const argument& where, const steepest_msign_config& config,
                              const steepest_context& context, bool consistent) {
  const bool bf16 = config.compute_dtype == STEEPEST_BF16;
  if (bf16 && context.tables->linalg.bf16.tile == nullptr)
    return where.fail(STEEPEST_E_UNSUPPORTED,
                      ".compute_dtype is bf16, which level %s does not have",
                      isa_name(context.isa));
  if (bf16 && linalg::uses_openblas(context))
    return where.fail(STEEPEST_E_UNSUPPORTED,
                      ".compute_dtype is bf16, which the context's OpenBLAS does not have");
  if (!consistent) return STEEPEST_OK;
  if (bf16)
    return where.fail(STEEPEST_E_UNSUPPORTED,
                      ".compute_dtype is bf16, which is not CONSISTENT: its instruction takes "
                      "denormals for zeros");
  if (config.method == STEEPEST_MSIGN_SVD)
    return where.fail(STEEPEST_E_UNSUPPORTED,
                      ".method is SVD: with CONSISTENT LAPACK's results would differ between CPUs");
  if (linalg::uses_openblas(context))
    return where.fail(STEEPEST_E_UNSUPPORTED,
                      ".flags has CONSISTENT, but the context's OpenBLAS differs between CPUs");
  return STEEPEST_OK;
}

steepest_status check_msign_shape(const argument& where, int64_t rows, int64_t cols) {
  const struct {
    const char* name;
    int64_t size;
  } sides[] = {{"rows", rows}, {"cols", cols}};
  for (const auto& side : sides) {
    if (side.size < 0)
      return where.fail(STEEPEST_E_SHAPE, ".%s is negative (%lld)", side.name,
                        static_cast<long long>(side.size));
    if (side.size > INT32_MAX)
      return where.fail(STEEPEST_E_SHAPE, ".%s is %lld: at most 2^31 - 1 is possible", side.name,
                        static_cast<long long>(side.size));
  }
  if (rows * cols > int64_t{1} << 48)
    return where.fail(STEEPEST_E_SHAPE, ".rows and cols are %lld and %lld: 2^48 elements at most",
                      static_cast<long long>(rows), static_cast<long long>(cols));
  return STEEPEST_OK;
}

}  // namespace steepest::api
