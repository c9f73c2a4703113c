// SPDX-License-Identifier: Apache-2.0
// The norm and the RMS of a list of vectors.
#include <cmath>

#include "api/arguments.hpp"
#include "dispatch/tables.hpp"
#include "kernels/sum_squares/sum_squares.hpp"
#include "parallel/tiles.hpp"

namespace steepest::api {
namespace {

steepest_status check_vector(const argument& where, const steepest_vector& vector) {
  if (vector.reserved != 0)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".reserved is not 0 (%d)",
                      static_cast<int>(vector.reserved));
  if (const auto status = check_dtype(where, "dtype", vector.dtype); status != STEEPEST_OK)
    return status;
  if (const auto status = check_count(where, vector.count, vector.dtype); status != STEEPEST_OK)
    return status;
  if (vector.count == 0) return STEEPEST_OK;
  return check_buffer(where, "data", vector.data, vector.count, vector.dtype);
}

struct measured {
  norm_result norm;
  double elements;
};

steepest_status measure(const char* function, steepest_context* given_context,
                        const steepest_vector* given, int64_t count, measured& result) {
  struct_array<steepest_vector> vectors;
  if (const auto status = vectors.open(function, "vectors", given, count); status != STEEPEST_OK)
    return status;
  steepest_context* context = nullptr;
  if (const auto status = resolve_context(function, given_context, context); status != STEEPEST_OK)
    return status;

  int64_t tiles = 0;
  for (int64_t i = 0; i < count; ++i) {
    steepest_vector vector = STEEPEST_VECTOR_INIT;
    if (const auto status = vectors.load(i, vector); status != STEEPEST_OK) return status;
    if (const auto status = check_vector(vectors.at(i), vector); status != STEEPEST_OK)
      return status;
    tiles += tile_count(vector.count);
    result.elements += static_cast<double>(vector.count);
  }
  workspace memory(context->pool);
  memory.plan<sum_squares_job>(count);
  memory.plan<squares>(tiles);
  if (!memory.reserve())
    return fail(STEEPEST_E_OUT_OF_MEMORY, "%s: out of memory (%lld tiles)", function,
                static_cast<long long>(tiles));
  auto* jobs = memory.take<sum_squares_job>(count);
  auto* results = memory.take<squares>(tiles);

  const sum_squares_table& table = context->tables->sum_squares;
  const auto& kernels = (context->flags & STEEPEST_FLAG_CONSISTENT) != 0 ? table.exact : table.fast;
  int64_t first_tile = 0;
  for (int64_t i = 0; i < count; ++i) {
    steepest_vector vector = STEEPEST_VECTOR_INIT;
    vectors.load(i, vector);
    jobs[i] = {vector.data, kernels.of(vector.dtype), vector.count, first_tile,
               vector.dtype == STEEPEST_F64};
    first_tile += tile_count(vector.count);
  }
  if (const auto status = norm_run(*context, jobs, count, tiles, results, result.norm);
      status != STEEPEST_OK)
    return failed_in(function, status);
  return STEEPEST_OK;
}

// `value` says what of the result is wanted.
template <class F>
steepest_status report(const char* function, steepest_context* context,
                       const steepest_vector* vectors, int64_t count, F value, double* out,
                       int64_t* nonfinite) {
  return entry(function, [&] {
    measured result = {};
    if (const auto status = measure(function, context, vectors, count, result);
        status != STEEPEST_OK)
      return status;
    if (out != nullptr) *out = value(result);
    if (nonfinite != nullptr) *nonfinite = result.norm.nonfinite;
    return STEEPEST_OK;
  });
}

}  // namespace
}  // namespace steepest::api

extern "C" {

steepest_status steepest_grad_norm(steepest_context* context, const steepest_vector* vectors,
                                   int64_t count, double* norm, int64_t* nonfinite) {
  return steepest::api::report(
      "grad_norm", context, vectors, count,
      [](const steepest::api::measured& m) { return m.norm.norm; }, norm, nonfinite);
}

steepest_status steepest_rms(steepest_context* context, const steepest_vector* vectors,
                             int64_t count, double* rms, int64_t* nonfinite) {
  // From the scaled root: the norm itself may be beyond the range of a double.
  return steepest::api::report(
      "rms", context, vectors, count,
      [](const steepest::api::measured& m) {
        return m.elements == 0 ? 0 : m.norm.root / std::sqrt(m.elements) / m.norm.scale;
      },
      rms, nonfinite);
}

}  // extern "C"
