// SPDX-License-Identifier: Apache-2.0
#include "msign/msign.hpp"

#include <cmath>
#include <cstdio>

#include "api/msign_config.hpp"

namespace steepest::api {
namespace {

// The shape that all matrices of a call have.
struct msign_shape {
  int64_t rows, cols;
  steepest_dtype dtype;

  bool empty() const { return rows == 0 || cols == 0; }
};

steepest_status check_shape(const char* function, const steepest_msign_config& config,
                            const msign_shape& shape) {
  const argument where = {function, ""};
  if (const auto status = check_msign_shape(where, shape.rows, shape.cols); status != STEEPEST_OK)
    return status;
  if (const auto status = check_dtype(where, "dtype", shape.dtype); status != STEEPEST_OK)
    return status;
  return check_msign_types({function, "config"}, config, shape.dtype);
}

// One call on `count` matrices; steepest_msign has one.
class msign_call {
 public:
  msign_call(const char* function, bool batched) : function_(function), batched_(batched) {}

  const steepest_msign_config* config = nullptr;
  msign_shape shape = {};
  const void* const* x = nullptr;
  int64_t ldx = 0;
  void* const* out = nullptr;
  int64_t ldo = 0;
  int64_t count = 1;
  const steepest_workspace* given_workspace = nullptr;
  steepest_msign_stats* stats = nullptr;

  steepest_status run(steepest_context* given_context) {
    if (const auto status = load_msign_config({function_, "config"}, config, config_);
        status != STEEPEST_OK)
      return status;
    if (const auto status = check_shape(function_, config_, shape); status != STEEPEST_OK)
      return status;
    if (const auto status =
            check_results(function_, stats, count, steepest_msign_stats STEEPEST_MSIGN_STATS_INIT);
        status != STEEPEST_OK)
      return status;
    steepest_context* context = nullptr;
    if (const auto status = resolve_context(function_, given_context, context);
        status != STEEPEST_OK)
      return status;
    const bool consistent = ((config_.flags | context->flags) & STEEPEST_FLAG_CONSISTENT) != 0;
    if (const auto status = check_context({function_, "config"}, config_, *context, consistent);
        status != STEEPEST_OK)
      return status;
    if (ldx == 0) ldx = shape.cols;
    if (ldo == 0) ldo = shape.cols;
    if (shape.empty() || count == 0) return STEEPEST_OK;
    if (const auto status = check_matrices(); status != STEEPEST_OK) return status;
    // Of one row they may be anything, and are never taken.
    if (shape.rows == 1) ldx = ldo = shape.cols;

    const msign_plan plan =
        msign_plan_for(config_, shape.dtype, shape.rows, shape.cols, consistent);
    workspace memory(context->pool);
    plan_memory(*context, memory, plan);
    if (const auto status = obtain(function_, memory, given_workspace); status != STEEPEST_OK)
      return status;
    return run(*context, plan, memory);
  }

  steepest_status workspace_size(steepest_context* given_context, size_t* bytes) {
    if (bytes == nullptr) return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: bytes is null", function_);
    if (const auto status = load_msign_config({function_, "config"}, config, config_);
        status != STEEPEST_OK)
      return status;
    if (const auto status = check_shape(function_, config_, shape); status != STEEPEST_OK)
      return status;
    if (const auto status = check_batch_count(); status != STEEPEST_OK) return status;
    *bytes = 0;
    if (shape.empty() || count == 0) return STEEPEST_OK;
    steepest_context* context = nullptr;
    if (const auto status = resolve_context(function_, given_context, context);
        status != STEEPEST_OK)
      return status;
    workspace memory(context->pool);
    plan_memory(*context, memory,
                msign_plan_for(config_, shape.dtype, shape.rows, shape.cols, false));
    *bytes = memory.bytes_needed();
    return STEEPEST_OK;
  }

 private:
  void plan_memory(const steepest_context& context, workspace& memory,
                   const msign_plan& plan) const {
    memory.plan<std::byte>(
        static_cast<int64_t>(msign_batch_bytes(context, plan, shape.rows, shape.cols, count)));
    memory.plan<msign_result>(count);
    memory.plan<memory_range>(2 * count);
    memory.plan<range_key>(2 * count);
  }

