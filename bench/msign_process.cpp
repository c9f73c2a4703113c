// SPDX-License-Identifier: Apache-2.0
// Times one method of msign in a process of its own and prints one line of JSON: our side of
// peers/msign.py.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "msign_support.hpp"
#include "process.hpp"

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
  bench::print_result([&] { problem.run(); }, seconds, 3, problem.context(),
                      [&] { return with_error ? problem.error() : -1.0; });
  return 0;
}
