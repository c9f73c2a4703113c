// SPDX-License-Identifier: Apache-2.0
// AdamW steps over tensors of any storage types, and the stream over the same bytes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/dtype.hpp"
#include "core/half.hpp"
#include "core/narrow.hpp"
#include "kernels/adamw/reference.hpp"
#include "library.hpp"
#include "memory.hpp"
#include "stream.hpp"
#include "thread_pool.hpp"

namespace bench {

// Below this many elements per thread, waking a thread costs more than it saves.
inline constexpr int64_t stream_part = 1 << 14;

// The storage types of param, grad, exp_avg, exp_avg_sq, and the stream over the same bytes: those
// of a residual count with p. What a copy of the parameters and the scales of 8-bit blocks take is
// added to p and to nothing.
struct adamw_mix {
  const char* name;
  steepest_dtype p, g, m, v;
  std::vector<stream_variant> (*streams)();
  int32_t residual = STEEPEST_RESIDUAL_NONE;
  bool stochastic = false;
  bool copies = false;  // to bf16
};

namespace types {
inline constexpr steepest_dtype f32 = STEEPEST_F32, f64 = STEEPEST_F64, bf16 = STEEPEST_BF16,
                                f16 = STEEPEST_F16;
template <int p, int g, int m, int v>
std::vector<stream_variant> streams() {
  return stream_variants<element_sizes{p, g, m, v}>();
}
// Those that `steepest bench` shows. Each stream takes long to compile: the others are adamw.cpp's.
inline constexpr adamw_mix usual_mixes[] = {
    {"f32", f32, f32, f32, f32, streams<4, 4, 4, 4>},
    {"f64", f64, f64, f64, f64, streams<8, 8, 8, 8>},
    {"bf16,m,v:f32", bf16, bf16, f32, f32, streams<2, 2, 4, 4>},
    {"bf16", bf16, bf16, bf16, bf16, streams<2, 2, 2, 2>},
};
}  // namespace types
using types::usual_mixes;
inline constexpr const adamw_mix& all_f32 = usual_mixes[0];
inline constexpr const adamw_mix& all_f64 = usual_mixes[1];

struct adamw_workload {
  const adamw_mix* types;
  int64_t tensors, count;  // elements of each tensor
  int threads;
  bool stats;

  int64_t elements() const { return tensors * count; }
  // Reads p, g, m, v and writes p, m, v.
  int64_t bytes() const {
    return elements() * (2 * (size_of(types->p) + size_of(types->m) + size_of(types->v) +
                              (types->residual != STEEPEST_RESIDUAL_NONE ? 2 : 0)) +
                         size_of(types->g) + (types->copies ? 2 : 0)) +
           2 * (scale_bytes(types->m) + scale_bytes(types->v));
  }
  int64_t scale_bytes(steepest_dtype dtype) const {
    if (!steepest::is_q8(dtype)) return 0;
    return steepest::q8_blocks(dtype, elements()) * steepest::q8_scale_size(dtype);
  }
  static int64_t size_of(steepest_dtype dtype) {
    return int64_t{1} << steepest::dtype_shift(dtype);
  }
};

// An array of any storage type, from its element `first` on.
struct typed_array {
  char* data;
  steepest_dtype dtype;

  void* at(int64_t first) const { return data + first * adamw_workload::size_of(dtype); }
  void set(int64_t i, double value) const {
    const auto narrow = static_cast<float>(value);
    switch (dtype) {
      case STEEPEST_F64: *static_cast<double*>(at(i)) = value; break;
      case STEEPEST_BF16: *static_cast<steepest::bf16*>(at(i)) = steepest::to_bf16(narrow); break;
      case STEEPEST_F16: *static_cast<steepest::f16*>(at(i)) = steepest::to_f16(narrow); break;
      case STEEPEST_Q8_DYNAMIC:
      case STEEPEST_Q8_COMPANDED: *static_cast<uint8_t*>(at(i)) = 0; break;
      default: *static_cast<float*>(at(i)) = narrow;
    }
  }
};

// The workload's tensors, one after the other in p, g, m and v.
class adamw_problem {
 public:
  adamw_problem(const adamw_workload& w, thread_pool& pool)
      : size_(w), arrays_(w.elements() * adamw_workload::size_of(widest(*w.types)), 4),
        narrow_(has_narrow(*w.types) ? w.elements() * 2 : 1, 4), pool_(pool) {
    const adamw_mix& t = *w.types;
    p_ = {arrays_.get<char>(0), t.p};
    g_ = {arrays_.get<char>(1), t.g};
    m_ = {arrays_.get<char>(2), t.m};
    v_ = {arrays_.get<char>(3), t.v};
    pool.run([&](int worker) {
      const range part = part_of(w.elements(), worker, pool.threads(), 16);
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
    tensor.residual_kind = t.residual;
    if (t.stochastic) config_.flags |= STEEPEST_ADAMW_STOCHASTIC_ROUNDING;
    for (int64_t i = 0; i < w.tensors; ++i) {
      tensor.param = p_.at(i * w.count);
      tensor.grad = g_.at(i * w.count);
      tensor.exp_avg = m_.at(i * w.count);
      tensor.exp_avg_sq = v_.at(i * w.count);
      if (has_narrow(t)) {
        // Whole blocks: a narrow workload is one tensor.
        tensor.residual = narrow_.get<char>(0);
        if (t.copies) tensor.param_copy = narrow_.get<char>(1);
        tensor.exp_avg_scales = narrow_.get<char>(2);
        tensor.exp_avg_sq_scales = narrow_.get<char>(3);
      }
      tensors_.push_back(tensor);
    }
    if (w.stats) stats_.assign(tensors_.size(), STEEPEST_STEP_STATS_INIT);
  }

  void step(steepest_context* context, bool with_stats) {
    ++config_.step;
    check(steepest_adamw_step(context, &config_, tensors_.data(), size_.tensors,
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
  void stream(const stream_variant& variant) {
    const int64_t parts = std::clamp<int64_t>(size_.elements() / stream_part, 1, pool_.threads());
    const auto run = [&](int worker) {
      if (worker >= parts) return;
      const auto [begin, end] = part_of(size_.elements(), worker, static_cast<int>(parts), 2048);
      variant.run(p_.at(begin), g_.at(begin), m_.at(begin), v_.at(begin), end - begin);
    };
    if (parts == 1)
      run(0);
    else
      pool_.run(run);
  }

 private:
  static steepest_dtype widest(const adamw_mix& t) {
    steepest_dtype wide = t.p;
    for (const steepest_dtype dtype : {t.g, t.m, t.v})
      if (adamw_workload::size_of(dtype) > adamw_workload::size_of(wide)) wide = dtype;
    // The stream's words for p and the residual.
    return t.residual != STEEPEST_RESIDUAL_NONE && wide != STEEPEST_F64 ? STEEPEST_F32 : wide;
  }
  static bool has_narrow(const adamw_mix& t) {
    return t.residual != STEEPEST_RESIDUAL_NONE || t.copies || steepest::is_q8(t.m);
  }

  adamw_workload size_;
  arrays arrays_;
  arrays narrow_;  // residual, copy, scales
  thread_pool& pool_;
  typed_array p_ = {}, g_ = {}, m_ = {}, v_ = {};
  steepest_adamw_config config_ = STEEPEST_ADAMW_CONFIG_INIT;
  std::vector<steepest_adamw_tensor> tensors_;
  std::vector<steepest_step_stats> stats_;
};

}  // namespace bench
