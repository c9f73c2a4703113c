// SPDX-License-Identifier: Apache-2.0
//
// What the user may choose.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace char_lm {

struct options {
  std::vector<std::string> text;  // files; none: /usr/share/common-licenses

  std::int64_t context = 12;
  std::int64_t embedding = 32;
  std::int64_t hidden = 512;
  std::int64_t layers = 2;

  std::string optimizer = "both";  // adamw, muon, or one after the other
  std::int64_t steps = 12000;
  double seconds = 100;  // of one training; 0: no limit
  std::int64_t batch = 256;
  int threads = 0;  // 0: the cores this process may use
  std::uint64_t seed = 1;

  double lr = 4e-3;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double weight_decay = 0.1;
  double momentum = 0.95;  // Muon's
  double clip = 1;         // largest gradient norm
  double dropout = 0.3;

  double temperature = 0.7;
  std::int64_t sample_length = 600;

  bool check_gradients = false;
};

// Returns false when the program should end with `exit_code`: after --help, or a usage error that
// has been explained.
bool parse_options(int argc, char** argv, options& chosen, int& exit_code);

}  // namespace char_lm
