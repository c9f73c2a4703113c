// SPDX-License-Identifier: Apache-2.0
// The library's own executor: one oneTBB task_arena per context. It shares the process's TBB
// workers with whoever else uses TBB, and sets no global limit (it reads the one in force).
#include <pthread.h>
#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <new>

#include "parallel/parallel_for.hpp"

namespace steepest {

namespace {

// What a thread of oneTBB has locked while another one forks stays locked in the child for ever,
// and making an arena there may wait for it. So a process whose parent had been inside oneTBB stays
// out of it.
std::atomic<bool> entered = false;
std::atomic<bool> spoilt = false;

void after_fork_in_child() {
  if (entered.load(std::memory_order_relaxed)) spoilt.store(true, std::memory_order_relaxed);
}

// When the library is loaded: before any call.
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, after_fork_in_child);

int32_t concurrency(void* user) { return static_cast<tbb::task_arena*>(user)->max_concurrency(); }

steepest_status run(void* user, int64_t tasks, task_body body, void* argument) {
  try {
    entered.store(true, std::memory_order_relaxed);
    static_cast<tbb::task_arena*>(user)->execute([&] {
      tbb::parallel_for(
          tbb::blocked_range<int64_t>(0, tasks),
          [&](const tbb::blocked_range<int64_t>& range) {
            const int32_t worker = tbb::this_task_arena::current_thread_index();
            for (int64_t task = range.begin(); task != range.end(); ++task)
              body(argument, task, worker);
          },
          tbb::simple_partitioner{});
    });
  } catch (...) {
    return STEEPEST_E_INTERNAL;
  }
  return STEEPEST_OK;
}

void destroy(steepest_context& context) {
  auto* arena = static_cast<tbb::task_arena*>(context.executor.user);
  // In a forked child the arena's bookkeeping names threads that do not exist: its memory is freed
  // without asking it to end them.
  if (context.fork_generation == fork_generation()) arena->~task_arena();
  context.allocator.release(context.allocator.user, arena, sizeof(tbb::task_arena));
}

}  // namespace

void use_tbb_executor(steepest_context& context, int32_t threads) {
  if (threads == 1 || spoilt.load(std::memory_order_relaxed)) {
    context.threads = 1;
    return;
  }
  // An arena wider than TBB's workers would make TBB print a warning, and gain nothing.
  const size_t limit =
      tbb::global_control::active_value(tbb::global_control::max_allowed_parallelism);
  threads = static_cast<int32_t>(std::min(static_cast<size_t>(threads), limit));
  const steepest_allocator& memory = context.allocator;
  void* place = memory.allocate(memory.user, alignof(tbb::task_arena), sizeof(tbb::task_arena));
  if (place == nullptr) throw std::bad_alloc();
  tbb::task_arena* arena = nullptr;
  try {
    arena = new (place) tbb::task_arena(threads);
  } catch (...) {
    memory.release(memory.user, place, sizeof(tbb::task_arena));
    throw;
  }
  context.executor.user = arena;
  context.executor.concurrency = concurrency;
  context.executor.parallel_for = run;
  context.destroy_executor = destroy;
  context.threads = threads;
}

}  // namespace steepest
