// SPDX-License-Identifier: Apache-2.0
//
// The spectral norm and its bounds on matrices whose spectrum is known.
#include "executors.hpp"
#include "muon_support.hpp"

namespace steepest_test {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
const double not_a_number = std::numeric_limits<double>::quiet_NaN();

struct bounds {
  double lower = -7, upper = -7;
};

bounds bounds_of(stored& x, double tolerance, steepest_context* context = nullptr) {
  bounds b;
  EXPECT_OK(steepest_spectral_norm_bounds(context, x.rows, x.cols, x.dtype, x.data(), x.ld,
                                          tolerance, &b.lower, &b.upper));
  return b;
}

double norm_of(stored& x) {
  double norm = -7;
  EXPECT_OK(steepest_spectral_norm(nullptr, x.rows, x.cols, x.dtype, x.data(), x.ld, &norm));
  return norm;
}

// `slack`: how far the matrix itself may be from the intended one, by rounding of its elements.
void expect_bounds(stored& x, double norm, double slack) {
  EXPECT_NEAR(norm_of(x), norm, slack + 1e-14 * norm);
  for (const double tolerance : {0.0, 1.0, 0.1, 1e-3, 1e-6}) {
    SCOPED_TRACE(testing::Message() << "tolerance " << tolerance);
    const stored before = x;
    const bounds b = bounds_of(x, tolerance);
    EXPECT_TRUE(x == before);
    EXPECT_LE(b.lower, norm + slack);
    EXPECT_GE(b.upper, norm - slack);
    EXPECT_LE(b.upper, (1 + (tolerance == 0 ? 0.01 : tolerance)) * b.lower);
  }
}

TEST(spectral_norm, of_rotated_matrices) {
  random_source random(261);
  for (const auto& [rows, cols] :
       {std::pair{12, 12}, std::pair{12, 50}, std::pair{50, 12}, std::pair{2, 3}, std::pair{1, 9},
        std::pair{9, 1}, std::pair{1, 1}, std::pair{70, 90}, std::pair{257, 130}}) {
    for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_F64, STEEPEST_BF16, STEEPEST_F16}) {
      SCOPED_TRACE(testing::Message() << rows << " x " << cols << " dtype " << dtype);
      std::vector<double> spectrum;
      for (int k = 0; k < std::min(rows, cols); ++k) spectrum.push_back(std::exp2(-k * 0.3));
      double square = 0;
      for (const double s : spectrum) square += s * s;
      stored x = rotated(random, dtype, rows, cols, spectrum, 3);
      const double rounding = dtype == STEEPEST_F64    ? 1e-14
                              : dtype == STEEPEST_F32  ? 0x1p-24
                              : dtype == STEEPEST_BF16 ? 0x1p-8
                                                       : 0x1p-10;
      expect_bounds(x, 1, rounding * std::sqrt(square));
    }
  }
}

// Spectra that iterations find hard: equal values, and many near the largest.
TEST(spectral_norm, of_dense_spectra) {
  random_source random(262);
  constexpr std::int64_t n = 200;
  for (const double lowest : {1.0, 0.999999, 0.99, 0.5, 0.0}) {
    SCOPED_TRACE(lowest);
    std::vector<double> spectrum;
    for (int k = 0; k < n; ++k) spectrum.push_back(1 - (1 - lowest) * k / (n - 1));
    stored x = rotated(random, STEEPEST_F64, n, n + 7, spectrum, 0);
    expect_bounds(x, 1, 1e-13);
  }
}

// Bounds of exactly known norms, in whole multiples: nothing is left to tolerance.
TEST(spectral_norm, is_between_its_bounds) {
  random_source random(263);
  for (int round = 0; round < 60; ++round) {
    const std::int64_t n = 1 + random.below(40);
    stored x(STEEPEST_F64, n, n + random.below(5));
    const double scale = std::ldexp(1.0, static_cast<int>(random.below(1800)) - 900);
    double largest = 0;
    std::vector<double> diagonal;
    for (std::int64_t i = 0; i < n; ++i) {
      diagonal.push_back(static_cast<double>(random.below(1000)) * scale);
      largest = std::max(largest, diagonal.back());
    }
    x.fill_with([&](std::int64_t i, std::int64_t j) {
      return i == j ? diagonal[static_cast<std::size_t>(i)] : 0.0;
    });
    const bounds b = bounds_of(x, 1e-4);
    EXPECT_LE(b.lower, largest);
    EXPECT_GE(b.upper, largest);
    EXPECT_LE(b.upper, 1.0001 * b.lower);
  }
}

