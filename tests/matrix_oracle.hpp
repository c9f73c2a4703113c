// SPDX-License-Identifier: Apache-2.0
//
// Dense matrices in double, their singular value decomposition by one-sided Jacobi rotations, and
// the matrices that the matrix tests are run on. Nothing here calls the library.
#pragma once

#include <array>
#include <functional>
#include <utility>

#include "numbers.hpp"

namespace steepest_test {

struct dense {
  std::int64_t rows = 0, cols = 0;
  std::vector<double> values;

  dense() = default;
  dense(std::int64_t row_count, std::int64_t col_count)
      : rows(row_count), cols(col_count), values(static_cast<std::size_t>(rows * cols)) {}
  double& operator()(std::int64_t i, std::int64_t j) {
    return values[static_cast<std::size_t>(i * cols + j)];
  }
  double operator()(std::int64_t i, std::int64_t j) const {
    return values[static_cast<std::size_t>(i * cols + j)];
  }
  const double* row(std::int64_t i) const { return values.data() + i * cols; }
  double* row(std::int64_t i) { return values.data() + i * cols; }
};

inline dense transposed(const dense& x) {
  dense t(x.cols, x.rows);
  for (std::int64_t i = 0; i < x.rows; ++i)
    for (std::int64_t j = 0; j < x.cols; ++j) t(j, i) = x(i, j);
  return t;
}

inline dense product(const dense& a, const dense& b) {
  dense c(a.rows, b.cols);
  for (std::int64_t i = 0; i < a.rows; ++i)
    for (std::int64_t k = 0; k < a.cols; ++k) {
      const double factor = a(i, k);
      if (factor == 0) continue;
      for (std::int64_t j = 0; j < b.cols; ++j) c(i, j) += factor * b(k, j);
    }
  return c;
}

inline dense scaled(dense x, double factor) {
  for (double& value : x.values) value *= factor;
  return x;
}

inline double norm_of(const std::vector<double>& values) {
  long double sum = 0;
  for (const double value : values) sum += static_cast<long double>(value) * value;
  return static_cast<double>(std::sqrt(sum));
}

// ||a - b||_F
inline double distance(const dense& a, const dense& b) {
  std::vector<double> difference(a.values.size());
  for (std::size_t i = 0; i < difference.size(); ++i) difference[i] = a.values[i] - b.values[i];
  return norm_of(difference);
}

inline double dot(const double* a, const double* b, std::int64_t count) {
  double sums[4] = {};
  for (std::int64_t i = 0; i < count; ++i) sums[i % 4] += a[i] * b[i];
  return sums[0] + sums[1] + (sums[2] + sums[3]);
}

// X = U diag(s) V^T with s falling and k = min(rows, cols) columns in U and V, which are kept as
// the rows of ut and vt. Where s is 0 the row of the longer side is 0.
struct decomposition {
  dense ut, vt;
  std::vector<double> s;

