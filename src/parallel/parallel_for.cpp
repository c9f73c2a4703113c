// SPDX-License-Identifier: Apache-2.0
#include "parallel/parallel_for.hpp"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <memory>
#include <thread>
#include <utility>

#include "core/error.hpp"
#include "core/fp_environment.hpp"

namespace steepest {

namespace {

// Whether this thread is running a task. Calls from within one are not handed out again: they would
// wait for threads that wait for them.
thread_local bool inside_task = false;

struct counted_body {
  task_body body;
  void* argument;
  std::atomic<bool> handed_out = false;
  std::atomic<int64_t> finished = 0;

  static void run(void* self, int64_t task, int32_t worker) {
    auto* counted = static_cast<counted_body*>(self);
    counted->handed_out.load(std::memory_order_acquire);
    const fp_environment environment;
    const bool outer = std::exchange(inside_task, true);
    counted->body(counted->argument, task, worker);
    inside_task = outer;
    counted->finished.fetch_add(1, std::memory_order_release);
  }
};

std::atomic<uint64_t> generation = 0;

// Cores that a cgroup (v2) allows this process, by its CPU quota; 0 when there is none.
int32_t cgroup_quota_cores() {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
      std::fopen("/sys/fs/cgroup/cpu.max", "re"), std::fclose);
  long long quota = 0;
  long long period = 0;
  if (!file || std::fscanf(file.get(), "%lld %lld", &quota, &period) != 2) return 0;
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<int32_t>(std::clamp((quota + period - 1) / period, 1LL, 1LL << 20));
}

}  // namespace

steepest_status parallel_for(steepest_context& context, int64_t tasks, task_body body,
                             void* argument) {
  const auto run_here = [&] {
    const fp_environment environment;
    for (int64_t task = 0; task < tasks; ++task) body(argument, task, 0);
    return STEEPEST_OK;
  };
  if (tasks <= 1 || context.threads == 1 || inside_task ||
      context.fork_generation != fork_generation())
    return run_here();
  counted_body counted = {body, argument};
  // Executors see to it that the tasks come after this; said once more for ThreadSanitizer, which
  // does not see into oneTBB.
  counted.handed_out.store(true, std::memory_order_release);
  const steepest_executor& executor = context.executor;
  const steepest_status status =
      executor.parallel_for(executor.user, tasks, counted_body::run, &counted);
  const int64_t finished = counted.finished.load(std::memory_order_acquire);
  if (status == STEEPEST_OK && finished == tasks) return STEEPEST_OK;
  // oneTBB throws where it cannot start a thread, for lack of memory or by a limit on processes.
  if (context.destroy_executor != nullptr && finished == 0) return run_here();
  return fail(
      STEEPEST_E_INTERNAL, "executor.parallel_for returned %d after running %lld of %lld tasks",
      static_cast<int>(status), static_cast<long long>(finished), static_cast<long long>(tasks));
}

uint64_t fork_generation() {
  static const int registered =
      pthread_atfork(nullptr, nullptr, [] { generation.fetch_add(1, std::memory_order_relaxed); });
  (void)registered;
  return generation.load(std::memory_order_relaxed);
}

int32_t usable_cores() {
  int32_t cores = static_cast<int32_t>(std::max(1U, std::thread::hardware_concurrency()));
  // The kernel refuses a mask that is too small for its number of processors.
  for (int capacity = 1024; capacity <= (1 << 17); capacity *= 2) {
    const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(capacity),
                                                               [](cpu_set_t* p) { CPU_FREE(p); });
    if (!set) break;
    const size_t bytes = CPU_ALLOC_SIZE(capacity);
    if (sched_getaffinity(0, bytes, set.get()) == 0) {
      cores = std::max(1, CPU_COUNT_S(bytes, set.get()));
      break;
    }
  }
  const int32_t quota = cgroup_quota_cores();
  return quota > 0 ? std::min(cores, quota) : cores;
}

}  // namespace steepest
