// SPDX-License-Identifier: Apache-2.0
//
// A pairwise covering array: few rows, in which every pair of values of every two factors occurs.
// Greedy, after the AETG idea: each row starts from an uncovered pair and takes, factor by factor
// in random order, the value that covers the most new pairs; the best of several such rows is kept.
#pragma once

#include "support.hpp"

namespace steepest_test {

class covering_array {
 public:
  // sizes[f]: the number of values of factor f.
  explicit covering_array(std::vector<int> sizes, std::uint64_t seed = 1)
      : sizes_(std::move(sizes)), random_(seed) {
    for (const int size : sizes_) {
      first_.push_back(total_);
      total_ += size;
    }
    covered_.assign(static_cast<std::size_t>(total_ * total_), false);
    for (std::size_t f = 0; f < sizes_.size(); ++f) {
      for (std::size_t g = f + 1; g < sizes_.size(); ++g) open_ += sizes_[f] * sizes_[g];
    }
    while (open_ > 0) add_row();
  }

  const std::vector<std::vector<int>>& rows() const { return rows_; }

 private:
  using row = std::vector<int>;

  bool covered(std::size_t f, int a, std::size_t g, int b) const {
    return covered_[static_cast<std::size_t>((first_[f] + a) * total_ + first_[g] + b)];
  }
  void cover(std::size_t f, int a, std::size_t g, int b) {
    if (!covered(f, a, g, b)) --open_;
    covered_[static_cast<std::size_t>((first_[f] + a) * total_ + first_[g] + b)] = true;
  }

  // New pairs of factor f's value a with the values that are already in r (-1: not yet).
  int gain(const row& r, std::size_t f, int a) const {
    int pairs = 0;
    for (std::size_t g = 0; g < r.size(); ++g) {
      if (r[g] < 0 || g == f) continue;
      pairs += g < f ? !covered(g, r[g], f, a) : !covered(f, a, g, r[g]);
    }
    return pairs;
  }

  row candidate(int& pairs) {
    row r(sizes_.size(), -1);
    start_from_open_pair(r);
    pairs = 1;
    std::vector<std::size_t> order;
    for (std::size_t f = 0; f < r.size(); ++f) {
      if (r[f] < 0) order.push_back(f);
    }
    for (std::size_t left = order.size(); left > 0; --left) {
      const auto pick = static_cast<std::size_t>(random_.below(static_cast<std::int64_t>(left)));
      const std::size_t f = order[pick];
      order[pick] = order[left - 1];
      const auto shift = static_cast<int>(random_.below(sizes_[f]));
      int best = -1;
      for (int i = 0; i < sizes_[f]; ++i) {
        const int a = (i + shift) % sizes_[f];
        const int g = gain(r, f, a);
        if (g > best) {
          best = g;
          r[f] = a;
        }
      }
      pairs += best;
    }
    return r;
  }

  void start_from_open_pair(row& r) {
    const auto factors = static_cast<std::int64_t>(sizes_.size());
    const std::int64_t pairs = factors * factors;
    const std::int64_t shift = random_.below(pairs);
    for (std::int64_t i = 0; i < pairs; ++i) {
      const auto f = static_cast<std::size_t>((i + shift) % pairs / factors);
      const auto g = static_cast<std::size_t>((i + shift) % factors);
      if (f >= g) continue;
      for (int a = 0; a < sizes_[f]; ++a) {
        for (int b = 0; b < sizes_[g]; ++b) {
          if (covered(f, a, g, b)) continue;
          r[f] = a;
          r[g] = b;
          return;
        }
      }
    }
  }

  void add_row() {
    row best;
    int best_pairs = 0;
    for (int attempt = 0; attempt < 8; ++attempt) {
      int pairs = 0;
      row r = candidate(pairs);
      if (pairs > best_pairs) {
        best_pairs = pairs;
        best = std::move(r);
      }
    }
    for (std::size_t f = 0; f < best.size(); ++f) {
      for (std::size_t g = f + 1; g < best.size(); ++g) cover(f, best[f], g, best[g]);
    }
    rows_.push_back(std::move(best));
  }

  std::vector<int> sizes_;
  std::vector<int> first_;
  int total_ = 0;
  std::int64_t open_ = 0;
  std::vector<bool> covered_;
  std::vector<row> rows_;
  random_source random_;
};

}  // namespace steepest_test
