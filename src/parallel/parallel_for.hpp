// SPDX-License-Identifier: Apache-2.0
// How every operation hands its tiles to the context's executor.
#pragma once

#include <cstdint>

#include "core/context.hpp"

namespace steepest {

using task_body = void (*)(void* argument, int64_t task, int32_t worker);

// Runs body once for each task in [0, tasks), each in its own floating-point environment, and
// returns when all are done. A single task, a context of one thread, a child of fork() and a call
// from within a task stay on the calling thread, and so does one for which oneTBB cannot start a
// thread. Fails (STEEPEST_E_INTERNAL) only if the executor does.
steepest_status parallel_for(steepest_context& context, int64_t tasks, task_body body,
                             void* argument);

template <class F>
steepest_status parallel_for(steepest_context& context, int64_t tasks, F& body) {
  return parallel_for(
      context, tasks,
      [](void* argument, int64_t task, int32_t worker) {
        (*static_cast<F*>(argument))(task, worker);
      },
      &body);
}

// A number that differs between a process and its forked children.
uint64_t fork_generation();

// The cores that this process may use: its affinity mask, lowered by a cgroup CPU quota.
int32_t usable_cores();

// Gives the context the library's own executor, `threads` wide. May throw what oneTBB throws.
void use_tbb_executor(steepest_context& context, int32_t threads);

}  // namespace steepest