  // U f(diag(s)) V^T
  dense map(const std::function<double(double)>& f) const {
    dense result(ut.cols, vt.cols);
    for (std::size_t k = 0; k < s.size(); ++k) {
      const double value = f(s[k]);
      if (value == 0) continue;
      const auto at = static_cast<std::int64_t>(k);
      for (std::int64_t i = 0; i < ut.cols; ++i) {
        const double factor = value * ut(at, i);
        for (std::int64_t j = 0; j < vt.cols; ++j) result(i, j) += factor * vt(at, j);
      }
    }
    return result;
  }
  std::int64_t rank(double tolerance = 1e-12) const {
    return std::count_if(s.begin(), s.end(),
                         [&](double value) { return value > tolerance * s[0]; });
  }
  // U_r V_r^T
  dense msign(double tolerance = 1e-12) const {
    return map([&](double value) { return value > tolerance * s[0] ? 1.0 : 0.0; });
  }
};

// Rotates pairs of rows of X (of X^T, for a tall X) until all are orthogonal: then
// G X = diag(s) V^T with the product G of the rotations, and U = G^T. Small singular values come
// out as accurate as large ones, and rows of 0 do no harm.
inline decomposition decompose(const dense& given) {
  if (given.rows > given.cols) {
    decomposition flipped = decompose(transposed(given));
    std::swap(flipped.ut, flipped.vt);
    return flipped;
  }
  // The squares of a row must neither overflow nor underflow.
  double largest = 0;
  for (const double value : given.values) largest = std::max(largest, std::fabs(value));
  const int exponent = largest > 0 ? std::ilogb(largest) : 0;
  dense x = given;
  for (double& value : x.values) value = std::ldexp(value, -exponent);
  const std::int64_t n = x.rows;
  dense rotations(n, n);
  for (std::int64_t i = 0; i < n; ++i) rotations(i, i) = 1;
  const auto rotate = [](double* a, double* b, std::int64_t count, double c, double s) {
    for (std::int64_t k = 0; k < count; ++k) {
      const double old = a[k];
      a[k] = c * old - s * b[k];
      b[k] = s * old + c * b[k];
    }
  };
  bool rotated = true;
  for (int sweep = 0; rotated && sweep < 60; ++sweep) {
    rotated = false;
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = i + 1; j < n; ++j) {
        const double ii = dot(x.row(i), x.row(i), x.cols);
        const double jj = dot(x.row(j), x.row(j), x.cols);
        const double ij = dot(x.row(i), x.row(j), x.cols);
        if (!(std::fabs(ij) > 1e-15 * std::sqrt(ii) * std::sqrt(jj))) continue;
        rotated = true;
        const double zeta = (jj - ii) / (2 * ij);
        const double t = std::copysign(1 / (std::fabs(zeta) + std::hypot(1.0, zeta)), zeta);
        const double c = 1 / std::hypot(1.0, t);
        rotate(x.row(i), x.row(j), x.cols, c, c * t);
        rotate(rotations.row(i), rotations.row(j), n, c, c * t);
      }
  }
  std::vector<std::pair<double, std::int64_t>> order;
  for (std::int64_t i = 0; i < n; ++i)
    order.emplace_back(-std::sqrt(dot(x.row(i), x.row(i), x.cols)), i);
  std::sort(order.begin(), order.end());
  decomposition result;
  result.ut = dense(n, n);
  result.vt = dense(n, x.cols);
  for (std::int64_t k = 0; k < n; ++k) {
    const auto& [negative, from] = order[static_cast<std::size_t>(k)];
    result.s.push_back(std::ldexp(-negative, exponent));
    std::copy(rotations.row(from), rotations.row(from) + n, result.ut.row(k));
    for (std::int64_t j = 0; negative != 0 && j < x.cols; ++j)
      result.vt(k, j) = x(from, j) / -negative;
  }
  return result;
}

// The largest singular value, from below: power iteration, in tests where a few digits do.
inline double largest_singular_value(const dense& x) {
  random_source random(4242);
  std::vector<double> v(static_cast<std::size_t>(x.cols));
  for (double& value : v) value = random.normal();
  double norm = 0;
  for (int iteration = 0; iteration < 60; ++iteration) {
    const double length = norm_of(v);
    if (length == 0) return 0;
    for (double& value : v) value /= length;
    std::vector<double> next(v.size());
    double sum = 0;
    for (std::int64_t i = 0; i < x.rows; ++i) {
      const double along = dot(x.row(i), v.data(), x.cols);
      sum += along * along;
      for (std::int64_t j = 0; j < x.cols; ++j)
        next[static_cast<std::size_t>(j)] += along * x(i, j);
    }
    norm = std::sqrt(sum);
    v = next;
  }
  return norm;
}

// ||O O^T - I||_F / sqrt(n), O^T O for a tall O
inline double departure_from_orthogonality(const dense& given) {
  const dense o = given.rows > given.cols ? transposed(given) : given;
  std::vector<double> difference;
  for (std::int64_t i = 0; i < o.rows; ++i)
    for (std::int64_t j = 0; j < o.rows; ++j)
      difference.push_back(dot(o.row(i), o.row(j), o.cols) - (i == j ? 1 : 0));
  return norm_of(difference) / std::sqrt(static_cast<double>(o.rows));
}

// ------------------------------------------------------------------ matrices

inline dense gaussian(random_source& random, std::int64_t rows, std::int64_t cols) {
  dense x(rows, cols);
  for (double& value : x.values) value = random.normal();
  return x;
}

// Orthonormal rows (columns, if there are more rows than columns): Gram-Schmidt, twice, on a
// Gaussian.
inline dense orthonormal(random_source& random, std::int64_t rows, std::int64_t cols) {
  if (rows > cols) return transposed(orthonormal(random, cols, rows));
  dense q = gaussian(random, rows, cols);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (int pass = 0; pass < 2; ++pass)
      for (std::int64_t k = 0; k < i; ++k) {
        const double along = dot(q.row(i), q.row(k), cols);
        for (std::int64_t j = 0; j < cols; ++j) q(i, j) -= along * q(k, j);
      }
    const double length = std::sqrt(dot(q.row(i), q.row(i), cols));
    for (std::int64_t j = 0; j < cols; ++j) q(i, j) /= length;
  }
  return q;
}

