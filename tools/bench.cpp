// SPDX-License-Identifier: Apache-2.0
// steepest bench: how near the kernels come to this machine's limits, which are measured beside
// them in the same process: the memory's by a stream over the same bytes, the cores' by
// multiply-adds on registers. ../bench has both, and says how they are measured.
#include <steepest/steepest.h>
#include <CLI/CLI.hpp>
#include <functional>
#include <memory>

#include "adamw_support.hpp"
#include "command.hpp"
#include "contest.hpp"
#include "fma_peak.hpp"
#include "grad_norm_support.hpp"
#include "json.hpp"
#include "machine.hpp"
#include "muon_support.hpp"
#include "output.hpp"
#include "validators.hpp"

namespace tool {
namespace {

struct options {
  std::int64_t elements = 1 << 25, threads = 0;
  bool quick = false, as_json = false;
  int rounds() const { return quick ? 3 : 7; }
};

struct row {
  std::string name;
  int threads;
  double work;     // bytes, or operations, of one call
  double seconds;  // the median
  double limit_seconds, share, quartile1, quartile3;
  std::string limit;  // the fastest loop
};

// A subject and its limit at a number of threads.
struct job {
  std::string name;
  int threads;
  bool memory;  // its limit; else the multiply-add rate
  std::function<row(const job&, progress&)> run;
};

row compete(const job& job, bench::contest& contest, double work, int rounds, progress& shown) {
  contest.prepare();
  for (int round = 0; round < rounds; ++round) {
    contest.round();
    shown.advance();
  }
  const bench::contest::result limit = contest.results().at(0);
  return {job.name,          job.threads,     work,
          contest.seconds(), limit.seconds,   limit.ratio,
          limit.quartile1,   limit.quartile3, limit.name};
}

// ---- at the limit of the memory

row adamw(const job& job, progress& shown, const bench::adamw_mix& types, const options& o) {
  const bench::adamw_workload work{&types, 1, o.elements, job.threads, false};
  bench::thread_pool pool(job.threads);
  bench::adamw_problem problem(work, pool);
  const bench::library_context context(job.threads);
  bench::contest contest(job.threads, [&] { problem.step(context.get(), false); });
  for (const bench::stream_variant& variant : types.streams())
    contest.add_rival("stream", variant.name, [&problem, variant] { problem.stream(variant); });
  return compete(job, contest, static_cast<double>(work.bytes()), o.rounds(), shown);
}

row grad_norm(const job& job, progress& shown, const options& o) {
  bench::thread_pool pool(job.threads);
  const bench::grad_norm_problem problem(o.elements, pool);
  const bench::library_context context(job.threads);
  bench::contest contest(job.threads, [&] { problem.norm(context.get()); });
  problem.add_streams(contest);
  return compete(job, contest, 4.0 * static_cast<double>(o.elements), o.rounds(), shown);
}

// ---- at the limit of the cores

row msign(const job& job, progress& shown, const bench::msign_method& method, const options& o) {
  constexpr int64_t rows = 768;
  constexpr int64_t cols = 3072;
  bench::msign_problem problem(method, rows, cols, job.threads);
  bench::contest contest(job.threads, [&] { problem.run(); });
  bench::thread_pool pool(job.threads);
  const bench::operations useful = bench::useful(method, rows, cols);
  bench::add_peak(contest, pool, useful, steepest_context_isa(problem.context().get()));
  return compete(job, contest, useful.f32 + useful.bf16, o.rounds(), shown);
}

row muon(const job& job, progress& shown, bool bf16, const options& o) {
  static const bench::muon_model layer = {"one layer of GPT-2 124M", 1, bench::gpt2_124m.matrices};
  bench::muon_problem problem(bf16 ? STEEPEST_BF16 : STEEPEST_F32, job.threads, layer);
  bench::contest contest(job.threads, [&] { problem.step(); });
  bench::thread_pool pool(job.threads);
  const bench::operations useful = bench::useful(layer, bf16);
  bench::add_peak(contest, pool, useful, steepest_context_isa(problem.context().get()));
  return compete(job, contest, useful.f32 + useful.bf16, o.rounds(), shown);
}

// ---- all of them

std::string called(const bench::msign_method& method) {
  return std::string("msign ") + method.name + ", 768 x 3072";
}

std::vector<job> jobs_for(const options& o) {
  const int all = bench::library_context(static_cast<int>(o.threads)).threads();
  std::vector<int> threads = {1};
  if (all > 1) threads.push_back(all);
  std::vector<job> jobs;
  for (const int t : threads) {
    for (const bench::adamw_mix& types : bench::usual_mixes) {
      const std::string name = types.name;
      const int64_t bytes = bench::adamw_workload{&types, 1, o.elements, t, false}.bytes();
      if (!bench::memory_suffices(bytes))
        throw failure(exit_usage, text("--elements %lld: there is not enough memory",
                                       static_cast<long long>(o.elements)));
      jobs.push_back({"AdamW " + name, t, true, [&types, o](const job& j, progress& shown) {
                        return adamw(j, shown, types, o);
                      }});
    }
    jobs.push_back({"gradient norm f32", t, true,
                    [o](const job& j, progress& shown) { return grad_norm(j, shown, o); }});
  }
  for (const int t : threads) {
    for (const char* const name :
         {"rational_r3", "rational_r3_bf16", "newton_schulz_5", "gram_newton_schulz_5"}) {
      const bench::msign_method& method = *bench::method_named(name);
      if (method.compute == STEEPEST_BF16 && !bench::has_bf16_products()) continue;
      jobs.push_back({called(method), t, false, [&method, o](const job& j, progress& shown) {
                        return msign(j, shown, method, o);
                      }});
    }
    for (const bool bf16 : {false, true}) {
      if (bf16 && !bench::has_bf16_products()) continue;
      jobs.push_back(
          {std::string("Muon step, GPT-2 layer") + (bf16 ? ", bf16" : ""), t, false,
           [bf16, o](const job& j, progress& shown) { return muon(j, shown, bf16, o); }});
    }
  }
  return jobs;
}

// ---- how it is shown

std::string described(const options& o, const std::vector<job>& jobs,
                      const std::vector<row>& rows) {
  const style look = style::of_output();
  std::string lines =
      text("%s\n%s, %d cores usable; level %s\n", steepest_build_info(), cpu_model().c_str(),
           usable_cores(), steepest_isa_name(steepest_context_isa(nullptr)));
  for (const bool memory : {true, false}) {
    const std::string title =
        memory ? text("Memory: %lld Mi elements", static_cast<long long>(o.elements >> 20))
               : "Multiply-adds";
    lines += text("\n%s%-38s %7s %9s %7s %7s  %s%s\n", look.bold, title.c_str(), "threads", "ms",
                  memory ? "GB/s" : "GF/s", "limit", "share of the limit", look.off);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (jobs[i].memory != memory) continue;
      const row& r = rows[i];
      lines += text("%-38s %7d %9.2f %7.1f %7.1f  %s %.2f (%.2f-%.2f)\n", r.name.c_str(), r.threads,
                    1e3 * r.seconds, 1e-9 * r.work / r.seconds, 1e-9 * r.work / r.limit_seconds,
                    drawn(r.share).c_str(), r.share, r.quartile1, r.quartile3);
    }
  }
  lines +=
      "\nThe memory's limit is the fastest loop that reads and writes the same bytes, one "
      "addition\n"
      "per word; GB/s are the bytes of one call, read and written. The cores' is multiply-adds on\n"
      "registers, of bf16 operands where the products are; GF/s are the operations that the "
      "method\n"
      "cannot do without. Medians, and in parentheses the quartiles of the share.\n";
  return lines;
}

json as_json(const options& o, const std::vector<job>& jobs, const std::vector<row>& rows) {
  json all;
  all["library"] = steepest_build_info();
  all["cpu"] = cpu_model();
  all["cores"] = usable_cores();
  all["isa"] = steepest_isa_name(steepest_context_isa(nullptr));
  all["elements"] = o.elements;
  all["rounds"] = o.rounds();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const row& r = rows[i];
    const char* const work = jobs[i].memory ? "bytes" : "operations";
    json one = {{"name", r.name},
                {"threads", r.threads},
                {"seconds", r.seconds},
                {work, r.work},
                {"limit_seconds", r.limit_seconds},
                {"share", r.share},
                {"share_quartiles", {r.quartile1, r.quartile3}}};
    if (!r.limit.empty()) one["limit"] = r.limit;
    all[jobs[i].memory ? "memory" : "arithmetic"].push_back(one);
  }
  return all;
}

