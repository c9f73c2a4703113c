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
  int64_t param_stride, grad_stride, momentum_stride, delta_stride;
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

// Elements of the gradient that are not finite. `memory` has muon_bytes.
steepest_status muon_nonfinite(steepest_context& context, const muon_job& job, std::byte* memory,
                               int64_t& nonfinite);

// `memory` has muon_bytes, aligned to 64. `stats` may be null. Returns INTERNAL if the executor
// failed; what is wrong with the tensor itself, which is then untouched, is in `status` and
// `reason`.
steepest_status muon_run(steepest_context& context, const muon_job& job, std::byte* memory,
                         steepest_step_stats* stats, steepest_status& status, const char*& reason);

}  // namespace steepest