// Singular values f(0), f(1), ..., f(n - 1) between random orthogonal factors.
inline dense with_spectrum(random_source& random, std::int64_t rows, std::int64_t cols,
                           const std::function<double(std::int64_t)>& f) {
  const std::int64_t n = std::min(rows, cols);
  dense left = orthonormal(random, rows, n);
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t k = 0; k < n; ++k) left(i, k) *= f(k);
  return product(left, orthonormal(random, n, cols));
}

inline dense power_law(random_source& random, std::int64_t rows, std::int64_t cols,
                       double exponent) {
  return with_spectrum(random, rows, cols, [=](std::int64_t i) {
    return std::pow(static_cast<double>(i + 1), -exponent);
  });
}

// Singular values from 1 down to 1 / condition, evenly in the logarithm.
inline dense with_condition(random_source& random, std::int64_t rows, std::int64_t cols,
                            double condition) {
  const std::int64_t n = std::min(rows, cols);
  return with_spectrum(random, rows, cols, [=](std::int64_t i) {
    return n == 1 ? 1.0 : std::pow(condition, -static_cast<double>(i) / static_cast<double>(n - 1));
  });
}

// A product of small integers, which every type with 11 bits or more stores exactly up to rank 8:
// the rank is what it says, not that up to rounding.
inline dense with_rank(random_source& random, std::int64_t rows, std::int64_t cols,
                       std::int64_t rank) {
  dense left(rows, rank);
  dense right(rank, cols);
  for (dense* factor : {&left, &right})
    for (double& value : factor->values) {
      const auto magnitude = static_cast<double>(1 + random.below(8));
      value = random.below(2) == 0 ? magnitude : -magnitude;
    }
  return product(left, right);
}

struct matrix_case {
  std::string name;
  dense x;
};

// Every family in one shape. All are finite and in range for fp32.
inline std::vector<matrix_case> matrix_families(random_source& random, std::int64_t rows,
                                                std::int64_t cols) {
  std::vector<matrix_case> cases;
  const auto add = [&](const std::string& name, dense x) { cases.push_back({name, std::move(x)}); };
  const std::int64_t n = std::min(rows, cols);
  add("gaussian", gaussian(random, rows, cols));
  add("orthonormal", orthonormal(random, rows, cols));
  add("1/i", power_law(random, rows, cols, 1));
  add("1/i^1.5", power_law(random, rows, cols, 1.5));
  for (int digits = 1; digits <= 8; ++digits)
    add("condition 1e" + std::to_string(digits),
        with_condition(random, rows, cols, std::pow(10.0, digits)));
  add("rank 1", with_rank(random, rows, cols, 1));
  add("rank n/3", with_rank(random, rows, cols, std::clamp<std::int64_t>(n / 3, 1, 8)));
  add("repeated",
      with_spectrum(random, rows, cols, [](std::int64_t i) { return std::pow(0.5, i % 3); }));
  dense holes = gaussian(random, rows, cols);
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j)
      if (i % 4 == 1 || j % 5 == 2) holes(i, j) = 0;
  add("zero rows and columns", holes);
  dense spike = gaussian(random, rows, cols);
  spike(rows / 2, cols / 3) = 1e4;
  add("one huge entry", spike);
  add("1e-30", scaled(power_law(random, rows, cols, 1), 1e-30));
  add("1e30", scaled(gaussian(random, rows, cols), 1e30));
  return cases;
}

// ------------------------------------------------------------------ scalar functions

// Carlson's integral R_F, by duplication.
inline long double carlson_rf(long double x, long double y, long double z) {
  for (int i = 0; i < 40; ++i) {
    const long double lambda = std::sqrt(x * y) + std::sqrt(y * z) + std::sqrt(z * x);
    x = (x + lambda) / 4;
    y = (y + lambda) / 4;
    z = (z + lambda) / 4;
  }
  return 1 / std::sqrt((x + y + z) / 3);
}

// Zolotarev's function of NUMERICS: c_i = l^2 t^2 where t = tan(am(i K' / (2r + 1))), from the
// definition: F(am) = t R_F(1, 1 + l^2 t^2, 1 + t^2), K' = R_F(0, l^2, 1).
struct zolotarev_oracle {
  std::vector<long double> c, weights;
  long double scale = 1;
  double error = 0;

