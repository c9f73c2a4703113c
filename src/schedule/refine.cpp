// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <cmath>

#include "core/double_double.hpp"
#include "schedule/schedule.hpp"

namespace steepest::schedule {

namespace {

// How many of each of the numbers 0 .. size - 1 are there, and which one is the k-th: a Fenwick
// tree (Software: Practice and Experience 24, 1994).
class counted_set {
 public:
  counted_set(int32_t* counts, int64_t size)
      : counts_(counts), size_(size),
        top_(static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(size)))) {
    std::fill_n(counts_, size + 1, 0);
  }
  void add(int64_t number, int32_t change) {
    for (int64_t i = number + 1; i <= size_; i += i & -i) counts_[i] += change;
  }
  int64_t kth(int64_t k) const {  // k = 0: the least
    int64_t at = 0;
    for (int64_t step = top_; step > 0; step /= 2)
      if (at + step <= size_ && counts_[at + step] <= k) {
        at += step;
        k -= counts_[at];
      }
    return at;
  }

 private:
  int32_t* counts_;
  int64_t size_, top_;
};

}  // namespace

void smooth_by_median(const double* norms, int64_t steps, int64_t half,
                      const smooth_memory& memory) {
  double* const sorted = memory.sorted;
  int64_t* const rank = memory.rank;
  std::copy_n(norms, steps, sorted);
  std::sort(sorted, sorted + steps);
  for (int64_t i = 0; i < steps; ++i)
    rank[i] = std::lower_bound(sorted, sorted + steps, norms[i]) - sorted;
  const auto at = [&](int64_t i) {
    if (i < 0) return rank[0];
    return rank[i < steps ? i : 2 * (steps - 1) - i];
  };
  counted_set window(memory.counts, steps);
  for (int64_t i = -half; i <= half; ++i) window.add(at(i), 1);
  for (int64_t i = 0;; ++i) {
    memory.smooth[i] = sorted[window.kth(half)];
    if (i == steps - 1) break;
    window.add(at(i - half), -1);
    window.add(at(i + half + 1), 1);
  }
}

bool refine(const double* norms, int64_t steps, bool squares, double distance, double* lr) {
  // Weights in units of the largest.
  const double least = *std::min_element(norms, norms + steps);
  const auto weight = [&](int64_t i) {
    const double w = least / norms[i];
    return squares ? w * w : w;
  };
  accurate_sum total;
  double largest = 0;
  for (int64_t i = steps - 1; i >= 0; --i) {
    largest = std::max(largest, weight(i) * total.value());
    total.add(weight(i));
  }
  const double sum = total.value();
  double scale = 1;
  if (distance > 0)
    scale = distance / least / (sum * std::sqrt(sum));
  else if (largest > 0)
    scale = 1 / largest;
  if (!std::isfinite(scale * largest)) return false;
  accurate_sum later;
  for (int64_t i = steps - 1; i >= 0; --i) {
    const double w = weight(i);
    lr[i] = w * later.value() * scale;
    later.add(w);
  }
  return true;
}

}  // namespace steepest::schedule
