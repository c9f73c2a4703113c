// SPDX-License-Identifier: Apache-2.0
// steepest simulate: the update RMS of AdamW steps of the library on random gradients, beside the
// formulas that predict it.
#include <CLI/CLI.hpp>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <steepest/steepest.hpp>

#include "command.hpp"
#include "numbers.hpp"
#include "output.hpp"
#include "validators.hpp"

namespace tool {
namespace {

using steepest_test::random_source;

// Of mean 0 and variance 1, with their kurtosis.
struct distribution {
  double kurtosis;
  double (*draw)(random_source&);
};
double normal(random_source& random) { return random.normal(); }
double laplace(random_source& random) {
  const double u = random.uniform() - 0.5;
  return std::copysign(std::log1p(-2 * std::fabs(u)), -u) / std::sqrt(2.0);
}
double uniform(random_source& random) { return (2 * random.uniform() - 1) * std::sqrt(3.0); }
double sign(random_source& random) { return (random.bits() & 1) != 0 ? 1.0 : -1.0; }
const std::map<std::string, distribution> distributions = {
    {"normal", {3, normal}},
    {"laplace", {6, laplace}},
    {"uniform", {1.8, uniform}},
    {"sign", {1, sign}},
};

struct options {
  double beta1 = 0.9, beta2 = 0.95, snr = 0;
  std::int64_t steps = 1000, elements = 16384, seed = 1;
  std::string noise = "normal", file;
  bool csv = false;
};

struct row {
  std::int64_t step;
  double simulated, formula, second_order;
};

double formula(const options& o, std::int64_t step) {
  return steepest::adam_update_rms(o.beta1, o.snr, step);
}
double second_order(const options& o, std::int64_t step) {
  return steepest::adam_update_rms_second_order(o.beta1, o.beta2, o.snr,
                                                distributions.at(o.noise).kurtosis, step);
}

// One parameter tensor of `elements` coordinates, each with a gradient mean + noise at every step,
// mean^2 = snr. Learning rate 0: only the update counts.
std::vector<row> simulate(const options& o) {
  const auto count = static_cast<std::size_t>(o.elements);
  std::vector<float> param(count);
  std::vector<float> grad(count);
  std::vector<float> exp_avg(count);
  std::vector<float> exp_avg_sq(count);
  const steepest::adamw_tensor tensor(param, grad, exp_avg, exp_avg_sq);
  steepest::adamw_config config;
  config.lr = 0;
  config.beta1 = o.beta1;
  config.beta2 = o.beta2;
  config.eps = 0;
  config.weight_decay = 0;
  const steepest::context context;
  const auto draw = distributions.at(o.noise).draw;
  const double mean = std::sqrt(o.snr);
  random_source random(static_cast<std::uint64_t>(o.seed));

  std::vector<row> rows;
  progress shown(o.steps);
  for (std::int64_t step = 1; step <= o.steps; ++step) {
    for (float& g : grad) g = static_cast<float>(mean + draw(random));
    config.step = step;
    steepest::step_stats stats;
    steepest::adamw_step(context, config, std::span(&tensor, 1), std::span(&stats, 1));
    rows.push_back({step, stats.update_rms, formula(o, step), second_order(o, step)});
    shown.advance();
  }
  return rows;
}

// 1, 2, 5, 10, 20, ...
bool worth_a_line(std::int64_t step) {
  while (step % 10 == 0) step /= 10;
  return step == 1 || step == 2 || step == 5;
}

std::string line(const std::string& step, const row& r) {
  return text("%10s %12.4f %12.4f %9.1f %% %12.4f %9.1f %%\n", step.c_str(), r.simulated, r.formula,
              100 * (r.formula / r.simulated - 1), r.second_order,
              100 * (r.second_order / r.simulated - 1));
}

std::string table(const options& o, const std::vector<row>& rows) {
  std::string lines = text(
      "Update RMS of AdamW, beta1 %g, beta2 %g, gradients of signal-to-noise ratio %g with %s "
      "noise\n"
      "(kurtosis %g), %lld coordinates. Formula: sqrt((r + a) / (r + 1)), a = (1 - beta1)(1 + "
      "beta1^t)\n/ ((1 + beta1)(1 - beta1^t)); second order: with beta2 and the kurtosis.\n\n",
      o.beta1, o.beta2, o.snr, o.noise.c_str(), distributions.at(o.noise).kurtosis,
      static_cast<long long>(o.elements));
  lines += text("%10s %12s %12s %11s %12s %11s\n", "step", "simulated", "formula", "off",
                "2nd order", "off");
  for (const row& r : rows)
    if (worth_a_line(r.step)) lines += line(std::to_string(r.step), r);
  // The moments' memory: what is left of the start after five time constants is below 1 %.
  const double memory = 5 / (1 - std::max(o.beta1, o.beta2));
  double squares = 0;
  std::int64_t counted = 0;
  for (const row& r : rows) {
    if (static_cast<double>(r.step) <= memory) continue;
    squares += r.simulated * r.simulated;
    ++counted;
  }
  if (counted > 0)
    lines += line("steady", {0, std::sqrt(squares / static_cast<double>(counted)), formula(o, 0),
                             second_order(o, 0)});
  else
    lines += text("The steady state begins after some %.0f steps.\n", memory);
  return lines;
}

std::string csv(const std::vector<row>& rows) {
  std::string lines = "step,simulated,formula,second_order\n";
  for (const row& r : rows)
    lines += text("%lld,%.9g,%.9g,%.9g\n", static_cast<long long>(r.step), r.simulated, r.formula,
                  r.second_order);
  return lines;
}

exit_code run(const options& o) {
  // What the library refuses it refuses before the work.
  formula(o, 1);
  second_order(o, 1);
  output out(o.file);
  const std::vector<row> rows = simulate(o);
  out.write(o.csv ? csv(rows) : table(o, rows));
  out.finish();
  return exit_ok;
}

}  // namespace

void add_simulate(CLI::App& program, action& chosen) {
  CLI::App* const command = program.add_subcommand(
      "simulate", "The update RMS of AdamW on random gradients, beside the formula for it");
  const auto o = std::make_shared<options>();
  std::vector<std::string> names;
  for (const auto& [name, value] : distributions) names.push_back(name);
  command->add_option("--beta1", o->beta1, "Decay of the first moment")->check(number());
  command->add_option("--beta2", o->beta2, "Decay of the second moment")->check(number());
  command->add_option("--snr", o->snr, "|mean|^2 / variance of the gradients")->check(number());
  command->add_option("--noise", o->noise, "Distribution around the mean")
      ->check(CLI::IsMember(names));
  command->add_option("--steps", o->steps, "Steps")->transform(whole_number(1, 10'000'000));
  command->add_option("--elements", o->elements, "Coordinates")
      ->transform(whole_number(1, 1 << 28));
  command->add_option("--seed", o->seed, "Of the random numbers")
      ->transform(whole_number(0, INT64_MAX));
  command->add_flag("--csv", o->csv, "Every step, as CSV");
  command->add_option("-o,--output", o->file, "File; without it standard output")
      ->type_name("FILE");
  command->callback([=, &chosen] { chosen = [=] { return run(*o); }; });
}

}  // namespace tool
