// SPDX-License-Identifier: Apache-2.0
//
// Executors and allocators as a caller might write them, which also keep account of the contract.
#pragma once

#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "support.hpp"

namespace steepest_test {

using task_body = void (*)(void* arg, std::int64_t task, std::int32_t worker);

// Runs tasks last to first, or in an order of its own, on `workers` threads of its own; with one
// worker on the caller's.
struct reversed_executor {
  explicit reversed_executor(std::int32_t worker_count) : workers(worker_count) {}

  std::int32_t workers;
  std::uint64_t shuffle = 0;           // not 0: a random order, from this seed
  void (*before_tasks)() = nullptr;    // runs first on each thread
  std::uint64_t (*state)() = nullptr;  // of the thread; no task may change it
  std::atomic<bool> state_kept{true};
  steepest_status result = STEEPEST_OK;
  std::int64_t fail_at = INT64_MAX;  // the call, from 0, in which `fault` happens
  enum { half_of_the_tasks, all_but_an_error, no_task_and_success } fault = half_of_the_tasks;
  std::atomic<std::int64_t> calls{0};
  std::atomic<std::int64_t> tasks_run{0};

  steepest_executor interface() {
    steepest_executor executor = STEEPEST_EXECUTOR_INIT;
    executor.user = this;
    executor.concurrency = [](void* user) { return self(user).workers; };
    executor.parallel_for = [](void* user, std::int64_t tasks, task_body body, void* arg) {
      return self(user).run(tasks, body, arg);
    };
    return executor;
  }

 private:
  static reversed_executor& self(void* user) { return *static_cast<reversed_executor*>(user); }

  steepest_status run(std::int64_t tasks, task_body body, void* arg) {
    const bool fails = calls++ == fail_at;
    if (fails && fault == no_task_and_success) return STEEPEST_OK;
    const std::vector<std::int64_t> order = order_of(tasks);
    const std::int64_t end = fails && fault == half_of_the_tasks ? tasks / 2 : tasks;
    const auto work = [&](std::int32_t worker) {
      if (before_tasks != nullptr) before_tasks();
      for (std::int64_t i = worker; i < end; i += workers) {
        const std::int64_t task = order[static_cast<std::size_t>(i)];
        const std::uint64_t before = state != nullptr ? state() : 0;
        body(arg, task, worker);
        if (state != nullptr && state() != before) state_kept = false;
        ++tasks_run;
      }
    };
    const steepest_status returned = fails ? STEEPEST_E_NOT_CONVERGED : result;
    if (workers == 1) {
      work(0);
      return returned;
    }
    std::vector<std::thread> threads;
    for (std::int32_t worker = 0; worker < workers; ++worker) threads.emplace_back(work, worker);
    for (std::thread& thread : threads) thread.join();
    return returned;
  }
  std::vector<std::int64_t> order_of(std::int64_t tasks) const {
    std::vector<std::int64_t> order;
    for (std::int64_t task = tasks - 1; task >= 0; --task) order.push_back(task);
    random_source random(shuffle + static_cast<std::uint64_t>(calls));
    for (std::size_t i = order.size(); shuffle != 0 && i > 1; --i)
      std::swap(order[i - 1],
                order[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(i)))]);
    return order;
  }
};

// Counts what is out, checks what comes back, and refuses allocations from number `fail_at` up to
// `fail_until`.
struct counting_allocator {
  std::int64_t fail_at = INT64_MAX, fail_until = INT64_MAX;
  std::int64_t calls = 0;
  std::int64_t live_bytes = 0;
  bool consistent = true;

  steepest_allocator interface() {
    steepest_allocator allocator = STEEPEST_ALLOCATOR_INIT;
    allocator.user = this;
    allocator.allocate = [](void* user, std::size_t alignment, std::size_t bytes) {
      return static_cast<counting_allocator*>(user)->allocate(alignment, bytes);
    };
    allocator.release = [](void* user, void* pointer, std::size_t bytes) {
      static_cast<counting_allocator*>(user)->release(pointer, bytes);
    };
    return allocator;
  }
  bool all_released() const { return live_bytes == 0 && live_.empty() && consistent; }

 private:
  void* allocate(std::size_t alignment, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    const std::int64_t call = calls++;
    if (call >= fail_at && call < fail_until) return nullptr;
    if (alignment == 0 || (alignment & (alignment - 1)) != 0) consistent = false;
    // Aligned to no more than was asked for, so that a stronger assumption shows.
    const std::size_t step = std::max(alignment, alignof(void*));
    void* base = std::aligned_alloc(2 * step, (bytes + 3 * step) / (2 * step) * (2 * step));
    void* pointer = static_cast<char*>(base) + step;
    std::memset(pointer, 0xcd, bytes);
    live_.insert({pointer, base, bytes});
    live_bytes += static_cast<std::int64_t>(bytes);
    return pointer;
  }
  void release(void* pointer, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto found = live_.lower_bound({pointer, nullptr, 0});
    if (found == live_.end() || found->pointer != pointer || found->bytes != bytes) {
      consistent = false;
      return;
    }
    std::free(found->base);
    live_bytes -= static_cast<std::int64_t>(bytes);
    live_.erase(found);
  }

  struct block {
    void* pointer;
    void* base;
    std::size_t bytes;
    auto operator<=>(const block&) const = default;
  };
  std::mutex mutex_;
  std::set<block> live_;
};

}  // namespace steepest_test