// The start of the iteration is the same each time. A largest singular vector orthogonal to it is
// never seen, and the estimate is half of the norm: the factorisation must refuse to prove it.
TEST(spectral_norm, where_the_iteration_is_deceived) {
  constexpr std::int64_t n = 48;
  std::vector<double> start(n), hidden(n);
  std::uint64_t state = 1;
  for (double& x : start) {
    state = state * 6364136223846793005 + 1442695040888963407;
    x = static_cast<double>(state >> 11) * 0x1p-53 - 0.5;
  }
  random_source random(264);
  double overlap = 0, square = 0, length = 0;
  for (std::size_t i = 0; i < n; ++i) {
    hidden[i] = random.normal();
    overlap += hidden[i] * start[i];
    square += start[i] * start[i];
  }
  for (std::size_t i = 0; i < n; ++i) {
    hidden[i] -= overlap / square * start[i];
    length += hidden[i] * hidden[i];
  }
  stored x(STEEPEST_F64, n, n);
  x.fill_with([&](std::int64_t i, std::int64_t j) {
    return (i == j ? 1 : 0) +
           hidden[static_cast<std::size_t>(i)] * hidden[static_cast<std::size_t>(j)] / length;
  });
  expect_bounds(x, 2, 1e-13);
}

TEST(spectral_norm, of_large_and_small_matrices) {
  random_source random(265);
  struct row {
    steepest_dtype dtype;
    double factor;
  };
  for (const row& r : {row{STEEPEST_F32, 1e30}, row{STEEPEST_F32, 1e-30}, row{STEEPEST_F64, 1e300},
                       row{STEEPEST_F64, 1e-290}, row{STEEPEST_BF16, 1e-35}}) {
    SCOPED_TRACE(testing::Message() << "dtype " << r.dtype << " factor " << r.factor);
    stored x = rotated(random, r.dtype, 4, 11, {1, 0.75, 0.1, 1e-3}, 1, r.factor);
    expect_bounds(x, r.factor, r.factor * (r.dtype == STEEPEST_BF16 ? 0.01 : 1e-6));
  }
  stored x(STEEPEST_F64, 2, 2);
  x.fill_with(
      [](auto i, auto j) { return i == j ? static_cast<double>(3 * (i + 1)) * 0x1p-1074 : 0; });
  const bounds b = bounds_of(x, 0.1);
  EXPECT_EQ(norm_of(x), 6 * 0x1p-1074);
  EXPECT_LE(b.lower, 6 * 0x1p-1074);
  EXPECT_GE(b.upper, 6 * 0x1p-1074);
}

TEST(spectral_norm, of_nothing_and_zero) {
  for (const auto& [rows, cols] : {std::pair{0, 5}, std::pair{5, 0}, std::pair{3, 4}}) {
    stored x(STEEPEST_F32, rows, cols);
    x.fill_with([](auto, auto) { return 0.0; });
    const bounds b = bounds_of(x, 0);
    EXPECT_EQ(b.lower, 0);
    EXPECT_EQ(b.upper, 0);
    EXPECT_EQ(norm_of(x), 0);
  }
}

TEST(spectral_norm, bounds_do_not_depend_on_threads) {
  random_source random(266);
  stored x(STEEPEST_F32, 150, 600);
  x.fill_with([&](auto, auto) { return random.normal(); });
  for (const steepest_isa isa : levels()) {
    const bounds one = bounds_of(x, 1e-3, make_context({.max_isa = isa}).get());
    reversed_executor three(3);
    const steepest_executor executor = three.interface();
    const bounds many =
        bounds_of(x, 1e-3, make_context({.max_isa = isa, .executor = &executor}).get());
    EXPECT_EQ(one.lower, many.lower);
    EXPECT_EQ(one.upper, many.upper);
  }
  const auto blas = make_context({.flags = STEEPEST_CONTEXT_OPENBLAS});
  const bounds b = bounds_of(x, 1e-3, blas.get());
  EXPECT_LE(b.lower, norm_of(x));
  EXPECT_GE(b.upper, norm_of(x));
}

