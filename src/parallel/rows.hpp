// SPDX-License-Identifier: Apache-2.0
// How the rows of a matrix become tasks: groups of rows of a fixed size, so that reductions do not
// depend on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "parallel/tiles.hpp"

namespace steepest {

struct row_groups {
  int64_t rows, rows_each, count;

  row_groups(int64_t row_count, int64_t row_length)
      : rows(row_count),
        rows_each(std::max<int64_t>(1, tile_elements / std::max<int64_t>(1, row_length))),
        count((row_count + rows_each - 1) / rows_each) {}
};

// Calls body(from, to, group) for each group of rows [from, to). A matrix of few groups stays on
// the calling thread.
template <class F>
steepest_status for_each_row_group(steepest_context& context, const row_groups& groups, F body) {
  constexpr int64_t threshold = 8;
  const auto run_group = [&](int64_t group) {
    const int64_t from = group * groups.rows_each;
    body(from, std::min(from + groups.rows_each, groups.rows), group);
  };
  if (groups.count < threshold) {
    for (int64_t group = 0; group < groups.count; ++group) run_group(group);
    return STEEPEST_OK;
  }
  const int64_t tasks = std::min(groups.count, int64_t{8} * context.threads);
  auto run = [&](int64_t task, int32_t) {
    for (int64_t group = groups.count * task / tasks; group < groups.count * (task + 1) / tasks;
         ++group)
      run_group(group);
  };
  return parallel_for(context, tasks, run);
}

}  // namespace steepest
