// SPDX-License-Identifier: Apache-2.0
// steepest msign FILE.npy: the singular values of a user's matrix, and what every method of msign
// makes of it in what time.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <steepest/steepest.hpp>

#include "command.hpp"
#include "contest.hpp"
#include "input.hpp"
#include "json.hpp"
#include "matrix.hpp"
#include "msign_support.hpp"
#include "npy.hpp"
#include "output.hpp"
#include "validators.hpp"

namespace tool {
namespace {

struct options {
  std::string file;
  std::vector<std::string> methods;
  std::int64_t threads = 0;
  double seconds = 10;
  bool as_json = false;
};

template <class T>
steepest::matrix_view<const T> view(const dense<T>& x) {
  return {x.values.data(), x.rows, x.cols, x.cols};
}
template <class T>
steepest::matrix_view<T> view(dense<T>& x) {
  return {x.values.data(), x.rows, x.cols, x.cols};
}

// ---- what is found

struct spectrum {
  std::vector<double> values;  // falling
  double entropy, frobenius, schatten4;
};

template <class T>
spectrum spectrum_of(const steepest::context& context, const dense<T>& x) {
  spectrum s{steepest::singular_values(context, view(x)), 0, 0, 0};
  s.entropy = steepest::singular_entropy(s.values);
  // Relative to the largest, so that no square overflows.
  const double largest = s.values[0];
  double squares = 0;
  double fourth = 0;
  for (const double value : s.values) {
    const double r = largest > 0 ? value / largest : 0;
    squares += r * r;
    fourth += r * r * r * r;
  }
  s.frobenius = largest * std::sqrt(squares);
  s.schatten4 = largest * std::sqrt(std::sqrt(fourth));
  return s;
}

struct method_result {
  const bench::msign_method* method;
  double band_low, band_high, error, orthogonality, seconds;
};

template <class T>
class trial {
 public:
  trial(const steepest::context& context, const dense<T>& x, const bench::msign_method& method)
      : context_(context), x_(x) {
    config_.method = method.method;
    config_.steps = method.steps;
    config_.coefficients = method.coefficients;
    config_.compute_dtype = method.compute;
    result_.method = &method;
    const steepest_status status =
        steepest_msign_band(&config_, 1e-3, &result_.band_low, &result_.band_high);
    if (status != STEEPEST_OK) throw steepest::error::last(status);
  }

  // `exact`: U V^T
  void judge(const dense<T>& exact, dense<T>& out) {
    steepest::msign_stats stats;
    steepest::msign(context_, config_, view(x_), view(out), &stats);
    double difference = 0;
    double total = 0;
    for (std::size_t i = 0; i < exact.values.size(); ++i) {
      const double d = static_cast<double>(out.values[i]) - static_cast<double>(exact.values[i]);
      difference += d * d;
      total += static_cast<double>(exact.values[i]) * static_cast<double>(exact.values[i]);
    }
    result_.error = std::sqrt(difference / total);
    result_.orthogonality = stats.orthogonality;
  }
  void time(dense<T>& out) {
    using clock = std::chrono::steady_clock;
    const clock::time_point start = clock::now();
    steepest::msign(context_, config_, view(x_), view(out));
    seconds_.push_back(std::chrono::duration<double>(clock::now() - start).count());
  }
  method_result result() const {
    method_result r = result_;
    r.seconds = bench::quantile(seconds_, 0.5);
    return r;
  }