  steepest_status check_batch_count() const {
    const argument where = {function_, ""};
    if (count < 0)
      return where.fail(STEEPEST_E_SHAPE, ".count is negative (%lld)",
                        static_cast<long long>(count));
    if (count > INT32_MAX)
      return where.fail(STEEPEST_E_SHAPE, ".count is too large (%lld)",
                        static_cast<long long>(count));
    return STEEPEST_OK;
  }

  steepest_status check_matrices() const {
    if (const auto status = check_batch_count(); status != STEEPEST_OK) return status;
    const argument where = {function_, ""};
    if (x == nullptr) return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".x is null");
    if (out == nullptr) return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".out is null");
    for (int64_t i = 0; i < count; ++i) {
      char x_name[32] = "x";
      char out_name[32] = "out";
      if (batched_) {
        std::snprintf(x_name, sizeof x_name, "x[%lld]", static_cast<long long>(i));
        std::snprintf(out_name, sizeof out_name, "out[%lld]", static_cast<long long>(i));
      }
      if (const auto status =
              check_matrix(where, x_name, "ldx", x[i], shape.rows, shape.cols, ldx, shape.dtype);
          status != STEEPEST_OK)
        return status;
      if (const auto status = check_matrix(where, out_name, "ldo", out[i], shape.rows, shape.cols,
                                           ldo, shape.dtype);
          status != STEEPEST_OK)
        return status;
      if (x[i] == out[i] && ldx != ldo)
        return where.fail(STEEPEST_E_INVALID_ARGUMENT,
                          ".%s is %s, but ldo is %lld and ldx is %lld: in place they are the same",
                          out_name, x_name, static_cast<long long>(ldo),
                          static_cast<long long>(ldx));
    }
    return STEEPEST_OK;
  }

  steepest_status check_overlaps(memory_range* ranges, range_key* keys) const {
    int64_t used = 0;
    for (int64_t i = 0; i < count; ++i) {
      ranges[used++] =
          matrix_range(out[i], shape.rows, shape.cols, ldo, shape.dtype, "out", i, true);
      if (x[i] != out[i])
        ranges[used++] =
            matrix_range(x[i], shape.rows, shape.cols, ldx, shape.dtype, "x", i, false);
    }
    return check_overlap(function_, "matrix", ranges, used, keys);
  }

  steepest_status run(steepest_context& context, const msign_plan& plan, workspace& memory) {
    auto* scratch = memory.take<std::byte>(
        static_cast<int64_t>(msign_batch_bytes(context, plan, shape.rows, shape.cols, count)));
    auto* results = memory.take<msign_result>(count);
    auto* ranges = memory.take<memory_range>(2 * count);
    auto* keys = memory.take<range_key>(2 * count);
    if (const auto status = check_overlaps(ranges, keys); status != STEEPEST_OK) return status;

    const msign_batch batch = {shape.rows, shape.cols, count, shape.dtype, x, ldx, out, ldo};
    if (const auto status =
            msign_run_batch(context, plan, batch, scratch, stats != nullptr, results);
        status != STEEPEST_OK)
      return failed_in(function_, status);
    for (int64_t i = 0; i < count && stats != nullptr; ++i) {
      const msign_result& result = results[i];
      store_result(stats, i,
                   {0, result.status, plan.method, result.steps, result.retries, result.rank,
                    result.norm, result.lower_bound, result.orthogonality});
    }
    for (int64_t i = 0; i < count; ++i) {
      if (results[i].status == STEEPEST_OK) continue;
      if (!batched_) return fail(results[i].status, "%s: x: %s", function_, results[i].reason);
      return fail(results[i].status, "%s: x[%lld]: %s", function_, static_cast<long long>(i),
                  results[i].reason);
    }
    return STEEPEST_OK;
  }

  const char* function_;
  const bool batched_;
  steepest_msign_config config_ = STEEPEST_MSIGN_CONFIG_INIT;
};

