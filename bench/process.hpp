// SPDX-License-Identifier: Apache-2.0
// Timing in a process of its own: our counterpart of sample() in peers/alternate.py.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <vector>

#include "contest.hpp"
#include "program.hpp"

namespace bench {

// Prints one line of JSON: the median time of run(), what error() gives afterwards, the library.
// The first third of the time is warm-up.
template <class Run, class Error>
void print_result(Run run, double seconds, std::size_t least_count, const library_context& context,
                  Error error) {
  using clock = std::chrono::steady_clock;
  const auto seconds_for_one = [&] {
    const clock::time_point start = clock::now();
    run();
    return std::chrono::duration<double>(clock::now() - start).count();
  };
  for (double elapsed = 0; elapsed < seconds / 3;) elapsed += seconds_for_one();
  std::vector<double> samples;
  for (double elapsed = 0; elapsed < seconds * 2 / 3 || samples.size() < least_count;) {
    samples.push_back(seconds_for_one());
    elapsed += samples.back();
  }
  std::printf("{\"seconds\": %.9g, \"samples\": %zu, \"threads\": %d, \"error\": %.4g, ",
              quantile(samples, 0.5), samples.size(), context.threads(), error());
  std::printf("\"isa\": \"%s\", \"build\": \"%s\"}\n",
              steepest_isa_name(steepest_context_isa(context.get())), steepest_build_info());
}

}  // namespace bench
