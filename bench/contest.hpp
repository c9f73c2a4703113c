// SPDX-License-Identifier: Apache-2.0
// Compares functions that are timed in turn within one process. Google Benchmark's programs hand
// its state to run(); `steepest bench`, which has none, calls prepare(), round() and results().
#pragma once

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

// Makes the compiler compute x.
template <class T>
void keep(const T& x) {
  asm volatile("" : : "m"(x) : "memory");
}

// A subject and its rivals. Each benchmark iteration is a round: every rival is timed once, and the
// subject right beside it, so that a ratio compares neighbours in time. Rivals of one group are
// alternatives, and the group stands for the fastest of them.
class contest {
 public:
  // `threads`: how many the contenders use. `rest`: how long those of a contender may go on
  // watching for work after its call, in milliseconds (OpenBLAS's do so for some 20).
  contest(int threads, std::function<void()> subject, int rest = 2)
      : threads_(threads), rest_(rest), subject_{std::move(subject)} {}

  // `scale`: the rival does 1 / scale of the work, and its time counts so many times.
  void add_rival(std::string group, std::string name, std::function<void()> run, double scale = 1) {
    rivals_.push_back({std::move(group), std::move(name), {std::move(run), scale}, {}});
  }

  // Rounds count where `holds` is true before and after them; others are repeated, some times.
  void set_condition(std::function<bool()> holds) { condition_ = std::move(holds); }

  // Finds out how many calls a sample takes.
  void prepare() {
    subject_.calls = calls_per_sample(subject_.run);
    for (rival& each : rivals_) each.side.calls = calls_per_sample(each.side.run);
  }

  // Returns the subject's mean time.
  double round() {
    double subject_seconds = 0;
    for (rival& each : rivals_) {
      time_both(each, subject_first_);
      each.ratios.push_back(each.side.seconds.back() / subject_.seconds.back());
      subject_seconds += subject_.seconds.back();
    }
    subject_first_ = !subject_first_;
    return subject_seconds / static_cast<double>(rivals_.size());
  }

  // The fastest rival of a group, by the median of its ratios.
  struct result {
    std::string group, name;
    double seconds;                      // of one call, the median
    double ratio, quartile1, quartile3;  // its time over the subject's
  };
  double seconds() const { return quantile(subject_.seconds, 0.5); }
  std::vector<result> results() const {
    std::vector<result> found;
    for (const rival& each : rivals_)
      if (fastest_of_group(each))
        found.push_back({each.group, each.name, quantile(each.side.seconds, 0.5),
                         quantile(each.ratios, 0.5), quantile(each.ratios, 0.25),
                         quantile(each.ratios, 0.75)});
    return found;
  }

  // `State`: benchmark::State. Its counters: seconds, the subject's; rounds_held, the share of
  // rounds for which the condition held; for each group G of rivals G_seconds, and in G_ratio,
  // G_ratio_q1 and G_ratio_q3 the median and quartiles of its ratios.
  template <class State>
  void run(State& state) {
    prepare();
    for ([[maybe_unused]] auto _ : state) state.SetIterationTime(round());
    state.counters["seconds"] = seconds();
    if (condition_)
      state.counters["rounds_held"] =
          static_cast<double>(rounds_held_) / static_cast<double>(subject_.seconds.size());
    std::string label;
    for (const result& each : results()) {
      state.counters[each.group + "_seconds"] = each.seconds;
      state.counters[each.group + "_ratio"] = each.ratio;
      state.counters[each.group + "_ratio_q1"] = each.quartile1;
      state.counters[each.group + "_ratio_q3"] = each.quartile3;
      if (!each.name.empty()) label += each.group + ": " + each.name;
    }
    state.SetLabel(label);
  }

 private:
  using clock = std::chrono::steady_clock;
  struct side {
    std::function<void()> run;
    double scale = 1;
    int64_t calls = 1;                 // per sample
    std::vector<double> seconds = {};  // of one call, for each sample
  };
  struct rival {
    std::string group, name;
    contest::side side;
    std::vector<double> ratios;  // its time over the subject's, for each round
  };

  static double seconds_for(const std::function<void()>& run, int64_t calls) {
    const clock::time_point start = clock::now();
    for (int64_t i = 0; i < calls; ++i) run();
    return std::chrono::duration<double>(clock::now() - start).count();
  }

  // As many as last a millisecond, which a look at the clock does not disturb.
  static int64_t calls_per_sample(const std::function<void()>& run) {
    for (int64_t calls = 1;; calls *= 2) {
      const double seconds = seconds_for(run, calls);
      if (seconds > 5e-4)
        return std::max<int64_t>(1, std::llround(1e-3 / seconds * static_cast<double>(calls)));
    }
  }

  void time_both(rival& other, bool subject_first) {
    constexpr int most_attempts = 12;
    for (int attempt = 1;; ++attempt) {
      if (subject_first) time(subject_);
      bool held = !condition_ || condition_();
      time(other.side);
      if (!subject_first) time(subject_);
      held = held && (!condition_ || condition_());
      rounds_held_ += held;
      if (held || attempt == most_attempts) return;
      subject_.seconds.pop_back();
      other.side.seconds.pop_back();
    }
  }

  void time(side& one) const {
    if (threads_ > 1) std::this_thread::sleep_for(std::chrono::milliseconds(rest_));
    // What fits the caches shall be there, and the side's own threads awake: on a virtual machine
    // waking another core takes milliseconds.
    const double warm_up = std::max(5e-3, 1e-3 * rest_);
    if (threads_ > 1)
      for (double elapsed = 0; elapsed < warm_up;) elapsed += seconds_for(one.run, one.calls);
    else if (one.calls > 1)
      one.run();
    const double calls = static_cast<double>(one.calls);
    one.seconds.push_back(seconds_for(one.run, one.calls) / calls * one.scale);
  }

  bool fastest_of_group(const rival& one) const {
    return std::none_of(rivals_.begin(), rivals_.end(), [&](const rival& other) {
      return other.group == one.group && quantile(other.ratios, 0.5) < quantile(one.ratios, 0.5);
    });
  }

  int threads_;
  int rest_;
  side subject_;
  std::vector<rival> rivals_;
  std::function<bool()> condition_;
  bool subject_first_ = true;
  int64_t rounds_held_ = 0;
};

}  // namespace bench
