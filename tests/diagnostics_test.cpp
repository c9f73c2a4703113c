// SPDX-License-Identifier: Apache-2.0
//
// What the size of an update says (against the figures of Su Jianlin, https://kexue.fm/archives/
// 11267, and the formula in long double), scale factors by hand, and singular values of matrices
// whose spectrum is known.
#include "executors.hpp"
#include "muon_support.hpp"

namespace steepest_test {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
const double not_a_number = std::numeric_limits<double>::quiet_NaN();

bool error_begins(const std::string& start) {
  const std::string text = steepest_last_error();
  return text.rfind(start, 0) == 0 && std::isalnum(text[start.size()]) == 0;
}

// ------------------------------------------------------------------ update RMS and signal to noise

double update_rms(double beta1, double snr, std::int64_t step) {
  double rms = -7;
  EXPECT_OK(steepest_adam_update_rms(beta1, snr, step, &rms));
  return rms;
}

TEST(adam_update_rms, published_values) {
  struct row {
    double beta1, snr;
    std::int64_t step;
    double rms;
  };
  // With r = 1: sqrt((1 + 1/19) / 2).
  const row rows[] = {
      {.9, 0, 1, 1.0000}, {.9, 0, 2, .7081},   {.9, 0, 5, .4521},   {.9, 0, 10, .3301},
      {.9, 0, 20, .2592}, {.9, 0, 50, .2306},  {.9, 0, 100, .2294}, {.9, 0, 0, .2294},
      {.5, 0, 0, .5774},  {.7, 0, 0, .4201},   {.95, 0, 0, .1601},  {.9, 1, 0, .7255},
      {0, 0, 0, 1.0000},  {0, 0.5, 9, 1.0000}, {.9, 3, 1, 1.0000},
  };
  for (const row& r : rows)
    EXPECT_NEAR(update_rms(r.beta1, r.snr, r.step), r.rms, 0.5e-4)
        << r.beta1 << " " << r.snr << " " << r.step;
}

TEST(adam_update_rms, follows_the_formula) {
  for (const double beta : {0.0, 0.3, 0.9, 0.95, 0.999}) {
    for (const double snr : {0.0, 1e-6, 0.1, 1.0, 40.0, 1e6}) {
      for (const std::int64_t step : {1, 2, 3, 17, 1000, 100000}) {
        const long double b = beta;
        const long double power = std::pow(b, static_cast<long double>(step));
        const long double a = (1 - b) * (1 + power) / ((1 + b) * (1 - power));
        const long double expected = std::sqrt((snr + a) / (snr + 1));
        EXPECT_NEAR(update_rms(beta, snr, step), static_cast<double>(expected), 1e-14)
            << beta << " " << snr << " " << step;
      }
      const long double a = (1 - static_cast<long double>(beta)) / (1 + beta);
      EXPECT_NEAR(update_rms(beta, snr, 0), static_cast<double>(std::sqrt((snr + a) / (snr + 1))),
                  1e-14);
    }
  }
}

TEST(adam_update_rms, limits) {
  EXPECT_EQ(update_rms(0.9, infinity, 0), 1);
  EXPECT_EQ(update_rms(0.9, 1e300, 0), 1);
  EXPECT_EQ(update_rms(0.9, 0, INT64_MAX), update_rms(0.9, 0, 0));
  // beta -> 1 at t = 2: (1 + b^2) / (1 + b)^2 -> 1/2, where 1 - b^2 must not cancel.
  for (const double distance : {1e-6, 1e-10, 1e-15})
    EXPECT_NEAR(update_rms(1 - distance, 0, 2), std::sqrt(0.5), 1e-12);
}

TEST(snr, from_update_rms) {
  struct row {
    double rms, snr;
  };
  for (const row& r : {row{.3, .0411}, row{.5, .2632}, row{.7, .8576}}) {
    double snr = -7;
    EXPECT_OK(steepest_snr_from_update_rms(r.rms, 0.9, 0, &snr));
    EXPECT_NEAR(snr, r.snr, 0.5e-4);
    EXPECT_OK(steepest_snr_from_momentum(3 * r.rms, 3, 0.9, 0, &snr));
    EXPECT_NEAR(snr, r.snr, 0.5e-4);
  }
  // Below the noise floor it is negative, and said so: (0 - 1/19) / 1.
  double snr = 0;
  EXPECT_OK(steepest_snr_from_update_rms(0, 0.9, 0, &snr));
  EXPECT_NEAR(snr, -1.0 / 19, 1e-15);
  EXPECT_OK(steepest_snr_from_momentum(0, 2, 0.9, 0, &snr));
  EXPECT_NEAR(snr, -1.0 / 19, 1e-15);
}

TEST(snr, is_the_inverse_of_the_update_rms) {
  for (const double beta : {0.3, 0.9, 0.99}) {
    for (const std::int64_t step : {0, 2, 5, 100, 5000}) {
      for (const double snr : {0.0, 0.01, 0.09, 0.25, 1.0, 4.0}) {
        SCOPED_TRACE(testing::Message() << beta << " " << step << " " << snr);
        const double rms = update_rms(beta, snr, step);
        double back = -7;
        EXPECT_OK(steepest_snr_from_update_rms(rms, beta, step, &back));
        EXPECT_NEAR(back, snr, 1e-12 * (1 + snr) * (1 + snr) / (1 - rms * rms));
        for (const double size : {1e-200, 1.0, 1e200}) {
          EXPECT_OK(steepest_snr_from_momentum(rms * size, size, beta, step, &back));
          EXPECT_NEAR(back, snr, 1e-12 * (1 + snr) * (1 + snr) / (1 - rms * rms));
        }
      }
    }
  }
}

TEST(snr, is_not_defined_at_step_one) {
  for (const double beta : {0.0, 0.5, 0.9}) {
    double snr = -7;
    EXPECT_OK(steepest_snr_from_update_rms(0.3, beta, 1, &snr));
    EXPECT_TRUE(std::isnan(snr));
    EXPECT_OK(steepest_snr_from_momentum(0.3, 1, beta, 1, &snr));
    EXPECT_TRUE(std::isnan(snr));
  }
  double snr = -7;  // nor without an average
  EXPECT_OK(steepest_snr_from_update_rms(0.3, 0, 9, &snr));
  EXPECT_TRUE(std::isnan(snr));
}

TEST(snr, bad_input) {
  double out = -7;
  const auto refused = [&](steepest_status status, const char* start) {
    EXPECT_EQ(status, STEEPEST_E_INVALID_ARGUMENT) << start;
    EXPECT_TRUE(error_begins(start)) << steepest_last_error() << ", not " << start;
    EXPECT_EQ(out, -7);
  };
  for (const double beta : {1.0, 1.5, -1e-300, infinity, -infinity, not_a_number}) {
    refused(steepest_adam_update_rms(beta, 0, 0, &out), "adam_update_rms: beta1");
    refused(steepest_snr_from_update_rms(.5, beta, 0, &out), "snr_from_update_rms: beta1");
    refused(steepest_snr_from_momentum(.5, 1, beta, 0, &out), "snr_from_momentum: beta");
  }
  for (const std::int64_t step : {std::int64_t{-1}, INT64_MIN}) {
    refused(steepest_adam_update_rms(.9, 0, step, &out), "adam_update_rms: step");
    refused(steepest_snr_from_update_rms(.5, .9, step, &out), "snr_from_update_rms: step");
    refused(steepest_snr_from_momentum(.5, 1, .9, step, &out), "snr_from_momentum: step");
  }
  for (const double snr : {-1e-300, -infinity, not_a_number})
    refused(steepest_adam_update_rms(.9, snr, 0, &out), "adam_update_rms: snr");
  for (const double rms : {1.0, -1e-300, 2.0, infinity, not_a_number}) {
    refused(steepest_snr_from_update_rms(rms, .9, 0, &out), "snr_from_update_rms: update_rms");
    refused(steepest_snr_from_momentum(rms, 1, .9, 0, &out), "snr_from_momentum: momentum_rms");
  }
  for (const double rms : {0.0, -1.0, infinity, not_a_number})
    refused(steepest_snr_from_momentum(.5, rms, .9, 0, &out), "snr_from_momentum: grad_rms");
  refused(steepest_adam_update_rms(.9, 0, 0, nullptr), "adam_update_rms: rms");
  refused(steepest_snr_from_update_rms(.5, .9, 0, nullptr), "snr_from_update_rms: snr");
  refused(steepest_snr_from_momentum(.5, 1, .9, 0, nullptr), "snr_from_momentum: snr");
}

// ------------------------------------------------------------------ scale factors

TEST(scale_factor, hand_worked) {
  struct row {
    std::int32_t mode;
    double value;
    std::int64_t out, in;
    double factor;
  };
  const row rows[] = {
      {STEEPEST_SCALE_MATCH_RMS, 0.25, 9, 16, 1},
      {STEEPEST_SCALE_MATCH_RMS, 0.25, 16, 9, 1},
      {STEEPEST_SCALE_MATCH_RMS, 0, 16, 9, 0},
      {STEEPEST_SCALE_NONE, 0.25, 9, 16, 1},
      {STEEPEST_SCALE_SQRT_MAX1_OUT_IN, 0.25, 16, 4, 2},
      {STEEPEST_SCALE_SQRT_MAX1_OUT_IN, 0.25, 4, 16, 1},
      {STEEPEST_SCALE_SQRT_OUT_IN, 0.25, 36, 4, 3},
      {STEEPEST_SCALE_SQRT_OUT_IN, 0.25, 4, 16, 0.5},
      {STEEPEST_SCALE_SQRT_MAX, 0.25, 25, 4, 5},
      {STEEPEST_SCALE_SQRT_MAX, 0.25, 4, 25, 5},
      {STEEPEST_SCALE_SQRT_MAX, 0.25, 1, 1, 1},
      {STEEPEST_SCALE_SQRT_MAX, 0.25, std::int64_t{1} << 62, 1, 0x1p31},
  };
  for (const row& r : rows) {
    double factor = -7;
    EXPECT_OK(steepest_scale_factor(r.mode, r.value, r.out, r.in, &factor));
    EXPECT_EQ(factor, r.factor) << r.mode << " " << r.out << " " << r.in;
  }
}

TEST(scale_factor, bad_input) {
  double out = -7;
  const auto refused = [&](std::int32_t mode, double value, std::int64_t fan_out,
                           std::int64_t fan_in, double* to, steepest_status status,
                           const std::string& name) {
    EXPECT_EQ(steepest_scale_factor(mode, value, fan_out, fan_in, to), status) << name;
    EXPECT_TRUE(error_begins("scale_factor: " + name)) << steepest_last_error();
    EXPECT_EQ(out, -7);
  };
  for (const std::int32_t mode : {static_cast<int>(STEEPEST_SCALE_EXACT_RMS), -1, 6, INT32_MAX})
    refused(mode, 1, 2, 3, &out, STEEPEST_E_INVALID_ARGUMENT, "mode");
  for (const double value : {-1.0, infinity, not_a_number})
    refused(0, value, 2, 3, &out, STEEPEST_E_INVALID_ARGUMENT, "value");
  for (const std::int64_t fan : {std::int64_t{0}, std::int64_t{-1}, INT64_MIN}) {
    refused(0, 1, fan, 3, &out, STEEPEST_E_SHAPE, "fan_out");
    refused(0, 1, 3, fan, &out, STEEPEST_E_SHAPE, "fan_in");
  }
  refused(0, 1, 2, 3, nullptr, STEEPEST_E_INVALID_ARGUMENT, "out");
}

// ------------------------------------------------------------------ singular values

void expect_values(stored& x, std::vector<double> expected, double relative) {
  const stored before = x;
  std::sort(expected.rbegin(), expected.rend());
  guarded<double> values(std::vector<double>(expected.size(), -7));
  ASSERT_OK(
      steepest_singular_values(nullptr, x.rows, x.cols, x.dtype, x.data(), x.ld, values.data()));
  EXPECT_TRUE(values.intact());
  EXPECT_TRUE(x == before);
  double sum = 0;
  for (const double s : expected) sum += (s / expected[0]) * (s / expected[0]);
  const double allowed = relative * std::sqrt(sum) * expected[0];
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(values.data()[i], expected[i], allowed) << i;
}

TEST(singular_values, of_diagonal_matrices) {
  for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_F64, STEEPEST_BF16, STEEPEST_F16}) {
    for (const auto& [rows, cols] : {std::pair{4, 4}, std::pair{4, 9}, std::pair{9, 4}}) {
      stored x(dtype, rows, cols);
      const double diagonal[] = {-3, 0, 5, 0.5};
      x.fill_with([&](std::int64_t i, std::int64_t j) { return i == j ? diagonal[i] : 0; });
      expect_values(x, {3, 0, 5, 0.5}, 1e-15);
    }
  }
}

