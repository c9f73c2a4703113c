// SPDX-License-Identifier: Apache-2.0
// The AdamW step against two measures taken in the same process over the same memory: the stream,
// which is what the memory allows, and the scalar loop that reads like the formula.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "contest.hpp"
#include "kernels/adamw/reference.hpp"
#include "memory.hpp"
#include "program.hpp"
#include "stream.hpp"
#include "thread_pool.hpp"

namespace {

// Below this many elements per thread, waking a thread costs more than it saves.
constexpr int64_t stream_part = 1 << 14;

struct workload {
  int64_t tensors, count;  // elements of each tensor
  int threads;
  bool stats;
};

template <class T>
constexpr steepest_dtype dtype_of = sizeof(T) == 4 ? STEEPEST_F32 : STEEPEST_F64;

// The workload's tensors, one after the other in p, g, m and v.
template <class T>
class problem {
 public:
  problem(const workload& w, bench::thread_pool& pool)
      : size_(w), arrays_(w.tensors * w.count * static_cast<int64_t>(sizeof(T)), 4), pool_(pool) {
    pool.run([&](int worker) {
      const bench::range part = bench::part_of(total(), worker, pool.threads(), 16);
      for (int64_t i = part.begin; i < part.end; ++i) {
        p()[i] = T(0.5);
        // Positive, because the stream adds it to v too, which must not become negative.
        g()[i] = T(1e-3) * static_cast<T>(i % 7 + 1);
        m()[i] = 0;
        v()[i] = 0;
      }
    });
    steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
    tensor.count = w.count;
    tensor.param_dtype = tensor.grad_dtype = dtype_of<T>;
    tensor.exp_avg_dtype = tensor.exp_avg_sq_dtype = dtype_of<T>;
    for (int64_t t = 0; t < w.tensors; ++t) {
      tensor.param = p() + t * w.count;
      tensor.grad = g() + t * w.count;
      tensor.exp_avg = m() + t * w.count;
      tensor.exp_avg_sq = v() + t * w.count;
      tensors_.push_back(tensor);
    }
    if (w.stats) stats_.assign(tensors_.size(), STEEPEST_STEP_STATS_INIT);
  }

  void step(steepest_context* context, bool with_stats) {
    ++config_.step;
    bench::check(steepest_adamw_step(context, &config_, tensors_.data(), size_.tensors,
                                     with_stats ? stats_.data() : nullptr));
  }

  void naive() {
    ++config_.step;
    for (int64_t t = 0; t < size_.tensors; ++t) {
      const int64_t at = t * size_.count;
      steepest::reference::adamw<T>(config_, size_.count, p() + at, g() + at, m() + at, v() + at);
    }
  }

  // A list is cut between tensors or within them alike: to the memory it is one array.
  void stream(const bench::stream_variant<T>& variant) {
    const int64_t parts = std::clamp<int64_t>(total() / stream_part, 1, pool_.threads());
    const auto run = [&](int worker) {
      if (worker >= parts) return;
      const auto [begin, end] = bench::part_of(total(), worker, static_cast<int>(parts), 1024);
      variant.run(p() + begin, g() + begin, m() + begin, v() + begin, end - begin);
    };
    if (parts == 1)
      run(0);
    else
      pool_.run(run);
  }

 private:
  int64_t total() const { return size_.tensors * size_.count; }
  T* p() { return arrays_.get<T>(0); }
  T* g() { return arrays_.get<T>(1); }
  T* m() { return arrays_.get<T>(2); }
  T* v() { return arrays_.get<T>(3); }

  workload size_;
  bench::arrays arrays_;
  bench::thread_pool& pool_;
  steepest_adamw_config config_ = STEEPEST_ADAMW_CONFIG_INIT;
  std::vector<steepest_adamw_tensor> tensors_;
  std::vector<steepest_step_stats> stats_;
};

template <class T>
void compare(benchmark::State& state, workload w) {
  const int64_t elements = w.tensors * w.count;
  state.counters["elements"] = static_cast<double>(elements);
  state.counters["tensors"] = static_cast<double>(w.tensors);
  state.counters["threads"] = w.threads;
  // Reads p, g, m, v and writes p, m, v.
  state.counters["bytes"] = static_cast<double>(7 * elements * static_cast<int64_t>(sizeof(T)));
  if (!bench::memory_suffices(4 * elements * static_cast<int64_t>(sizeof(T))))
    return state.SkipWithError("not enough memory");

  bench::thread_pool pool(w.threads);
  problem<T> problem(w, pool);
  const bench::library_context context(w.threads);

  bench::contest contest(w.threads, [&] { problem.step(context.get(), w.stats); });
  if (w.stats) contest.add_rival("without_stats", "", [&] { problem.step(context.get(), false); });
  for (const bench::stream_variant<T>& variant : bench::stream_variants<T>())
    contest.add_rival("stream", variant.name, [&problem, variant] { problem.stream(variant); });
  contest.add_rival("naive", "", [&] { problem.naive(); });
  contest.run(state);
}

template <class T>
void add_case(std::string what, workload w, bool quick) {
  const std::string name = bench::name_of(what.c_str(), sizeof(T) == 4 ? "f32" : "f64",
                                          w.tensors * w.count, w.threads);
  benchmark::RegisterBenchmark(name.c_str(), compare<T>, w)
      ->Iterations(quick ? 5 : 21)
      ->UseManualTime();
}

void add(bool quick) {
  const int all = bench::all_threads();
  const auto add_both = [&](auto element, const char* what, int64_t tensors, int64_t count,
                            bool stats) {
    using T = decltype(element);
    add_case<T>(what, {tensors, count, 1, stats}, quick);
    if (all > 1 && tensors * count >= 1 << 15)
      add_case<T>(what, {tensors, count, all, stats}, quick);
  };
  constexpr int64_t Ki = 1 << 10, Mi = 1 << 20;
  std::vector<int64_t> f32_counts = {64, 64 * Ki, Mi, 16 * Mi, 64 * Mi};
  std::vector<int64_t> f64_counts = {16 * Mi};
  std::vector<int64_t> stats_counts = {64 * Mi};
  if (!quick) {
    f32_counts = {64,      256,    Ki,     4 * Ki,  16 * Ki, 64 * Ki,
                  256 * Ki, Mi,    4 * Mi, 16 * Mi, 64 * Mi, 128 * Mi};
    f64_counts = {64, 64 * Ki, Mi, 16 * Mi, 64 * Mi};
    stats_counts = {64, 64 * Ki, Mi, 16 * Mi, 64 * Mi};
  }
  for (const int64_t count : f32_counts) add_both(float{}, "adamw", 1, count, false);
  add_both(float{}, "adamw_1000_tensors", 1000, 4096, false);
  for (const int64_t count : f64_counts) add_both(double{}, "adamw", 1, count, false);
  for (const int64_t count : stats_counts) add_both(float{}, "adamw_stats", 1, count, true);
}

}  // namespace

int main(int argc, char** argv) { return bench::run_program(argc, argv, add); }
