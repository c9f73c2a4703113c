// SPDX-License-Identifier: Apache-2.0
#include "muon/muon.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "core/arena.hpp"
#include "core/dtype.hpp"
#include "core/narrow.hpp"
#include "diagnostics/signal_to_noise.hpp"
#include "dispatch/tables.hpp"
#include "msign/msign.hpp"
#include "parallel/rows.hpp"

namespace steepest {

namespace {

bool is_f64(const muon_job& job) { return job.buffers.param_dtype == STEEPEST_F64; }

steepest_dtype work_dtype(const muon_job& job) { return is_f64(job) ? STEEPEST_F64 : STEEPEST_F32; }

// A part of the matrix that msign and scale are applied to.
struct block {
  int64_t row, col, rows, cols;
};

// Calls body(block, index) for each block, until it fails.
template <class F>
steepest_status for_each_block(const muon_job& job, F body) {
  int64_t at = 0;
  for (int64_t i = 0; i < job.block_count; ++i) {
    const int64_t length = job.blocks != nullptr ? job.blocks[i]
                           : job.column_blocks   ? job.cols
                                                 : job.rows;
    const block part =
        job.column_blocks ? block{0, at, job.rows, length} : block{at, 0, length, job.cols};
    if (const auto status = body(part, i); status != STEEPEST_OK) return status;
    at += length;
  }
  return STEEPEST_OK;
}

// What is known of one block, and partial sums by its panels.
struct block_work {
  block part;
  msign_result result;
  double scale;
  muon_gradient_sums* gradient;  // by strips of rows
  squares* u;
  double* param;  // along the longer side
  double* o;
  int64_t strips, longer;

  block_work(arena& memory, const block& of)
      : part(of), result(), scale(0), strips(panels(of.rows)),
        longer(panels(std::max(of.rows, of.cols))) {
    gradient = memory.take<muon_gradient_sums>(strips);
    u = memory.take<squares>(strips);
    param = memory.take<double>(longer);
    o = memory.take<double>(longer);
  }

 private:
  static int64_t panels(int64_t length) { return (length + least_panel - 1) / least_panel; }
};

// A failure leaves the whole tensor as it was: with several blocks every O waits for the others.
bool o_waits(const muon_job& job) { return job.block_count > 1; }

msign_plan plan_of(const muon_job& job, const block& part) {
  msign_plan plan =
      msign_plan_for(*job.msign, work_dtype(job), part.rows, part.cols, job.consistent);
  plan.tiles = !o_waits(job);
  plan.o_norm = job.config->scale_mode == STEEPEST_SCALE_EXACT_RMS;
  return plan;
}

struct scratch {
  block_work* blocks;
  std::byte* o;
  squares* partial;  // of the whole
  std::byte* msign;
  size_t msign_each;
  bool in_parallel;  // small blocks, heads for example: one thread each

