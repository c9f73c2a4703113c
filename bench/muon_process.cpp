// SPDX-License-Identifier: Apache-2.0
// Times a Muon step of a whole model in a process of its own and prints one line of JSON: our side
// of peers/muon.py.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "muon_support.hpp"
#include "process.hpp"

int main(int argc, char** argv) {
  int threads = 1;
  double seconds = 1;
  steepest_dtype compute = STEEPEST_F32;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    const std::string value = argv[i + 1];
    if (option == "--threads")
      threads = std::atoi(argv[i + 1]);
    else if (option == "--seconds")
      seconds = std::atof(argv[i + 1]);
    else if (option == "--compute" && value == "bf16")
      compute = STEEPEST_BF16;
    else if (option != "--compute" || value != "f32")
      threads = 0;
  }
  if (threads < 1 || argc % 2 == 0) {
    std::fprintf(stderr, "usage: muon_process [--compute f32|bf16] [--threads N] [--seconds S]\n");
    return 2;
  }
  bench::muon_problem problem(compute, threads);
  bench::print_result([&] { problem.step(); }, seconds, 1, problem.context(),
                      [&] { return problem.error(); });
  return 0;
}
