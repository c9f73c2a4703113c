// SPDX-License-Identifier: Apache-2.0
//
// Schedules, what they guarantee, and the other functions of numbers alone: update RMS, signal to
// noise, scale factors.
#include <cfloat>
#include <cmath>

#include "ranges.hpp"
#include "target.hpp"

namespace steepest_fuzz {
namespace {

bool finite(double x) { return std::fabs(x) <= DBL_MAX; }
bool rate(double x) { return x >= 0 && x < 1; }

// Steps that an array can have, or more than any.
std::int64_t some_steps(choices& input) {
  return input.rarely(16) ? input.wild_size() : input.below(input.even_chance() ? 12 : 500);
}

// An array of `steps` doubles. Where `steps` is no size for one, an address.
struct array {
  double* data;
  verdict rule;
  range bytes;
};
array some_array(choices& input, memory& seen, memory::access how, std::int64_t steps,
                 bool positive) {
  const std::int64_t n = steps >= 1 && steps <= 500 ? steps : 1;
  auto* const data = static_cast<double*>(some_buffer(input, seen, how, 8 * n, 8));
  if (data != nullptr) fill(input, some_content(input), data, n, STEEPEST_F64, positive);
  const verdict rule = refuse_if(data == nullptr || !is_aligned(data, 8));
  return {data, rule, {data, 1, 8 * n, 0, how == memory::output, 0}};
}
double at(const double* data, std::int64_t i) {
  double x = 0;
  std::memcpy(&x, reinterpret_cast<const char*>(data) + 8 * i, 8);
  return x;
}
// Whether all are finite and not negative, or with `positive` positive.
verdict values_rule(const array& a, std::int64_t steps, bool positive) {
  if (a.rule == verdict::refuse) return a.rule;
  for (std::int64_t i = 0; i < steps; ++i) {
    const double x = at(a.data, i);
    if (!finite(x) || x < 0 || (positive && x == 0)) return verdict::refuse;
  }
  return verdict::accept;
}
verdict steps_rule(std::int64_t steps) { return refuse_if(steps < 1 || steps > 500); }

void schedules(choices& input, memory& seen) {
  steepest_schedule s = STEEPEST_SCHEDULE_INIT;
  const std::int64_t steps = some_steps(input);
  const std::int64_t beyond = steps == INT64_MAX ? steps : steps + 1;
  s.kind = static_cast<std::int32_t>(input.integer({0, 1, 2, 3, 4, 5}));
  s.decay_shape = static_cast<std::int32_t>(input.integer({0, 1, 2}));
  s.lr = input.number({1e-3, 0, 1, 1e300});
  s.final_ratio = input.number({0, 0, 0.1, 1});
  s.warmup_steps = input.integer({0, 1, steps / 4, steps, beyond});
  s.decay_steps = input.integer({0, 0, 0, 1, steps / 5});
  const given<steepest_schedule> schedule =
      hand_over(input, seen, memory::input, steepest_schedule STEEPEST_SCHEDULE_INIT, s);
  const bool null = input.rarely(64);
  const steepest_schedule* const pointer = null ? nullptr : schedule.pointer;
  const steepest_schedule& k = schedule.seen;
  const bool ends = k.kind == STEEPEST_SCHEDULE_LINEAR || k.kind == STEEPEST_SCHEDULE_COSINE ||
                    k.kind == STEEPEST_SCHEDULE_WARMUP_STABLE_DECAY;
  const bool decays = k.kind == STEEPEST_SCHEDULE_WARMUP_STABLE_DECAY;
  const verdict rule =
      worse(schedule.rule,
            refuse_if(null || k.kind < 0 || k.kind > 5 || k.decay_shape < 0 || k.decay_shape > 2 ||
                      !finite(k.lr) || k.lr < 0 || !(k.final_ratio >= 0 && k.final_ratio <= 1) ||
                      (!ends && k.final_ratio != 0) || k.warmup_steps < 0 ||
                      k.warmup_steps > steps || k.decay_steps < 0 ||
                      (!decays && k.decay_steps != 0) || k.decay_steps > steps - k.warmup_steps));
  // One rate needs no array: any number of steps.
  const std::int64_t step = input.integer({1, steps, steps / 2, 0, beyond});
  auto* const one = seen.object<double>(memory::output, 7);
  const steepest_status status =
      watched("schedule_at", seen, [&] { return steepest_schedule_at(pointer, steps, step, one); });
  const verdict size_rule = steps < 1                 ? verdict::refuse
                            : steps <= INT64_MAX / 64 ? verdict::accept
                                                      : verdict::either;
  expect(worse(worse(rule, size_rule), refuse_if(step < 1 || step > steps)), status, "schedule_at");
  if (status == STEEPEST_OK)
    REQUIRE(*one >= 0 && *one <= k.lr * (1 + 1e-15), "rate %g, peak %g", *one, k.lr);

  const array lr = some_array(input, seen, memory::output, steps, false);
  const verdict fill_rule = worse(worse(rule, steps_rule(steps)), lr.rule);
  // Where only the array is missing there is nothing to ask.
  if (fill_rule == verdict::refuse && steps > 500 && rule == verdict::accept &&
      lr.rule == verdict::accept && steps <= INT64_MAX / 16)
    return;
  const steepest_status filled = watched(
      "schedule_fill", seen, [&] { return steepest_schedule_fill(pointer, steps, lr.data); });
  expect(fill_rule, filled, "schedule_fill");
  if (filled == STEEPEST_OK && step >= 1 && step <= steps)
    REQUIRE(std::memcmp(lr.data + step - 1, one, 8) == 0, "at and fill differ");
}

void bounds(choices& input, memory& seen) {
  const std::int64_t steps = input.rarely(16)
                                 ? input.of<std::int64_t>({0, -1, INT64_MIN, INT64_MAX})
                                 : 1 + input.below(40);
  const double distance = input.number({1, 0, 1e3}), norm = input.number({1, 0, 1e-3});
  const bool per_step = input.even_chance();
  const array norms = per_step ? some_array(input, seen, memory::input, steps, true) : array{};
  const verdict size_rule = steps_rule(steps);
  auto* const result = seen.object<double>(memory::output, 7);
  double* const bound = input.rarely(16) ? nullptr : result;
  const auto problem = [&](bool positive) {
    const auto good = [&](double x) { return finite(x) && (positive ? x > 0 : x >= 0); };
    if (!good(distance)) return verdict::refuse;
    if (!per_step || norms.data == nullptr) return refuse_if(!good(norm));
    return size_rule == verdict::refuse ? size_rule : values_rule(norms, steps, positive);
  };
  switch (input.below(3)) {
    case 0: {
      const array lr = some_array(input, seen, memory::input, steps, true);
      verdict rule = worse(size_rule, refuse_if(bound == nullptr));
      if (rule == verdict::accept) rule = worse(rule, values_rule(lr, steps, false));
      if (rule == verdict::accept)
        rule = worse(problem(false), refuse_if(at(lr.data, steps - 1) == 0));
      const steepest_status status = watched("schedule_bound", seen, [&] {
        return steepest_schedule_bound(lr.data, steps, distance, norm, norms.data, bound);
      });
      expect(rule, status, "schedule_bound");
      if (status == STEEPEST_OK) REQUIRE(!(*bound < 0), "a bound of %g", *bound);
      return;
    }
    case 1: {
      const array lr = some_array(input, seen, memory::output, steps, false);
      verdict rule = worse(size_rule, worse(lr.rule, problem(true)));
      if (rule == verdict::accept && norms.data != nullptr)
        rule = overlap_rule({norms.bytes, lr.bytes});
      const steepest_status status = watched("schedule_optimal", seen, [&] {
        return steepest_schedule_optimal(steps, distance, norm, norms.data, lr.data, bound);
      });
      // Rates may leave the range of a double.
      expect(worse(rule, verdict::either), status, "schedule_optimal");
      if (status == STEEPEST_OK)
        for (std::int64_t i = 0; i < steps; ++i)
          REQUIRE(finite(lr.data[i]) && lr.data[i] >= 0, "lr[%d] = %g", int(i), lr.data[i]);
      return;
    }
    default: {
      const array given_norms = some_array(input, seen, memory::input, steps, true);
      const array lr = some_array(input, seen, memory::output, steps, false);
      const auto kind = static_cast<std::int32_t>(input.integer({0, 1}));
      const double smoothing = input.number({0.1, 0, 1});
      const double absolute = input.number({0, 0, 1});
      verdict rule = worse(size_rule, worse(lr.rule, given_norms.rule));
      if (rule == verdict::accept) rule = overlap_rule({given_norms.bytes, lr.bytes});
      if (rule == verdict::accept) rule = values_rule(given_norms, steps, true);
      rule =
          worse(rule, refuse_if((kind != 0 && kind != 1) || !(smoothing >= 0 && smoothing <= 1) ||
                                !finite(absolute) || absolute < 0 || (absolute != 0 && kind != 0)));
      const steepest_status status = watched("schedule_refine", seen, [&] {
        return steepest_schedule_refine(given_norms.data, steps, kind, smoothing, absolute,
                                        lr.data);
      });
      expect(worse(rule, verdict::either), status, "schedule_refine");
      if (status == STEEPEST_OK)
        for (std::int64_t i = 0; i < steps; ++i)
          REQUIRE(finite(lr.data[i]) && lr.data[i] >= 0, "lr[%d] = %g", int(i), lr.data[i]);
    }
  }
}

void formulas(choices& input, memory& seen) {
  const double beta = input.number({0.9, 0.95, 0, 0.5});
  const double beta2 = input.number({0.999, 0.95, 0});
  const double a = input.number({0.2, 0, 1, 4});
  const double b = input.number({1, 0.5, 3, 0});
  const std::int64_t step = input.integer({0, 1, 2, 10, 1000});
  auto* const result = seen.object<double>(memory::output, 7);
  const bool null = input.rarely(32);
  double* const out = null ? nullptr : result;
  const verdict average = refuse_if(null || !rate(beta) || step < 0);
  const auto ask = [&](const char* function, verdict rule, auto call) {
    const steepest_status status = watched(function, seen, call);
    expect(worse(average, rule), status, function);
    return status == STEEPEST_OK;
  };
  switch (input.below(5)) {
    case 0:
      if (ask("adam_update_rms", refuse_if(!(a >= 0)),
              [&] { return steepest_adam_update_rms(beta, a, step, out); }))
        REQUIRE(*out >= 0 && *out <= 1, "rms %g", *out);
      return;
    case 1:
      if (ask("adam_update_rms_second_order",
              refuse_if(!(a >= 0) || !(b >= 1) || !finite(b) || !rate(beta2)) == verdict::refuse
                  ? verdict::refuse
                  : verdict::either,
              [&] { return steepest_adam_update_rms_second_order(beta, beta2, a, b, step, out); }))
        REQUIRE(*out > 0, "rms %g", *out);
      return;
    case 2:
      ask("snr_from_update_rms", refuse_if(!rate(a)),
          [&] { return steepest_snr_from_update_rms(a, beta, step, out); });
      return;
    case 3:
      ask("snr_from_momentum", refuse_if(!(b > 0) || !finite(b) || !(a >= 0 && a < b)),
          [&] { return steepest_snr_from_momentum(a, b, beta, step, out); });
      return;
    default: {
      const auto mode = static_cast<std::int32_t>(input.integer({0, 1, 2, 3, 4, 5}));
      const std::int64_t fan_out = input.integer({1, 3, 768}), fan_in = input.integer({1, 7, 64});
      const steepest_status status = watched("scale_factor", seen, [&] {
        return steepest_scale_factor(mode, a, fan_out, fan_in, out);
      });
      expect(refuse_if(null || mode < 0 || mode > 5 || mode == STEEPEST_SCALE_EXACT_RMS ||
                       !finite(a) || a < 0 || fan_out < 1 || fan_in < 1),
             status, "scale_factor");
      if (status == STEEPEST_OK) REQUIRE(*out >= 0, "scale %g", *out);
    }
  }
}

void run(const std::uint8_t* data, std::size_t size) {
  choices input(data, size);
  memory seen;
  switch (input.below(3)) {
    case 0: schedules(input, seen); break;
    case 1: bounds(input, seen); break;
    default: formulas(input, seen);
  }
}

const registration registered("schedule", run);

}  // namespace
}  // namespace steepest_fuzz