  scratch(arena& memory, const steepest_context& context, const muon_job& job) {
    blocks = memory.take<block_work>(job.block_count);
    msign_each = 0;
    in_parallel = job.block_count > 1 && context.threads > 1 && !is_small(job.rows, job.cols);
    for_each_block(job, [&](const block& part, int64_t i) {
      const block_work work(memory, part);
      if (blocks != nullptr) blocks[i] = work;
      msign_each =
          std::max(msign_each, msign_bytes(context, plan_of(job, part), part.rows, part.cols));
      in_parallel &= is_small(part.rows, part.cols);
      return STEEPEST_OK;
    });
    o = memory.take<std::byte>(o_waits(job) ? job.rows * job.cols * dtype_size(work_dtype(job))
                                            : 0);
    partial = memory.take<squares>(row_groups(job.rows, job.cols).count);
    const int64_t at_once = in_parallel ? context.threads : 1;
    msign = memory.take<std::byte>(at_once * static_cast<int64_t>(msign_each));
  }
};

void* at(const void* base, steepest_dtype dtype, int64_t element) {
  return base == nullptr
             ? nullptr
             : static_cast<std::byte*>(const_cast<void*>(base)) + element * dtype_size(dtype);
}

muon_buffers piece(const muon_buffers& whole, int64_t row, int64_t col) {
  muon_buffers b = whole;
  b.index += row * b.pitch + col;
  b.param = at(b.param, b.param_dtype, row * b.param_stride + col);
  b.grad = at(b.grad, b.grad_dtype, row * b.grad_stride + col);
  if (!is_q8(b.momentum_dtype))
    b.momentum = at(b.momentum, b.momentum_dtype, row * b.momentum_stride + col);
  b.delta = at(b.delta, b.delta_dtype, row * b.delta_stride + col);
  if (b.residual != nullptr)
    b.residual = static_cast<std::byte*>(b.residual) +
                 (row * b.param_stride + col) * residual_size(b.residual_kind);
  b.param_copy = at(b.param_copy, b.param_copy_dtype, row * b.param_copy_stride + col);
  return b;
}

muon_constants constants_of(const steepest_muon_config& config) {
  const double mu = config.momentum;
  const double take = config.momentum_kind == STEEPEST_MOMENTUM_EMA ? 1 - mu : 1;
  const bool nesterov = (config.flags & STEEPEST_MUON_NESTEROV) != 0;
  const double sign = (config.flags & STEEPEST_MUON_MAXIMIZE) != 0 ? -1 : 1;
  return {sign * config.grad_scale,
          mu,
          take,
          nesterov ? mu : 1,
          nesterov ? take : 0,
          config.lr * config.weight_decay,
          0,  // per block
          (config.flags & STEEPEST_MUON_CAUTIOUS_DECAY) != 0,
          (config.flags & STEEPEST_MUON_STOCHASTIC_ROUNDING) != 0,
          config.seed,
          config.step};
}

}  // namespace

double muon_scale(int32_t mode, double value, double fan_out, double fan_in) {
  switch (mode) {
    case STEEPEST_SCALE_MATCH_RMS: return value * std::sqrt(std::max(fan_out, fan_in));
    case STEEPEST_SCALE_SQRT_MAX1_OUT_IN: return std::sqrt(std::max(1.0, fan_out / fan_in));
    case STEEPEST_SCALE_SQRT_OUT_IN: return std::sqrt(fan_out / fan_in);
    case STEEPEST_SCALE_SQRT_MAX: return std::sqrt(std::max(fan_out, fan_in));
    default: return 1;
  }
}

namespace {

void prefetch(const void* from, steepest_dtype dtype, int64_t stride, int64_t rows, int64_t cols) {
  const int64_t size = dtype_size(dtype);
  linalg::fetch(from, cols * size, stride * size, rows);
}

void prefetch_momentum(const muon_buffers& b, int64_t rows, int64_t cols) {
  if (is_q8(b.momentum_dtype))
    linalg::fetch(static_cast<const std::byte*>(b.momentum) + b.index, cols, b.pitch, rows);
  else
    prefetch(b.momentum, b.momentum_dtype, b.momentum_stride, rows, cols);
}

const muon_set& kernels_of(const steepest_context& context, const muon_job& job) {
  return job.consistent ? context.tables->muon.exact : context.tables->muon.fast;
}

// One block of a tensor: u tile by tile for msign, and the step from the tiles of O.
class block_step final : public msign_source, public msign_target {
 public:
  block_step(const steepest_context& context, const muon_job& job, block_work& work,
             bool with_stats)
      : msign_source(work_dtype(job)), job_(job), work_(work), with_stats_(with_stats),
        buffers_(piece(job.buffers, work.part.row, work.part.col)),
        constants_(constants_of(*job.config)),
        tall_(linalg::is_tall(work.part.rows, work.part.cols)) {
    const muon_set& set = kernels_of(context, job);
    kernels_ = is_f64(job) ? set.f64 : set.f32;
    const sum_squares_table& squares_of = context.tables->sum_squares;
    squares_ = (job.consistent ? squares_of.exact : squares_of.fast).of(dtype);
  }

  void measure(double scale) override {
    measured_with_ = scale;
    measuring_ = true;
    std::fill_n(work_.gradient, work_.strips, muon_gradient_sums{0.0, 0.0, 0});
    std::fill_n(work_.u, work_.strips, squares{0.0, 0});
  }

  norm_result measured() override {
    measuring_ = false;
    squares total = {0.0, 0};
    for (int64_t i = 0; i < work_.strips; ++i) {
      total.sum += work_.u[i].sum;
      total.nonfinite += work_.u[i].nonfinite;
    }
    const double root = std::sqrt(total.sum);
    return {root / measured_with_, total.nonfinite, root, measured_with_};
  }

