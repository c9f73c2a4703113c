// SPDX-License-Identifier: Apache-2.0
// Numbers as an unevaluated sum hi + lo of two doubles (about 106 bits), for the few constants that
// are formed once per call. Only IEEE operations: the same bits on every machine, which the C
// library's pow and expm1 do not promise.
// Algorithms: Dekker, Numer. Math. 18 (1971); Knuth, TAOCP 2, 4.2.2.
#pragma once

#include <cmath>
#include <cstdint>

namespace steepest {

struct double_double {
  double hi;
  double lo;
};

inline double_double two_sum(double a, double b) {
  const double sum = a + b;
  const double b_part = sum - a;
  return {sum, (a - (sum - b_part)) + (b - b_part)};
}

inline double_double two_product(double a, double b) {
  const double product = a * b;
  return {product, std::fma(a, b, -product)};
}

inline double_double operator*(double_double a, double_double b) {
  const double_double p = two_product(a.hi, b.hi);
  return two_sum(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi));
}

inline double_double operator*(double_double a, double b) { return a * double_double{b, 0.0}; }

// A sum whose rounding errors are summed beside it (Neumaier, ZAMM 54, 1974): as exact as if it
// were formed with twice the digits, and no slower than the additions follow each other.
class accurate_sum {
 public:
  void add(double x) {
    const double_double sum = two_sum(sum_, x);
    sum_ = sum.hi;
    errors_ += sum.lo;
  }
  double value() const { return sum_ + errors_; }

 private:
  double sum_ = 0;
  double errors_ = 0;
};

// 1 - beta^step for beta in [0, 1) and step >= 1, by repeated squaring. A float or double running
// product, as some optimizers keep it, loses all but a few digits of 1 - beta^step for beta near 1.
inline double one_minus_power(double beta, int64_t step) {
  double_double power = {beta, 0.0};
  double_double result = {1.0, 0.0};
  for (int64_t n = step;; power = power * power) {
    if (power.hi < 1e-40) return 1.0;  // what is left to multiply is below half an ulp of 1
    if (n & 1) result = result * power;
    n >>= 1;
    if (n == 0) break;
  }
  const double_double difference = two_sum(1.0, -result.hi);
  return difference.hi + (difference.lo - result.lo);
}

}  // namespace steepest
