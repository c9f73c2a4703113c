// SPDX-License-Identifier: Apache-2.0
// Times one method of msign in a process of its own and prints one line of JSON: our side of
// peers/msign.py.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "contest.hpp"
#include "msign_support.hpp"

int main(int argc, char** argv) {
  int64_t rows = 768;
  int64_t cols = 3072;
  int threads = 1;
  double seconds = 1;
  bool with_error = false;
  const bench::msign_method* method = &bench::msign_methods[0];
  for (int i = 1; i < argc; i += 2) {
    const std::string option = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (option == "--rows")
      rows = std::atoll(value);
    else if (option == "--cols")
      cols = std::atoll(value);
    else if (option == "--threads")
      threads = std::atoi(value);
    else if (option == "--seconds")
      seconds = std::atof(value);
    else if (option == "--error")
      with_error = std::atoi(value) != 0;
    else if (option == "--method")
      method = bench::method_named(value);
    else
      method = nullptr;
  }
  if (method == nullptr || rows < 1 || cols < 1) {
    std::fprintf(stderr,
                 "usage: msign_process [--rows N] [--cols N] [--method M] [--threads N] "
                 "[--seconds S] [--error 0|1]\n");
    return 2;
  }
  bench::msign_problem problem(*method, rows, cols, threads);

  using clock = std::chrono::steady_clock;
  const auto seconds_for_one = [&] {
    const clock::time_point start = clock::now();
    problem.run();
    return std::chrono::duration<double>(clock::now() - start).count();
  };
  // The first third of the time is warm-up.
  for (double elapsed = 0; elapsed < seconds / 3;) elapsed += seconds_for_one();
  std::vector<double> samples;
  for (double elapsed = 0; elapsed < seconds * 2 / 3 || samples.size() < 3;) {
    samples.push_back(seconds_for_one());
    elapsed += samples.back();
  }
  std::printf("{\"seconds\": %.9g, \"samples\": %zu, \"threads\": %d, \"error\": %.4g, ",
              bench::quantile(samples, 0.5), samples.size(), problem.threads(),
              with_error ? problem.error() : -1.0);
  std::printf("\"isa\": \"%s\", \"build\": \"%s\"}\n",
              steepest_isa_name(steepest_context_isa(problem.context())), steepest_build_info());
  return 0;
}