  void load(const linalg::tile_part& part, void* to, int64_t stride) override {
    const int64_t strip = part.row / least_panel;
    kernels_.blend(constants_, piece(buffers_, part.row, part.col), {part.rows, part.cols, stride},
                   to, measuring_ && with_stats_ ? work_.gradient + strip : nullptr);
    if (!measuring_) return;
    const squares one = squares_(to, 0, part.rows * stride, measured_with_);
    work_.u[strip].sum += one.sum;
    work_.u[strip].nonfinite += one.nonfinite;
  }

  void expect(const linalg::tile_part& part) const override {
    const muon_buffers b = piece(buffers_, part.row, part.col);
    prefetch(b.grad, b.grad_dtype, b.grad_stride, part.rows, part.cols);
    prefetch_momentum(b, part.rows, part.cols);
  }

  void begin(double norm) override {
    const steepest_muon_config& config = *job_.config;
    const auto rows = static_cast<double>(work_.part.rows);
    const auto cols = static_cast<double>(work_.part.cols);
    const double rms = norm / std::sqrt(rows * cols);
    const double scale = config.scale_mode != STEEPEST_SCALE_EXACT_RMS
                             ? muon_scale(config.scale_mode, config.scale_value,
                                          job_.fan_out ? static_cast<double>(job_.fan_out) : rows,
                                          job_.fan_in ? static_cast<double>(job_.fan_in) : cols)
                         : rms > 0 ? config.scale_value / rms
                                   : 0;
    constants_.rate = config.lr * scale;
    work_.scale = scale;
    std::fill_n(work_.param, work_.longer, 0.0);
    std::fill_n(work_.o, work_.longer, 0.0);
  }

  void expect(const linalg::tile_part& part, int64_t call, int64_t calls) override {
    const int64_t from = part.rows * call / calls;
    const int64_t rows = part.rows * (call + 1) / calls - from;
    const muon_buffers b = piece(buffers_, part.row + from, part.col);
    prefetch(b.param, b.param_dtype, b.param_stride, rows, part.cols);
    if (is_q8(b.momentum_dtype)) return;  // encode_momentum's
    prefetch(b.grad, b.grad_dtype, b.grad_stride, rows, part.cols);
    prefetch_momentum(b, rows, part.cols);
  }

  void store(const linalg::tile_part& part, const void* from, int64_t stride) override {
    if (!with_stats_)
      return kernels_.apply(constants_, piece(buffers_, part.row, part.col),
                            {part.rows, part.cols, stride}, from, nullptr);
    // Sums are for one panel each.
    for (int64_t col = 0; col < part.cols; col += least_panel) {
      const int64_t panel = tall_ ? part.row / least_panel : (part.col + col) / least_panel;
      const int64_t cols = std::min(least_panel, part.cols - col);
      const void* const o = at(from, dtype, col);
      kernels_.apply(constants_, piece(buffers_, part.row, part.col + col),
                     {part.rows, cols, stride}, o, work_.param + panel);
      for (int64_t row = 0; row < part.rows; ++row)
        work_.o[panel] += squares_(o, row * stride, row * stride + cols, 1.0).sum;
    }
  }

