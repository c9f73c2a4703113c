// SPDX-License-Identifier: Apache-2.0
//
// The scalar side of msign against published numbers and against the formulas, evaluated another
// way in long double (matrix_oracle.hpp).
#include "matrix_oracle.hpp"
#include "msign/coefficients.hpp"
#include "support.hpp"

namespace steepest_test {
namespace {

using namespace steepest::msign;

TEST(coefficients, presets) {
  for (const std::int32_t which : {STEEPEST_COEF_KELLER, STEEPEST_COEF_CLASSIC, STEEPEST_COEF_CUBIC,
                                   STEEPEST_COEF_YOU, STEEPEST_COEF_POLAR_EXPRESS}) {
    const auto expected = preset_rows(which);
    const coefficient_set set = preset(which);
    ASSERT_EQ(set.count, static_cast<std::int64_t>(expected.size()));
    for (std::int64_t step = 0; step < set.count + 3; ++step) {
      const auto& row = expected[static_cast<std::size_t>(std::min(step, set.count - 1))];
      EXPECT_NEAR(set.row(step).a, row[0], 1e-15 * std::fabs(row[0]) + 1e-300) << which;
      EXPECT_NEAR(set.row(step).b, row[1], 1e-14 * std::fabs(row[1])) << which;
      EXPECT_NEAR(set.row(step).c, row[2], 1e-14 * std::fabs(row[2])) << which;
    }
  }
}

// At l = 1e-3 the generator gives the published rows; the interface adds the safety factor.
TEST(coefficients, generator_gives_the_published_rows) {
  const auto published = preset_rows(STEEPEST_COEF_POLAR_EXPRESS);
  double rows[8][3];
  ASSERT_OK(steepest_msign_coefficients(1e-3, 8, &rows[0][0]));
  quintic own[8];
  polar_express(1e-3, 8, own);
  for (std::size_t i = 0; i < 8; ++i) {
    if (i < 7) own[i] = steepest::msign::with_safety(own[i]);
    EXPECT_EQ(rows[i][0], own[i].a);
    EXPECT_EQ(rows[i][1], own[i].b);
    EXPECT_EQ(rows[i][2], own[i].c);
    for (std::size_t k = 0; k < 3; ++k) {
      EXPECT_NEAR(rows[i][k] / published[i][k], 1, i < 6 ? 1e-12 : 1e-8) << i << " " << k;
    }
  }
}

// Whatever l and the number of steps: what they do on [l, 1] is centred on 1 and shrinks.
TEST(coefficients, generated_rows_converge) {
  for (const double l : {1e-8, 1e-5, 1e-3, 1e-2, 0.1, 0.5, 0.9, 0.9999, 0.9999999}) {
    double before = 2;
    for (const std::int64_t steps : {1, 2, 3, 5, 8, 20, 100}) {
      std::vector<quintic> rows(static_cast<std::size_t>(steps));
      polar_express(l, steps, rows.data());
      const auto f = [&](double x) {
        for (const quintic& row : rows) x = row(x);
        return x;
      };
      const steepest::msign::band range = band_of(f, l, 1.0);
      EXPECT_LE(range.high - 1, 1 - range.low + 1e-9) << l << " " << steps;
      EXPECT_LE(1 - range.low, before + 1e-12) << l << " " << steps;
      before = 1 - range.low;
    }
    EXPECT_LE(before, 1e-12) << l;  // a hundred steps converge from anywhere
  }
}

// The preset is the generator's rows with a safety factor, and so are other rows that are meant to
// be used as they come: the header calls them what custom_coefficients takes.
TEST(coefficients, generated_rows_can_be_used) {
  for (const double safety : {1.01, 1.0}) {
    for (const double l : {1e-2, 1e-3}) {
      std::vector<double> rows(15);
      ASSERT_OK(steepest_msign_coefficients(l, 5, rows.data()));
      for (std::size_t i = 0; i < 12; ++i)
        rows[i] /= std::pow(safety, 2.0 * static_cast<double>(i % 3) + 1);
      steepest_msign_config config = STEEPEST_MSIGN_CONFIG_INIT;
      config.method = STEEPEST_MSIGN_NEWTON_SCHULZ;
      config.coefficients = STEEPEST_COEF_CUSTOM;
      config.custom_coefficients = rows.data();
      config.custom_count = 5;
      double low = 0;
      double high = 0;
      EXPECT_OK(steepest_msign_band(&config, l, &low, &high)) << l << " safety " << safety;
      if (l == 1e-3) {
        EXPECT_NEAR(low, .85, 4e-2);
        EXPECT_NEAR(high, 1.12, 4e-2);
      }
    }
  }
}

TEST(coefficients, zolotarev_of_numerics) {
  const struct {
    double l;
    int poles;
    double error;
    std::vector<double> shifts;
  } rows[] = {
      {1e-3, 1, .6025, {6.25e-5}},
      {1e-3, 2, .2021, {6.41e-6, 5.27e-3}},
      {1e-3, 3, .0621, {2.20e-6, 3.05e-4, 3.56e-2}},
      {1e-3, 4, .0189, {1.12e-6, 6.25e-5, 2.52e-3, 1.05e-1}},
      {1e-3, 5, .0058, {}},
      {1e-3, 6, .0018, {}},
      {1e-2, 1, .3286, {}},
      {1e-2, 2, .0650, {}},
      {1e-2, 3, .0125, {}},
      {1e-2, 4, .0024, {}},
  };
  for (const auto& row : rows) {
    const zolotarev z = zolotarev_for(row.l, row.poles);
    EXPECT_NEAR(z.error, row.error, 5.1e-5) << row.l << " " << row.poles;
    for (std::size_t j = 0; j < row.shifts.size(); ++j)
      EXPECT_NEAR(z.shifts[j] / row.shifts[j], 1, 5e-3) << row.l << " " << row.poles;
    const steepest::msign::band range = band_of(z, row.l, 1.0);
    EXPECT_NEAR(range.low, 1 - z.error, 1e-9);
    EXPECT_NEAR(range.high, 1 + z.error, 1e-9);
  }
}

TEST(coefficients, zolotarev_is_the_formula) {
  for (const double l : {1e-8, 1e-6, 1e-4, 1e-3, 0.03, 0.3, 0.9, 0.999}) {
    for (int poles = 1; poles <= max_poles; ++poles) {
      SCOPED_TRACE(testing::Message() << "l " << l << " poles " << poles);
      const zolotarev z = zolotarev_for(l, poles);
      const zolotarev_oracle exact(l, poles);
      EXPECT_NEAR(z.error, exact.error, l < 1e-5 ? 3e-8 : 1e-10);
      EXPECT_NEAR(z.scale / static_cast<double>(exact.scale), 1, 3e-8);
      for (int j = 0; j < poles; ++j) {
        const auto at = static_cast<std::size_t>(j);
        EXPECT_NEAR(z.shifts[j] / static_cast<double>(exact.shift(j)), 1, 1e-7);
        EXPECT_NEAR(z.weights[j] / static_cast<double>(exact.weights[at]), 1, 1e-7);
      }
      for (int i = 0; i <= 200; ++i) {
        const double x = std::pow(l, i / 200.0);
        EXPECT_NEAR(z(x), exact(x), l < 1e-6 ? 1e-7 : 3e-9);
      }
      EXPECT_EQ(z(0), 0);
    }
  }
}

// The kept one is not mistaken for another.
TEST(coefficients, zolotarev_alternates) {
  const double first = zolotarev_for(1e-3, 3).error;
  const double second = zolotarev_for(1e-2, 3).error;
  const double third = zolotarev_for(1e-2, 4).error;
  EXPECT_EQ(zolotarev_for(1e-3, 3).error, first);
  EXPECT_EQ(zolotarev_for(1e-2, 3).error, second);
  EXPECT_EQ(zolotarev_for(1e-2, 4).error, third);
  EXPECT_GT(first, second);
  EXPECT_GT(second, third);
}

double halley_steps(double l, int steps, double x) {
  for (int i = 0; i < steps; ++i) {
    const halley f(l);
    x = f(x);
    l = f.next_l;
  }
  return 2 * x / (1 + l);
}

// A step is a Zolotarev function of one pole, and two of them compose to one of four.
TEST(coefficients, halley_is_zolotarev) {
  for (const double l : {1e-3, 1e-2, 0.2}) {
    const zolotarev one = zolotarev_for(l, 1);
    const zolotarev four = zolotarev_for(l, 4);
    for (int i = 0; i <= 500; ++i) {
      const double x = std::pow(l, i / 500.0);
      EXPECT_NEAR(halley_steps(l, 1, x), one(x), 1e-11) << l << " " << x;
      EXPECT_NEAR(halley_steps(l, 2, x), four(x), 1e-12) << l << " " << x;
      for (const int steps : {1, 2, 3, 8})
        EXPECT_NEAR(halley_steps(l, steps, x), halley_oracle(l, steps, x), 1e-11) << l << " " << x;
    }
  }
  // Two steps at l = 1e-3 to 1e-13.
  const zolotarev z = zolotarev_for(1e-3, 4);
  double worst = 0;
  for (int i = 0; i <= 5000; ++i) {
    const double x = std::pow(1e-3, i / 5000.0);
    worst = std::max(worst, std::fabs(halley_steps(1e-3, 2, x) - z(x)));
  }
  EXPECT_LE(worst, 1e-13);
}

steepest::msign::band api_band(std::int32_t method, std::int32_t coefficients, std::int32_t steps,
                               double l) {
  steepest_msign_config config = STEEPEST_MSIGN_CONFIG_INIT;
  config.method = method;
  config.coefficients = coefficients;
  config.steps = steps;
  steepest::msign::band range = {-1, -1};
  EXPECT_OK(steepest_msign_band(&config, l, &range.low, &range.high));
  return range;
}

TEST(coefficients, bands_of_numerics) {
  const struct {
    std::int32_t method, coefficients, steps;
    double low, high, digits;
  } rows[] = {
      {STEEPEST_MSIGN_NEWTON_SCHULZ, STEEPEST_COEF_KELLER, 5, .471, 1.202, 6e-4},
      {STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ, STEEPEST_COEF_KELLER, 0, .471, 1.202, 6e-4},
      {STEEPEST_MSIGN_NEWTON_SCHULZ, STEEPEST_COEF_YOU, 5, .475, 1.145, 6e-4},
      {STEEPEST_MSIGN_NEWTON_SCHULZ, STEEPEST_COEF_POLAR_EXPRESS, 5, .846, 1.124, 6e-4},
      {STEEPEST_MSIGN_AUTO, STEEPEST_COEF_POLAR_EXPRESS, 0, 1 - .0621, 1 + .0621, 6e-5},
      {STEEPEST_MSIGN_RATIONAL, STEEPEST_COEF_POLAR_EXPRESS, 0, 1 - .0621, 1 + .0621, 6e-5},
      {STEEPEST_MSIGN_RATIONAL, STEEPEST_COEF_POLAR_EXPRESS, 1, 1 - .6025, 1 + .6025, 6e-5},
      {STEEPEST_MSIGN_HALLEY, STEEPEST_COEF_POLAR_EXPRESS, 2, 1 - .0189, 1 + .0189, 6e-5},
      {STEEPEST_MSIGN_SVD, STEEPEST_COEF_POLAR_EXPRESS, 0, 1, 1, 0},
      {STEEPEST_MSIGN_ACCURATE, STEEPEST_COEF_POLAR_EXPRESS, 0, 1, 1, 0},
  };
  for (const auto& row : rows) {
    const auto range = api_band(row.method, row.coefficients, row.steps, 1e-3);
    EXPECT_NEAR(range.low, row.low, row.digits) << row.method << " " << row.coefficients;
    EXPECT_NEAR(range.high, row.high, row.digits) << row.method << " " << row.coefficients;
  }
}

// No value of the function lies outside the band, and the ends are reached.
TEST(coefficients, bands_hold) {
  for (const double l : {1e-5, 1e-3, 0.1, 0.7, 1.0}) {
    for (const std::int32_t which :
         {STEEPEST_COEF_KELLER, STEEPEST_COEF_CLASSIC, STEEPEST_COEF_CUBIC, STEEPEST_COEF_YOU,
          STEEPEST_COEF_POLAR_EXPRESS}) {
      for (const std::int32_t steps : {4, 5, 6, 9}) {
        const auto range = api_band(STEEPEST_MSIGN_NEWTON_SCHULZ, which, steps, l);
        const auto rows = preset_rows(which);
        double low = 9;
        double high = 0;
        for (int i = 0; i <= 20000; ++i) {
          const double value = polynomial_oracle(rows, steps, std::pow(l, i / 20000.0));
          low = std::min(low, value);
          high = std::max(high, value);
        }
        EXPECT_GE(low, range.low - 1e-9) << which << " " << steps << " " << l;
        EXPECT_LE(high, range.high + 1e-9) << which << " " << steps << " " << l;
        EXPECT_NEAR(low, range.low, 1e-4) << which << " " << steps << " " << l;
        EXPECT_NEAR(high, range.high, 1e-4) << which << " " << steps << " " << l;
      }
    }
  }
}

TEST(coefficients, presets_are_safe_from_four_steps_on) {
  for (const std::int32_t which : {STEEPEST_COEF_KELLER, STEEPEST_COEF_CLASSIC, STEEPEST_COEF_CUBIC,
                                   STEEPEST_COEF_YOU, STEEPEST_COEF_POLAR_EXPRESS}) {
    for (std::int64_t steps = 4; steps <= 100; ++steps) {
      double where = 0;
      double value = 0;
      EXPECT_EQ(scan(preset(which), steps, where, value), scan_result::safe)
          << which << " " << steps << " takes " << where << " to " << value;
    }
  }
  double where = 0;
  double value = 0;
  EXPECT_EQ(scan(preset(STEEPEST_COEF_POLAR_EXPRESS), 2, where, value), scan_result::too_large);
  EXPECT_GT(value, 1.6);
}

TEST(coefficients, scan_finds_what_is_unsafe) {
  double where = 0;
  double value = 0;
  const auto result = [&](const quintic& row, std::int64_t steps = 1) {
    return scan({&row, 1}, steps, where, value);
  };
  EXPECT_EQ(result({1.5, -0.5, 0}), scan_result::safe);
  EXPECT_EQ(result({1.6 / 1.0015, 0, 0}), scan_result::safe);
  EXPECT_EQ(result({1.6 / 1.0005, 0, 0}), scan_result::too_large);  // only above 1
  EXPECT_GT(where, 1);
  EXPECT_EQ(result({1, -1, 0}), scan_result::negative);  // only above 1
  EXPECT_GT(where, 1);
  EXPECT_LT(value, 0);
  EXPECT_EQ(result({1, -4, 3.6}), scan_result::negative);  // only in between
  EXPECT_EQ(result({1.2, 0, 0}, 2), scan_result::safe);
  EXPECT_EQ(result({1.2, 0, 0}, 3), scan_result::too_large);
  EXPECT_EQ(result({std::nan(""), 0, 0}), scan_result::negative);
}

}  // namespace
}  // namespace steepest_test
