// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "core/double_double.hpp"
#include "schedule/schedule.hpp"

namespace steepest::schedule {

namespace {

// 2 c / (1 + sqrt(1 + 2 c / G^2)), and the share of S_t that is S_t - S_{t+1}.
struct stage {
  double cost, share;
};

stage stage_before(double cost, double norm) {
  const double a = 2 * cost / (norm * norm);
  const double root = std::sqrt(1 + a);
  return {2 * cost / (1 + root), a / (root * (1 + root))};
}

}  // namespace

double bound(const double* lr, int64_t steps, double distance, const gradient_norms& norms) {
  accurate_sum tail;
  accurate_sum noise;
  double after = lr[steps - 1];  // S_T stands for S_{T+1}
  for (int64_t i = steps - 1; i >= 0; --i) {
    const double moved = norms[i] * lr[i];
    noise.add(moved * (moved / after));
    tail.add(lr[i]);
    after = tail.value();
  }
  return 0.5 * (distance * (distance / after) + noise.value());
}

// In the tail sums S_t the bound is D^2 / (2 S_1) + 1/2 sum G_t^2 (S_t - S_{t+1})^2 / S_{t+1} +
// 1/2 G_T^2 S_T: what follows S_t is homogeneous of degree one in the sums, so its least value is
// c_t S_t, with
//   c_T = G_T^2 / 2,
//   c_t = min over x = S_{t+1} / S_t of G_t^2 (1 - x)^2 / (2 x) + c_{t+1} x
//       = G_t^2 (sqrt(1 + 2 c_{t+1} / G_t^2) - 1) at x = 1 / sqrt(1 + 2 c_{t+1} / G_t^2),
// and D^2 / (2 S_1) + c_1 S_1 is least, D sqrt(2 c_1), at S_1 = D / sqrt(2 c_1).
bool optimal(int64_t steps, double distance, const gradient_norms& norms, double* lr,
             double* least) {
  // In units of the last norm, so that no square overflows that need not.
  const double unit = norms[steps - 1];
  double cost = 0.5;
  double left = 1;  // S_T / S_1
  for (int64_t i = steps - 2; i >= 0; --i) {
    const stage s = stage_before(cost, norms[i] / unit);
    cost = s.cost;
    left *= 1 - s.share;
  }
  const double root = std::sqrt(2 * cost);
  const double total = distance / unit / root;
  const double minimum = distance * unit * root;
  constexpr double normal = 0x1p-1022;
  if (!(left > 0x1p-900 && cost >= normal && std::isfinite(total) && total * left >= normal &&
        std::isfinite(minimum)))
    return false;

  cost = 0.5;
  for (int64_t i = steps - 2; i >= 0; --i) {
    const stage s = stage_before(cost, norms[i] / unit);
    cost = s.cost;
    lr[i] = s.share;
  }
  double_double sum = {total, 0};  // S_t
  for (int64_t i = 0; i < steps - 1; ++i) {
    const double share = lr[i];
    lr[i] = share * sum.hi;
    sum = sum * two_sum(1, -share);
  }
  lr[steps - 1] = sum.hi;
  if (least != nullptr) *least = minimum;
  return true;
}

}  // namespace steepest::schedule