  zolotarev_oracle(long double l, int poles) {
    const long double quarter = carlson_rf(0, l * l, 1);
    for (int i = 1; i <= 2 * poles; ++i) {
      const long double wanted = quarter * i / (2 * poles + 1);
      long double low = -5;
      long double high = 60;  // of log t
      for (int step = 0; step < 120; ++step) {
        const long double middle = (low + high) / 2;
        const long double t = std::exp(middle);
        (t * carlson_rf(1, 1 + l * l * t * t, 1 + t * t) < wanted ? low : high) = middle;
      }
      const long double t = std::exp(low);
      c.push_back(l * l * t * t);
    }
    for (int j = 0; j < poles; ++j) {
      long double weight = -1;
      for (int k = 0; k < poles; ++k) {
        weight *= shift(j) - c[static_cast<std::size_t>(2 * k + 1)];
        if (k != j) weight /= shift(j) - shift(k);
      }
      weights.push_back(weight);
    }
    const long double at_l = value(l);
    const long double at_1 = value(1);
    scale = 2 / (at_l + at_1);
    error = static_cast<double>(std::fabs(at_1 - at_l) / (at_1 + at_l));
  }
  long double shift(int j) const { return c[static_cast<std::size_t>(2 * j)]; }
  long double value(long double x) const {
    long double sum = 1;
    for (std::size_t j = 0; j < weights.size(); ++j) sum += weights[j] / (x * x + c[2 * j]);
    return scale * x * sum;
  }
  double operator()(double x) const { return static_cast<double>(value(x)); }
};

// `steps` dynamically weighted Halley steps from l, and the last scaling.
inline double halley_oracle(long double l, int steps, long double x) {
  for (int i = 0; i < steps; ++i) {
    const long double l2 = l * l;
    const long double d = std::cbrt(4 * (1 - l2) / (l2 * l2));
    const long double root = std::sqrt(1 + d);
    const long double a = root + std::sqrt(8 - 4 * d + 8 * (2 - l2) / (l2 * root)) / 2;
    const long double b = (a - 1) * (a - 1) / 4;
    const long double c = a + b - 1;
    x = x * (a + b * x * x) / (1 + c * x * x);
    l = std::min(1.0L, l * (a + b * l2) / (1 + c * l2));
  }
  return static_cast<double>(2 * x / (1 + l));
}

// The rows of NUMERICS, section 4.
inline std::vector<std::array<double, 3>> preset_rows(std::int32_t coefficients) {
  switch (coefficients) {
    case STEEPEST_COEF_KELLER: return {{3.4445, -4.7750, 2.0315}};
    case STEEPEST_COEF_CLASSIC: return {{1.875, -1.25, 0.375}};
    case STEEPEST_COEF_CUBIC: return {{1.5, -0.5, 0}};
    case STEEPEST_COEF_YOU:
      return {{4.0848, -6.8946, 2.9270},
              {3.9505, -6.3029, 2.6377},
              {3.7418, -5.5913, 2.3037},
              {2.8769, -3.1427, 1.2046},
              {2.8366, -3.0525, 1.2012}};
    default: break;
  }
  std::vector<std::array<double, 3>> rows = {
      {8.28721201814563, -23.595886519098837, 17.300387312530933},
      {4.107059111542203, -2.9478499167379106, 0.5448431082926601},
      {3.9486908534822946, -2.908902115962949, 0.5518191394370137},
      {3.3184196573706015, -2.488488024314874, 0.51004894012372},
      {2.300652019954817, -1.6689039845747493, 0.4188073119525673},
      {1.891301407787398, -1.2679958271945868, 0.37680408948524835},
      {1.8750014808534479, -1.2500016453999487, 0.3750001645474248},
      {1.875, -1.25, 0.375}};
  for (std::size_t i = 0; i + 1 < rows.size(); ++i)
    for (int k = 0; k < 3; ++k) rows[i][static_cast<std::size_t>(k)] /= std::pow(1.01, 2 * k + 1);
  return rows;
}

inline double polynomial_oracle(const std::vector<std::array<double, 3>>& rows, int steps,
                                double x) {
  for (int i = 0; i < steps; ++i) {
    const auto& [a, b, c] = rows[std::min(static_cast<std::size_t>(i), rows.size() - 1)];
    x = a * x + b * x * x * x + c * x * x * x * x * x;
  }
  return x;
}

}  // namespace steepest_test
