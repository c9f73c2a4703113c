// SPDX-License-Identifier: Apache-2.0
// The scalar side of msign: what each method does to one singular value. Coefficient sets of
// Newton-Schulz and their generator, Zolotarev's and Halley's rational functions, and the band to
// which any of them maps an interval.
#pragma once

#include <cstdint>

namespace steepest::msign {

// p(x) = a x + b x^3 + c x^5
struct quintic {
  double a, b, c;

  double operator()(double x) const {
    const double y = x * x;
    return x * (a + y * (b + y * c));
  }
};

// The rows of a coefficient set; after the last one that one repeats.
struct coefficient_set {
  const quintic* rows;
  int64_t count;

  const quintic& row(int64_t step) const { return rows[step < count ? step : count - 1]; }
};

// `coefficients` is one of STEEPEST_COEF_*, but not CUSTOM.
coefficient_set preset(int32_t coefficients);

// p(x / 1.01): for values that rounding has put just above the interval that p is made for.
constexpr quintic with_safety(const quintic& p) {
  constexpr double s = 1.01;
  return {p.a / s, p.b / (s * s * s), p.c / (s * s * s * s * s)};
}

// Polar Express for singular values in [l, 1], without safety: rows[steps].
void polar_express(double l, int64_t steps, quintic* rows);

inline constexpr int max_poles = 8;

// Zolotarev's best approximation of sign(x) on [l, 1] by an odd rational function with `poles`
// poles: Z(x) = scale x (1 + sum_j weight_j / (x^2 + shift_j)), within 1 -+ error there.
struct zolotarev {
  int poles;
  double l;
  double scale;
  double error;
  double weights[max_poles];
  double shifts[max_poles];  // rising

  double operator()(double x) const;
};

// The last one computed by a thread is kept. l in (0, 1).
const zolotarev& zolotarev_for(double l, int poles);

// One dynamically weighted Halley step x (a + b x^2) / (1 + c x^2), and the l after it.
struct halley {
  double a, b, c, next_l;

  explicit halley(double l);
  double operator()(double x) const { return x * (a + b * x * x) / (1 + c * x * x); }
};

// The least and the largest value of f on [from, to], by a scan on a geometric grid refined around
// its extremes. A template, since f is called tens of thousands of times.
struct band {
  double low, high;
};
template <class F>
band band_of(const F& f, double from, double to);

// What keeps a coefficient set from being used.
enum class scan_result { safe, negative, too_large };

// Scans `steps` steps of the set over (0, 1.001]: an intermediate value that is negative, or a
// final one above 1.6, is unsafe. `where` and `value` are set then.
scan_result scan(const coefficient_set& set, int64_t steps, double& where, double& value);

}  // namespace steepest::msign

#include "msign/band.hpp"
