// SPDX-License-Identifier: Apache-2.0
// Threads for the stream and for touching memory first.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace bench {

// A fixed set of threads that all run the same function, the caller being number 0. They watch for
// work for some tens of microseconds before they sleep, so that calls in quick succession do not
// pay for waking them and a contender that comes later has the cores to itself.
class thread_pool {
 public:
  explicit thread_pool(int threads) {
    for (int worker = 1; worker < threads; ++worker)
      workers_.emplace_back([this, worker] { work(worker); });
  }
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;
  ~thread_pool() {
    body_ = nullptr;
    start();
    for (std::thread& worker : workers_) worker.join();
  }

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Returns when body(worker) has run for every worker.
  void run(const std::function<void(int)>& body) {
    if (workers_.empty()) return body(0);
    body_ = &body;
    start();
    body(0);
    for (int running = running_; running != 0; running = running_) await_change(running_, running);
  }

 private:
  void start() {
    running_ = static_cast<int>(workers_.size());
    ++generation_;
    generation_.notify_all();
  }
  void work(int worker) {
    for (int seen = 0;;) {
      await_change(generation_, seen);
      seen = generation_;
      if (body_ == nullptr) return;
      (*body_)(worker);
      if (--running_ == 0) running_.notify_one();
    }
  }
  static void await_change(const std::atomic<int>& value, int old) {
    for (int i = 0; i < 2000; ++i) {
      if (value != old) return;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    value.wait(old);
  }

  std::vector<std::thread> workers_;
  const std::function<void(int)>* body_ = nullptr;
  std::atomic<int> generation_ = 0, running_ = 0;
};

struct range {
  int64_t begin, end;
};

// Part `index` of `parts` nearly equal contiguous parts of [0, count), cut at multiples of `unit`.
inline range part_of(int64_t count, int index, int parts, int64_t unit) {
  const int64_t length = ((count + parts - 1) / parts + unit - 1) / unit * unit;
  return {std::min(index * length, count), std::min((index + 1) * length, count)};
}

}  // namespace bench