 private:
  const muon_job& job_;
  block_work& work_;
  const bool with_stats_;
  const muon_buffers buffers_;
  muon_constants constants_;
  const bool tall_;
  muon_kernels kernels_ = {};
  sum_squares_kernel squares_ = nullptr;
  double measured_with_ = 1;
  bool measuring_ = false;
};

// The same from an O in memory.
template <class T>
steepest_status store_all(steepest_context& context, const linalg::matrix<const T>& o,
                          block_step& step) {
  return linalg::store<T>(
      context, o,
      {{nullptr, o.rows, o.cols, 0},
       &step,
       nullptr,
       [](void* self, const linalg::tile_part& part, const T* from, int64_t stride) {
         static_cast<block_step*>(self)->store(part, from, stride);
       }});
}

// 8-bit codes: their blocks are made of consecutive elements, which tiles of O are not, so they
// wait for the whole O. Gradient and codes are read once more instead of keeping floats between.
steepest_status encode_momentum(steepest_context& context, const muon_job& job) {
  const struct { int64_t count, first_tile; } codes = {job.rows * job.cols, 0};
  static_assert(tile_elements % 256 == 0, "whole blocks");
  constexpr int64_t parallel_threshold = int64_t{1} << 16;
  const muon_constants constants = constants_of(*job.config);
  const auto encode = kernels_of(context, job).f32.encode;
  return for_each_tile(context, &codes, 1, parallel_threshold,
                       [&](const auto&, int64_t from, int64_t to, int64_t) {
                         encode(constants, job.buffers, from, to);
                       });
}

}  // namespace

size_t muon_bytes(const steepest_context& context, const muon_job& job) {
  arena counter;
  const scratch unused(counter, context, job);
  return counter.used();
}

steepest_status muon_nonfinite(steepest_context& context, const muon_job& job, std::byte* memory,
                               int64_t& nonfinite) {
  arena slices(memory);
  const scratch s(slices, context, job);
  norm_result norm = {};
  const stored_matrix grad = {const_cast<void*>(job.buffers.grad), job.buffers.grad_stride,
                              job.buffers.grad_dtype};
  const auto status = matrix_norm(context, job.rows, job.cols, grad, false, s.partial, norm);
  nonfinite = norm.nonfinite;
  return status;
}

namespace {

// `memory` has muon_bytes. Returns INTERNAL if the executor failed; what is wrong with the tensor
// itself is in `status` and `reason`.
steepest_status muon_run(steepest_context& context, const muon_job& job, std::byte* memory,
                         steepest_step_stats* stats, steepest_status& status, const char*& reason) {
  arena slices(memory);
  const scratch s(slices, context, job);
  const steepest_dtype dtype = work_dtype(job);
  const auto o_of = [&](const block& part) {
    return stored_matrix{at(s.o, dtype, part.row * job.cols + part.col), job.cols, dtype};
  };
  // Runs body(work, memory) for every block.
  const auto for_blocks = [&](auto body) {
    auto run = [&](int64_t i, int32_t worker) {
      body(s.blocks[i], s.msign + static_cast<size_t>(worker) * s.msign_each);
    };
    if (s.in_parallel) return parallel_for(context, job.block_count, run);
    for (int64_t i = 0; i < job.block_count; ++i) run(i, 0);
    return STEEPEST_OK;
  };
  const bool with_stats = stats != nullptr;

  // O of every block; a single one is stepped with at once.
  if (for_blocks([&](block_work& work, std::byte* msign_memory) {
        const block& part = work.part;
        block_step step(context, job, work, with_stats);
        msign_run(context, plan_of(job, part), part.rows, part.cols, {{}, &step},
                  {o_of(part), o_waits(job) ? nullptr : &step}, msign_memory, false, work.result);
      }) != STEEPEST_OK)
    return STEEPEST_E_INTERNAL;
  status = STEEPEST_OK;
  muon_gradient_sums gradient = {0.0, 0.0, 0};
  for (int64_t i = 0; i < job.block_count; ++i) {
    const block_work& work = s.blocks[i];
    if (status == STEEPEST_OK) {
      status = work.result.status;
      reason = work.result.reason;
    }
    for (int64_t j = 0; j < work.strips; ++j) {
      gradient.grad += work.gradient[j].grad;
      gradient.momentum += work.gradient[j].momentum;
      gradient.nonfinite += work.gradient[j].nonfinite;
    }
  }
  if (with_stats) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    *stats = {0, status, 0, nan, nan, nan, nan, nan, nan, gradient.nonfinite};
  }
  if (status != STEEPEST_OK) return status == STEEPEST_E_INTERNAL ? status : STEEPEST_OK;

  std::atomic<steepest_status> executed = STEEPEST_OK;
  if (o_waits(job)) {
    if (for_blocks([&](block_work& work, std::byte*) {
          const block& part = work.part;
          const stored_matrix o = o_of(part);
          block_step step(context, job, work, with_stats);
          step.begin(work.result.o_norm);
          const auto stored =
              dtype == STEEPEST_F64
                  ? store_all<double>(
                        context,
                        {static_cast<const double*>(o.data), part.rows, part.cols, o.stride}, step)
                  : store_all<float>(
                        context,
                        {static_cast<const float*>(o.data), part.rows, part.cols, o.stride}, step);
          if (stored != STEEPEST_OK) executed = stored;
        }) != STEEPEST_OK)
      return STEEPEST_E_INTERNAL;
  }
  if (executed == STEEPEST_OK && is_q8(job.buffers.momentum_dtype))
    executed = encode_momentum(context, job);
  if (executed != STEEPEST_OK || !with_stats) return executed;

