// SPDX-License-Identifier: Apache-2.0
#include "workers.hpp"

namespace char_lm {

workers::workers(int threads) {
  for (int i = 1; i < threads; ++i) threads_.emplace_back([this] { serve(); });
}

workers::~workers() {
  body_ = nullptr;
  ++generation_;
  generation_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void workers::parallel_for(std::int64_t tasks, const std::function<void(std::int64_t)>& body) {
  body_ = &body;
  tasks_ = tasks;
  next_task_ = 0;
  if (threads_.empty() || tasks == 1) return take_tasks();
  busy_ = static_cast<int>(threads_.size());
  ++generation_;
  generation_.notify_all();
  take_tasks();
  for (int busy = busy_; busy != 0; busy = busy_) busy_.wait(busy);
}

void workers::serve() {
  for (int seen = 0;;) {
    generation_.wait(seen);
    seen = generation_;
    if (body_ == nullptr) return;
    take_tasks();
    if (--busy_ == 0) busy_.notify_one();
  }
}

void workers::take_tasks() {
  for (std::int64_t task = next_task_++; task < tasks_; task = next_task_++) (*body_)(task);
}

}  // namespace char_lm
