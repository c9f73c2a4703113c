// SPDX-License-Identifier: Apache-2.0
#include "calls.hpp"

namespace soak {

void schedule_call(random_source& random, steepest_context*, digest& results) {
  const std::int64_t steps = 1 + random.below(400);
  steepest_schedule schedule = STEEPEST_SCHEDULE_INIT;
  schedule.kind = static_cast<std::int32_t>(random.below(6));
  schedule.lr = random.uniform();
  schedule.warmup_steps = random.below(steps + 1);
  if (schedule.kind == STEEPEST_SCHEDULE_WARMUP_STABLE_DECAY)
    schedule.decay_shape = static_cast<std::int32_t>(random.below(3));
  std::vector<double> lr(static_cast<std::size_t>(steps)), best = lr, refined = lr, norms = lr;
  check(steepest_schedule_fill(&schedule, steps, lr.data()));
  const std::int64_t step = 1 + random.below(steps);
  double one = -1;
  check(steepest_schedule_at(&schedule, steps, step, &one));
  require(one == lr[static_cast<std::size_t>(step - 1)], "schedule_at: %.17g", one);

  for (double& x : norms) x = 0.5 + random.uniform();
  const double distance = 0.1 + random.uniform();
  double least = 0, bound = 0, same = 0;
  check(steepest_schedule_optimal(steps, distance, 0, norms.data(), best.data(), &least));
  check(steepest_schedule_bound(best.data(), steps, distance, 0, norms.data(), &same));
  require(std::abs(same - least) <= 1e-12 * least, "schedule_optimal: %.17g for %.17g", least,
          same);
  if (lr.back() > 0) {
    check(steepest_schedule_bound(lr.data(), steps, distance, 0, norms.data(), &bound));
    require(bound >= least * (1 - 1e-12), "schedule_bound: %.17g below the best, %.17g", bound,
            least);
  }
  check(steepest_schedule_refine(norms.data(), steps, static_cast<std::int32_t>(random.below(2)),
                                 0.1, 0, refined.data()));
  results.add(lr);
  results.add(best);
  results.add(refined);
  results.add(&bound, sizeof(bound));
}

void formula_call(random_source& random, steepest_context*, digest& results) {
  const double beta = 0.5 + 0.49 * random.uniform(), snr = 2 * random.uniform();
  const std::int64_t step = 2 + random.below(1000);
  double values[6] = {};
  check(steepest_adam_update_rms(beta, snr, step, &values[0]));
  check(steepest_snr_from_update_rms(values[0], beta, step, &values[1]));
  require(std::abs(values[1] - snr) <= 1e-9, "snr_from_update_rms: %.17g for %.17g", values[1],
          snr);
  check(steepest_snr_from_momentum(values[0], 1, beta, step, &values[2]));
  require(std::abs(values[2] - snr) <= 1e-9, "snr_from_momentum: %.17g for %.17g", values[2], snr);
  check(steepest_adam_update_rms_second_order(beta, 0.999, snr, 3, step, &values[3]));
  check(steepest_scale_factor(STEEPEST_SCALE_MATCH_RMS, 0.2, 64, 16, &values[4]));
  require(std::abs(values[4] - 1.6) <= 1e-12, "scale_factor: %.17g", values[4]);
  double rows[15] = {}, low = 0;
  check(steepest_msign_coefficients(1e-3, 5, rows));
  steepest_msign_config config = STEEPEST_MSIGN_CONFIG_INIT;
  config.method = STEEPEST_MSIGN_RATIONAL;
  check(steepest_msign_band(&config, 1e-3, &low, &values[5]));
  require(std::abs(low - 0.938) < 1e-3 && std::abs(values[5] - 1.062) < 1e-3, "msign_band: %g, %g",
          low, values[5]);
  require(std::string(steepest_status_name(STEEPEST_E_SHAPE)) == "STEEPEST_E_SHAPE", "status_name");
  require(steepest_abi_version() == STEEPEST_ABI_VERSION && *steepest_build_info() != 0,
          "build_info");
  results.add(values, sizeof(values));
  results.add(rows, sizeof(rows));
}

// Each with the error that belongs to it, in this thread's own text.
void refused_call(random_source& random, steepest_context* context, digest& results) {
  float buffer[4][8] = {};
  float before[4][8];
  for (auto& row : buffer)
    for (float& x : row) x = static_cast<float>(random.normal());
  std::memcpy(before, buffer, sizeof(buffer));
  steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT;
  steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
  tensor.count = 8;
  tensor.param = buffer[0];
  tensor.grad = buffer[1];
  tensor.exp_avg = buffer[2];
  tensor.exp_avg_sq = buffer[3];
  steepest_status expected = STEEPEST_E_INVALID_ARGUMENT;
  const char* argument = "";
  const std::int64_t kind = random.below(8);
  switch (kind) {
    case 0:
      config.beta1 = 1;
      argument = "config.beta1";
      break;
    case 1:
      config.step = 0;
      argument = "config.step";
      break;
    case 2:
      tensor.exp_avg = nullptr;
      argument = "tensors[0].exp_avg";
      break;
    case 3:
      tensor.exp_avg_sq = buffer[2] + 1;
      argument = "tensors[0]";
      break;
    case 4:
      tensor.count = -1;
      argument = "tensors[0].count";
      expected = STEEPEST_E_SHAPE;
      break;
    case 5:
      tensor.grad_dtype = 77;
      argument = "tensors[0].grad_dtype";
      expected = STEEPEST_E_DTYPE;
      break;
    case 6:
      config.flags = std::uint64_t{1} << 30;
      argument = "config.flags";
      expected = STEEPEST_E_UNSUPPORTED;
      break;
    default:
      tensor.reserved = 1;
      argument = "tensors[0].reserved";
      break;
  }
  const steepest_status status = steepest_adamw_step(context, &config, &tensor, 1, nullptr);
  const std::string text = steepest_last_error();
  require(status == expected, "adamw_step: %s where %s is due (%s)", steepest_status_name(status),
          steepest_status_name(expected), argument);
  require(text.find(std::string("adamw_step: ") + argument) == 0, "last_error: \"%s\" for %s",
          text.c_str(), argument);
  require(std::memcmp(before, buffer, sizeof(buffer)) == 0,
          "adamw_step: a refused call has written something (%s)", argument);

  double out = 0;
  const steepest_status second = steepest_scale_factor(99, 1, 1, 1, &out);
  require(second == STEEPEST_E_INVALID_ARGUMENT, "scale_factor: %s", steepest_status_name(second));
  require(std::string(steepest_last_error()).find("scale_factor: mode") == 0,
          "last_error: \"%s\" for a mode", steepest_last_error());
  const steepest_msign_config method = STEEPEST_MSIGN_CONFIG_INIT;
  const steepest_status third = steepest_msign(context, &method, 2, 8, STEEPEST_F32, buffer[0], 4,
                                               buffer[2], 0, nullptr, nullptr);
  require(third == STEEPEST_E_SHAPE, "msign: %s for too small a stride",
          steepest_status_name(third));
  require(std::memcmp(before, buffer, sizeof(buffer)) == 0,
          "msign: a refused call has written something");
  results.add(&kind, sizeof(kind));
}

}  // namespace soak
