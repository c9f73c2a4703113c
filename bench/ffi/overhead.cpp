// SPDX-License-Identifier: Apache-2.0
// What a call through steepest.hpp costs over the C call, on a tensor of four elements: medians of
// alternating samples in one process. Prints one line of JSON.
#include <steepest/steepest.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

namespace {

constexpr int calls = 20000, rounds = 101;

template <class F>
double nanoseconds_per_call(const F& f) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < calls; ++i) f();
  const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
  return time.count() / calls;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main() {
  steepest::context_options options;
  options.num_threads = 1;
  const steepest::context context(options);
  std::vector<float> w(4, 1), g(4, 0.5f), m(4), v(4);
  steepest::adamw_config config;
  config.lr = 1e-6;

  // Both make the tensor for each call, as a training loop does.
  const auto direct = [&] {
    steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
    tensor.count = static_cast<std::int64_t>(w.size());
    tensor.param = w.data();
    tensor.grad = g.data();
    tensor.exp_avg = m.data();
    tensor.exp_avg_sq = v.data();
    if (steepest_adamw_step(context.get(), &config, &tensor, 1, nullptr) != STEEPEST_OK)
      std::abort();
  };
  const auto wrapped = [&] {
    steepest::adamw_step(context, config, steepest::adamw_tensor(w, g, m, v));
  };
  std::vector<double> base, difference;
  for (int round = 0; round < rounds; ++round) {
    const bool first = round % 2 == 0;
    const double a = first ? nanoseconds_per_call(direct) : 0;
    const double b = nanoseconds_per_call(wrapped);
    const double c = first ? a : nanoseconds_per_call(direct);
    base.push_back(c);
    difference.push_back(b - c);
  }
  std::printf("{\"binding\": \"C++\", \"c_call_ns\": %.1f, \"overhead_ns\": %.1f}\n", median(base),
              median(difference));
}
