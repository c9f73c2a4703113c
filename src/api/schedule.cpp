// SPDX-License-Identifier: Apache-2.0
#include "schedule/schedule.hpp"

#include <cmath>
#include <memory>

#include "api/arguments.hpp"

namespace steepest::api {
namespace {

using schedule::gradient_norms;

// An array lr or grad_norms of one number per step.
steepest_status check_steps(const argument& where, int64_t total_steps) {
  if (total_steps >= 1 && total_steps <= INT64_MAX / 16) return STEEPEST_OK;
  return where.fail(STEEPEST_E_SHAPE, ".total_steps is %lld: it must be at least 1%s",
                    static_cast<long long>(total_steps),
                    total_steps < 1 ? "" : " and fit in memory");
}

steepest_status check_array(const argument& where, const char* field, const double* data,
                            int64_t total_steps) {
  return check_buffer(where, field, data, total_steps, STEEPEST_F64);
}

steepest_status check_separate(const argument& where, const double* lr, const double* grad_norms,
                               int64_t total_steps) {
  const memory_range ranges[] = {
      matrix_range(grad_norms, 1, total_steps, total_steps, STEEPEST_F64, "grad_norms", -1, false),
      matrix_range(lr, 1, total_steps, total_steps, STEEPEST_F64, "lr", -1, true)};
  return check_disjoint(where, ranges, 2);
}

// What values[i] must be, finite in any case.
enum class sign { not_negative, positive };

bool keeps(sign wanted, double value) {
  return std::isfinite(value) && (value > 0 || (value == 0 && wanted == sign::not_negative));
}

const char* rule(sign wanted) {
  return wanted == sign::positive ? "finite and positive" : "finite and not negative";
}

steepest_status check_values(const argument& where, const char* field, const double* values,
                             int64_t count, sign wanted) {
  for (int64_t i = 0; i < count; ++i)
    if (!keeps(wanted, values[i]))
      return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".%s[%lld] is %g: it must be %s", field,
                        static_cast<long long>(i), values[i], rule(wanted));
  return STEEPEST_OK;
}

// The D and G of a bound.
steepest_status check_problem(const argument& where, int64_t total_steps, double distance,
                              double grad_norm, const double* grad_norms, sign wanted) {
  if (const auto status =
          check_number(where.function, "distance", distance, keeps(wanted, distance), rule(wanted));
      status != STEEPEST_OK)
    return status;
  if (grad_norms == nullptr)
    return check_number(where.function, "grad_norm", grad_norm, keeps(wanted, grad_norm),
                        rule(wanted));
  if (const auto status = check_array(where, "grad_norms", grad_norms, total_steps);
      status != STEEPEST_OK)
    return status;
  return check_values(where, "grad_norms", grad_norms, total_steps, wanted);
}

bool has_end(int32_t kind) {
  return kind == STEEPEST_SCHEDULE_LINEAR || kind == STEEPEST_SCHEDULE_COSINE ||
         kind == STEEPEST_SCHEDULE_WARMUP_STABLE_DECAY;
}

steepest_status check_schedule(const argument& where, const steepest_schedule& s,
                               int64_t total_steps) {
  const auto invalid = [&](const char* field, int64_t value, const char* wanted) {
    return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".%s is %lld: %s", field,
                      static_cast<long long>(value), wanted);
  };
  if (s.kind < STEEPEST_SCHEDULE_CONSTANT || s.kind > STEEPEST_SCHEDULE_WARMUP_STABLE_DECAY)
    return invalid("kind", s.kind, "it must be a STEEPEST_SCHEDULE constant, from 0 to 5");
  if (s.decay_shape < STEEPEST_DECAY_LINEAR || s.decay_shape > STEEPEST_DECAY_ONE_MINUS_SQRT)
    return invalid("decay_shape", s.decay_shape, "it must be a STEEPEST_DECAY constant, 0 to 2");
  if (const auto status = check_numbers(
          where,
          {{"lr", s.lr, s.lr >= 0, "finite and not negative"},
           {"final_ratio", s.final_ratio, s.final_ratio >= 0 && s.final_ratio <= 1, "in [0, 1]"}},
          1);
      status != STEEPEST_OK)
    return status;
  if (!has_end(s.kind) && s.final_ratio != 0)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT,
                      ".final_ratio is %g, but this kind (%d) does not run to an end: it must be 0",
                      s.final_ratio, static_cast<int>(s.kind));
  if (s.warmup_steps < 0 || s.warmup_steps > total_steps)
    return invalid("warmup_steps", s.warmup_steps, "it must be from 0 to total_steps");
  const bool decays = s.kind == STEEPEST_SCHEDULE_WARMUP_STABLE_DECAY;
  if (!decays && s.decay_steps != 0)
    return invalid("decay_steps", s.decay_steps, "only WARMUP_STABLE_DECAY has them");
  if (s.decay_steps < 0 || s.decay_steps > total_steps - s.warmup_steps)
    return invalid("decay_steps", s.decay_steps, "it must be from 0 to total_steps - warmup_steps");
  return STEEPEST_OK;
}

