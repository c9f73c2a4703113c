// SPDX-License-Identifier: Apache-2.0
// The gradient norm of one vector, and the loops that only read it.
#pragma once

#include <cstdint>

#include "contest.hpp"
#include "library.hpp"
#include "memory.hpp"
#include "stream.hpp"
#include "thread_pool.hpp"

namespace bench {

class grad_norm_problem {
 public:
  grad_norm_problem(int64_t count, thread_pool& pool)
      : count_(count), arrays_(count * static_cast<int64_t>(sizeof(float)), 1), pool_(pool) {
    pool.run([&](int worker) {
      const range part = part_of(count_, worker, pool_.threads(), 16);
      for (int64_t i = part.begin; i < part.end; ++i)
        data()[i] = 1e-3f * static_cast<float>(i % 7 - 3);
    });
  }

  float* data() const { return arrays_.get<float>(0); }

  void norm(steepest_context* context) const {
    steepest_vector vector = STEEPEST_VECTOR_INIT;
    vector.count = count_;
    vector.data = data();
    double norm = 0;
    check(steepest_grad_norm(context, &vector, 1, &norm, nullptr));
    keep(norm);
  }

  void add_streams(contest& contest) const {
    for (const auto& [name, read] : read_variants<float>())
      contest.add_rival("stream", name, [this, loop = read] {
        pool_.run([&](int worker) {
          const range part = part_of(count_, worker, pool_.threads(), 16);
          keep(loop(data() + part.begin, part.end - part.begin));
        });
      });
  }

 private:
  int64_t count_;
  arrays arrays_;
  thread_pool& pool_;
};

}  // namespace bench
