// SPDX-License-Identifier: Apache-2.0
// The matrix functions against a singular value decomposition by Jacobi rotations: what a method
// should give is U f(S) V^T, with f its scalar function.
#include <algorithm>
#include <cmath>
#include <utility>

#include "matrix_oracle.hpp"
#include "output.hpp"
#include "selftest.hpp"

namespace tool {
namespace {

using namespace steepest_test;

struct method {
  std::string name;
  steepest_msign_config config = STEEPEST_MSIGN_CONFIG_INIT;
  std::function<double(double)> f;  // of a singular value, divided by the norm in the statistics
};

std::vector<method> methods() {
  std::vector<method> list;
  const auto add = [&](const std::string& name, std::int32_t kind, std::int32_t steps,
                       std::function<double(double)> f) {
    method m{name, STEEPEST_MSIGN_CONFIG_INIT, std::move(f)};
    m.config.method = kind;
    m.config.steps = steps;
    list.push_back(std::move(m));
  };
  for (const auto& [kind, name] :
       {std::pair(STEEPEST_MSIGN_NEWTON_SCHULZ, "Newton-Schulz"),
        std::pair(STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ, "Gram Newton-Schulz")})
    for (const std::int32_t coefficients :
         {STEEPEST_COEF_KELLER, STEEPEST_COEF_YOU, STEEPEST_COEF_POLAR_EXPRESS}) {
      add(name, kind, 5,
          [rows = preset_rows(coefficients)](double x) { return polynomial_oracle(rows, 5, x); });
      list.back().config.coefficients = coefficients;
    }
  for (int poles = 1; poles <= 4; ++poles)
    add("rational", STEEPEST_MSIGN_RATIONAL, poles, zolotarev_oracle(1e-3, poles));
  for (int steps = 1; steps <= 2; ++steps)
    add("Halley", STEEPEST_MSIGN_HALLEY, steps,
        [=](double x) { return halley_oracle(1e-3, steps, x); });
  const auto one = [](double) { return 1.0; };
  add("accurate", STEEPEST_MSIGN_ACCURATE, 0, one);
  add("SVD", STEEPEST_MSIGN_SVD, 0, one);
  return list;
}

struct example {
  dense x;
  decomposition exact;
};

template <class T>
std::vector<T> stored(const dense& x) {
  return {x.values.begin(), x.values.end()};
}
template <class T>
dense widened(const std::vector<T>& values, const dense& like) {
  dense x(like.rows, like.cols);
  x.values.assign(values.begin(), values.end());
  return x;
}

// Wide, tall, with edges in every direction of the tiles; two kinds of spectra.
const std::vector<example>& examples() {
  static const std::vector<example> list = [] {
    random_source random(11);
    std::vector<example> made;
    for (const auto& [rows, cols] : {std::pair(50, 90), std::pair(97, 35), std::pair(129, 129)}) {
      made.push_back({gaussian(random, rows, cols), {}});
      made.push_back({with_condition(random, rows, cols, 100), {}});
    }
    for (example& each : made) {
      each.x = widened(stored<float>(each.x), each.x);
      each.exact = decompose(each.x);
    }
    return made;
  }();
  return list;
}

// ||O - U f(S) V^T|| / ||U V^T||
template <class T>
double off(steepest_context* context, const method& m, const example& e) {
  const std::vector<T> x = stored<T>(e.x);
  std::vector<T> out(x.size());
  steepest_msign_stats stats = STEEPEST_MSIGN_STATS_INIT;
  expect_ok(steepest_msign(context, &m.config, e.x.rows, e.x.cols, dtype_of<T>, x.data(), 0,
                           out.data(), 0, nullptr, &stats));
  const dense expected = e.exact.map([&](double s) { return m.f(s / stats.norm); });
  return distance(widened(out, e.x), expected) / std::sqrt(static_cast<double>(e.exact.s.size()));
}

// Measured on these examples: 1e-4 in fp32, on the Gram side; 5e-11 in fp64, but 1.2e-8 with
// ACCURATE, whose last step squares the error of the poles before it.
double allowed(const method& m, bool f32) {
  if (f32) return 1e-3;
  return m.config.method == STEEPEST_MSIGN_ACCURATE ? 1e-7 : 1e-9;
}

template <class T>
verdict msign(steepest_isa isa) {
  const context_pointer context = context_of(isa, 1);
  double worst = 0;  // as a share of what is allowed
  std::string detail;
  for (const method& each : methods())
    for (const example& e : examples()) {
      const double limit = allowed(each, dtype_of<T> == STEEPEST_F32);
      const double here = off<T>(context.get(), each, e);
      const double before = std::exchange(worst, worse(worst, here / limit));
      if (worst == before) continue;
      detail = text("off %.1e (%s), allowed %.0e", here, each.name.c_str(), limit);
      if (std::isnan(worst)) break;
    }
  return {worst <= 1, detail};
}

// As far as bf16 operands allow: a rounding of 2^-9 in X and in Q, whose singular values are the
// inverses of X's. Measured: 5e-2, at a condition number of some hundred.
verdict msign_bf16() {
  method m{"rational", STEEPEST_MSIGN_CONFIG_INIT, zolotarev_oracle(1e-3, 3)};
  m.config.method = STEEPEST_MSIGN_RATIONAL;
  m.config.compute_dtype = STEEPEST_BF16;
  double worst = 0;
  for (const example& e : examples()) worst = worse(worst, off<float>(nullptr, m, e));
  return {worst <= 0.1, text("off %.1e, allowed 1e-01", worst)};
}

verdict msign_bits(steepest_isa isa) {
  random_source random(12);
  const std::vector<float> x = stored<float>(gaussian(random, 200, 333));
  std::vector<float> one(x.size());
  std::vector<float> all(x.size());
  for (const auto& [threads, out] : {std::pair(1, &one), std::pair(0, &all)})
    expect_ok(steepest_msign(context_of(isa, threads).get(), nullptr, 200, 333, STEEPEST_F32,
                             x.data(), 0, out->data(), 0, nullptr, nullptr));
  return {same_bits(one, all), "200 x 333"};
}

// Two steps from zero momentum, of the defaults: EMA, Nesterov, three poles, RMS matching.
verdict muon(steepest_isa isa) {
  const context_pointer context = context_of(isa, 1);
  const zolotarev_oracle f(1e-3, 3);
  random_source random(13);
  steepest_muon_config config = STEEPEST_MUON_CONFIG_INIT;
  config.lr = 0.1;
  config.weight_decay = 0.1;
  dense w = gaussian(random, 40, 72);
  dense m(40, 72);
  std::vector<float> param = stored<float>(w);
  std::vector<float> momentum(param.size());
  w = widened(param, w);
  for (config.step = 1; config.step <= 2; ++config.step) {
    const std::vector<float> grad = stored<float>(gaussian(random, 40, 72));
    steepest_muon_tensor tensor = STEEPEST_MUON_TENSOR_INIT;
    tensor.rows = 40;
    tensor.cols = 72;
    tensor.param = param.data();
    tensor.grad = grad.data();
    tensor.momentum = momentum.data();
    expect_ok(steepest_muon_step(context.get(), &config, &tensor, 1, nullptr, nullptr));

    dense u = m;
    for (std::size_t i = 0; i < grad.size(); ++i) {
      m.values[i] = config.momentum * m.values[i] + (1 - config.momentum) * grad[i];
      u.values[i] = config.momentum * m.values[i] + (1 - config.momentum) * grad[i];
    }
    const decomposition exact = decompose(u);
    double fourth = 0;
    for (const double s : exact.s) fourth += s * s * s * s;
    const double norm = std::pow(fourth, 0.25);
    const dense o = exact.map([&](double s) { return f(s / norm); });
    const double scale = 0.2 * std::sqrt(72.0);
    for (std::size_t i = 0; i < grad.size(); ++i)
      w.values[i] -= config.lr * (scale * o.values[i] + config.weight_decay * w.values[i]);
  }
  const double off_by = worse(distance(widened(param, w), w) / norm_of(w.values),
                              distance(widened(momentum, m), m) / norm_of(m.values));
  return {off_by <= 1e-5, text("off %.1e, allowed 1e-05", off_by)};
}

verdict singular_values() {
  double worst = 0;
  for (const example& e : examples()) {
    std::vector<double> values(e.exact.s.size());
    expect_ok(steepest_singular_values(nullptr, e.x.rows, e.x.cols, STEEPEST_F64, e.x.values.data(),
                                       0, values.data()));
    for (std::size_t i = 0; i < values.size(); ++i)
      worst = worse(worst, std::fabs(values[i] - e.exact.s[i]) / e.exact.s[0]);
    double low = 0;
    double high = 0;
    expect_ok(steepest_spectral_norm_bounds(nullptr, e.x.rows, e.x.cols, STEEPEST_F64,
                                            e.x.values.data(), 0, 0, &low, &high));
    const double slack = 1e-13 * e.exact.s[0];
    if (!(low <= e.exact.s[0] + slack && high >= e.exact.s[0] - slack))
      return {false, text("bounds %.17g and %.17g of %.17g", low, high, e.exact.s[0])};
  }
  return {worst <= 1e-12, text("off %.1e, allowed 1e-12", worst)};
}

}  // namespace

void add_matrix_checks(std::vector<check>& checks) {
  for (const steepest_isa isa : chosen_levels()) {
    const std::string level = steepest_isa_name(isa);
    checks.push_back({level, "msign f32, every method, against Jacobi rotations",
                      [=] { return msign<float>(isa); }});
    checks.push_back({level, "msign f64, every method, against Jacobi rotations",
                      [=] { return msign<double>(isa); }});
    checks.push_back({level, "msign: the same bits for threads", [=] { return msign_bits(isa); }});
    checks.push_back({level, "Muon against its formula", [=] { return muon(isa); }});
    if (isa == STEEPEST_ISA_X86_AVX512_BF16)
      checks.push_back({level, "msign with bf16 products against Jacobi rotations", msign_bf16});
  }
  checks.push_back({"LAPACK", "singular values and bounds of the largest", singular_values});
}

}  // namespace tool
