// SPDX-License-Identifier: Apache-2.0
// The AdamW step against two measures taken in the same process over the same memory: the stream,
// which is what the memory allows, and the scalar loop that reads like the formula.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "contest.hpp"
#include "core/dtype.hpp"
#include "core/half.hpp"
#include "kernels/adamw/reference.hpp"
#include "memory.hpp"
#include "program.hpp"
#include "stream.hpp"
#include "thread_pool.hpp"

namespace {

// Below this many elements per thread, waking a thread costs more than it saves.
constexpr int64_t stream_part = 1 << 14;

// The storage types of param, grad, exp_avg, exp_avg_sq, and the stream over the same bytes.
struct mix {
  const char* name;
  steepest_dtype p, g, m, v;
  std::vector<bench::stream_variant> (*streams)();
};

constexpr steepest_dtype f32 = STEEPEST_F32, f64 = STEEPEST_F64, bf16 = STEEPEST_BF16,
                         f16 = STEEPEST_F16;
using sizes = bench::element_sizes;
constexpr mix mixes[] = {
    {"f32", f32, f32, f32, f32, bench::stream_variants<sizes{4, 4, 4, 4}>},
    {"f64", f64, f64, f64, f64, bench::stream_variants<sizes{8, 8, 8, 8}>},
    {"f32,g:bf16", f32, bf16, f32, f32, bench::stream_variants<sizes{4, 2, 4, 4}>},
    {"f32,g:f16", f32, f16, f32, f32, bench::stream_variants<sizes{4, 2, 4, 4}>},
    {"bf16,m,v:f32", bf16, bf16, f32, f32, bench::stream_variants<sizes{2, 2, 4, 4}>},
    {"f16,m,v:f32", f16, f16, f32, f32, bench::stream_variants<sizes{2, 2, 4, 4}>},
    {"bf16,g,m,v:f32", bf16, f32, f32, f32, bench::stream_variants<sizes{2, 4, 4, 4}>},
    {"bf16,v:f32", bf16, bf16, bf16, f32, bench::stream_variants<sizes{2, 2, 2, 4}>},
    {"bf16", bf16, bf16, bf16, bf16, bench::stream_variants<sizes{2, 2, 2, 2}>},
    {"f16", f16, f16, f16, f16, bench::stream_variants<sizes{2, 2, 2, 2}>},
    {"f32,m,v:bf16", f32, f32, bf16, bf16, bench::stream_variants<sizes{4, 4, 2, 2}>},
};
constexpr const mix& all_f32 = mixes[0];
constexpr const mix& all_f64 = mixes[1];

struct workload {
  const mix* types;
  int64_t tensors, count;  // elements of each tensor
  int threads;
  bool stats;

  int64_t elements() const { return tensors * count; }
  // Reads p, g, m, v and writes p, m, v.
  int64_t bytes() const {
    using steepest::dtype_size;
    return elements() * (2 * (dtype_size(types->p) + dtype_size(types->m) + dtype_size(types->v)) +
                         dtype_size(types->g));
  }
};

// An array of any storage type, from its element `first` on.
struct array {
  char* data;
  steepest_dtype dtype;

  void* at(int64_t first) const { return data + first * steepest::dtype_size(dtype); }
  void set(int64_t i, double value) const {
    const auto narrow = static_cast<float>(value);
    switch (dtype) {
      case f64: *static_cast<double*>(at(i)) = value; break;
      case bf16: *static_cast<steepest::bf16*>(at(i)) = steepest::to_bf16(narrow); break;
      case f16: *static_cast<steepest::f16*>(at(i)) = steepest::to_f16(narrow); break;
      default: *static_cast<float*>(at(i)) = narrow;
    }
  }
};

// The workload's tensors, one after the other in p, g, m and v.
class problem {
 public:
  problem(const workload& w, bench::thread_pool& pool)
      : size_(w), arrays_(w.elements() * steepest::dtype_size(widest(*w.types)), 4), pool_(pool) {
    const mix& t = *w.types;
    p_ = {arrays_.get<char>(0), t.p};
    g_ = {arrays_.get<char>(1), t.g};
    m_ = {arrays_.get<char>(2), t.m};
    v_ = {arrays_.get<char>(3), t.v};
    pool.run([&](int worker) {
      const bench::range part = bench::part_of(w.elements(), worker, pool.threads(), 16);
      for (int64_t i = part.begin; i < part.end; ++i) {
        p_.set(i, 0.5);
        g_.set(i, 1e-3 * static_cast<double>(i % 7 + 1));
        m_.set(i, 0);
        v_.set(i, 0);
      }
    });
    steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
    tensor.count = w.count;
    tensor.param_dtype = t.p;
    tensor.grad_dtype = t.g;
    tensor.exp_avg_dtype = t.m;
    tensor.exp_avg_sq_dtype = t.v;
    for (int64_t i = 0; i < w.tensors; ++i) {
      tensor.param = p_.at(i * w.count);
      tensor.grad = g_.at(i * w.count);
      tensor.exp_avg = m_.at(i * w.count);
      tensor.exp_avg_sq = v_.at(i * w.count);
      tensors_.push_back(tensor);
    }
    if (w.stats) stats_.assign(tensors_.size(), STEEPEST_STEP_STATS_INIT);
  }