  double param_squares = 0;
  double update_squares = 0;
  for (int64_t i = 0; i < job.block_count; ++i) {
    const block_work& work = s.blocks[i];
    double o_squares = 0;
    for (int64_t j = 0; j < work.longer; ++j) {
      param_squares += work.param[j];
      o_squares += work.o[j];
    }
    update_squares += work.scale * work.scale * o_squares;
  }
  const steepest_muon_config& config = *job.config;
  const auto elements = static_cast<double>(job.rows) * static_cast<double>(job.cols);
  const bool ema = config.momentum_kind == STEEPEST_MOMENTUM_EMA;
  const double correction =
      (ema ? 1 : 1 - config.momentum) / one_minus_power(config.momentum, config.step);
  stats->update_rms = std::sqrt(update_squares / elements);
  stats->grad_rms = std::sqrt(gradient.grad / elements);
  stats->momentum_rms = std::sqrt(gradient.momentum / elements) * correction;
  stats->param_rms = std::sqrt(param_squares / elements);
  stats->snr_momentum =
      snr_from_momentum(stats->momentum_rms, stats->grad_rms, config.momentum, config.step);
  return STEEPEST_OK;
}

}  // namespace

namespace {

// About as many as msign of the job takes, but for a factor that all have.
double operations(const muon_job& job) {
  const auto n = static_cast<double>(std::min(job.rows, job.cols));
  const auto m = static_cast<double>(std::max(job.rows, job.cols));
  return n * n * (m + n);
}

}  // namespace

void muon_schedule::add(const steepest_context& context, const muon_job& job) {
  const size_t bytes = muon_bytes(context, job);
  const bool small = is_small(job.rows, job.cols);
  small_count += small;
  size_t& most = small ? small_bytes : large_bytes;
  most = std::max(most, bytes);
}

size_t muon_schedule::bytes(const steepest_context& context) const {
  const auto at_once = static_cast<size_t>(in_parallel(context) ? context.threads : 1);
  return std::max(large_bytes, at_once * small_bytes);
}

steepest_status muon_run_list(steepest_context& context, const muon_schedule& schedule,
                              const muon_job* jobs, int64_t count, std::byte* memory,
                              int64_t* order, bool with_stats, muon_outcome* outcomes) {
  const auto run = [&](int64_t i, std::byte* scratch_memory) {
    muon_outcome& outcome = outcomes[i];
    if (jobs[i].rows == 0 || jobs[i].cols == 0) return;
    const auto status =
        muon_run(context, jobs[i], scratch_memory, with_stats ? &outcome.stats : nullptr,
                 outcome.status, outcome.reason);
    if (status != STEEPEST_OK) outcome.status = status;
  };
  const bool in_parallel = schedule.in_parallel(context);
  const auto alone = [&](int64_t i) { return in_parallel && is_small(jobs[i].rows, jobs[i].cols); };
  for (int64_t i = 0; i < count; ++i)
    if (!alone(i)) run(i, memory);
  if (in_parallel) {
    int64_t* end = order;
    for (int64_t i = 0; i < count; ++i)
      if (alone(i)) *end++ = i;
    std::sort(order, end, [&](int64_t a, int64_t b) {
      const double first = operations(jobs[a]);
      const double second = operations(jobs[b]);
      return first != second ? first > second : a < b;
    });
    // In this order whatever the order in which the executor takes its tasks.
    std::atomic<int64_t> next = 0;
    auto small = [&](int64_t, int32_t worker) {
      const int64_t turn = next.fetch_add(1, std::memory_order_relaxed);
      if (turn < end - order)
        run(order[turn], memory + static_cast<size_t>(worker) * schedule.small_bytes);
    };
    if (const auto status = parallel_for(context, end - order, small); status != STEEPEST_OK)
      return status;
  }
  for (int64_t i = 0; i < count; ++i)
    if (outcomes[i].status == STEEPEST_E_INTERNAL) return STEEPEST_E_INTERNAL;
  return STEEPEST_OK;
}

}  // namespace steepest