TEST(spectral_norm, bad_input) {
  stored x(STEEPEST_F32, 3, 8);
  x.fill_with([](auto i, auto j) { return static_cast<double>(i + j); });
  double a = -7, b = -7;
  const auto begins = [](const std::string& start) {
    const std::string text = steepest_last_error();
    return text.rfind(start, 0) == 0 && std::isalnum(text[start.size()]) == 0;
  };
  const auto refused = [&](steepest_status status, const std::string& name, std::int64_t rows,
                           std::int64_t cols, steepest_dtype dtype, const void* data,
                           std::int64_t ld) {
    EXPECT_EQ(steepest_spectral_norm(nullptr, rows, cols, dtype, data, ld, &a), status);
    EXPECT_TRUE(begins("spectral_norm: " + name)) << steepest_last_error();
    EXPECT_EQ(steepest_spectral_norm_bounds(nullptr, rows, cols, dtype, data, ld, 0, &a, &b),
              status);
    EXPECT_TRUE(begins("spectral_norm_bounds: " + name)) << steepest_last_error();
    EXPECT_TRUE(a == -7 && b == -7);
  };
  refused(STEEPEST_E_SHAPE, "rows", -1, 8, STEEPEST_F32, x.data(), 0);
  refused(STEEPEST_E_SHAPE, "cols", 3, -1, STEEPEST_F32, x.data(), 0);
  refused(STEEPEST_E_SHAPE, "ldx", 3, 8, STEEPEST_F32, x.data(), 7);
  refused(STEEPEST_E_DTYPE, "dtype", 3, 8, STEEPEST_Q8_DYNAMIC, x.data(), 0);
  refused(STEEPEST_E_INVALID_ARGUMENT, "x", 3, 8, STEEPEST_F32, nullptr, 0);
  for (const double bad : {not_a_number, infinity, -infinity}) {
    stored spoiled = x;
    spoiled.set(2, 7, bad);
    refused(STEEPEST_E_NONFINITE, "x", 3, 8, STEEPEST_F32, spoiled.data(), 0);
  }
  for (const double bad : {-1.0, 1e-7, 1.1, infinity, not_a_number}) {
    EXPECT_EQ(steepest_spectral_norm_bounds(nullptr, 3, 8, STEEPEST_F32, x.data(), 0, bad, &a, &b),
              STEEPEST_E_INVALID_ARGUMENT);
    EXPECT_TRUE(begins("spectral_norm_bounds: tolerance")) << steepest_last_error();
  }
  EXPECT_EQ(steepest_spectral_norm(nullptr, 3, 8, STEEPEST_F32, x.data(), 0, nullptr),
            STEEPEST_E_INVALID_ARGUMENT);
  EXPECT_TRUE(begins("spectral_norm: norm")) << steepest_last_error();
  for (const bool first : {true, false}) {
    EXPECT_EQ(steepest_spectral_norm_bounds(nullptr, 3, 8, STEEPEST_F32, x.data(), 0, 0,
                                            first ? nullptr : &a, first ? &b : nullptr),
              STEEPEST_E_INVALID_ARGUMENT);
    EXPECT_TRUE(begins(first ? "spectral_norm_bounds: lower" : "spectral_norm_bounds: upper"));
  }
  EXPECT_TRUE(a == -7 && b == -7);
}

TEST(spectral_norm, without_memory) {
  stored x(STEEPEST_F32, 30, 80);
  x.fill_with([](auto i, auto j) { return static_cast<double>((i * 7 + j * 3) % 11); });
  std::int64_t fail_at = 0;
  for (bool failed = true; failed; ++fail_at) {
    counting_allocator own;
    own.fail_at = fail_at;
    const steepest_allocator allocator = own.interface();
    const context_pointer context = try_context({.allocator = &allocator});
    if (context == nullptr) continue;
    double lower = -7, upper = -7;
    const steepest_status status = steepest_spectral_norm_bounds(
        context.get(), 30, 80, STEEPEST_F32, x.data(), 0, 0, &lower, &upper);
    failed = status != STEEPEST_OK;
    if (!failed) break;
    EXPECT_EQ(status, STEEPEST_E_OUT_OF_MEMORY);
    EXPECT_TRUE(lower == -7 && upper == -7);
    ASSERT_LT(fail_at, 100);
  }
  EXPECT_GE(fail_at, 2);
}

}  // namespace
}  // namespace steepest_test
