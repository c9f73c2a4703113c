// SPDX-License-Identifier: Apache-2.0
// What the benchmark programs have in common: their options, main.
#pragma once

#include <benchmark/benchmark.h>
#include <steepest/steepest.h>

#include <cstring>
#include <string>

#include "library.hpp"

namespace bench {

inline std::string name_of(const char* what, const char* dtype, int64_t count, int threads) {
  return std::string(what) + '/' + dtype + '/' + std::to_string(count) +
         "/threads:" + std::to_string(threads);
}

// `add(quick)` registers the benchmarks. Besides Google Benchmark's options there is --quick.
inline int run_program(int argc, char** argv, void (*add)(bool quick)) {
  bool quick = false;
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--quick") == 0)
      quick = true;
    else
      argv[kept++] = argv[i];
  }
  argc = kept;
  benchmark::AddCustomContext("steepest", steepest_build_info());
  benchmark::AddCustomContext("openblas", openblas_get_config());
  benchmark::AddCustomContext("isa", steepest_isa_name(steepest_context_isa(nullptr)));
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  add(quick);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace bench
