// SPDX-License-Identifier: Apache-2.0
//
// steepest, the command-line tool: asks the library about this machine, and about a user's own
// matrices, without a line of code. A file per subcommand:
//   info, bench, selftest    this machine
//   schedule, simulate       the theory
//   msign                    a matrix of the user's
// and below them: npy (NumPy's files), input, output, validators.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <new>
#include <sstream>
#include <steepest/steepest.hpp>

#include "command.hpp"
#include "output.hpp"

namespace tool {
namespace {

std::string version() {
  const std::uint32_t v = steepest_version();
  return text("steepest %d.%d.%d (library %u.%u.%u, ABI %u)", STEEPEST_VERSION_MAJOR,
              STEEPEST_VERSION_MINOR, STEEPEST_VERSION_PATCH, v >> 16, v >> 8 & 0xff, v & 0xff,
              steepest_abi_version());
}

// A file opened later must not become standard output. Descriptors open for reading only: what is
// written to them is an error, as it is when they are closed.
void occupy_standard_descriptors() {
  for (int number = 0; number <= 2; ++number)
    if (fcntl(number, F_GETFD) < 0 && open("/dev/null", O_RDONLY) < 0) return;
}

exit_code complain(exit_code code, const std::string& what) {
  std::fprintf(stderr, "steepest: %s\n", what.c_str());
  return code;
}

// The library refuses what was asked of it, or could not do it.
exit_code code_of(steepest_status status) {
  switch (status) {
    case STEEPEST_E_INVALID_ARGUMENT:
    case STEEPEST_E_SHAPE:
    case STEEPEST_E_DTYPE:
    case STEEPEST_E_UNSUPPORTED: return exit_usage;
    default: return exit_failed;
  }
}

exit_code run(int argc, char** argv) {
  CLI::App program("Optimizer-step kernels for CPUs: this machine, schedules, matrices.",
                   "steepest");
  program.set_version_flag("--version", version(), "Print the versions and exit");
  program.require_subcommand(1);
  program.get_formatter()->column_width(32);
  program.option_defaults()->always_capture_default();
  program.footer(
      "steepest COMMAND --help lists a command's options. Exit codes: 0 OK, 1 a check or a\n"
      "computation failed, 2 usage, 3 a file that cannot be used, 4 output that cannot be "
      "written.");
  action chosen;
  add_info(program, chosen);
  add_bench(program, chosen);
  add_selftest(program, chosen);
  add_msign(program, chosen);
  add_schedule(program, chosen);
  add_simulate(program, chosen);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream out;
    std::ostringstream complaint;
    if (program.exit(error, out, complaint) == 0) {
      print(out.str() + (out.str().ends_with('\n') ? "" : "\n"));
      return exit_ok;
    }
    std::string what = complaint.str();
    while (!what.empty() && what.back() == '\n') what.pop_back();
    return complain(exit_usage, what);
  }
  return chosen();
}

}  // namespace
}  // namespace tool

int main(int argc, char** argv) {
  using namespace tool;
  occupy_standard_descriptors();
  try {
    return run(argc, argv);
  } catch (const failure& error) {
    return complain(error.code(), error.what());
  } catch (const steepest::error& error) {
    return complain(code_of(error.status()), error.what());
  } catch (const std::bad_alloc&) {
    return complain(exit_failed, "not enough memory");
  } catch (const std::exception& error) {
    return complain(exit_failed, error.what());
  }
}
