// SPDX-License-Identifier: Apache-2.0
// Compares functions that are timed in turn within one process.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace bench {

// The value that the given share of the values does not exceed, interpolated between neighbours.
inline double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const double position = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return std::lerp(values[below], values[above], position - static_cast<double>(below));
}

// The first contender added is the subject, the others are what it is compared with. Each benchmark
// iteration is a round in which every contender is timed once, so that a ratio within a round
// compares neighbours in time. Contenders of one group are alternatives: the group stands for the
// one with the least median.
class contest {
 public:
  // `threads`: how many the contenders use.
  explicit contest(int threads) : threads_(threads) {}

  void add(std::string group, std::string name, std::function<void()> run) {
    contenders_.push_back({std::move(group), std::move(name), std::move(run), 1, {}});
  }

  void run(benchmark::State& state) {
    for (contender& each : contenders_) each.calls = calls_per_sample(each);
    std::size_t first = 0;
    for (auto _ : state) {
      for (std::size_t i = 0; i < contenders_.size(); ++i)
        time(contenders_[(first + i) % contenders_.size()]);
      ++first;
      state.SetIterationTime(contenders_.front().seconds.back());
    }
  }

  // Counters: seconds of the subject; for each other group G, G_seconds, and in G_ratio, G_ratio_q1
  // and G_ratio_q3 the median and quartiles, over the rounds, of G's time over the subject's.
  void report(benchmark::State& state) const {
    const contender& subject = contenders_.front();
    state.counters["seconds"] = quantile(subject.seconds, 0.5);
    std::string label;
    for (const contender& other : contenders_) {
      if (&other == &subject || &other != best_of(other.group)) continue;
      std::vector<double> ratios;
      for (std::size_t round = 0; round < other.seconds.size(); ++round)
        ratios.push_back(other.seconds[round] / subject.seconds[round]);
      state.counters[other.group + "_seconds"] = quantile(other.seconds, 0.5);
      state.counters[other.group + "_ratio"] = quantile(ratios, 0.5);
      state.counters[other.group + "_ratio_q1"] = quantile(ratios, 0.25);
      state.counters[other.group + "_ratio_q3"] = quantile(ratios, 0.75);
      if (!other.name.empty()) label += (label.empty() ? "" : "; ") + other.group + ": " + other.name;
    }
    state.SetLabel(label);
  }

 private:
  using clock = std::chrono::steady_clock;
  struct contender {
    std::string group, name;
    std::function<void()> run;
    int64_t calls;                // per sample
    std::vector<double> seconds;  // of one call, for each round
  };

  static double seconds_for(const contender& one, int64_t calls) {
    const clock::time_point start = clock::now();
    for (int64_t i = 0; i < calls; ++i) one.run();
    return std::chrono::duration<double>(clock::now() - start).count();
  }

  // As many as last a millisecond, which a look at the clock does not disturb.
  static int64_t calls_per_sample(const contender& one) {
    for (int64_t calls = 1;; calls *= 2) {
      const double seconds = seconds_for(one, calls);
      if (seconds > 5e-4) return std::max<int64_t>(1, std::llround(1e-3 / seconds * calls));
    }
  }

  void time(contender& one) {
    // The threads of the contender before may still be watching for work.
    if (threads_ > 1) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    // What fits the caches shall be there, and the contender's own threads awake.
    if (one.calls > 1 || threads_ > 1) one.run();
    one.seconds.push_back(seconds_for(one, one.calls) / static_cast<double>(one.calls));
  }

  const contender* best_of(const std::string& group) const {
    const contender* best = nullptr;
    double least = 0;
    for (const contender& each : contenders_) {
      if (each.group != group) continue;
      const double median = quantile(each.seconds, 0.5);
      if (best == nullptr || median < least) best = &each, least = median;
    }
    return best;
  }

  int threads_;
  std::vector<contender> contenders_;
};

}  // namespace bench
