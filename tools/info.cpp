// SPDX-License-Identifier: Apache-2.0
// steepest info: what the library found on this machine, and what it made of it.
#include <sched.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <steepest/steepest.hpp>

#include "command.hpp"
#include "json.hpp"
#include "machine.hpp"
#include "output.hpp"

// OpenBLAS's own.
extern "C" char* openblas_get_config();

namespace tool {

std::string cpu_model() {
  std::ifstream lines("/proc/cpuinfo");
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("model name") || line.starts_with("Model"))
      if (const std::size_t at = line.find(": "); at != std::string::npos)
        return line.substr(at + 2);
  return "unknown";
}

int usable_cores() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
}

namespace {

struct level {
  const char* name;
  std::string state;
};

const char* variable(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

std::string state_of(steepest_isa isa, steepest_isa used) {
  if (isa == used) return "in use";
  steepest::context_options options;
  options.num_threads = 1;
  options.max_isa = isa;
  const auto context = steepest::context::create(options);
  if (!context) return "not available";
  return context.value().isa() == isa ? "available" : "held back by STEEPEST_MAX_ISA";
}

std::string why(steepest_isa used, const std::vector<level>& levels) {
  for (const level& each : levels)
    if (each.state.starts_with("held back"))
      return text("STEEPEST_MAX_ISA is %s", variable("STEEPEST_MAX_ISA"));
  return used == STEEPEST_ISA_GENERIC ? "this CPU or this build has no other"
                                      : "the highest that this CPU and this build have";
}

json gather() {
  const steepest::context context;
  const steepest_isa used = context.isa();
  std::vector<level> levels;
  for (steepest_isa isa = STEEPEST_ISA_GENERIC; isa <= STEEPEST_ISA_ARM64_NEON; ++isa)
    if (const std::string name = steepest_isa_name(isa); name != "unknown isa")
      levels.push_back({steepest_isa_name(isa), state_of(isa, used)});

  json all;
  all["tool"] =
      text("%d.%d.%d", STEEPEST_VERSION_MAJOR, STEEPEST_VERSION_MINOR, STEEPEST_VERSION_PATCH);
  all["library"] = steepest_build_info();
  all["abi"] = steepest_abi_version();
  all["cpu"] = cpu_model();
  all["cores"] = usable_cores();
  all["isa"] = steepest_isa_name(used);
  all["isa_because"] = why(used, levels);
  for (const level& each : levels) all["levels"][each.name] = each.state;
  all["threads"] = context.threads();
  all["threads_because"] =
      variable("STEEPEST_NUM_THREADS") != nullptr
          ? text("STEEPEST_NUM_THREADS is %s", variable("STEEPEST_NUM_THREADS"))
          : "the cores that this process may use";
  all["blas"] = openblas_get_config();
  return all;
}

std::string described(const json& all) {
  const auto word = [&](const char* key) { return all[key].get<std::string>(); };
  std::string lines;
  const auto add = [&](const char* label, const std::string& value) {
    lines += text("%-10s %s\n", label, value.c_str());
  };
  add("tool", word("tool"));
  add("library", word("library") + "; ABI " + std::to_string(all["abi"].get<int>()));
  add("CPU", word("cpu") + ", " + std::to_string(all["cores"].get<int>()) + " cores usable");
  add("ISA level", word("isa") + ": " + word("isa_because"));
  for (const auto& [name, state] : all["levels"].items())
    lines += text("%-10s   %-16s %s\n", "", name.c_str(), state.get<std::string>().c_str());
  add("threads", std::to_string(all["threads"].get<int>()) + ": " + word("threads_because"));
  add("BLAS", word("blas"));
  return lines;
}

}  // namespace

void add_info(CLI::App& program, action& chosen) {
  CLI::App* const command =
      program.add_subcommand("info", "This machine: CPU, instruction-set level, threads, BLAS");
  const auto as_json = std::make_shared<bool>(false);
  command->add_flag("--json", *as_json, "Print JSON");
  command->callback([=, &chosen] {
    chosen = [=] {
      const json all = gather();
      print(*as_json ? dumped(all) : described(all));
      return exit_ok;
    };
  });
}

}  // namespace tool
