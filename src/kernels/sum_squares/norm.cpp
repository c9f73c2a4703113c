// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "kernels/sum_squares/sum_squares.hpp"
#include "parallel/tiles.hpp"

namespace steepest {

steepest_status sum_squares_run(steepest_context& context, const sum_squares_job* jobs,
                                int64_t count, double scale, squares* results) {
  constexpr int64_t parallel_threshold = int64_t{1} << 17;
  return for_each_tile(context, jobs, count, parallel_threshold,
                       [&](const sum_squares_job& job, int64_t from, int64_t to, int64_t tile) {
                         results[tile] = job.kernel(job.data, from, to, scale);
                       });
}

steepest_status norm_run(steepest_context& context, const sum_squares_job* jobs, int64_t count,
                         int64_t tiles, squares* results, norm_result& result) {
  const auto attempt = [&](double scale) {
    const steepest_status status = sum_squares_run(context, jobs, count, scale, results);
    squares total = {0.0, 0};
    if (status == STEEPEST_OK)
      for (int64_t tile = 0; tile < tiles; ++tile) {
        total.sum += results[tile].sum;
        total.nonfinite += results[tile].nonfinite;
      }
    const double root = std::sqrt(total.sum);
    result = {root / scale, total.nonfinite, root, scale};
    return status;
  };
  bool doubles = false;
  for (int64_t i = 0; i < count; ++i) doubles |= jobs[i].is_f64;
  return scaled_attempts(attempt, doubles, result);
}

}  // namespace steepest