exit_code run(const options& o) {
  // What is wrong with the environment.
  if (steepest_context_isa(nullptr) == 0) throw failure(exit_usage, steepest_last_error());
  const std::vector<job> jobs = jobs_for(o);
  std::vector<row> rows;
  {
    progress shown(static_cast<long>(jobs.size()) * o.rounds());
    for (const job& each : jobs) rows.push_back(each.run(each, shown));
  }
  print(o.as_json ? dumped(as_json(o, jobs, rows)) : described(o, jobs, rows));
  return exit_ok;
}

}  // namespace

void add_bench(CLI::App& program, action& chosen) {
  CLI::App* const command =
      program.add_subcommand("bench", "How near the kernels come to the limits of this machine");
  const auto o = std::make_shared<options>();
  command->add_flag("--quick", o->quick, "Fewer rounds: some 25 seconds instead of a minute");
  command->add_option("--elements", o->elements, "Elements of an AdamW step")
      ->transform(whole_number(1 << 20, int64_t{1} << 34));
  command->add_option("--threads", o->threads, "Most threads; 0: as the library chooses")
      ->transform(whole_number(0, 1024));
  command->add_flag("--json", o->as_json, "Print JSON");
  command->callback([=, &chosen] { chosen = [=] { return run(*o); }; });
}

}  // namespace tool
