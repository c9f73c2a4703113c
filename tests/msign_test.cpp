// SPDX-License-Identifier: Apache-2.0
//
// The matrix sign against the exact one. What a method should give is U f(S) V^T, with f its scalar
// function on the singular values of the normalised matrix; f and the decomposition are the
// oracle's, so both the error and the result itself have an exact counterpart.
#include <dlfcn.h>

#include <array>
#include <map>

#include "core/half.hpp"
#include "executors.hpp"
#include "matrix_oracle.hpp"

namespace steepest_test {
namespace {

using steepest::bf16;
using steepest::f16;

template <class T>
struct storage;
template <>
struct storage<float> {
  static constexpr steepest_dtype dtype = STEEPEST_F32;
  static constexpr double half_ulp = 0x1p-24;
  static float narrow(double x) { return static_cast<float>(x); }
  static double widen(float x) { return x; }
};
template <>
struct storage<double> {
  static constexpr steepest_dtype dtype = STEEPEST_F64;
  static constexpr double half_ulp = 0x1p-53;
  static double narrow(double x) { return x; }
  static double widen(double x) { return x; }
};
template <>
struct storage<bf16> {
  static constexpr steepest_dtype dtype = STEEPEST_BF16;
  static constexpr double half_ulp = 0x1p-9;
  static bf16 narrow(double x) { return steepest::to_bf16(static_cast<float>(x)); }
  static double widen(bf16 x) { return steepest::to_float(x); }
};
template <>
struct storage<f16> {
  static constexpr steepest_dtype dtype = STEEPEST_F16;
  static constexpr double half_ulp = 0x1p-12;
  static f16 narrow(double x) { return steepest::to_f16(static_cast<float>(x)); }
  static double widen(f16 x) { return steepest::to_float(x); }
};

template <class T>
std::vector<T> narrowed(const dense& x) {
  std::vector<T> values;
  for (const double value : x.values) values.push_back(storage<T>::narrow(value));
  return values;
}

template <class T>
dense widened(const std::vector<T>& values, std::int64_t rows, std::int64_t cols) {
  dense x(rows, cols);
  for (std::size_t i = 0; i < values.size(); ++i) x.values[i] = storage<T>::widen(values[i]);
  return x;
}

// The nearest matrix that T stores.
template <class T>
dense stored(const dense& x) {
  return widened(narrowed<T>(x), x.rows, x.cols);
}

steepest_msign_config make_msign(std::int32_t method, std::int32_t steps = 0) {
  steepest_msign_config config = STEEPEST_MSIGN_CONFIG_INIT;
  config.method = method;
  config.steps = steps;
  return config;
}

struct answer {
  steepest_status status = STEEPEST_OK;
  dense o;
  steepest_msign_stats stats = STEEPEST_MSIGN_STATS_INIT;
};

template <class T>
answer run(const steepest_msign_config& config, const dense& x,
           steepest_context* context = nullptr) {
  answer result;
  const std::vector<T> from = narrowed<T>(x);
  std::vector<T> to(from.size(), storage<T>::narrow(-77));
  result.status = steepest_msign(context, &config, x.rows, x.cols, storage<T>::dtype, from.data(),
                                 0, to.data(), 0, nullptr, &result.stats);
  result.o = widened(to, x.rows, x.cols);
  return result;
}

template <class T>
dense msign_of(const steepest_msign_config& config, const dense& x) {
  const answer result = run<T>(config, x);
  EXPECT_OK(result.status);
  return result.o;
}

// ------------------------------------------------------------------ every method and what it does

struct method_case {
  std::string name;
  steepest_msign_config config;
  std::function<double(double)> f;  // on singular values of the normalised matrix
  double high = 1;                  // no value of f on [0, 1] is above
};

double highest(const std::function<double(double)>& f) {
  double high = 0;
  for (int i = 0; i <= 40000; ++i) high = std::max(high, f(std::pow(10.0, -i / 8000.0)));
  return high;
}

method_case make_case(const std::string& name, const steepest_msign_config& config,
                      std::function<double(double)> f) {
  const double high = highest(f);
  return {name, config, std::move(f), high};
}

method_case polynomial_case(std::int32_t method, std::int32_t coefficients, std::int32_t steps,
                            std::int32_t normalization = STEEPEST_NORM_AUTO) {
  steepest_msign_config config = make_msign(method, steps);
  config.coefficients = coefficients;
  config.normalization = normalization;
  const auto rows = preset_rows(coefficients);
  const int count = steps == 0 ? 5 : steps;
  return make_case((method == STEEPEST_MSIGN_NEWTON_SCHULZ ? "newton-schulz " : "gram ") +
                       std::to_string(coefficients) + " x " + std::to_string(count) +
                       (normalization == STEEPEST_NORM_AUTO ? "" : " own norm"),
                   config, [=](double x) { return polynomial_oracle(rows, count, x); });
}

method_case rational_case(int poles, double l, std::int32_t steps = -1) {
  steepest_msign_config config = make_msign(STEEPEST_MSIGN_RATIONAL, steps < 0 ? poles : steps);
  config.lower_bound = steps < 0 ? l : 0;
  const zolotarev_oracle z(l, poles);
  return make_case("rational " + std::to_string(poles) + " l " + std::to_string(l), config, z);
}

method_case halley_case(int steps, double l) {
  steepest_msign_config config = make_msign(STEEPEST_MSIGN_HALLEY, steps);
  config.lower_bound = l;
  return make_case("halley " + std::to_string(steps) + " l " + std::to_string(l), config,
                   [=](double x) { return halley_oracle(l, steps, x); });
}

double sign_of(double x) { return x > 0 ? 1 : 0; }

const std::vector<method_case>& iterations(bool f64) {
  static const std::array<std::vector<method_case>, 2> all = [] {
    std::array<std::vector<method_case>, 2> lists;
    for (const bool wide : {false, true}) {
      std::vector<method_case>& list = lists[wide];
      for (const std::int32_t method :
           {STEEPEST_MSIGN_NEWTON_SCHULZ, STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ}) {
        list.push_back(polynomial_case(method, STEEPEST_COEF_POLAR_EXPRESS, 0));
        list.push_back(polynomial_case(method, STEEPEST_COEF_POLAR_EXPRESS, 4));
        list.push_back(polynomial_case(method, STEEPEST_COEF_POLAR_EXPRESS, 8));
        list.push_back(polynomial_case(method, STEEPEST_COEF_KELLER, 5));
        list.push_back(polynomial_case(method, STEEPEST_COEF_YOU, 5));
        list.push_back(polynomial_case(method, STEEPEST_COEF_CUBIC, 1));
        list.push_back(polynomial_case(method, STEEPEST_COEF_CUBIC, 12));
        list.push_back(polynomial_case(method, STEEPEST_COEF_CLASSIC, 2));
        list.push_back(polynomial_case(method, STEEPEST_COEF_CLASSIC, 7));
        list.push_back(polynomial_case(method, STEEPEST_COEF_KELLER, 1));
      }
      list.push_back(polynomial_case(STEEPEST_MSIGN_NEWTON_SCHULZ, STEEPEST_COEF_POLAR_EXPRESS, 5,
                                     STEEPEST_NORM_SCHATTEN4));
      list.push_back(polynomial_case(STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ, STEEPEST_COEF_YOU, 5,
                                     STEEPEST_NORM_FROBENIUS));
      for (int poles = 1; poles <= 8; ++poles) list.push_back(rational_case(poles, 1e-3));
      list.push_back(rational_case(3, 1e-3, 0));  // the defaults
      list.push_back(rational_case(3, 1e-2));
      list.push_back(rational_case(2, 0.3));
      for (int steps = 1; steps <= (wide ? 5 : 3); ++steps)
        list.push_back(halley_case(steps, 1e-3));
      list.push_back(halley_case(2, 1e-2));
      if (wide) {
        list.push_back(rational_case(4, 1e-4));
        list.push_back(rational_case(8, 1e-6));
        list.push_back(halley_case(4, 1e-5));
      }
      const zolotarev_oracle standard(1e-3, 3);
      list.push_back(make_case("auto", make_msign(STEEPEST_MSIGN_AUTO), standard));
    }
    return lists;
  }();
  return all[f64];
}

// What a method divides a matrix by.
double exact_norm(const steepest_msign_config& config, const std::vector<double>& s) {
  long double squares = 0;
  long double fourth = 0;
  for (const double value : s) {
    const long double v = value;
    squares += v * v;
    fourth += v * v * v * v;
  }
  const bool frobenius =
      config.normalization == STEEPEST_NORM_FROBENIUS ||
      (config.normalization == STEEPEST_NORM_AUTO && config.method == STEEPEST_MSIGN_NEWTON_SCHULZ);
  return static_cast<double>(frobenius ? std::sqrt(squares) : std::sqrt(std::sqrt(fourth)));
}

// How far arithmetic and storage may be from the exact value of the method, relative to
// ||U V^T||_F: measured on the families, with a margin. In fp32 a Gram matrix has errors of 6e-8,
// and a function of slope 1/l makes errors of the order of 6e-8 / l^2 of them where the singular
// values are below 1e-3; more so the larger that slope is (many poles, Halley's third step).
struct allowance {
  double value;    // ||O - U f(S) V^T||
  double error;    // on top of 1.05 times the exact error
  double highest;  // on top of the largest value of f
};

template <class T>
allowance allowed(const method_case& method) {
  const steepest_msign_config& config = method.config;
  if (storage<T>::dtype == STEEPEST_F64) {
    if (config.lower_bound > 0 && config.lower_bound <= 1e-5) return {1e-4, 1e-6, 1e-5};
    return {1e-8, 1e-9, 1e-5};
  }
  const double rounding = 1.2 * storage<T>::half_ulp;
  if (config.method == STEEPEST_MSIGN_HALLEY && config.steps != 1)
    return {0.2 + rounding, 1e-2 + rounding, 0.25};
  if (config.method == STEEPEST_MSIGN_RATIONAL && config.steps >= 5)
    return {4e-2 + rounding, 2.5e-2 + rounding, 5e-2};
  const bool gram = config.method == STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ;
  return {2e-2 + rounding, (gram ? 1e-2 : 1e-3) + rounding, 1e-2};
}

struct worst_case {
  double value = 0, error = 0;
  std::string where;
};

template <class T>
void check_against_oracle(const method_case& method, const matrix_case& one,
                          const decomposition& exact, const dense& sign,
                          std::map<std::string, worst_case>& worst) {
  SCOPED_TRACE(method.name + " on " + one.name + " " + std::to_string(one.x.rows) + " x " +
               std::to_string(one.x.cols));
  const answer result = run<T>(method.config, one.x);
  ASSERT_OK(result.status);
  const bool vector = std::min(one.x.rows, one.x.cols) == 1;
  const bool by_norm = vector && method.config.method == STEEPEST_MSIGN_AUTO;
  const double norm = by_norm ? exact.s[0] : exact_norm(method.config, exact.s);
  EXPECT_NEAR(result.stats.norm / norm, 1, storage<T>::dtype == STEEPEST_F64 ? 1e-13 : 2e-6);
  const auto f = [&](double s) { return by_norm ? sign_of(s) : method.f(s / norm); };
  const double size = norm_of(sign.values);
  double exact_error = 0;
  for (const double s : exact.s) {
    const double difference = f(s) - (s > 1e-12 * exact.s[0] ? 1 : 0);
    exact_error += difference * difference;
  }
  exact_error = std::sqrt(exact_error) / size;
  const double error = distance(result.o, sign) / size;
  const double off = distance(result.o, exact.map(f)) / size;
  allowance limit = allowed<T>(method);
  // The noise of a large null space adds up.
  const double growth = std::max(1.0, static_cast<double>(exact.s.size()) / 48);
  limit = {limit.value * growth, limit.error * growth, limit.highest * growth};
  EXPECT_LE(error, 1.05 * exact_error + limit.error);
  EXPECT_LE(off, limit.value);
  EXPECT_LE(largest_singular_value(result.o), method.high + limit.highest + storage<T>::half_ulp);
  // The statistic is about O before it is rounded to its storage type.
  const double rounded =
      storage<T>::dtype == STEEPEST_F64 ? 1e-13 : 1e-5 + 3 * storage<T>::half_ulp;
  EXPECT_NEAR(result.stats.orthogonality, departure_from_orthogonality(result.o), rounded);
  worst_case& record = worst[method.name];
  record.error = std::max(record.error, error - 1.05 * exact_error);
  if (off > record.value) record.value = off, record.where = one.name;
}

using shape_list = std::vector<std::pair<int, int>>;

template <class T>
void every_method_on_every_family(std::uint64_t seed, const shape_list& shapes) {
  std::map<std::string, worst_case> worst;
  random_source random(seed);
  for (const auto& shape : shapes) {
    for (matrix_case& one : matrix_families(random, shape.first, shape.second)) {
      one.x = stored<T>(one.x);
      // 1e-30 and 1e30 are out of f16's range.
      if (norm_of(one.x.values) == 0 || !std::isfinite(norm_of(one.x.values))) continue;
      const decomposition exact = decompose(one.x);
      const dense sign = exact.msign();
      for (const method_case& method : iterations(storage<T>::dtype == STEEPEST_F64))
        check_against_oracle<T>(method, one, exact, sign, worst);
    }
  }
  for (const auto& [name, record] : worst)
    std::printf("    %-34s off %.1e (%s), error %+.1e\n", name.c_str(), record.value,
                record.where.c_str(), record.error);
}

shape_list shapes() {
  shape_list list = {{24, 40}, {64, 33}, {48, 48}, {2, 2}, {1, 9}, {7, 1}};
  if (long_run()) {
    for (int seed = 1; seed < 20; ++seed) list.insert(list.end(), {{24, 40}, {33, 65}, {48, 48}});
    list.insert(list.end(), {{96, 300}, {300, 96}, {160, 160}});
  }
  return list;
}

TEST(msign, f32_is_the_exact_function) { every_method_on_every_family<float>(1, shapes()); }
TEST(msign, f64_is_the_exact_function) { every_method_on_every_family<double>(2, shapes()); }
TEST(msign, bf16_is_the_exact_function) {
  every_method_on_every_family<bf16>(3, {{24, 40}, {33, 20}});
}
TEST(msign, f16_is_the_exact_function) {
  every_method_on_every_family<f16>(4, {{24, 40}, {33, 20}});
}

// After three steps from 1e-3 Halley's lower bound is 1 within 1e-7, and a further step changes
// little; rounding errors must not be blown up by it.
TEST(msign, halley_takes_more_steps_than_it_needs) {
  random_source random(5);
  for (const double condition : {1e2, 1e4, 1e8}) {
    for (const int steps : {4, 8}) {
      const dense x = stored<float>(with_condition(random, 24, 40, condition));
      const decomposition exact = decompose(x);
      const answer result = run<float>(make_msign(STEEPEST_MSIGN_HALLEY, steps), x);
      ASSERT_OK(result.status);
      EXPECT_LE(largest_singular_value(result.o), 1.05)
          << steps << " steps, condition " << condition << ", retries " << result.stats.retries;
    }
  }
}

// ------------------------------------------------------------------ SVD and ACCURATE

template <class T>
void svd_is_exact(std::uint64_t seed, int32_t compute) {
  random_source random(seed);
  const double eps = compute == STEEPEST_F64 ? 0x1p-52 : 0x1p-23;
  for (const auto& shape : shapes()) {
    for (matrix_case& one : matrix_families(random, shape.first, shape.second)) {
      one.x = stored<T>(one.x);
      SCOPED_TRACE(one.name + " " + std::to_string(one.x.rows) + " x " +
                   std::to_string(one.x.cols));
      const decomposition exact = decompose(one.x);
      steepest_msign_config config = make_msign(STEEPEST_MSIGN_SVD);
      config.compute_dtype = compute;
      const answer result = run<T>(config, one.x);
      ASSERT_OK(result.status);
      const double tolerance = static_cast<double>(std::max(one.x.rows, one.x.cols)) *
                               (storage<T>::dtype == STEEPEST_F64 ? 0x1p-52 : 0x1p-23);
      EXPECT_GE(result.stats.rank, exact.rank(1.1 * tolerance));
      EXPECT_LE(result.stats.rank, exact.rank(0.9 * tolerance));
      EXPECT_EQ(result.stats.method, STEEPEST_MSIGN_SVD);
      EXPECT_NEAR(result.stats.norm / exact.s[0], 1, 100 * eps);
      const auto rank = static_cast<std::size_t>(result.stats.rank);
      ASSERT_GE(rank, 1u);
      const double least = exact.s[rank - 1] / exact.s[0];
      const dense sign = exact.msign(least * (1 - 1e-3));
      EXPECT_LE(distance(result.o, sign) / norm_of(sign.values),
                100 * eps / least + 2 * storage<T>::half_ulp + 100 * eps);
      const double missing = static_cast<double>(exact.s.size() - rank);
      EXPECT_NEAR(result.stats.orthogonality,
                  std::sqrt(missing / static_cast<double>(exact.s.size())), 100 * eps);
    }
  }
}

TEST(msign, svd_of_f32_is_exact) { svd_is_exact<float>(6, STEEPEST_F32); }
TEST(msign, svd_of_f64_is_exact) { svd_is_exact<double>(7, STEEPEST_F64); }
TEST(msign, svd_of_f32_in_f64_is_exact) { svd_is_exact<float>(8, STEEPEST_F64); }
TEST(msign, svd_of_bf16_is_exact) { svd_is_exact<bf16>(9, STEEPEST_F64); }

TEST(msign, svd_takes_a_rank_tolerance) {
  random_source random(10);
  const dense x = with_condition(random, 11, 30, 1e5);  // 1, 10^-0.5, 10^-1, ...
  const decomposition exact = decompose(x);
  for (const std::int64_t rank : {1, 4, 10}) {
    steepest_msign_config config = make_msign(STEEPEST_MSIGN_SVD);
    config.rank_tolerance = std::pow(10.0, -0.5 * static_cast<double>(rank) + 0.25);
    const answer result = run<double>(config, x);
    ASSERT_OK(result.status);
    EXPECT_EQ(result.stats.rank, rank);
    EXPECT_LE(distance(result.o, exact.msign(config.rank_tolerance)), 1e-9);
  }
}

template <class T>
void accurate_is_accurate(std::uint64_t seed) {
  random_source random(seed);
  const double stored_exactly = 2 * storage<T>::half_ulp;
  for (const auto& shape : shapes()) {
    for (matrix_case& one : matrix_families(random, shape.first, shape.second)) {
      one.x = stored<T>(one.x);
      SCOPED_TRACE(one.name + " " + std::to_string(one.x.rows) + " x " +
                   std::to_string(one.x.cols));
      const decomposition exact = decompose(one.x);
      const std::int64_t rank = exact.rank();
      const double condition = exact.s[0] / exact.s[static_cast<std::size_t>(rank - 1)];
      const answer result = run<T>(make_msign(STEEPEST_MSIGN_ACCURATE), one.x);
      ASSERT_OK(result.status);
      const dense sign = exact.msign();
      const double error = distance(result.o, sign) / norm_of(sign.values);
      // Beyond 1e8 the fp64 Gram matrix has lost the smallest singular values.
      if (condition < 1.1e4)
        EXPECT_LE(error, 1e-6 + stored_exactly);
      else if (condition < 1.1e6)
        EXPECT_LE(error, 1e-4 + stored_exactly);
      else
        EXPECT_LE(error, 0.5);
      EXPECT_LE(largest_singular_value(result.o), 1 + 1e-2 + stored_exactly);
      EXPECT_GE(result.stats.steps, 1);
      EXPECT_GE(result.stats.lower_bound, 1e-8);
      if (result.stats.retries == 0 && condition < 1e7 &&
          rank == std::min(one.x.rows, one.x.cols)) {
        EXPECT_LE(result.stats.lower_bound, 1.0001 / condition);
      }
    }
  }
}

TEST(msign, accurate_f32) { accurate_is_accurate<float>(11); }
TEST(msign, accurate_f64) { accurate_is_accurate<double>(12); }
TEST(msign, accurate_bf16) { accurate_is_accurate<bf16>(13); }

// ------------------------------------------------------------------ methods against each other

std::vector<method_case> every_method(bool f64) {
  std::vector<method_case> all = iterations(f64);
  all.push_back({"svd", make_msign(STEEPEST_MSIGN_SVD), sign_of});
  all.push_back({"accurate", make_msign(STEEPEST_MSIGN_ACCURATE), sign_of});
  return all;
}

TEST(msign, rational_halves_and_quarters_the_error_of_polar_express) {
  random_source random(14);
  for (const bool gaussian_spectrum : {true, false}) {
    const int seeds = long_run() ? 20 : 3;
    for (int seed = 0; seed < seeds; ++seed) {
      const dense x = stored<float>(gaussian_spectrum ? gaussian(random, 96, 384)
                                                      : power_law(random, 96, 384, 1));
      const dense sign = decompose(x).msign();
      const auto error = [&](const steepest_msign_config& config) {
        return distance(msign_of<float>(config, x), sign) / norm_of(sign.values);
      };
      const double polar_express = error(make_msign(STEEPEST_MSIGN_NEWTON_SCHULZ, 5));
      EXPECT_GT(polar_express, 0.06);
      EXPECT_LE(error(make_msign(STEEPEST_MSIGN_RATIONAL, 3)), 0.65 * polar_express);
      EXPECT_LE(error(make_msign(STEEPEST_MSIGN_RATIONAL, 4)), 0.27 * polar_express);
      EXPECT_LE(error(make_msign(STEEPEST_MSIGN_AUTO)), 0.65 * polar_express);
    }
  }
}

void set_openblas_threads(int threads) {
  using setter = void (*)(int);
  const auto set = reinterpret_cast<setter>(dlsym(RTLD_DEFAULT, "openblas_set_num_threads"));
  if (set != nullptr) set(threads);
}

template <class T>
void gram_is_standard(double limit) {
  random_source random(15);
  for (const auto& [rows, cols] : {std::pair(24, 60), std::pair(50, 30), std::pair(32, 32)}) {
    for (matrix_case& one : matrix_families(random, rows, cols)) {
      one.x = stored<T>(one.x);
      for (const std::int32_t set :
           {STEEPEST_COEF_KELLER, STEEPEST_COEF_CLASSIC, STEEPEST_COEF_CUBIC, STEEPEST_COEF_YOU,
            STEEPEST_COEF_POLAR_EXPRESS}) {
        for (const std::int32_t steps : {4, 5, 6, 8}) {
          steepest_msign_config config = make_msign(STEEPEST_MSIGN_NEWTON_SCHULZ, steps);
          config.coefficients = set;
          config.normalization = STEEPEST_NORM_SCHATTEN4;
          const dense standard = msign_of<T>(config, one.x);
          config.method = STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ;
          const dense gram = msign_of<T>(config, one.x);
          EXPECT_LE(distance(gram, standard) / norm_of(standard.values), limit)
              << one.name << " set " << set << " steps " << steps;
          // A restart before every step, and none.
          std::vector<std::int32_t> restarts;
          for (std::int32_t step = 2; step <= steps; ++step) restarts.push_back(step);
          config.restarts = restarts.data();
          config.restart_count = static_cast<std::int64_t>(restarts.size());
          EXPECT_LE(distance(msign_of<T>(config, one.x), standard) / norm_of(standard.values),
                    limit);
          if (sizeof(T) < 8) continue;
          config.restart_count = 0;
          EXPECT_LE(distance(msign_of<T>(config, one.x), standard) / norm_of(standard.values),
                    limit);
        }
      }
    }
  }
}
TEST(msign, gram_newton_schulz_is_newton_schulz_f32) { gram_is_standard<float>(2e-2); }
TEST(msign, gram_newton_schulz_is_newton_schulz_f64) { gram_is_standard<double>(1e-8); }

// What restarts are for: fp32 without them loses digits.
TEST(msign, restarts_matter) {
  random_source random(16);
  const dense x = stored<float>(power_law(random, 256, 256, 1));
  steepest_msign_config config = make_msign(STEEPEST_MSIGN_NEWTON_SCHULZ, 8);
  config.normalization = STEEPEST_NORM_SCHATTEN4;
  config.compute_dtype = STEEPEST_F64;
  const dense exact = msign_of<float>(config, x);
  config.method = STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ;
  config.compute_dtype = STEEPEST_F32;
  const double with = distance(msign_of<float>(config, x), exact) / norm_of(exact.values);
  const std::int32_t none = 0;
  config.restarts = &none;
  const double without = distance(msign_of<float>(config, x), exact) / norm_of(exact.values);
  EXPECT_LE(with, 1e-4);
  EXPECT_GE(without, 5 * with);
  EXPECT_LE(without, 1e-2);
}

// The defaults: none for five steps, before 3 and 5 for more.
TEST(msign, default_restarts) {
  set_openblas_threads(1);
  random_source random(35);
  const dense x = gaussian(random, 24, 40);
  const std::int32_t list[] = {3, 5};
  for (const std::int32_t steps : {5, 6, 8}) {
    steepest_msign_config config = make_msign(STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ, steps);
    const answer given = run<float>(config, x);
    config.restarts = list;
    config.restart_count = steps == 5 ? 0 : 2;
    EXPECT_TRUE(same_bits(given.o.values, run<float>(config, x).o.values)) << steps;
    config.restart_count = steps == 5 ? 2 : 1;
    EXPECT_FALSE(same_bits(given.o.values, run<float>(config, x).o.values)) << steps;
  }
}

// ------------------------------------------------------------------ what msign commutes with

template <class T>
class symmetry : public testing::Test {};
using real_types = testing::Types<float, double>;
TYPED_TEST_SUITE(symmetry, real_types);

TYPED_TEST(symmetry, transposition) {
  random_source random(17);
  for (const auto& [rows, cols] : {std::pair(24, 61), std::pair(33, 33), std::pair(1, 5)}) {
    const dense x = stored<TypeParam>(gaussian(random, rows, cols));
    for (const method_case& method : every_method(sizeof(TypeParam) == 8)) {
      const dense wide = msign_of<TypeParam>(method.config, x);
      const dense tall = msign_of<TypeParam>(method.config, transposed(x));
      EXPECT_LE(distance(transposed(tall), wide) / norm_of(wide.values),
                sizeof(TypeParam) == 8 ? 1e-7 : 1e-2)
          << method.name << " " << rows << " x " << cols;
    }
  }
}

TYPED_TEST(symmetry, rotation) {
  random_source random(18);
  const dense x = with_condition(random, 24, 50, 30);
  const dense q = orthonormal(random, 24, 24);
  const dense p = orthonormal(random, 50, 50);
  for (const method_case& method : every_method(sizeof(TypeParam) == 8)) {
    const dense o = msign_of<TypeParam>(method.config, x);
    const double limit = sizeof(TypeParam) == 8 ? 1e-8 : 2e-3;
    const double size = norm_of(o.values);
    EXPECT_LE(distance(msign_of<TypeParam>(method.config, product(q, x)), product(q, o)) / size,
              limit)
        << method.name;
    EXPECT_LE(distance(msign_of<TypeParam>(method.config, product(x, p)), product(o, p)) / size,
              limit)
        << method.name;
  }
}

// Small integers, so that every power of two leaves them exact, denormals included.
dense integers(random_source& random, std::int64_t rows, std::int64_t cols) {
  dense x(rows, cols);
  for (double& value : x.values) value = static_cast<double>(random.below(15) - 7);
  return x;
}

TYPED_TEST(symmetry, powers_of_two) {
  set_openblas_threads(1);
  random_source random(19);
  const bool f64 = sizeof(TypeParam) == 8;
  const dense x = integers(random, 20, 33);
  const std::vector<int> exponents = f64 ? std::vector<int>{-1000, -700, -21, -1, 3, 40, 1000}
                                         : std::vector<int>{-149, -140, -80, -21, -1, 3, 40, 120};
  for (const method_case& method : every_method(f64)) {
    const answer expected = run<TypeParam>(method.config, x);
    ASSERT_OK(expected.status);
    for (const int exponent : exponents) {
      const answer result = run<TypeParam>(method.config, scaled(x, std::ldexp(1.0, exponent)));
      EXPECT_OK(result.status) << method.name << " 2^" << exponent;
      EXPECT_TRUE(same_bits(result.o.values, expected.o.values))
          << method.name << " 2^" << exponent << ", off by " << distance(result.o, expected.o);
      EXPECT_EQ(result.stats.orthogonality, expected.stats.orthogonality);
      EXPECT_NEAR(result.stats.norm, std::ldexp(expected.stats.norm, exponent),
                  1e-12 * result.stats.norm);
    }
  }
}

// Denormal doubles: what lifts them to 1 is a power of two beyond the range of double.
TEST(msign, denormal_doubles) {
  random_source random(20);
  const dense x = integers(random, 20, 33);
  for (const method_case& method : every_method(true)) {
    const answer expected = run<double>(method.config, x);
    for (const double factor : {0x1p-1074, 0x1p-1060, 0x1p-1030}) {
      const answer result = run<double>(method.config, scaled(x, factor));
      EXPECT_OK(result.status);
      EXPECT_LE(distance(result.o, expected.o), 1e-8) << method.name << " " << factor;
    }
  }
}

// The norm of all elements together is beyond the range of double.
TEST(msign, huge_doubles) {
  random_source random(20);
  const dense x = integers(random, 20, 33);
  for (const method_case& method : every_method(true)) {
    const answer expected = run<double>(method.config, x);
    const answer result = run<double>(method.config, scaled(x, 0x1p1021));
    EXPECT_OK(result.status);
    EXPECT_LE(distance(result.o, expected.o), 1e-8) << method.name;
  }
}

TYPED_TEST(symmetry, powers_of_ten) {
  random_source random(21);
  const dense x = power_law(random, 30, 20, 0.5);
  for (const method_case& method : every_method(sizeof(TypeParam) == 8)) {
    const dense expected = msign_of<TypeParam>(method.config, x);
    for (const double factor : {1e-30, 1e-7, 1e7, 1e30}) {
      const dense o = msign_of<TypeParam>(method.config, scaled(x, factor));
      EXPECT_LE(distance(o, expected) / norm_of(expected.values),
                sizeof(TypeParam) == 8 ? 1e-8 : 5e-3)
          << method.name << " " << factor;
    }
  }
}

// ------------------------------------------------------------------ storage

// Every type, in place and not, with and without gaps, at odd elements: the gaps and what lies
// around stay as they are, and so does x.
template <class T>
void storage_forms() {
  random_source random(22);
  for (const auto& [rows, cols] : {std::pair(9, 21), std::pair(21, 9), std::pair(8, 8)}) {
    const std::vector<T> values = narrowed<T>(gaussian(random, rows, cols));
    for (const method_case& method : every_method(storage<T>::dtype == STEEPEST_F64)) {
      const dense expected = msign_of<T>(method.config, widened(values, rows, cols));
      for (const auto& [gap_x, gap_out] :
           {std::pair(0, 0), std::pair(3, 0), std::pair(0, 5), std::pair(7, 7)}) {
        for (const bool in_place : {false, true}) {
          if (in_place && gap_x != gap_out) continue;
          SCOPED_TRACE(method.name + " gaps " + std::to_string(gap_x) + " " +
                       std::to_string(gap_out) + (in_place ? " in place" : ""));
          const auto ldx = static_cast<std::size_t>(cols + gap_x);
          const auto ldo = static_cast<std::size_t>(cols + gap_out);
          const T nan = storage<T>::narrow(std::nan(""));
          // From the first element to the last one: no gap after the last row.
          std::vector<T> from(ldx * (rows - 1) + cols, nan);
          std::vector<T> to(ldo * (rows - 1) + cols, nan);
          for (std::size_t i = 0; i < values.size(); ++i)
            from[i / cols * ldx + i % cols] = values[i];
          guarded<T> x(from, 3);
          guarded<T> out(to, 1);
          guarded<T>& written = in_place ? x : out;
          ASSERT_OK(steepest_msign(nullptr, &method.config, rows, cols, storage<T>::dtype, x.data(),
                                   static_cast<std::int64_t>(ldx), written.data(),
                                   static_cast<std::int64_t>(ldo), nullptr, nullptr));
          EXPECT_TRUE(x.intact());
          EXPECT_TRUE(out.intact());
          if (!in_place) {
            EXPECT_TRUE(same_bits(x.values(), from));
          }
          const std::vector<T> after = written.values();
          dense o(rows, cols);
          for (std::size_t i = 0; i < after.size(); ++i) {
            const auto row = static_cast<std::int64_t>(i / ldo);
            const auto col = static_cast<std::int64_t>(i % ldo);
            if (col < cols)
              o(row, col) = storage<T>::widen(after[i]);
            else
              EXPECT_TRUE(same_bits(after[i], nan)) << "gap " << row << " " << col;
          }
          EXPECT_LE(distance(o, expected) / norm_of(expected.values),
                    2 * storage<T>::half_ulp + (storage<T>::dtype == STEEPEST_F64 ? 1e-9 : 1e-3));
        }
      }
    }
  }
}
TEST(msign, storage_f32) { storage_forms<float>(); }
TEST(msign, storage_f64) { storage_forms<double>(); }
TEST(msign, storage_bf16) { storage_forms<bf16>(); }
TEST(msign, storage_f16) { storage_forms<f16>(); }

// A narrow type differs from f32 on the same values by one rounding of the result.
template <class T>
void rounded_once() {
  set_openblas_threads(1);
  random_source random(23);
  const dense x = stored<T>(gaussian(random, 17, 40));
  for (const method_case& method : every_method(false))
    EXPECT_TRUE(same_bits(run<T>(method.config, x).o.values,
                          stored<T>(run<float>(method.config, x).o).values))
        << method.name;
}
TEST(msign, narrow_types_round_once) {
  rounded_once<bf16>();
  rounded_once<f16>();
}

// fp64 arithmetic on f32 input, and the other way round.
TEST(msign, compute_dtype) {
  random_source random(24);
  const dense x = stored<float>(power_law(random, 40, 60, 1));
  for (method_case method : iterations(false)) {
    method.config.compute_dtype = STEEPEST_F64;
    const dense wide = msign_of<float>(method.config, x);
    EXPECT_LE(distance(wide, stored<float>(msign_of<double>(method.config, x))), 1e-6)
        << method.name;
    method.config.compute_dtype = STEEPEST_F32;
    const dense narrow = msign_of<double>(method.config, x);
    EXPECT_LE(distance(narrow, msign_of<float>(method.config, x)), 1e-6) << method.name;
  }
}

// ------------------------------------------------------------------ special matrices

template <class T>
void zeros_and_nonfinite() {
  for (const auto& [rows, cols] : {std::pair(6, 9), std::pair(9, 6), std::pair(1, 4)}) {
    for (const method_case& method : every_method(storage<T>::dtype == STEEPEST_F64)) {
      SCOPED_TRACE(method.name);
      const answer zero = run<T>(method.config, dense(rows, cols));
      ASSERT_OK(zero.status);
      EXPECT_EQ(norm_of(zero.o.values), 0);
      EXPECT_EQ(zero.stats.status, STEEPEST_OK);
      EXPECT_EQ(zero.stats.rank, 0);
      EXPECT_EQ(zero.stats.norm, 0);
      EXPECT_EQ(zero.stats.orthogonality, 1);  // ||-I||_F / sqrt(n)
      for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
        for (const std::size_t at : {std::size_t{0}, static_cast<std::size_t>(rows * cols - 1)}) {
          random_source random(25);
          dense x = gaussian(random, rows, cols);
          x.values[at] = bad;
          const answer result = run<T>(method.config, x);
          EXPECT_EQ(result.status, STEEPEST_E_NONFINITE);
          EXPECT_EQ(result.stats.status, STEEPEST_E_NONFINITE);
          const double untouched = storage<T>::widen(storage<T>::narrow(-77));
          for (const double value : result.o.values) EXPECT_EQ(value, untouched);
          EXPECT_NE(std::string(steepest_last_error()).find("msign: x"), std::string::npos)
              << steepest_last_error();
        }
      }
    }
  }
}
TEST(msign, zeros_and_nonfinite_f32) { zeros_and_nonfinite<float>(); }
TEST(msign, zeros_and_nonfinite_f64) { zeros_and_nonfinite<double>(); }
TEST(msign, zeros_and_nonfinite_bf16) { zeros_and_nonfinite<bf16>(); }
TEST(msign, zeros_and_nonfinite_f16) { zeros_and_nonfinite<f16>(); }

TEST(msign, nothing_to_do) {
  float value = 5;
  steepest_msign_stats stats = STEEPEST_MSIGN_STATS_INIT;
  for (const auto& [rows, cols] : {std::pair(0, 7), std::pair(7, 0), std::pair(0, 0)}) {
    EXPECT_OK(steepest_msign(nullptr, nullptr, rows, cols, STEEPEST_F32, &value, 0, &value, 0,
                             nullptr, &stats));
    EXPECT_OK(steepest_msign(nullptr, nullptr, rows, cols, STEEPEST_F32, nullptr, 0, nullptr, 0,
                             nullptr, nullptr));
    std::size_t bytes = 99;
    EXPECT_OK(steepest_msign_workspace_size(nullptr, nullptr, rows, cols, STEEPEST_F32, 1, &bytes));
    EXPECT_EQ(bytes, 0u);
  }
  EXPECT_OK(steepest_msign_batched(nullptr, nullptr, 3, 3, STEEPEST_F32, nullptr, 0, nullptr, 0, 0,
                                   nullptr, nullptr));
  EXPECT_EQ(value, 5);
}

TEST(msign, vectors_are_divided_by_their_norm) {
  random_source random(26);
  for (const auto& [rows, cols] : {std::pair(1, 50), std::pair(50, 1), std::pair(1, 1)}) {
    const dense x = stored<float>(scaled(gaussian(random, rows, cols), -3));
    for (const std::int32_t method : {STEEPEST_MSIGN_AUTO, STEEPEST_MSIGN_SVD}) {
      const answer result = run<float>(make_msign(method), x);
      ASSERT_OK(result.status);
      EXPECT_EQ(result.stats.method, STEEPEST_MSIGN_SVD);
      EXPECT_EQ(result.stats.rank, 1);
      EXPECT_LE(distance(result.o, scaled(x, 1 / norm_of(x.values))), 1e-7);
    }
  }
}

TEST(msign, stats_say_what_was_done) {
  random_source random(27);
  const dense x = gaussian(random, 12, 30);
  const struct {
    steepest_msign_config config;
    std::int32_t method, steps;
    double lower_bound;
  } rows[] = {
      {make_msign(STEEPEST_MSIGN_AUTO, 7), STEEPEST_MSIGN_RATIONAL, 3, 1e-3},
      {make_msign(STEEPEST_MSIGN_RATIONAL), STEEPEST_MSIGN_RATIONAL, 3, 1e-3},
      {make_msign(STEEPEST_MSIGN_RATIONAL, 5), STEEPEST_MSIGN_RATIONAL, 5, 1e-3},
      {make_msign(STEEPEST_MSIGN_HALLEY), STEEPEST_MSIGN_HALLEY, 3, 1e-3},
      {make_msign(STEEPEST_MSIGN_NEWTON_SCHULZ), STEEPEST_MSIGN_NEWTON_SCHULZ, 5, 0},
      {make_msign(STEEPEST_MSIGN_NEWTON_SCHULZ, 100), STEEPEST_MSIGN_NEWTON_SCHULZ, 100, 0},
      {make_msign(STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ), STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ, 5, 0},
  };
  for (const auto& row : rows) {
    const answer result = run<float>(row.config, x);
    ASSERT_OK(result.status);
    EXPECT_EQ(result.stats.method, row.method);
    EXPECT_EQ(result.stats.steps, row.steps);
    EXPECT_EQ(result.stats.lower_bound, row.lower_bound);
    EXPECT_EQ(result.stats.retries, 0);
    EXPECT_EQ(result.stats.rank, -1);
  }
}

// AUTO is three poles and l = 1e-3, whatever is set for other methods.
TEST(msign, auto_ignores_what_belongs_to_other_methods) {
  set_openblas_threads(1);
  random_source random(28);
  const dense x = gaussian(random, 12, 30);
  const answer expected = run<float>(make_msign(STEEPEST_MSIGN_RATIONAL), x);
  steepest_msign_config config = make_msign(STEEPEST_MSIGN_AUTO, 8);
  EXPECT_TRUE(same_bits(run<float>(config, x).o.values, expected.o.values));
  for (const double l : {1e-6, 0.5, 5.0}) {
    config.lower_bound = l;
    const answer result = run<float>(config, x);
    if (result.status != STEEPEST_OK) continue;  // a refusal would be fine too
    EXPECT_TRUE(same_bits(result.o.values, expected.o.values)) << "lower_bound " << l;
    EXPECT_EQ(result.stats.lower_bound, 1e-3);
  }
}

// With norm_bound the divisor is that bound, and what f gives follows from it.
TEST(msign, norm_bound) {
  random_source random(29);
  const dense x = with_condition(random, 20, 40, 20);
  const decomposition exact = decompose(x);
  for (method_case method : iterations(true)) {
    method.config.normalization = STEEPEST_NORM_BOUND;
    method.config.norm_bound = 1.25;
    if (method.config.method == STEEPEST_MSIGN_AUTO) continue;
    const answer result = run<double>(method.config, x);
    ASSERT_OK(result.status) << method.name;
    EXPECT_EQ(result.stats.norm, 1.25);
    const dense expected = exact.map([&](double s) { return method.f(s / 1.25); });
    EXPECT_LE(distance(result.o, expected), 1e-8) << method.name;
  }
}

// An l far below what the Gram matrix resolves: a factorisation fails, l grows tenfold each time.
TEST(msign, retries_are_reported) {
  std::int32_t most = 0;
  random_source random(30);
  for (const std::int32_t method : {STEEPEST_MSIGN_RATIONAL, STEEPEST_MSIGN_HALLEY}) {
    for (const std::int32_t steps : {3, 8}) {
      for (const std::int64_t rank : {1, 3, 8}) {
        const dense x = with_rank(random, 48, 64, rank);
        steepest_msign_config config = make_msign(method, steps);
        config.lower_bound = 1e-8;
        const answer result = run<double>(config, x);
        if (result.status == STEEPEST_E_NOT_CONVERGED) continue;
        ASSERT_OK(result.status);
        most = std::max(most, result.stats.retries);
        EXPECT_NEAR(result.stats.lower_bound,
                    std::min(0.9, 1e-8 * std::pow(10.0, result.stats.retries)),
                    1e-9 * result.stats.lower_bound);
        std::printf("    method %d steps %d rank %d: %d retries, largest singular value %g\n",
                    method, steps, static_cast<int>(rank), result.stats.retries,
                    largest_singular_value(result.o));
        EXPECT_LE(largest_singular_value(result.o), 1.7);
      }
    }
  }
  EXPECT_GE(most, 1);
}

// ------------------------------------------------------------------ calls

TEST(msign, batched_is_one_by_one) {
  set_openblas_threads(1);
  random_source random(31);
  constexpr int count = 5;
  for (const method_case& method : every_method(false)) {
    SCOPED_TRACE(method.name);
    std::vector<std::vector<float>> x, out, expected;
    std::vector<steepest_msign_stats> stats(count, STEEPEST_MSIGN_STATS_INIT);
    std::vector<steepest_msign_stats> expected_stats = stats;
    std::vector<const void*> from;
    std::vector<void*> to;
    for (int i = 0; i < count; ++i) {
      x.push_back(narrowed<float>(gaussian(random, 11, 19)));
      if (i == 2) x[2][40] = std::nanf("");
      if (i == 4) x[4][208] = HUGE_VALF;
      out.emplace_back(x[0].size(), -7.0F);
    }
    expected = out;
    for (int i = 0; i < count; ++i) {
      from.push_back(x[i].data());
      to.push_back(i == 3 ? x[3].data() : out[i].data());  // one in place
      EXPECT_EQ(steepest_msign(nullptr, &method.config, 11, 19, STEEPEST_F32, x[i].data(), 0,
                               expected[i].data(), 0, nullptr, &expected_stats[i]),
                i == 2 || i == 4 ? STEEPEST_E_NONFINITE : STEEPEST_OK);
    }
    EXPECT_EQ(steepest_msign_batched(nullptr, &method.config, 11, 19, STEEPEST_F32, from.data(), 0,
                                     to.data(), 0, count, nullptr, stats.data()),
              STEEPEST_E_NONFINITE);
    EXPECT_NE(std::string(steepest_last_error()).find("msign_batched: x[2]"), std::string::npos)
        << steepest_last_error();
    EXPECT_TRUE(same_bits(x[3], expected[3]));
    out[3] = expected[3];
    EXPECT_TRUE(out == expected);
    EXPECT_TRUE(same_bits(stats, expected_stats));
    EXPECT_EQ(stats[2].status, STEEPEST_E_NONFINITE);
    EXPECT_EQ(stats[2].struct_size, sizeof(steepest_msign_stats));
  }
}

TEST(msign, workspace_of_exactly_the_size) {
  set_openblas_threads(1);
  random_source random(32);
  for (const auto& shape : {std::pair(13, 37), std::pair(40, 16), std::pair(1, 3)}) {
    const std::int64_t rows = shape.first;
    const std::int64_t cols = shape.second;
    const dense x = stored<float>(gaussian(random, rows, cols));
    const std::vector<float> from = narrowed<float>(x);
    for (const method_case& method : every_method(false)) {
      SCOPED_TRACE(method.name);
      const answer expected = run<float>(method.config, x);
      std::size_t bytes = 0;
      ASSERT_OK(steepest_msign_workspace_size(nullptr, &method.config, rows, cols, STEEPEST_F32, 1,
                                              &bytes));
      steepest_workspace workspace = STEEPEST_WORKSPACE_INIT;
      std::vector<float> out(from.size(), -7);
      steepest_msign_stats stats = STEEPEST_MSIGN_STATS_INIT;
      const auto call = [&] {
        return steepest_msign(nullptr, &method.config, rows, cols, STEEPEST_F32, from.data(), 0,
                              out.data(), 0, &workspace, &stats);
      };
      const auto before = out;
      // Flush against the page after it; one byte further down, at an odd address; and against the
      // page before it.
      for (const std::size_t spare : {0, 1, 17}) {
        for (const bool at_end : {true, false}) {
          fenced<unsigned char> memory(std::vector<unsigned char>(bytes + spare, 0xff), at_end);
          workspace.data = memory.data() + (at_end ? 0 : spare);
          workspace.bytes = bytes - 1;
          out = before;
          EXPECT_EQ(call(), STEEPEST_E_INVALID_ARGUMENT);
          EXPECT_NE(std::string(steepest_last_error()).find("workspace.bytes"), std::string::npos);
          EXPECT_TRUE(same_bits(out, before));
          workspace.bytes = bytes;
          ASSERT_OK(call());
          EXPECT_TRUE(same_bits(widened(out, rows, cols).values, expected.o.values));
          EXPECT_TRUE(same_bits(stats, expected.stats));
          const auto after = memory.values();
          for (std::size_t i = 0; i < spare; ++i)
            EXPECT_EQ(after[at_end ? bytes + i : i], 0xff) << "outside the workspace";
        }
      }
      // One workspace serves a batch of any count that it was sized for.
      ASSERT_OK(steepest_msign_workspace_size(nullptr, &method.config, rows, cols, STEEPEST_F32, 3,
                                              &workspace.bytes));
      fenced<unsigned char> memory(std::vector<unsigned char>(workspace.bytes, 0xff), true);
      workspace.data = memory.data();
      std::vector<std::vector<float>> outs(3, before);
      const void* const xs[] = {from.data(), from.data(), from.data()};
      void* const to[] = {outs[0].data(), outs[1].data(), outs[2].data()};
      ASSERT_OK(steepest_msign_batched(nullptr, &method.config, rows, cols, STEEPEST_F32, xs, 0, to,
                                       0, 3, &workspace, nullptr));
      for (const auto& one : outs)
        EXPECT_TRUE(same_bits(widened(one, rows, cols).values, expected.o.values));
    }
  }
}

TEST(msign, same_bits_for_any_number_of_threads) {
  set_openblas_threads(1);
  random_source random(33);
  for (const auto& [rows, cols] : {std::pair(300, 520), std::pair(410, 290)}) {
    const dense x = stored<float>(gaussian(random, rows, cols));
    for (const std::int32_t method :
         {STEEPEST_MSIGN_NEWTON_SCHULZ, STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ, STEEPEST_MSIGN_RATIONAL,
          STEEPEST_MSIGN_HALLEY, STEEPEST_MSIGN_SVD, STEEPEST_MSIGN_ACCURATE}) {
      const steepest_msign_config config = make_msign(method);
      answer expected;
      for (const std::int32_t threads : {1, 2, 3, 8}) {
        const context_pointer context = make_context({.threads = threads});
        const answer result = run<float>(config, x, context.get());
        ASSERT_OK(result.status);
        if (threads == 1) {
          expected = result;
        } else {
          EXPECT_TRUE(same_bits(result.o.values, expected.o.values)) << method << " " << threads;
          EXPECT_TRUE(same_bits(result.stats, expected.stats)) << method << " " << threads;
        }
      }
      reversed_executor own(3);
      const steepest_executor executor = own.interface();
      const context_pointer context = make_context({.executor = &executor});
      EXPECT_TRUE(same_bits(run<float>(config, x, context.get()).o.values, expected.o.values));
      EXPECT_GT(own.calls, 0);
      own.result = STEEPEST_E_INTERNAL;
      EXPECT_EQ(run<float>(config, x, context.get()).status, STEEPEST_E_INTERNAL);
    }
  }
}

TEST(msign, allocation_failure_writes_nothing) {
  random_source random(34);
  const std::vector<float> x = narrowed<float>(gaussian(random, 40, 50));
  for (const method_case& method : every_method(false)) {
    for (std::int64_t fail_at = 0;; ++fail_at) {
      ASSERT_LT(fail_at, 20);
      counting_allocator own;
      const steepest_allocator allocator = own.interface();
      const context_pointer context = make_context({.allocator = &allocator});
      own.fail_at = own.calls + fail_at;
      std::vector<float> out(x.size(), -7);
      const auto before = out;
      steepest_msign_stats stats = STEEPEST_MSIGN_STATS_INIT;
      const steepest_msign_stats stats_before = stats;
      const steepest_status status =
          steepest_msign(context.get(), &method.config, 40, 50, STEEPEST_F32, x.data(), 0,
                         out.data(), 0, nullptr, &stats);
      if (status == STEEPEST_OK) {
        EXPECT_GE(fail_at, 1) << method.name;
        EXPECT_FALSE(same_bits(out, before));
        break;
      }
      EXPECT_EQ(status, STEEPEST_E_OUT_OF_MEMORY) << method.name;
      EXPECT_TRUE(same_bits(out, before));
      EXPECT_TRUE(same_bits(stats, stats_before));
      EXPECT_EQ(std::string(steepest_last_error()).rfind("msign: out of memory", 0), 0u)
          << steepest_last_error();
      own.fail_at = INT64_MAX;
      EXPECT_OK(steepest_msign(context.get(), &method.config, 40, 50, STEEPEST_F32, x.data(), 0,
                               out.data(), 0, nullptr, nullptr));
    }
  }
}

// A second call of the same shape allocates nothing, alone and in a batch.
TEST(msign, scratch_memory_is_reused) {
  set_openblas_threads(1);
  random_source random(35);
  constexpr std::int64_t rows = 40, cols = 70, batch = 3;
  const std::vector<float> x = narrowed<float>(gaussian(random, rows, cols));
  std::vector<std::vector<float>> outs(batch, x);
  const void* const from[] = {x.data(), x.data(), x.data()};
  void* const to[] = {outs[0].data(), outs[1].data(), outs[2].data()};
  for (const std::int32_t threads : {1, 2, 4}) {
    for (const method_case& method : every_method(false)) {
      SCOPED_TRACE(testing::Message() << method.name << ", threads " << threads);
      reversed_executor own_threads(threads);
      const steepest_executor executor = own_threads.interface();
      counting_allocator own;
      const steepest_allocator allocator = own.interface();
      {
        const context_pointer context =
            make_context({.executor = &executor, .allocator = &allocator});
        const auto call = [&](std::int64_t count) {
          EXPECT_OK(steepest_msign_batched(context.get(), &method.config, rows, cols, STEEPEST_F32,
                                           from, 0, to, 0, count, nullptr, nullptr));
        };
        for (const std::int64_t count : {std::int64_t{1}, batch}) {
          call(count);
          const std::int64_t calls = own.calls;
          call(count);
          EXPECT_EQ(own.calls, calls) << count << " matrices";
        }
      }
      EXPECT_TRUE(own.all_released());
    }
  }
}

// What the header states, in elements of the arithmetic's type.
TEST(msign, workspace_sizes) {
#if defined(STEEPEST_OPENBLAS_PROVIDER)
  GTEST_SKIP() << "stated for the library's own kernels";
#endif
  const context_pointer context = make_context({.threads = 2});
  struct row {
    std::int32_t method;
    int steps, of_x, of_gram;  // multiples of n m and of n^2
  };
  for (const auto& [method, steps, of_x, of_gram] :
       {row{STEEPEST_MSIGN_AUTO, 0, 1, 4}, row{STEEPEST_MSIGN_RATIONAL, 1, 1, 2},
        row{STEEPEST_MSIGN_RATIONAL, 3, 1, 4}, row{STEEPEST_MSIGN_RATIONAL, 8, 1, 5},
        row{STEEPEST_MSIGN_HALLEY, 0, 1, 5}, row{STEEPEST_MSIGN_NEWTON_SCHULZ, 0, 2, 2},
        row{STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ, 0, 1, 4},
        row{STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ, 8, 2, 4}, row{STEEPEST_MSIGN_ACCURATE, 0, 2, 5}}) {
    for (const auto& [rows, cols] :
         {std::pair(1024, 1024), {1024, 4096}, {4096, 1024}, {777, 900}}) {
      for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_BF16, STEEPEST_F64}) {
        const steepest_msign_config config = make_msign(method, steps);
        std::size_t bytes = 0;
        ASSERT_OK(
            steepest_msign_workspace_size(context.get(), &config, rows, cols, dtype, 1, &bytes));
        const bool f64 = dtype == STEEPEST_F64 || method == STEEPEST_MSIGN_ACCURATE;
        const double n = std::min(rows, cols);
        const double m = std::max(rows, cols);
        const double converted = dtype == STEEPEST_BF16 && of_x == 1 ? 1 : 0;
        const double stated = (of_x + converted) * n * m + of_gram * n * n;
        const double elements = static_cast<double>(bytes) / (f64 ? 8 : 4);
        EXPECT_LE(elements, stated + 800 * m)
            << method << ", " << steps << " steps, " << rows << " x " << cols << ", type " << dtype;
        EXPECT_GE(elements, stated);
      }
    }
  }
}

// OpenBLAS refuses CONSISTENT.
TEST(msign, the_build_option_chooses_the_provider) {
#if defined(STEEPEST_OPENBLAS_PROVIDER)
  const steepest_status expected = STEEPEST_E_UNSUPPORTED;
#else
  const steepest_status expected = STEEPEST_OK;
#endif
  steepest_msign_config config = STEEPEST_MSIGN_CONFIG_INIT;
  config.flags = STEEPEST_FLAG_CONSISTENT;
  float x = 2;
  EXPECT_EQ(steepest_msign(nullptr, &config, 1, 1, STEEPEST_F32, &x, 0, &x, 0, nullptr, nullptr),
            expected);
}

}  // namespace
}  // namespace steepest_test
