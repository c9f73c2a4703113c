// SPDX-License-Identifier: Apache-2.0
//
// Every refusal names its argument and leaves what would have been written.
#include "schedule_support.hpp"

namespace steepest_test {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
const double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr steepest_status invalid = STEEPEST_E_INVALID_ARGUMENT;

class schedule_bad_input : public testing::Test {
 protected:
  void refused(steepest_status got, steepest_status status, const std::string& start) {
    EXPECT_EQ(got, status) << start;
    const std::string text = steepest_last_error();
    EXPECT_TRUE(text.rfind(start, 0) == 0 && std::isalnum(text[start.size()]) == 0)
        << text << ", not " << start;
    EXPECT_EQ(lr_, std::vector<double>(10, -7));
    EXPECT_EQ(out_, -7);
  }

  std::vector<double> lr_ = std::vector<double>(10, -7);
  double out_ = -7;
};

TEST_F(schedule_bad_input, fill_and_at) {
  const auto both = [&](const steepest_schedule* s, std::int64_t steps, steepest_status status,
                        const std::string& name) {
    refused(steepest_schedule_fill(s, steps, lr_.data()), status, "schedule_fill: " + name);
    refused(steepest_schedule_at(s, steps, 1, &out_), status, "schedule_at: " + name);
  };
  const steepest_schedule good = make_schedule(STEEPEST_SCHEDULE_LINEAR, 1);
  both(nullptr, 10, invalid, "schedule");
  for (const std::int64_t steps : {std::int64_t{0}, std::int64_t{-1}, INT64_MIN, INT64_MAX})
    both(&good, steps, STEEPEST_E_SHAPE, "total_steps");
  refused(steepest_schedule_fill(&good, 10, nullptr), invalid, "schedule_fill: lr");
  refused(steepest_schedule_at(&good, 10, 1, nullptr), invalid, "schedule_at: lr");
  for (const std::int64_t step : {std::int64_t{0}, std::int64_t{-3}, std::int64_t{11}, INT64_MAX})
    refused(steepest_schedule_at(&good, 10, step, &out_), invalid, "schedule_at: step");
  const auto with = [&](auto change, const std::string& name) {
    steepest_schedule s = good;
    change(s);
    both(&s, 10, invalid, "schedule." + name);
  };
  for (const std::int32_t kind : {-1, 6, INT32_MAX})
    with([&](steepest_schedule& s) { s.kind = kind; }, "kind");
  for (const std::int32_t shape : {-1, 3})
    with([&](steepest_schedule& s) { s.decay_shape = shape; }, "decay_shape");
  for (const double lr : {-1e-300, infinity, not_a_number})
    with([&](steepest_schedule& s) { s.lr = lr; }, "lr");
  for (const double ratio : {-1e-300, 1.0001, infinity, not_a_number})
    with([&](steepest_schedule& s) { s.final_ratio = ratio; }, "final_ratio");
  for (const std::int32_t kind :
       {STEEPEST_SCHEDULE_CONSTANT, STEEPEST_SCHEDULE_INVERSE_SQRT, STEEPEST_SCHEDULE_INVERSE})
    with(
        [&](steepest_schedule& s) {
          s.kind = kind;
          s.final_ratio = 0.1;
        },
        "final_ratio");
  for (const std::int64_t warmup : {std::int64_t{-1}, std::int64_t{11}, INT64_MAX})
    with([&](steepest_schedule& s) { s.warmup_steps = warmup; }, "warmup_steps");
  with([&](steepest_schedule& s) { s.decay_steps = 1; }, "decay_steps");
  for (const std::int64_t decay : {std::int64_t{-1}, std::int64_t{8}, INT64_MAX})
    with(
        [&](steepest_schedule& s) {
          s.kind = STEEPEST_SCHEDULE_WARMUP_STABLE_DECAY;
          s.warmup_steps = 3;
          s.decay_steps = decay;
        },
        "decay_steps");
}

TEST_F(schedule_bad_input, bound) {
  const std::vector<double> good(10, 0.5);
  const auto call = [&](const double* lr, std::int64_t steps, double distance, double norm,
                        const double* norms) {
    return steepest_schedule_bound(lr, steps, distance, norm, norms, &out_);
  };
  const std::string f = "schedule_bound: ";
  for (const std::int64_t steps : {std::int64_t{0}, std::int64_t{-1}, INT64_MAX})
    refused(call(good.data(), steps, 1, 1, nullptr), STEEPEST_E_SHAPE, f + "total_steps");
  refused(call(nullptr, 10, 1, 1, nullptr), invalid, f + "lr");
  refused(steepest_schedule_bound(good.data(), 10, 1, 1, nullptr, nullptr), invalid, f + "bound");
  for (const double bad : {-1e-300, infinity, not_a_number}) {
    for (const std::size_t at : {0, 4, 9}) {
      auto lr = good;
      lr[at] = bad;
      refused(call(lr.data(), 10, 1, 1, nullptr), invalid, f + "lr[" + std::to_string(at) + "]");
      auto norms = good;
      norms[at] = bad;
      refused(call(good.data(), 10, 1, 1, norms.data()), invalid,
              f + "grad_norms[" + std::to_string(at) + "]");
    }
    refused(call(good.data(), 10, bad, 1, nullptr), invalid, f + "distance");
    refused(call(good.data(), 10, 1, bad, nullptr), invalid, f + "grad_norm");
  }
  // Zeros at the end, and what to do about them.
  for (const std::size_t zeros : {1, 3, 10}) {
    auto lr = good;
    std::fill(lr.end() - static_cast<std::ptrdiff_t>(zeros), lr.end(), 0);
    refused(call(lr.data(), 10, 1, 1, nullptr), invalid, f + "lr[9]");
    for (const char* part : {"may not end in zeros", "N + 1 points"})
      EXPECT_NE(std::string(steepest_last_error()).find(part), std::string::npos)
          << steepest_last_error();
  }
  // Zeros elsewhere are a schedule's own business.
  auto lr = good;
  lr[0] = lr[5] = 0;
  EXPECT_OK(call(lr.data(), 10, 1, 1, nullptr));
  out_ = -7;
  EXPECT_OK(call(good.data(), 10, 1, not_a_number, good.data()));  // grad_norm is ignored
  EXPECT_GT(out_, 0);
}

TEST_F(schedule_bad_input, optimal) {
  const std::vector<double> good(10, 0.5);
  const auto call = [&](std::int64_t steps, double distance, double norm, const double* norms) {
    return steepest_schedule_optimal(steps, distance, norm, norms, lr_.data(), &out_);
  };
  const std::string f = "schedule_optimal: ";
  for (const std::int64_t steps : {std::int64_t{0}, std::int64_t{-1}, INT64_MAX})
    refused(call(steps, 1, 1, nullptr), STEEPEST_E_SHAPE, f + "total_steps");
  refused(steepest_schedule_optimal(10, 1, 1, nullptr, nullptr, &out_), invalid, f + "lr");
  for (const double bad : {0.0, -1.0, infinity, not_a_number}) {
    refused(call(10, bad, 1, nullptr), invalid, f + "distance");
    refused(call(10, 1, bad, nullptr), invalid, f + "grad_norm");
    auto norms = good;
    norms[7] = bad;
    refused(call(10, 1, 1, norms.data()), invalid, f + "grad_norms[7]");
  }
  refused(call(10, 1, 1, lr_.data()), invalid, f + "grad_norms[0]");  // -7
  std::vector<double> one(20, 0.5);
  EXPECT_EQ(steepest_schedule_optimal(10, 1, 1, one.data(), one.data() + 9, nullptr), invalid);
  EXPECT_NE(std::string(steepest_last_error()).find("overlaps"), std::string::npos);
  EXPECT_EQ(one, std::vector<double>(20, 0.5));
}

TEST_F(schedule_bad_input, refine) {
  const std::vector<double> good(10, 0.5);
  const auto call = [&](const double* norms, std::int64_t steps, std::int32_t kind,
                        double smoothing, double distance) {
    return steepest_schedule_refine(norms, steps, kind, smoothing, distance, lr_.data());
  };
  const std::string f = "schedule_refine: ";
  for (const std::int64_t steps : {std::int64_t{0}, std::int64_t{-1}, INT64_MAX})
    refused(call(good.data(), steps, 0, 0.1, 1), STEEPEST_E_SHAPE, f + "total_steps");
  refused(call(nullptr, 10, 0, 0.1, 1), invalid, f + "grad_norms");
  refused(steepest_schedule_refine(good.data(), 10, 0, 0.1, 1, nullptr), invalid, f + "lr");
  for (const std::int32_t kind : {-1, 2})
    refused(call(good.data(), 10, kind, 0.1, 1), invalid, f + "kind");
  for (const double bad : {-0.1, 1.1, infinity, not_a_number})
    refused(call(good.data(), 10, 0, bad, 1), invalid, f + "smoothing");
  for (const double bad : {-0.1, infinity, not_a_number})
    refused(call(good.data(), 10, 0, 0.1, bad), invalid, f + "distance");
  refused(call(good.data(), 10, STEEPEST_REFINE_ADAM, 0.1, 1), invalid, f + "distance");
  for (const double bad : {0.0, -1.0, infinity, not_a_number}) {
    auto norms = good;
    norms[3] = bad;
    refused(call(norms.data(), 10, 0, 0.1, 1), invalid, f + "grad_norms[3]");
  }
  std::vector<double> one(10, 0.5);
  EXPECT_EQ(steepest_schedule_refine(one.data(), 10, 0, 0.1, 1, one.data()), invalid);
  EXPECT_EQ(std::string(steepest_last_error()), f + "lr overlaps its grad_norms");
  EXPECT_EQ(one, std::vector<double>(10, 0.5));
}

}  // namespace
}  // namespace steepest_test
