// SPDX-License-Identifier: Apache-2.0
//
// A valid call on three tensors, and rows that spoil it.
#pragma once

#include <functional>

#include "adamw_support.hpp"

namespace steepest_test {

inline constexpr std::size_t tensor_count = 3;
inline constexpr std::size_t element_count = 40;

template <class Real>
struct scenario {
  adamw_arrays<Real> arrays;
  steepest_adamw_config config = make_config(), own_config = make_config();
  std::vector<steepest_adamw_tensor> tensors;
  std::vector<steepest_step_stats> stats;
  const steepest_adamw_config* call_config = &config;
  const steepest_adamw_tensor* call_tensors = nullptr;
  std::int64_t call_count = tensor_count;
  std::int32_t skipped = -7;

  scenario() {
    random_source random(111);
    // The space after the last tensor is for rows that shift its buffers.
    arrays = random_arrays<Real>(random, (tensor_count + 1) * element_count, true);
    for (std::size_t i = 0; i < tensor_count; ++i) {
      tensors.push_back(make_tensor(arrays, i * element_count, element_count));
    }
    stats.assign(tensor_count, STEEPEST_STEP_STATS_INIT);
    config.skipped = own_config.skipped = &skipped;
    tensors[1].config = &own_config;
    call_tensors = tensors.data();
  }
  scenario(const scenario&) = delete;
  scenario& operator=(const scenario&) = delete;

  steepest_adamw_tensor& last() { return tensors.back(); }
  steepest_status run() {
    return steepest_adamw_step(nullptr, call_config, call_tensors, call_count, stats.data());
  }
};

template <class Real>
struct bad_row {
  steepest_status status;
  std::string argument;
  std::function<void(scenario<Real>&)> spoil;
};

// Each row must be refused with its status, a text that names its argument, and nothing written.
template <class Real>
void check_rows(const std::vector<bad_row<Real>>& rows) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    scenario<Real> call;
    rows[i].spoil(call);
    const auto arrays = call.arrays;
    const auto stats = call.stats;
    SCOPED_TRACE(testing::Message() << "row " << i << ", " << rows[i].argument);
    EXPECT_EQ(call.run(), rows[i].status);
    const std::string text = steepest_last_error();
    EXPECT_EQ(text.rfind("adamw_step: " + rows[i].argument, 0), 0u) << text;
    EXPECT_FALSE(std::isalnum(text[12 + rows[i].argument.size()])) << text;
    EXPECT_TRUE(same_bits(call.arrays, arrays));
    EXPECT_TRUE(same_bits(call.stats, stats));
    EXPECT_EQ(call.skipped, -7);
  }
}

using buffer = void* steepest_adamw_tensor::*;
inline const std::pair<const char*, buffer> written_buffers[] = {
    {"param", &steepest_adamw_tensor::param},
    {"exp_avg", &steepest_adamw_tensor::exp_avg},
    {"exp_avg_sq", &steepest_adamw_tensor::exp_avg_sq},
    {"max_exp_avg_sq", &steepest_adamw_tensor::max_exp_avg_sq},
    {"delta", &steepest_adamw_tensor::delta},
};
inline constexpr std::uint64_t all_buffers = STEEPEST_ADAMW_AMSGRAD | STEEPEST_ADAMW_EMIT_DELTA;

}  // namespace steepest_test