TEST(singular_values, of_rotated_matrices) {
  random_source random(251);
  for (const auto& [rows, cols] :
       {std::pair{12, 12}, std::pair{12, 50}, std::pair{50, 12}, std::pair{2, 3}, std::pair{1, 9},
        std::pair{9, 1}, std::pair{1, 1}, std::pair{70, 90}}) {
    for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_F64, STEEPEST_BF16, STEEPEST_F16}) {
      for (const std::int64_t gap : {0, 5}) {
        SCOPED_TRACE(testing::Message() << rows << " x " << cols << " dtype " << dtype);
        std::vector<double> spectrum;
        for (int k = 0; k < std::min(rows, cols); ++k)
          spectrum.push_back(k == 3 ? 0 : std::exp2(-random.uniform() * 8));
        stored x = rotated(random, dtype, rows, cols, spectrum, gap);
        // By Weyl, rounding the elements moves no singular value by more than |rounding error|_F.
        const double rounding = dtype == STEEPEST_F64    ? 1e-14
                                : dtype == STEEPEST_F32  ? 0x1p-24
                                : dtype == STEEPEST_BF16 ? 0x1p-8
                                                         : 0x1p-10;
        expect_values(x, spectrum, rounding);
      }
    }
  }
}

TEST(singular_values, of_large_and_small_matrices) {
  random_source random(252);
  const std::vector<double> spectrum{1, 0.75, 0.1, 1e-3};
  struct row {
    steepest_dtype dtype;
    double factor, relative;
  };
  for (const row& r : {row{STEEPEST_F32, 1e30, 0x1p-24}, row{STEEPEST_F32, 1e-30, 0x1p-24},
                       row{STEEPEST_F64, 1e30, 1e-14}, row{STEEPEST_F64, 1e-30, 1e-14},
                       row{STEEPEST_F64, 1e300, 1e-14}, row{STEEPEST_F64, 1e-290, 1e-14},
                       row{STEEPEST_BF16, 1e38, 0x1p-8}, row{STEEPEST_BF16, 1e-35, 0x1p-8}}) {
    SCOPED_TRACE(testing::Message() << "dtype " << r.dtype << " factor " << r.factor);
    stored x = rotated(random, r.dtype, 4, 11, spectrum, 1, r.factor);
    std::vector<double> expected = spectrum;
    for (double& s : expected) s *= r.factor;
    expect_values(x, expected, r.relative);
  }
  // Whole multiples of the least denormals, exactly.
  for (const auto& [dtype, quantum] :
       {std::pair{STEEPEST_F32, 0x1p-149}, std::pair{STEEPEST_F64, 0x1p-1074},
        std::pair{STEEPEST_BF16, 0x1p-133}, std::pair{STEEPEST_F16, 0x1p-24}}) {
    stored x(dtype, 2, 3);
    const double unit = quantum;
    x.fill_with([&](std::int64_t i, std::int64_t j) { return i == j ? 3 * (i + 1) * unit : 0; });
    double values[2] = {-7, -7};
    ASSERT_OK(steepest_singular_values(nullptr, 2, 3, x.dtype, x.data(), 0, values));
    EXPECT_EQ(values[0], 6 * quantum);
    EXPECT_EQ(values[1], 3 * quantum);
  }
}

