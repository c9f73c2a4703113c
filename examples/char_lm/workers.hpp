// SPDX-License-Identifier: Apache-2.0
//
// A fixed set of threads that share the tasks of one loop at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace char_lm {

class workers {
 public:
  explicit workers(int threads);
  ~workers();
  workers(const workers&) = delete;
  workers& operator=(const workers&) = delete;

  // Runs body(task) for every task in [0, tasks), in any order, and returns when all are done. What
  // a task computes must not depend on the thread that runs it; then the number of threads does not
  // change any result.
  void parallel_for(std::int64_t tasks, const std::function<void(std::int64_t)>& body);

 private:
  void serve();
  void take_tasks();

  std::vector<std::thread> threads_;
  const std::function<void(std::int64_t)>* body_ = nullptr;  // null: the threads end
  std::int64_t tasks_ = 0;
  std::atomic<std::int64_t> next_task_{0};
  std::atomic<int> generation_{0};
  std::atomic<int> busy_{0};
};

}  // namespace char_lm