 private:
  const steepest::context& context_;
  const dense<T>& x_;
  steepest::msign_config config_;
  method_result result_ = {};
  std::vector<double> seconds_;
};

struct findings {
  spectrum singular;
  std::int64_t rank;
  int threads;
  std::vector<method_result> methods;
};

// The exact sign is LAPACK's, in double, of rank `rank`: singular values that the matrix's own
// storage type cannot tell from zero count as zero.
template <class T>
dense<T> exact_sign(const steepest::context& context, const dense<T>& x, npy::type stored,
                    std::int64_t& rank) {
  dense<double> wide{x.rows, x.cols, {x.values.begin(), x.values.end()}};
  steepest::msign_config config;
  config.method = STEEPEST_MSIGN_SVD;
  const double eps = stored == npy::type::f64 ? 0x1p-52 : 0x1p-23;
  config.rank_tolerance = static_cast<double>(std::max(x.rows, x.cols)) * eps;
  steepest::msign_stats stats;
  steepest::msign(context, config, view(wide), view(wide), &stats);
  rank = stats.rank;
  return {x.rows, x.cols, {wide.values.begin(), wide.values.end()}};
}

template <class T>
findings examine(const options& o, const npy::matrix& m) {
  const dense<T> x = read_matrix<T>(o.file, m);
  steepest::context_options context_options;
  context_options.num_threads = static_cast<std::int32_t>(o.threads);
  const steepest::context context(context_options);
  openblas_set_num_threads(context.threads());

  std::vector<trial<T>> trials;
  for (const std::string& name : o.methods)
    trials.emplace_back(context, x, *bench::method_named(name.c_str()));
  progress shown(static_cast<long>(3 + 2 * trials.size()));
  findings found{spectrum_of(context, x), 0, context.threads(), {}};
  shown.advance();
  if (found.singular.values[0] == 0)
    throw failure(exit_input, o.file + ": every element is zero; the sign of that is zero");
  const dense<T> exact = exact_sign(context, x, m.type, found.rank);
  shown.advance(2);

  dense<T> out = exact;
  for (trial<T>& each : trials) {
    each.judge(exact, out);
    shown.advance();
  }
  // In turn, so that all meet the same disturbances.
  using clock = std::chrono::steady_clock;
  const clock::time_point start = clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(clock::now() - start).count(); };
  for (bool first = true; first || elapsed() < o.seconds; first = false)
    for (trial<T>& each : trials) {
      if (!first && elapsed() >= o.seconds) break;
      each.time(out);
      if (first) shown.advance();
    }
  for (const trial<T>& each : trials) found.methods.push_back(each.result());
  return found;
}

// ---- how it is shown

std::int64_t below(const spectrum& s, double limit) {
  return std::count_if(s.values.begin(), s.values.end(), [&](double v) { return v < limit; });
}

std::string described(const options& o, const npy::matrix& m, const findings& f) {
  const style look = style::of_output();
  const spectrum& s = f.singular;
  const double largest = s.values[0];
  const double least = s.values.back();
  std::string lines =
      text("%s: %lld x %lld, %s, %s order\n\n", o.file.c_str(), static_cast<long long>(m.rows),
           static_cast<long long>(m.cols), npy::name_of(m.type), m.fortran_order ? "Fortran" : "C");
  lines += text("%sSingular values%s   largest %.6g, median %.6g, least %.6g\n", look.bold,
                look.off, largest, bench::quantile(s.values, 0.5), least);
  lines += text("rank              %lld of %zu\n", static_cast<long long>(f.rank), s.values.size());
  lines += text("entropy           %.4f (1: all equal, 0: one alone)\n", s.entropy);
  lines += text("stable rank       %.1f (|X|_F^2 / largest^2)\n",
                (s.frobenius / largest) * (s.frobenius / largest));
  lines += text("below the band    %lld: less than 1e-3 of the Schatten-4 norm, %.6g\n\n",
                static_cast<long long>(below(s, 1e-3 * s.schatten4)), s.schatten4);
  lines += "of the largest    share of the singular values\n";
  for (int decade = 0; decade < 8; ++decade) {
    const double high = std::pow(10.0, -decade / 2.0) * largest;
    const double low = decade == 7 ? 0 : std::pow(10.0, -(decade + 1) / 2.0) * largest;
    const std::int64_t count = below(s, decade == 0 ? HUGE_VAL : high) - below(s, low);
    const double share = static_cast<double>(count) / static_cast<double>(s.values.size());
    const std::string interval = decade == 7 ? text("below %.2g", high / largest)
                                             : text("%.2g to %.2g", low / largest, high / largest);
    lines += text("%-17s %s %5.1f %%\n", interval.c_str(), drawn(share, 40).c_str(), 100 * share);
  }
  lines += text("\n%s%-22s %10s %10s %15s %14s%s   (%d thread%s)\n", look.bold, "Method", "ms",
                "error", "band", "orthogonality", look.off, f.threads, f.threads == 1 ? "" : "s");
  for (const method_result& r : f.methods)
    lines += text("%-22s %10.3f %10.2e %7.4f %7.4f %14.2e\n", r.method->name, 1e3 * r.seconds,
                  r.error, r.band_low, r.band_high, r.orthogonality);
  lines +=
      "\nerror: |O - U V^T|_F / |U V^T|_F, with LAPACK's U V^T in double. band: what the method "
      "makes\n"
      "of singular values in [1e-3, 1] of the norm that it divides by. orthogonality: |O O^T - "
      "I|_F\n"
      "/ sqrt(n). Times are medians of calls that take turns.\n";
  if (static_cast<std::size_t>(f.rank) < s.values.size())
    lines +=
        "The matrix has not its full rank: accurate maps to 1 also what rounding has left in "
        "place\n"
        "of the zeros, and of bf16 products the rounding errors come out enlarged.\n";
  return lines;
}

json as_json(const options& o, const npy::matrix& m, const findings& f) {
  json all;
  all["file"] = o.file;
  all["rows"] = m.rows;
  all["cols"] = m.cols;
  all["dtype"] = npy::name_of(m.type);
  all["threads"] = f.threads;
  all["rank"] = f.rank;
  all["entropy"] = f.singular.entropy;
  all["frobenius_norm"] = f.singular.frobenius;
  all["schatten4_norm"] = f.singular.schatten4;
  all["singular_values"] = f.singular.values;
  for (const method_result& r : f.methods)
    all["methods"].push_back({{"name", r.method->name},
                              {"seconds", r.seconds},
                              {"error", r.error},
                              {"band", {r.band_low, r.band_high}},
                              {"orthogonality", r.orthogonality}});
  return all;
}

exit_code run(options o) {
  if (o.methods.empty())
    for (const bench::msign_method& each : bench::msign_methods)
      if (each.compute != STEEPEST_BF16 || bench::has_bf16_products())
        o.methods.emplace_back(each.name);
  const std::vector<std::byte> bytes = read_file(o.file);
  npy::matrix m = {};
  try {
    m = npy::parse(bytes);
  } catch (const npy::error& error) {
    throw failure(exit_input, o.file + ": " + error.what());
  }
  const findings found = m.type == npy::type::f64 ? examine<double>(o, m) : examine<float>(o, m);
  print(o.as_json ? dumped(as_json(o, m, found)) : described(o, m, found));
  return exit_ok;
}

}  // namespace

void add_msign(CLI::App& program, action& chosen) {
  CLI::App* const command = program.add_subcommand(
      "msign", "A matrix of yours: its singular values; error and time of each msign method");
  command->footer(
      "FILE is NumPy's (numpy.save): two dimensions, float16, float32 or float64, little-endian.");
  const auto o = std::make_shared<options>();
  std::vector<std::string> names;
  for (const bench::msign_method& each : bench::msign_methods) names.emplace_back(each.name);
  command->add_option("file", o->file, "A matrix")->required()->type_name("FILE.npy");
  command->add_option("--method", o->methods, "Only these methods; repeatable")
      ->check(CLI::IsMember(names))
      ->allow_extra_args(false)
      ->default_str("");
  command->add_option("--threads", o->threads, "Threads; 0: as the library chooses")
      ->transform(whole_number(0, 1024));
  command
      ->add_option("--seconds", o->seconds, "To spend on times; each method is timed once or more")
      ->check(number());
  command->add_flag("--json", o->as_json, "Print JSON, with all singular values");
  command->callback([=, &chosen] { chosen = [=] { return run(*o); }; });
}

}  // namespace tool
