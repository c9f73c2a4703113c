// SPDX-License-Identifier: Apache-2.0
// steepest schedule: the learning rates of a schedule and the bound that it gives, as CSV.
#include <CLI/CLI.hpp>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <steepest/steepest.hpp>

#include "command.hpp"
#include "input.hpp"
#include "output.hpp"
#include "validators.hpp"

namespace tool {
namespace {

const std::map<std::string, std::int32_t> kinds = {
    {"constant", STEEPEST_SCHEDULE_CONSTANT}, {"linear", STEEPEST_SCHEDULE_LINEAR},
    {"cosine", STEEPEST_SCHEDULE_COSINE},     {"inverse-sqrt", STEEPEST_SCHEDULE_INVERSE_SQRT},
    {"inverse", STEEPEST_SCHEDULE_INVERSE},   {"wsd", STEEPEST_SCHEDULE_WARMUP_STABLE_DECAY},
};
const std::map<std::string, std::int32_t> decays = {
    {"linear", STEEPEST_DECAY_LINEAR},
    {"cosine", STEEPEST_DECAY_COSINE},
    {"one-minus-sqrt", STEEPEST_DECAY_ONE_MINUS_SQRT},
};
const std::map<std::string, std::int32_t> refinements = {
    {"refine-sgd", STEEPEST_REFINE_SGD},
    {"refine-adam", STEEPEST_REFINE_ADAM},
};

struct options {
  std::string kind = "linear", decay = "linear", norms_file, file;
  std::int64_t steps = 100, warmup = 0, decay_steps = 0;
  double lr = 1e-3, final_ratio = 0, distance = 1, norm = 1, smoothing = 0.1;
};

steepest::schedule as_schedule(const options& o) {
  steepest::schedule schedule(kinds.at(o.kind));
  schedule.lr = o.lr;
  schedule.final_ratio = o.final_ratio;
  schedule.warmup_steps = o.warmup;
  schedule.decay_steps = o.decay_steps;
  schedule.decay_shape = decays.at(o.decay);
  return schedule;
}

struct rates {
  std::vector<double> lr;
  std::optional<double> bound;  // none where the last rate is zero
};

rates make(const options& o, std::int64_t steps, const std::vector<double>& listed) {
  const steepest::grad_norms norms =
      listed.empty() ? steepest::grad_norms(o.norm) : steepest::grad_norms(listed);
  if (o.kind == "optimal") {
    steepest::optimal_schedule best = steepest::schedule_optimal(steps, o.distance, norms);
    return {std::move(best.lr), best.bound};
  }
  rates made;
  if (const auto refinement = refinements.find(o.kind); refinement != refinements.end()) {
    made.lr = steepest::schedule_refine(listed, refinement->second, o.smoothing);
    for (double& rate : made.lr) rate *= o.lr;
  } else {
    made.lr.resize(static_cast<std::size_t>(steps));
    steepest::schedule_fill(as_schedule(o), made.lr);
  }
  if (made.lr.back() > 0) made.bound = steepest::schedule_bound(made.lr, o.distance, norms);
  return made;
}

std::int64_t steps_of(const options& o, bool steps_given, const std::vector<double>& listed) {
  if (listed.empty()) {
    if (refinements.contains(o.kind))
      throw failure(exit_usage, "--kind " + o.kind + " needs --grad-norms");
    return o.steps;
  }
  const auto count = static_cast<std::int64_t>(listed.size());
  if (steps_given && o.steps != count)
    throw failure(exit_usage, o.norms_file + " holds " + std::to_string(count) +
                                  " norms, --steps is " + std::to_string(o.steps));
  return count;
}

exit_code run(const options& o, bool steps_given) {
  const std::vector<double> listed =
      o.norms_file.empty() ? std::vector<double>() : read_numbers(o.norms_file);
  const rates made = make(o, steps_of(o, steps_given, listed), listed);
  const std::string bound = made.bound ? text("%.17g", *made.bound) : "";

  output out(o.file);
  out.write("step,lr,bound\n");
  for (std::size_t i = 0; i < made.lr.size(); ++i)
    out.write(text("%zu,%.17g,%s\n", i + 1, made.lr[i], bound.c_str()));
  out.finish();
  if (!o.file.empty())
    print(text("%s: %zu rates; ", o.file.c_str(), made.lr.size()) +
          (made.bound ? text("bound %.6g at D = %g", *made.bound, o.distance) +
                            (listed.empty() ? text(", G = %g", o.norm) : ", G of each step")
                      : "no bound, since the last rate is zero") +
          '\n');
  return exit_ok;
}

}  // namespace

void add_schedule(CLI::App& program, action& chosen) {
  CLI::App* const command = program.add_subcommand(
      "schedule", "The learning rates of a schedule and the bound that it gives, as CSV");
  command->footer(
      "The columns are step, lr, and bound, the same in every row: what the schedule guarantees\n"
      "for the loss of the last iterate of SGD on a convex loss, with a distance D to the optimum\n"
      "and gradients of norm G. It is empty where the last rate is zero. optimal: the schedule\n"
      "with the least bound; it ignores --lr. refine-sgd, refine-adam: from the gradient norms of\n"
      "a run (l1 norms for adam), its largest rate being --lr.");
  const auto o = std::make_shared<options>();
  std::vector<std::string> names = {"optimal"};
  for (const auto& [name, value] : kinds) names.push_back(name);
  for (const auto& [name, value] : refinements) names.push_back(name);
  std::vector<std::string> shapes;
  for (const auto& [name, value] : decays) shapes.push_back(name);

  constexpr std::int64_t most = 100'000'000;
  command->add_option("--kind", o->kind, "Shape")->check(CLI::IsMember(names));
  CLI::Option* const steps =
      command->add_option("--steps", o->steps, "How many rates")->transform(whole_number(1, most));
  command->add_option("--lr", o->lr, "The peak")->check(number());
  command->add_option("--warmup", o->warmup, "Steps of linear warm-up")
      ->transform(whole_number(0, most));
  command->add_option("--final-ratio", o->final_ratio, "Of the peak, where the decay ends")
      ->check(number());
  command->add_option("--decay", o->decay, "Shape of wsd's decay")->check(CLI::IsMember(shapes));
  command->add_option("--decay-steps", o->decay_steps, "Length of wsd's decay; 0: a fifth")
      ->transform(whole_number(0, most));
  command->add_option("--distance", o->distance, "D of the bound")->check(number());
  command->add_option("--grad-norm", o->norm, "G of the bound")->check(number());
  command->add_option("--grad-norms", o->norms_file, "File of G for each step, as text")
      ->type_name("FILE");
  command->add_option("--smoothing", o->smoothing, "Width of the median of refine-*, a share")
      ->check(number());
  command->add_option("-o,--output", o->file, "CSV file; without it standard output")
      ->type_name("FILE");
  command->callback([=, &chosen] { chosen = [=] { return run(*o, steps->count() > 0); }; });
}

}  // namespace tool