steepest_status load_schedule(const char* function, const steepest_schedule* given,
                              int64_t total_steps, steepest_schedule& known) {
  const argument where = {function, "schedule"};
  if (given == nullptr) return where.fail(STEEPEST_E_INVALID_ARGUMENT, " is null");
  if (const auto status = load_struct(where, given, known); status != STEEPEST_OK) return status;
  if (const auto status = check_steps({function, ""}, total_steps); status != STEEPEST_OK)
    return status;
  return check_schedule(where, known, total_steps);
}

steepest_status fill(const steepest_schedule* given, int64_t total_steps, double* lr) {
  constexpr char function[] = "schedule_fill";
  steepest_schedule known = STEEPEST_SCHEDULE_INIT;
  if (const auto status = load_schedule(function, given, total_steps, known); status != STEEPEST_OK)
    return status;
  if (const auto status = check_array({function, ""}, "lr", lr, total_steps); status != STEEPEST_OK)
    return status;
  for (int64_t i = 0; i < total_steps; ++i) lr[i] = schedule::rate_at(known, total_steps, i + 1);
  return STEEPEST_OK;
}

steepest_status at(const steepest_schedule* given, int64_t total_steps, int64_t step, double* lr) {
  constexpr char function[] = "schedule_at";
  steepest_schedule known = STEEPEST_SCHEDULE_INIT;
  if (const auto status = load_schedule(function, given, total_steps, known); status != STEEPEST_OK)
    return status;
  if (step < 1 || step > total_steps)
    return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: step is %lld: it must be from 1 to %lld",
                function, static_cast<long long>(step), static_cast<long long>(total_steps));
  if (lr == nullptr) return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: lr is null", function);
  *lr = schedule::rate_at(known, total_steps, step);
  return STEEPEST_OK;
}

steepest_status bound(const double* lr, int64_t total_steps, double distance, double grad_norm,
                      const double* grad_norms, double* bound) {
  constexpr char function[] = "schedule_bound";
  const argument where = {function, ""};
  if (const auto status = check_steps(where, total_steps); status != STEEPEST_OK) return status;
  if (const auto status = check_array(where, "lr", lr, total_steps); status != STEEPEST_OK)
    return status;
  if (bound == nullptr) return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: bound is null", function);
  if (const auto status = check_values(where, "lr", lr, total_steps, sign::not_negative);
      status != STEEPEST_OK)
    return status;
  if (lr[total_steps - 1] == 0)
    return fail(
        STEEPEST_E_INVALID_ARGUMENT,
        "%s: lr[%lld], the last, is 0: the bound divides by the sums of the rates from each "
        "step to the end, so a schedule may not end in zeros (for N updates give N + 1 "
        "points: the last rate moves nothing)",
        function, static_cast<long long>(total_steps - 1));
  if (const auto status =
          check_problem(where, total_steps, distance, grad_norm, grad_norms, sign::not_negative);
      status != STEEPEST_OK)
    return status;
  *bound = schedule::bound(lr, total_steps, distance, gradient_norms{grad_norms, grad_norm});
  return STEEPEST_OK;
}

