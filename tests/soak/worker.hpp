// SPDX-License-Identifier: Apache-2.0
//
// What all threads of the soak share, and what each of them does over and over.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <mutex>

#include "adamw_drift.hpp"
#include "calls.hpp"
#include "executors.hpp"

namespace soak {

// What --sabotage puts wrong on purpose, to show that it is found.
enum class sabotage { none, leak, bits, oracle, file, thread };

struct fixed_call {
  const call* kind;
  std::uint64_t seed, expected;
};

// Contexts that all threads use at once.
class shared_state {
 public:
  explicit shared_state(std::uint64_t seed, sabotage wrong);

  // One of the contexts of the best level; null, the default context, is one of them.
  steepest_context* any(random_source& random) const;
  void trim_all();
  bool balanced() const;  // the counting allocator has what it had when the contexts were new

  const sabotage wrong;
  steepest_test::context_pointer consistent;  // of the best level
  std::vector<fixed_call> fixed;
  std::array<std::atomic<std::int64_t>, call_kinds> calls_made{};
  std::atomic<std::int64_t> turns{0}, fixed_made{0}, contexts_made{0}, refused_for_memory{0},
      steps_followed{0};

  void report(const std::string& text);
  std::vector<std::string> violations();
  std::atomic<bool> stop{false};

  // Worker threads: between two turns. Main thread: all wait while `f` runs.
  void may_rest();
  template <class F>
  void at_rest(int threads, F f) {
    std::unique_lock lock(mutex_);
    resting_ = true;
    // After a violation they end instead.
    changed_.wait(lock, [&] { return waiting_ == threads || stop; });
    if (!stop) f();
    resting_ = false;
    changed_.notify_all();
  }

 private:
  steepest_test::counting_allocator allocator_;
  steepest_test::reversed_executor executor_{3};
  std::vector<steepest_test::context_pointer> contexts_;
  std::int64_t first_balance_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool resting_ = false;
  int waiting_ = 0;
  std::vector<std::string> violations_;
};

class worker {
 public:
  worker(shared_state& shared, std::uint64_t seed);
  void run();  // until shared.stop

  std::atomic<double> worst_drift{0};  // as a share of the bound

 private:
  void turn();
  std::uint64_t perform(const call& kind, std::uint64_t seed, steepest_context* context);
  void on_two_contexts();
  void fixed_again();
  void on_a_context_of_its_own();
  void on_another_level();
  void with_failing_executor();
  template <class Real>
  struct trajectory;
  template <class Real>
  void follow(trajectory<Real>& t);
  void do_wrong();

  shared_state& shared_;
  random_source random_;

  template <class Real>
  struct trajectory {
    steepest_test::adamw_arrays<Real> arrays{0};
    steepest_test::adamw_drift<Real> exact{{}};
    random_source gradients{0};
    std::int64_t step = 0;
    std::uint64_t flags = 0;
  };
  trajectory<float> single_;
  trajectory<double> double_;
};

}  // namespace soak