  void step(steepest_context* context, bool with_stats) {
    ++config_.step;
    bench::check(steepest_adamw_step(context, &config_, tensors_.data(), size_.tensors,
                                     with_stats ? stats_.data() : nullptr));
  }

  // For f32 and f64 throughout.
  template <class T>
  void naive() {
    ++config_.step;
    for (int64_t i = 0; i < size_.tensors; ++i) {
      const int64_t at = i * size_.count;
      steepest::reference::adamw<T>(config_, size_.count, static_cast<T*>(p_.at(at)),
                                    static_cast<T*>(g_.at(at)), static_cast<T*>(m_.at(at)),
                                    static_cast<T*>(v_.at(at)));
    }
  }

  // A list is cut between tensors or within them alike: to the memory it is one array.
  void stream(const bench::stream_variant& variant) {
    const int64_t parts = std::clamp<int64_t>(size_.elements() / stream_part, 1, pool_.threads());
    const auto run = [&](int worker) {
      if (worker >= parts) return;
      const auto [begin, end] =
          bench::part_of(size_.elements(), worker, static_cast<int>(parts), 2048);
      variant.run(p_.at(begin), g_.at(begin), m_.at(begin), v_.at(begin), end - begin);
    };
    if (parts == 1)
      run(0);
    else
      pool_.run(run);
  }

 private:
  static steepest_dtype widest(const mix& t) {
    steepest_dtype wide = t.p;
    for (const steepest_dtype dtype : {t.g, t.m, t.v})
      if (steepest::dtype_size(dtype) > steepest::dtype_size(wide)) wide = dtype;
    return wide;
  }

  workload size_;
  bench::arrays arrays_;
  bench::thread_pool& pool_;
  array p_ = {}, g_ = {}, m_ = {}, v_ = {};
  steepest_adamw_config config_ = STEEPEST_ADAMW_CONFIG_INIT;
  std::vector<steepest_adamw_tensor> tensors_;
  std::vector<steepest_step_stats> stats_;
};

void compare(benchmark::State& state, workload w) {
  state.counters["elements"] = static_cast<double>(w.elements());
  state.counters["tensors"] = static_cast<double>(w.tensors);
  state.counters["threads"] = w.threads;
  state.counters["bytes"] = static_cast<double>(w.bytes());
  if (!bench::memory_suffices(w.bytes())) return state.SkipWithError("not enough memory");

  bench::thread_pool pool(w.threads);
  problem problem(w, pool);
  const bench::library_context context(w.threads);

  bench::contest contest(w.threads, [&] { problem.step(context.get(), w.stats); });
  if (w.stats) contest.add_rival("without_stats", "", [&] { problem.step(context.get(), false); });
  for (const bench::stream_variant& variant : w.types->streams())
    contest.add_rival("stream", variant.name, [&problem, variant] { problem.stream(variant); });
  if (w.types == &all_f32) contest.add_rival("naive", "", [&] { problem.naive<float>(); });
  if (w.types == &all_f64) contest.add_rival("naive", "", [&] { problem.naive<double>(); });
  contest.run(state);
}

void add_case(const char* what, const workload& w, bool quick) {
  const std::string name = bench::name_of(what, w.types->name, w.elements(), w.threads);
  benchmark::RegisterBenchmark(name.c_str(), compare, w)
      ->Iterations(quick ? 5 : 21)
      ->UseManualTime();
}

void add(bool quick) {
  const int all = bench::all_threads();
  const auto add_both = [&](const mix& types, const char* what, int64_t tensors, int64_t count,
                            bool stats) {
    add_case(what, {&types, tensors, count, 1, stats}, quick);
    if (all > 1 && tensors * count >= 1 << 15)
      add_case(what, {&types, tensors, count, all, stats}, quick);
  };
  constexpr int64_t Ki = 1 << 10, Mi = 1 << 20;
  std::vector<int64_t> f32_counts = {64, 64 * Ki, Mi, 16 * Mi, 64 * Mi};
  std::vector<int64_t> f64_counts = {16 * Mi};
  std::vector<int64_t> mix_counts = {64 * Mi};
  if (!quick) {
    f32_counts = {64,       256, Ki,     4 * Ki,  16 * Ki, 64 * Ki,
                  256 * Ki, Mi,  4 * Mi, 16 * Mi, 64 * Mi, 128 * Mi};
    f64_counts = {64, 64 * Ki, Mi, 16 * Mi, 64 * Mi};
    mix_counts = {64 * Ki, 64 * Mi};
  }
  for (const int64_t count : f32_counts) add_both(all_f32, "adamw", 1, count, false);
  add_both(all_f32, "adamw_1000_tensors", 1000, 4096, false);
  for (const int64_t count : f64_counts) add_both(all_f64, "adamw", 1, count, false);
  for (const mix& types : mixes) {
    if (&types == &all_f32 || &types == &all_f64) continue;
    for (const int64_t count : mix_counts) add_both(types, "adamw", 1, count, false);
  }
  for (const mix& types : mixes) add_both(types, "adamw_stats", 1, 64 * Mi, true);
}

}  // namespace

int main(int argc, char** argv) { return bench::run_program(argc, argv, add); }
