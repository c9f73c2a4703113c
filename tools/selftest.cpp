// SPDX-License-Identifier: Apache-2.0
// steepest selftest: the library on this machine against the oracles of its tests, on every level.
#include "selftest.hpp"

#include <CLI/CLI.hpp>
#include <chrono>
#include <cmath>
#include <memory>
#include <steepest/steepest.hpp>

#include "command.hpp"
#include "json.hpp"
#include "output.hpp"

namespace tool {

std::vector<steepest_isa> chosen_levels() {
  std::vector<steepest_isa> levels;
  for (const steepest_isa isa : steepest_test::levels())
    if (steepest_context_isa(context_of(isa, 1).get()) == isa) levels.push_back(isa);
  return levels;
}

void add_theory_checks(std::vector<check>& checks) {
  const std::string everywhere = "no level";
  checks.push_back(
      {everywhere, "best schedule: its bound as published, and as the sum gives it", [] {
         double worst = 0;
         for (const auto& [steps, published] :
              {std::pair(10, .57801), std::pair(100, .20011), std::pair(1000, .06332)}) {
           const steepest::optimal_schedule best = steepest::schedule_optimal(steps, 1, 1.0);
           const double bound = steepest::schedule_bound(best.lr, 1, 1.0);
           worst =
               worse(worst, worse(std::fabs(best.bound - published), std::fabs(bound - published)));
         }
         return verdict{worst <= 0.51e-5, text("off %.1e, allowed 5.1e-06", worst)};
       }});
  checks.push_back(
      {everywhere, "update RMS of Adam and its inverse", [] {
         double worst = std::fabs(steepest::adam_update_rms(0.9, 0, 0) - std::sqrt(1.0 / 19));
         for (const double snr : {.01, .25, 4.0}) {
           const double rms = steepest::adam_update_rms(0.9, snr, 100);
           worst = worse(worst, std::fabs(steepest::snr_from_update_rms(rms, 0.9, 100) - snr));
         }
         return verdict{worst <= 1e-12, text("off %.1e, allowed 1e-12", worst)};
       }});
}

namespace {

struct outcome {
  const tool::check* check;
  verdict result;
};

verdict judged(const check& one) {
  try {
    return one.run();
  } catch (const std::exception& error) {
    return {false, error.what()};
  }
}

std::string described(const std::vector<outcome>& outcomes, double seconds) {
  const style look = style::of_output();
  std::string lines;
  int failed = 0;
  for (const auto& [check, result] : outcomes) {
    failed += !result.passed;
    lines += text("%s%-6s%s %-16s %-58s %s\n", result.passed ? look.good : look.bad,
                  result.passed ? "ok" : "FAILED", look.off, check->where.c_str(),
                  check->what.c_str(), result.detail.c_str());
  }
  return lines + text("%zu checks, %d failed, %.1f s\n", outcomes.size(), failed, seconds);
}

json as_json(const std::vector<outcome>& outcomes, double seconds) {
  json all;
  all["library"] = steepest_build_info();
  all["seconds"] = seconds;
  for (const auto& [check, result] : outcomes)
    all["checks"].push_back({{"passed", result.passed},
                             {"where", check->where},
                             {"what", check->what},
                             {"detail", result.detail}});
  return all;
}

exit_code run(bool json_wanted) {
  // What is wrong with the environment is no failed check.
  const steepest::context probe;
  std::vector<check> checks;
  add_vector_checks(checks);
  add_matrix_checks(checks);
  add_theory_checks(checks);

  using clock = std::chrono::steady_clock;
  const clock::time_point start = clock::now();
  std::vector<outcome> outcomes;
  bool passed = true;
  {
    progress shown(static_cast<long>(checks.size()));
    for (const check& each : checks) {
      outcomes.push_back({&each, judged(each)});
      passed = passed && outcomes.back().result.passed;
      shown.advance();
    }
  }
  const double seconds = std::chrono::duration<double>(clock::now() - start).count();
  print(json_wanted ? dumped(as_json(outcomes, seconds)) : described(outcomes, seconds));
  return passed ? exit_ok : exit_failed;
}

}  // namespace

void add_selftest(CLI::App& program, action& chosen) {
  CLI::App* const command = program.add_subcommand(
      "selftest", "Checks the library on this machine, on every instruction-set level");
  const auto as_json = std::make_shared<bool>(false);
  command->add_flag("--json", *as_json, "Print JSON");
  command->callback([=, &chosen] { chosen = [=] { return run(*as_json); }; });
}

}  // namespace tool