TEST(singular_values, of_nothing_and_zero) {
  EXPECT_OK(steepest_singular_values(nullptr, 0, 5, STEEPEST_F32, nullptr, 0, nullptr));
  EXPECT_OK(steepest_singular_values(nullptr, 5, 0, STEEPEST_F32, nullptr, 0, nullptr));
  stored x(STEEPEST_F16, 3, 8);
  x.fill_with([](auto, auto) { return 0.0; });
  double values[3] = {-7, -7, -7};
  EXPECT_OK(steepest_singular_values(nullptr, 3, 8, STEEPEST_F16, x.data(), 0, values));
  for (const double value : values) EXPECT_EQ(value, 0);
}

TEST(singular_values, bad_input) {
  stored x(STEEPEST_F32, 3, 8);
  x.fill_with([](auto i, auto j) { return static_cast<double>(i + j); });
  double values[4] = {-7, -7, -7, -7};
  const auto refused = [&](steepest_status status, const char* name, std::int64_t rows,
                           std::int64_t cols, steepest_dtype dtype, const void* data,
                           std::int64_t ld, double* to) {
    EXPECT_EQ(steepest_singular_values(nullptr, rows, cols, dtype, data, ld, to), status) << name;
    EXPECT_TRUE(error_begins(std::string("singular_values: ") + name)) << steepest_last_error();
    for (const double value : values) EXPECT_EQ(value, -7);
  };
  refused(STEEPEST_E_SHAPE, "rows", -1, 8, STEEPEST_F32, x.data(), 0, values);
  refused(STEEPEST_E_SHAPE, "cols", 3, -1, STEEPEST_F32, x.data(), 0, values);
  refused(STEEPEST_E_SHAPE, "rows", std::int64_t{1} << 31, 8, STEEPEST_F32, x.data(), 0, values);
  refused(STEEPEST_E_SHAPE, "ldx", 3, 8, STEEPEST_F32, x.data(), 7, values);
  refused(STEEPEST_E_SHAPE, "ldx", 3, 8, STEEPEST_F32, x.data(), -8, values);
  refused(STEEPEST_E_DTYPE, "dtype", 3, 8, 0, x.data(), 0, values);
  refused(STEEPEST_E_DTYPE, "dtype", 3, 8, STEEPEST_Q8_DYNAMIC, x.data(), 0, values);
  refused(STEEPEST_E_INVALID_ARGUMENT, "x", 3, 8, STEEPEST_F32, nullptr, 0, values);
  refused(STEEPEST_E_INVALID_ARGUMENT, "x", 3, 8, STEEPEST_F32,
          static_cast<const char*>(x.data()) + 2, 0, values);
  refused(STEEPEST_E_INVALID_ARGUMENT, "values", 3, 8, STEEPEST_F32, x.data(), 0, nullptr);
  for (const double bad : {not_a_number, infinity, -infinity}) {
    stored spoiled = x;
    spoiled.set(2, 7, bad);
    refused(STEEPEST_E_NONFINITE, "x", 3, 8, STEEPEST_F32, spoiled.data(), 0, values);
  }
}

