// SPDX-License-Identifier: Apache-2.0
#include "msign/coefficients.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "steepest/steepest.h"

namespace steepest::msign {

namespace {

constexpr quintic keller[] = {{3.4445, -4.7750, 2.0315}};
constexpr quintic classic[] = {{15.0 / 8, -10.0 / 8, 3.0 / 8}};
constexpr quintic cubic[] = {{1.5, -0.5, 0.0}};
constexpr quintic you[] = {{4.0848, -6.8946, 2.9270},
                           {3.9505, -6.3029, 2.6377},
                           {3.7418, -5.5913, 2.3037},
                           {2.8769, -3.1427, 1.2046},
                           {2.8366, -3.0525, 1.2012}};

// Amsel et al., arXiv 2505.16932.
constexpr quintic polar_express_rows[] = {
    with_safety({8.28721201814563, -23.595886519098837, 17.300387312530933}),
    with_safety({4.107059111542203, -2.9478499167379106, 0.5448431082926601}),
    with_safety({3.9486908534822946, -2.908902115962949, 0.5518191394370137}),
    with_safety({3.3184196573706015, -2.488488024314874, 0.51004894012372}),
    with_safety({2.300652019954817, -1.6689039845747493, 0.4188073119525673}),
    with_safety({1.891301407787398, -1.2679958271945868, 0.37680408948524835}),
    with_safety({1.8750014808534479, -1.2500016453999487, 0.3750001645474248}),
    {1.875, -1.25, 0.375}};

template <int64_t N>
constexpr coefficient_set set_of(const quintic (&rows)[N]) {
  return {rows, N};
}

// The odd quintic with the least largest |1 - p| on [l, u], by Remez exchange: between the ends,
// where p = 1 - error, it has one extreme of 1 + error and one of 1 - error.
quintic best_quintic(double l, double u) {
  if (l / u >= 1 - 5e-6) return {15 / (8 * u), -10 / (8 * u * u * u), 3 / (8 * std::pow(u, 5))};
  double q = (3 * l + u) / 4;
  double r = (l + 3 * u) / 4;
  double old_error = 1;
  quintic p = {};
  for (int iteration = 0; iteration < 100; ++iteration) {
    // a x + b x^3 + c x^5 + sign error = 1 at l, q, r, u, by elimination.
    double rows[4][5];
    const double points[4] = {l, q, r, u};
    for (int i = 0; i < 4; ++i) {
      const double x = points[i];
      rows[i][0] = x;
      rows[i][1] = x * x * x;
      rows[i][2] = x * x * x * x * x;
      rows[i][3] = i % 2 == 0 ? 1 : -1;
      rows[i][4] = 1;
    }
    for (int k = 0; k < 4; ++k) {
      int pivot = k;
      for (int i = k + 1; i < 4; ++i)
        if (std::fabs(rows[i][k]) > std::fabs(rows[pivot][k])) pivot = i;
      std::swap(rows[k], rows[pivot]);
      for (int i = 0; i < 4; ++i) {
        if (i == k) continue;
        const double factor = rows[i][k] / rows[k][k];
        for (int j = k; j < 5; ++j) rows[i][j] -= factor * rows[k][j];
      }
    }
    p = {rows[0][4] / rows[0][0], rows[1][4] / rows[1][1], rows[2][4] / rows[2][2]};
    const double error = rows[3][4] / rows[3][3];
    if (std::fabs(error - old_error) <= 1e-15) break;
    old_error = error;
    // The extremes: a + 3 b y + 5 c y^2 = 0, y = x^2.
    const double root = std::sqrt(9 * p.b * p.b - 20 * p.a * p.c);
    q = std::sqrt((-3 * p.b - root) / (10 * p.c));
    r = std::sqrt((-3 * p.b + root) / (10 * p.c));
  }
  return p;
}

}  // namespace

coefficient_set preset(int32_t coefficients) {
  switch (coefficients) {
    case STEEPEST_COEF_KELLER: return set_of(keller);
    case STEEPEST_COEF_CLASSIC: return set_of(classic);
    case STEEPEST_COEF_CUBIC: return set_of(cubic);
    case STEEPEST_COEF_YOU: return set_of(you);
    default: return set_of(polar_express_rows);
  }
}

void polar_express(double l, int64_t steps, quintic* rows) {
  constexpr double cushion = 0.02407327424182761;
  double u = 1;
  for (int64_t i = 0; i < steps; ++i) {
    quintic p = best_quintic(std::max(l, cushion * u), u);
    if (cushion * u > l) {
      // Centred again on the interval that there really is.
      const double centre = 2 / (p(l) + p(u));
      p = {p.a * centre, p.b * centre, p.c * centre};
    }
    rows[i] = p;
    l = p(l);
    u = 2 - l;
  }
}

double zolotarev::operator()(double x) const {
  double sum = 1;
  for (int j = 0; j < poles; ++j) sum += weights[j] / (x * x + shifts[j]);
  return scale * x * sum;
}

namespace {

// l^2 tan^2(am(i K' / (2r + 1))), i = 1..2r, for the modulus sqrt(1 - l^2): by the arithmetic-
// geometric mean, which starts from the complementary modulus l itself.
void elliptic_points(double l, int poles, double* c) {
  constexpr int limit = 32;
  double a[limit];
  double difference[limit];  // (a - b) / 2 of the step before
  double b = l;
  a[0] = 1;
  int n = 0;
  while (n + 1 < limit && a[n] - b > 1e-9 * a[n]) {
    difference[n + 1] = (a[n] - b) / 2;
    a[n + 1] = (a[n] + b) / 2;
    b = std::sqrt(a[n] * b);
    ++n;
  }
  for (int i = 1; i <= 2 * poles; ++i) {
    // 2^n a_n u, with u = i K' / (2r + 1) and K' = pi / (2 a_n).
    double angle = std::ldexp(std::numbers::pi / 2 * i / (2 * poles + 1), n);
    for (int k = n; k > 0; --k)
      angle = (angle + std::asin(difference[k] / a[k] * std::sin(angle))) / 2;
    const double tangent = std::tan(angle);
    c[i - 1] = l * l * tangent * tangent;
  }
}

zolotarev make_zolotarev(double l, int poles) {
  zolotarev z = {};
  z.poles = poles;
  z.l = l;
  z.scale = 1;
  double c[2 * max_poles];
  elliptic_points(l, poles, c);
  for (int j = 0; j < poles; ++j) {
    double numerator = -1;
    double denominator = 1;
    for (int k = 0; k < poles; ++k) {
      numerator *= c[2 * j] - c[2 * k + 1];
      if (k != j) denominator *= c[2 * j] - c[2 * k];
    }
    z.weights[j] = numerator / denominator;
    z.shifts[j] = c[2 * j];
  }
  const double at_l = z(l);
  const double at_1 = z(1);
  z.scale = 2 / (at_l + at_1);
  z.error = std::fabs(at_1 - at_l) / (at_l + at_1);
  return z;
}

}  // namespace

const zolotarev& zolotarev_for(double l, int poles) {
  static thread_local zolotarev last = {};
  if (last.l != l || last.poles != poles) last = make_zolotarev(l, poles);
  return last;
}

halley::halley(double l) {
  const double l2 = l * l;
  const double d = std::cbrt(4 * (1 - l2) / (l2 * l2));
  const double root = std::sqrt(1 + d);
  a = root + std::sqrt(8 - 4 * d + 8 * (2 - l2) / (l2 * root)) / 2;
  b = (a - 1) * (a - 1) / 4;
  c = a + b - 1;
  next_l = std::min(1.0, l * (a + b * l2) / (1 + c * l2));
}

scan_result scan(const coefficient_set& set, int64_t steps, double& where, double& value) {
  constexpr int points = 4096;
  constexpr double top = 1.001;
  constexpr double limit = 1.6;
  // Half of the points evenly, half evenly in the logarithm down to 1e-6.
  for (int i = 0; i < points; ++i) {
    const int64_t rank = i / 2 + 1;
    const double share = static_cast<double>(rank) / (points / 2.0);
    where = i % 2 == 0 ? top * share : top * std::pow(10.0, 6 * (share - 1));
    value = where;
    for (int64_t step = 0; step < steps; ++step) {
      value = set.row(step)(value);
      if (!(value >= 0)) return scan_result::negative;
    }
    if (value > limit) return scan_result::too_large;
  }
  return scan_result::safe;
}

}  // namespace steepest::msign
