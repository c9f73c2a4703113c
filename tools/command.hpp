// SPDX-License-Identifier: Apache-2.0
// What the subcommands have in common: how they are added, how they fail.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>

namespace CLI {
class App;
}

namespace tool {

// What the program exits with; steepest.1 documents them.
enum exit_code {
  exit_ok = 0,
  exit_failed = 1,  // a check failed, or a computation
  exit_usage = 2,   // options, environment variables, combinations that the library refuses
  exit_input = 3,   // a file that cannot be read, or does not hold what it should
  exit_output = 4,  // a result that cannot be written
};

class failure : public std::runtime_error {
 public:
  failure(exit_code code, const std::string& text) : std::runtime_error(text), code_(code) {}
  exit_code code() const { return code_; }

 private:
  exit_code code_;
};

// Each adds its subcommand to the program. When that is chosen, parsing sets `chosen`, which main
// calls with all options known and takes the exit code from.
using action = std::function<exit_code()>;
void add_info(CLI::App& program, action& chosen);
void add_bench(CLI::App& program, action& chosen);
void add_selftest(CLI::App& program, action& chosen);
void add_schedule(CLI::App& program, action& chosen);
void add_simulate(CLI::App& program, action& chosen);
void add_msign(CLI::App& program, action& chosen);

}  // namespace tool
