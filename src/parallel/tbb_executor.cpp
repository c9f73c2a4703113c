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
#include <thread>

#include "parallel/parallel_for.hpp"

namespace steepest {

namespace {

// fork() waits until no call is inside oneTBB, and calls wait for fork(): what oneTBB has locked in
// another thread would stay locked in the child for ever.
class inside_tbb {
 public:
  inside_tbb() {
    for (;; calls.fetch_sub(1)) {
      while (forks.load() != 0) std::this_thread::yield();
      calls.fetch_add(1);
      if (forks.load() == 0) return;
    }
  }
  inside_tbb(const inside_tbb&) = delete;
  inside_tbb& operator=(const inside_tbb&) = delete;
  ~inside_tbb() { calls.fetch_sub(1); }

 private:
  static void before_fork() {
    forks.fetch_add(1);
    while (calls.load() != 0) std::this_thread::yield();
  }
  static void after_fork() { forks.fetch_sub(1); }
  static void in_child() { forks.store(0); }

  static std::atomic<int64_t> calls;
  static std::atomic<int64_t> forks;
  static const int registered;
};

std::atomic<int64_t> inside_tbb::calls = 0;
std::atomic<int64_t> inside_tbb::forks = 0;
// When the library is loaded: no thread can be inside yet.
const int inside_tbb::registered = pthread_atfork(before_fork, after_fork, in_child);

int32_t concurrency(void* user) { return static_cast<tbb::task_arena*>(user)->max_concurrency(); }

steepest_status run(void* user, int64_t tasks, task_body body, void* argument) {
  try {
    const inside_tbb gate;
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
  const inside_tbb gate;
  auto* arena = static_cast<tbb::task_arena*>(context.executor.user);
  // In a forked child the arena's bookkeeping names threads that do not exist: its memory is freed
  // without asking it to end them.
  if (context.fork_generation == fork_generation()) arena->~task_arena();
  context.allocator.release(context.allocator.user, arena, sizeof(tbb::task_arena));
}

}  // namespace

void use_tbb_executor(steepest_context& context, int32_t threads) {
  const inside_tbb gate;
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
