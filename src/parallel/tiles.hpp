// SPDX-License-Identifier: Apache-2.0
// How a call on a list of arrays becomes tasks: every array is cut into tiles of a fixed size, so
// that reductions do not depend on the number of threads; neighbouring tiles, also of different
// arrays, form a task.
#pragma once

#include <algorithm>
#include <cstdint>

#include "parallel/parallel_for.hpp"

namespace steepest {

// 16 Ki elements: some 10 us of an AdamW step on one core. Large enough to hide the hand-out of a
// task, small enough to share a 64 Ki tensor among four cores.
inline constexpr int64_t tile_elements = int64_t{1} << 14;

constexpr int64_t tile_count(int64_t elements) {
  return elements / tile_elements + (elements % tile_elements != 0);
}

// Calls body(job, from, to, tile) for each tile [from, to) of each job; `tile` counts over all
// jobs. Job has `count` and `first_tile`, the sum of the tile counts before it. A call of fewer
// than `threshold` elements stays on the calling thread, where it costs less than waking another.
template <class Job, class F>
steepest_status for_each_tile(steepest_context& context, const Job* jobs, int64_t count,
                              int64_t threshold, F body) {
  if (count == 0) return STEEPEST_OK;
  const int64_t tiles = jobs[count - 1].first_tile + tile_count(jobs[count - 1].count);
  if (tiles == 0) return STEEPEST_OK;
  int64_t elements = 0;
  for (int64_t i = 0; i < count; ++i) elements += jobs[i].count;
  // Several tasks per thread, for balance, but no more.
  const int64_t tasks = elements < threshold ? 1 : std::min(tiles, int64_t{8} * context.threads);
  auto run = [&](int64_t task, int32_t) {
    const int64_t remainder = tiles % tasks;
    const int64_t begin = tiles / tasks * task + std::min(task, remainder);
    const int64_t end = begin + tiles / tasks + (task < remainder);
    const auto after = [](int64_t tile, const Job& job) { return tile < job.first_tile; };
    const Job* job = std::upper_bound(jobs, jobs + count, begin, after) - 1;
    for (int64_t tile = begin; tile < end; ++tile) {
      while (tile - job->first_tile >= tile_count(job->count)) ++job;
      const int64_t from = (tile - job->first_tile) * tile_elements;
      body(*job, from, std::min(from + tile_elements, job->count), tile);
    }
  };
  return parallel_for(context, tasks, run);
}

}  // namespace steepest