steepest_status band(const steepest_msign_config* given, double lower_bound, double* low,
                     double* high) {
  constexpr char function[] = "msign_band";
  steepest_msign_config config;
  if (const auto status = load_msign_config({function, "config"}, given, config);
      status != STEEPEST_OK)
    return status;
  if (!(lower_bound > 0 && lower_bound <= 1))
    return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: lower_bound is %g: it must be in (0, 1]",
                function, lower_bound);
  if (low == nullptr || high == nullptr)
    return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: %s is null", function,
                low == nullptr ? "low" : "high");
  if (const auto status = check_msign_types({function, "config"}, config, STEEPEST_F64);
      status != STEEPEST_OK)
    return status;
  // Any shape that is not a vector.
  const msign_plan plan = msign_plan_for(config, STEEPEST_F64, 2, 2, false);
  const msign::band result = msign_band(plan, lower_bound);
  *low = result.low;
  *high = result.high;
  return STEEPEST_OK;
}

steepest_status coefficients(double lower_bound, int64_t steps, double* rows) {
  constexpr char function[] = "msign_coefficients";
  if (!(lower_bound >= 1e-12 && lower_bound < 1))
    return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: lower_bound is %g: it must be in [1e-12, 1)",
                function, lower_bound);
  if (steps < 1 || steps > 100)
    return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: steps is %lld: it must be from 1 to 100",
                function, static_cast<long long>(steps));
  if (rows == nullptr) return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: rows is null", function);
  auto* const quintics = reinterpret_cast<msign::quintic*>(rows);
  msign::polar_express(lower_bound, steps, quintics);
  for (int64_t i = 0; i + 1 < steps; ++i) quintics[i] = msign::with_safety(quintics[i]);
  return STEEPEST_OK;
}

}  // namespace
}  // namespace steepest::api

extern "C" {

steepest_status steepest_msign(steepest_context* context, const steepest_msign_config* config,
                               int64_t rows, int64_t cols, steepest_dtype dtype, const void* x,
                               int64_t ldx, void* out, int64_t ldo,
                               const steepest_workspace* workspace, steepest_msign_stats* stats) {
  return steepest::api::entry("msign", [&] {
    steepest::api::msign_call call("msign", false);
    call.config = config;
    call.shape = {rows, cols, dtype};
    call.x = &x;
    call.ldx = ldx;
    call.out = &out;
    call.ldo = ldo;
    call.given_workspace = workspace;
    call.stats = stats;
    return call.run(context);
  });
}

steepest_status steepest_msign_batched(steepest_context* context,
                                       const steepest_msign_config* config, int64_t rows,
                                       int64_t cols, steepest_dtype dtype, const void* const* x,
                                       int64_t ldx, void* const* out, int64_t ldo, int64_t count,
                                       const steepest_workspace* workspace,
                                       steepest_msign_stats* stats) {
  return steepest::api::entry("msign_batched", [&] {
    steepest::api::msign_call call("msign_batched", true);
    call.config = config;
    call.shape = {rows, cols, dtype};
    call.x = x;
    call.ldx = ldx;
    call.out = out;
    call.ldo = ldo;
    call.count = count;
    call.given_workspace = workspace;
    call.stats = stats;
    return call.run(context);
  });
}

steepest_status steepest_msign_workspace_size(steepest_context* context,
                                              const steepest_msign_config* config, int64_t rows,
                                              int64_t cols, steepest_dtype dtype, int64_t count,
                                              size_t* bytes) {
  return steepest::api::entry("msign_workspace_size", [&] {
    steepest::api::msign_call call("msign_workspace_size", true);
    call.config = config;
    call.shape = {rows, cols, dtype};
    call.count = count;
    return call.workspace_size(context, bytes);
  });
}

steepest_status steepest_msign_band(const steepest_msign_config* config, double lower_bound,
                                    double* low, double* high) {
  return steepest::api::entry("msign_band",
                              [&] { return steepest::api::band(config, lower_bound, low, high); });
}

steepest_status steepest_msign_coefficients(double lower_bound, int64_t steps, double* rows) {
  return steepest::api::entry(
      "msign_coefficients", [&] { return steepest::api::coefficients(lower_bound, steps, rows); });
}

}  // extern "C"