steepest_status refine(const double* grad_norms, int64_t total_steps, int32_t kind,
                       double smoothing, double distance, double* lr) {
  constexpr char function[] = "schedule_refine";
  const argument where = {function, ""};
  if (const auto status = check_steps(where, total_steps); status != STEEPEST_OK) return status;
  if (const auto status = check_array(where, "grad_norms", grad_norms, total_steps);
      status != STEEPEST_OK)
    return status;
  if (const auto status = check_array(where, "lr", lr, total_steps); status != STEEPEST_OK)
    return status;
  if (const auto status = check_separate(where, lr, grad_norms, total_steps); status != STEEPEST_OK)
    return status;
  if (kind != STEEPEST_REFINE_SGD && kind != STEEPEST_REFINE_ADAM)
    return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: kind is %d: it must be SGD (0) or ADAM (1)",
                function, static_cast<int>(kind));
  if (const auto status = check_number(function, "smoothing", smoothing,
                                       smoothing >= 0 && smoothing <= 1, "in [0, 1]");
      status != STEEPEST_OK)
    return status;
  if (const auto status =
          check_number(function, "distance", distance, keeps(sign::not_negative, distance),
                       rule(sign::not_negative));
      status != STEEPEST_OK)
    return status;
  if (distance != 0 && kind != STEEPEST_REFINE_SGD)
    return fail(STEEPEST_E_INVALID_ARGUMENT,
                "%s: distance is %g, but only kind SGD has an absolute scale: it must be 0",
                function, distance);
  if (const auto status =
          check_values(where, "grad_norms", grad_norms, total_steps, sign::positive);
      status != STEEPEST_OK)
    return status;

  const auto steps = static_cast<size_t>(total_steps);
  const auto half = static_cast<int64_t>(smoothing * static_cast<double>(total_steps) / 2);
  const auto make = [&]<class T>(T, size_t count) {
    return std::make_unique_for_overwrite<T[]>(half == 0 ? 0 : count);
  };
  const auto smooth = make(double{}, steps);
  const auto sorted = make(double{}, steps);
  const auto rank = make(int64_t{}, steps);
  const auto counts = make(int32_t{}, steps + 1);
  if (half > 0)
    schedule::smooth_by_median(grad_norms, total_steps, half,
                               {smooth.get(), sorted.get(), rank.get(), counts.get()});
  if (!schedule::refine(half > 0 ? smooth.get() : grad_norms, total_steps,
                        kind == STEEPEST_REFINE_SGD, distance, lr))
    return fail(STEEPEST_E_INVALID_ARGUMENT,
                "%s: grad_norms are so small that the rates would overflow", function);
  return STEEPEST_OK;
}

steepest_status optimal(int64_t total_steps, double distance, double grad_norm,
                        const double* grad_norms, double* lr, double* bound) {
  constexpr char function[] = "schedule_optimal";
  const argument where = {function, ""};
  if (const auto status = check_steps(where, total_steps); status != STEEPEST_OK) return status;
  if (const auto status = check_array(where, "lr", lr, total_steps); status != STEEPEST_OK)
    return status;
  if (const auto status =
          check_problem(where, total_steps, distance, grad_norm, grad_norms, sign::positive);
      status != STEEPEST_OK)
    return status;
  if (grad_norms != nullptr)
    if (const auto status = check_separate(where, lr, grad_norms, total_steps);
        status != STEEPEST_OK)
      return status;
  if (!schedule::optimal(total_steps, distance, gradient_norms{grad_norms, grad_norm}, lr, bound))
    return fail(STEEPEST_E_INVALID_ARGUMENT,
                "%s: %s and distance are so far apart that rates would leave the range of a double",
                function, grad_norms != nullptr ? "grad_norms" : "grad_norm");
  return STEEPEST_OK;
}

}  // namespace
}  // namespace steepest::api

extern "C" {

steepest_status steepest_schedule_fill(const steepest_schedule* schedule, int64_t total_steps,
                                       double* lr) {
  return steepest::api::entry("schedule_fill",
                              [&] { return steepest::api::fill(schedule, total_steps, lr); });
}

steepest_status steepest_schedule_at(const steepest_schedule* schedule, int64_t total_steps,
                                     int64_t step, double* lr) {
  return steepest::api::entry("schedule_at",
                              [&] { return steepest::api::at(schedule, total_steps, step, lr); });
}

steepest_status steepest_schedule_bound(const double* lr, int64_t total_steps, double distance,
                                        double grad_norm, const double* grad_norms, double* bound) {
  return steepest::api::entry("schedule_bound", [&] {
    return steepest::api::bound(lr, total_steps, distance, grad_norm, grad_norms, bound);
  });
}

steepest_status steepest_schedule_refine(const double* grad_norms, int64_t total_steps,
                                         int32_t kind, double smoothing, double distance,
                                         double* lr) {
  return steepest::api::entry("schedule_refine", [&] {
    return steepest::api::refine(grad_norms, total_steps, kind, smoothing, distance, lr);
  });
}

steepest_status steepest_schedule_optimal(int64_t total_steps, double distance, double grad_norm,
                                          const double* grad_norms, double* lr, double* bound) {
  return steepest::api::entry("schedule_optimal", [&] {
    return steepest::api::optimal(total_steps, distance, grad_norm, grad_norms, lr, bound);
  });
}

}  // extern "C"
