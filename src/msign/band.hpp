// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "msign/coefficients.hpp"

namespace steepest::msign {

template <class F>
band band_of(const F& f, double from, double to) {
  constexpr int points = 4096;
  // In halves, since to / from may overflow.
  const double ratio = (std::log(to) - std::log(from)) / points / 2;
  const auto at = [&](double i) {
    if (i <= 0 || i >= points) return i <= 0 ? from : to;
    const double half = std::exp(ratio * i);
    return from * half * half;
  };
  double lowest = 0;
  double highest = 0;
  band result = {f(from), f(from)};
  for (int i = 1; i <= points; ++i) {
    const double value = f(at(i));
    if (value < result.low) result.low = value, lowest = i;
    if (value > result.high) result.high = value, highest = i;
  }
  // Golden-section search between the neighbours of each extreme.
  const auto refine = [&](double centre, double sign) {
    constexpr double golden = 0.6180339887498949;
    double low = centre - 1;
    double high = centre + 1;
    double best = sign * f(at(centre));
    for (int i = 0; i < 60; ++i) {
      const double first = high - golden * (high - low);
      const double second = low + golden * (high - low);
      const double first_value = sign * f(at(first));
      const double second_value = sign * f(at(second));
      best = std::fmax(best, std::fmax(first_value, second_value));
      (first_value < second_value ? low : high) = first_value < second_value ? first : second;
    }
    return sign * best;
  };
  result.low = std::fmin(result.low, refine(lowest, -1));
  result.high = std::fmax(result.high, refine(highest, 1));
  return result;
}

}  // namespace steepest::msign
