// SPDX-License-Identifier: Apache-2.0
//
// One call of every public function in each of its main forms, for tests that hold all of them to
// one promise.
#pragma once

#include "sample_matrices.hpp"
#include "sample_steps.hpp"

namespace steepest_test {

// A call that reads `inputs` (by their places) and writes `results` doubles.
template <class Run>
sample_call plain_call(const char* name, buffers given, std::size_t results, Run run) {
  sample_call call;
  call.name = name;
  call.given = std::move(given);
  const std::size_t out = call.given.add(std::vector<double>(results, -7));
  call.run = [run, out](steepest_context* context, placed_buffers& memory) {
    return run(context, memory, memory.at<double>(out));
  };
  return call;
}

inline void add_norms(std::vector<sample_call>& all, std::size_t large) {
  for (const bool mean : {false, true}) {
    random_source random(404);
    buffers given;
    std::vector<steepest_dtype> types;
    for (int i = 0; i < 90; ++i) types.push_back(i % 4 + STEEPEST_F32);
    for (std::size_t i = 0; i < types.size(); ++i)
      add_sample(given, random, types[i], i < 2 ? large : 41);
    all.push_back(plain_call(
        mean ? "rms" : "grad_norm", std::move(given), 2,
        [types, large, mean](steepest_context* context, placed_buffers& memory, double* out) {
          std::vector<steepest_vector> vectors(types.size(), STEEPEST_VECTOR_INIT);
          for (std::size_t i = 0; i < types.size(); ++i) {
            vectors[i].count = static_cast<std::int64_t>(i < 2 ? large : 41);
            vectors[i].data = memory.at(i);
            vectors[i].dtype = types[i];
          }
          std::int64_t nonfinite = -7;
          const auto status = (mean ? steepest_rms : steepest_grad_norm)(
              context, vectors.data(), static_cast<std::int64_t>(vectors.size()), out, &nonfinite);
          out[1] = static_cast<double>(nonfinite);
          return status;
        }));
  }
}

inline void add_spectra(std::vector<sample_call>& all, std::int64_t rows, std::int64_t cols) {
  using function = std::function<steepest_status(steepest_context*, const void*, double*)>;
  const auto add = [&](const char* name, std::size_t results, const function& run) {
    random_source random(405);
    buffers given;
    add_sample(given, random, STEEPEST_F32, static_cast<std::size_t>(rows * cols));
    all.push_back(plain_call(name, std::move(given), results,
                             [run](steepest_context* context, placed_buffers& memory, double* out) {
                               return run(context, memory.at(0), out);
                             }));
    all.back().uses_lapack = true;
  };
  constexpr steepest_dtype dtype = STEEPEST_F32;
  add("singular_values", static_cast<std::size_t>(std::min(rows, cols)),
      [=](steepest_context* context, const void* x, double* out) {
        return steepest_singular_values(context, rows, cols, dtype, x, 0, out);
      });
  add("spectral_norm", 1, [=](steepest_context* context, const void* x, double* out) {
    return steepest_spectral_norm(context, rows, cols, dtype, x, 0, out);
  });
  add("spectral_norm_bounds", 2, [=](steepest_context* context, const void* x, double* out) {
    return steepest_spectral_norm_bounds(context, rows, cols, dtype, x, 0, 0, out, out + 1);
  });
}

inline void add_conversions(std::vector<sample_call>& all, std::size_t count) {
  for (const steepest_dtype dtype : {STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED})
    for (const bool encode : {true, false}) {
      random_source random(406);
      sample_call call;
      call.name =
          std::string(encode ? "q8_encode" : "q8_decode") + " type " + std::to_string(dtype);
      call.has_executor = false;
      add_sample(call.given, random, STEEPEST_F32, count);
      add_sample(call.given, random, dtype, count);
      add_scales(call.given, random, dtype, count);
      call.run = [=](steepest_context* context, placed_buffers& memory) {
        const auto n = static_cast<std::int64_t>(count);
        return encode ? steepest_q8_encode(context, dtype, 1, n, memory.at<float>(0),
                                           memory.at<std::uint8_t>(1), memory.at(2))
                      : steepest_q8_decode(context, dtype, 1, n, memory.at<std::uint8_t>(1),
                                           memory.at(2), memory.at<float>(0));
      };
      all.push_back(call);
    }
}

// Functions without a context.
inline void add_schedules(std::vector<sample_call>& all, std::int64_t steps) {
  using function = std::function<steepest_status(const double* norms, double* out)>;
  const auto add = [&](const char* name, std::size_t results, bool libm, const function& run) {
    random_source random(407);
    buffers given;
    std::vector<double> norms;
    for (std::int64_t i = 0; i < steps; ++i) norms.push_back(0.5 + random.uniform());
    given.add(norms);
    all.push_back(plain_call(name, std::move(given), results,
                             [run](steepest_context*, placed_buffers& memory, double* out) {
                               return run(memory.at<double>(0), out);
                             }));
    all.back().uses_context = all.back().has_executor = false;
    all.back().uses_libm = libm;
  };
  const auto n = static_cast<std::size_t>(steps);
  const auto shape = [] {
    steepest_schedule schedule = STEEPEST_SCHEDULE_INIT;
    schedule.kind = STEEPEST_SCHEDULE_COSINE;
    schedule.warmup_steps = 3;
    return schedule;
  };
  add("schedule_fill", n, true, [=](const double*, double* out) {
    const steepest_schedule schedule = shape();
    return steepest_schedule_fill(&schedule, steps, out);
  });
  add("schedule_at", 1, true, [=](const double*, double* out) {
    const steepest_schedule schedule = shape();
    return steepest_schedule_at(&schedule, steps, steps / 2, out);
  });
  add("schedule_bound", 1, false, [=](const double* norms, double* out) {
    return steepest_schedule_bound(norms, steps, 2, 0, norms, out);
  });
  add("schedule_optimal", n + 1, false, [=](const double* norms, double* out) {
    return steepest_schedule_optimal(steps, 2, 0, norms, out, out + steps);
  });
  add("schedule_refine", n, false, [=](const double* norms, double* out) {
    return steepest_schedule_refine(norms, steps, STEEPEST_REFINE_SGD, 0.1, 0, out);
  });
  add("singular_entropy", 1, true, [=](const double* norms, double* out) {
    return steepest_singular_entropy(norms, steps, out);
  });
  add("adam_update_rms", 2, false, [](const double*, double* out) {
    const auto status = steepest_adam_update_rms_second_order(0.9, 0.95, 0.1, 3, 7, out + 1);
    return status != STEEPEST_OK ? status : steepest_adam_update_rms(0.9, 0.1, 7, out);
  });
  add("snr", 2, false, [](const double*, double* out) {
    const auto status = steepest_snr_from_momentum(0.3, 0.7, 0.9, 7, out + 1);
    return status != STEEPEST_OK ? status : steepest_snr_from_update_rms(0.4, 0.9, 7, out);
  });
  add("scale_factor", 1, false, [](const double*, double* out) {
    return steepest_scale_factor(STEEPEST_SCALE_SQRT_MAX, 1, 24, 40, out);
  });
  add("msign_band", 2, true, [](const double*, double* out) {
    const steepest_msign_config config = STEEPEST_MSIGN_CONFIG_INIT;
    return steepest_msign_band(&config, 0.01, out, out + 1);
  });
  add("msign_coefficients", 15, true,
      [](const double*, double* out) { return steepest_msign_coefficients(0.01, 5, out); });
}

// Small: quick, each call on one thread. Large: whatever can be handed to several threads is.
enum class call_size { small, large };

inline std::vector<sample_call> every_call(call_size size) {
  const bool large = size == call_size::large;
  const std::size_t elements = large ? 200001 : 3001;
  const std::int64_t rows = large ? 140 : 20, cols = large ? 260 : 30;
  std::vector<sample_call> all;
  for (const adamw_sample& s : adamw_samples()) {
    all.push_back(adamw_call(s, elements, 40, false));
    if (s.residual != STEEPEST_RESIDUAL_NONE || is_blocked(s.exp_avg) || s.flags == 0)
      all.push_back(adamw_call(s, elements, 3, true));
  }
  for (const method_sample& s : method_samples) {
    all.push_back(msign_call(s, STEEPEST_F32, rows, cols, 1));
    all.push_back(msign_call(s, STEEPEST_F64, cols, rows, 1));
  }
  all.push_back(msign_call(method_samples[0], STEEPEST_BF16, rows, rows, 1));
  all.push_back(msign_call(method_samples[0], STEEPEST_F32, rows / 2, rows / 2, 9));
  all.push_back(msign_call(method_samples[1], STEEPEST_F16, rows, rows / 2, 3));
  for (const muon_sample& s : muon_samples()) all.push_back(muon_call(s, rows, cols));
  add_norms(all, elements);
  add_spectra(all, rows, cols);
  add_conversions(all, elements);
  add_schedules(all, large ? 5000 : 200);
  return all;
}

}  // namespace steepest_test