TEST(singular_values, without_memory) {
  stored x(STEEPEST_F32, 30, 80);
  x.fill_with([](auto i, auto j) { return static_cast<double>((i * 7 + j * 3) % 11); });
  std::int64_t fail_at = 0;
  for (bool failed = true; failed; ++fail_at) {
    counting_allocator own;
    own.fail_at = fail_at;
    const steepest_allocator allocator = own.interface();
    const context_pointer context = try_context({.allocator = &allocator});
    if (context == nullptr) continue;
    std::vector<double> values(30, -7);
    const steepest_status status =
        steepest_singular_values(context.get(), 30, 80, STEEPEST_F32, x.data(), 0, values.data());
    failed = status != STEEPEST_OK;
    if (!failed) break;
    EXPECT_EQ(status, STEEPEST_E_OUT_OF_MEMORY);
    EXPECT_EQ(values, std::vector<double>(30, -7));
    ASSERT_LT(fail_at, 100);
  }
  EXPECT_GE(fail_at, 2);
}

// ------------------------------------------------------------------ singular entropy

double entropy(const std::vector<double>& values) {
  double h = -7;
  EXPECT_OK(steepest_singular_entropy(values.data(), static_cast<std::int64_t>(values.size()), &h));
  return h;
}

TEST(singular_entropy, hand_worked) {
  for (const std::size_t n : {2, 3, 10, 1000})
    EXPECT_NEAR(entropy(std::vector<double>(n, 0.37)), 1, 1e-13);
  EXPECT_EQ(entropy({0, 5, 0, 0}), 0);
  EXPECT_EQ(entropy({4}), 0);
  EXPECT_EQ(entropy({0}), 0);
  EXPECT_EQ(entropy({0, 0, 0}), 0);
  EXPECT_EQ(entropy({}), 0);
  double h = -7;
  EXPECT_OK(steepest_singular_entropy(nullptr, 0, &h));
  EXPECT_EQ(h, 0);
  // p = (4/5, 1/5): -(4/5 log2 4/5 + 1/5 log2 1/5) = log2 5 - 8/5.
  const double expected = std::log2(5.0) - 1.6;
  EXPECT_NEAR(expected, 0.721928, 1e-6);
  for (const double size : {1.0, 1e-200, 1e200}) {
    EXPECT_NEAR(entropy({2 * size, size}), expected, 1e-14);
    EXPECT_NEAR(entropy({size, 2 * size}), expected, 1e-14);
    EXPECT_NEAR(entropy({size, 0, 2 * size, 0}), expected / 2, 1e-14);  // log 4 = 2 log 2
  }
}

TEST(singular_entropy, bad_input) {
  double h = -7;
  const auto refused = [&](const double* values, std::int64_t count, double* to,
                           steepest_status status, const std::string& name) {
    EXPECT_EQ(steepest_singular_entropy(values, count, to), status) << name;
    EXPECT_TRUE(error_begins("singular_entropy: " + name)) << steepest_last_error();
    EXPECT_EQ(h, -7);
  };
  const double good[] = {3, 2, 1};
  refused(good, -1, &h, STEEPEST_E_SHAPE, "count");
  refused(nullptr, 3, &h, STEEPEST_E_INVALID_ARGUMENT, "values");
  refused(good, 3, nullptr, STEEPEST_E_INVALID_ARGUMENT, "entropy");
  for (const double bad : {-1.0, infinity, not_a_number}) {
    const double values[] = {3, bad, 1};
    refused(values, 3, &h, STEEPEST_E_INVALID_ARGUMENT, "values[1]");
  }
}

}  // namespace
}  // namespace steepest_test
