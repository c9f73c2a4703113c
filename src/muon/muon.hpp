// SPDX-License-Identifier: Apache-2.0
// A Muon step on checked arguments: momentum, msign, scale, decay.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/context.hpp"
#include "kernels/muon/muon.hpp"

namespace steepest {

// The s of a scale mode other than EXACT_RMS.
double muon_scale(int32_t mode, double value, double fan_out, double fan_in);

// One tensor; the configs are checked and complete, strides set.
struct muon_job {
  int64_t rows, cols;
  int64_t fan_out, fan_in;  // 0: those of the block
  muon_buffers buffers;     // at element (0, 0)
  const int64_t* blocks;    // or null
  int64_t block_count;      // 1 without blocks
  bool column_blocks;
  const steepest_muon_config* config;
  const steepest_msign_config* msign;
  bool consistent;  // the same bits on every ISA level
};

// Scratch memory for one job.
size_t muon_bytes(const steepest_context& context, const muon_job& job);

// What became of one job. Where status is not OK its tensor is untouched, and `reason` says why.
struct muon_outcome {
  steepest_status status;
  const char* reason;
  steepest_step_stats stats;  // if they were asked for
};

// How much of a list goes to one thread each: small matrices.
struct muon_schedule {
  int64_t small_count = 0;
  size_t small_bytes = 0;  // scratch memory for one job
  size_t large_bytes = 0;

  void add(const steepest_context& context, const muon_job& job);
  // Small matrices by themselves are not worth the bother.
  bool in_parallel(const steepest_context& context) const {
    return small_count > 1 && context.threads > 1;
  }
  size_t bytes(const steepest_context& context) const;
};

// Runs all jobs with rows and cols > 0: large ones on all threads one after the other, then small
// ones on one thread each, those with most operations first, so that the threads end together.
// `memory` has the schedule's bytes, aligned to 64; `order` has `count` elements. Returns INTERNAL
// if the executor failed.
steepest_status muon_run_list(steepest_context& context, const muon_schedule& schedule,
                              const muon_job* jobs, int64_t count, std::byte* memory,
                              int64_t* order, bool with_stats, muon_outcome* outcomes);

// Elements of the gradient that are not finite. `memory` has muon_bytes.
steepest_status muon_nonfinite(steepest_context& context, const muon_job& job, std::byte* memory,
                               int64_t& nonfinite);

}  // namespace steepest
