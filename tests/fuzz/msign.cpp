// SPDX-License-Identifier: Apache-2.0
//
// The matrix sign: any config, shape, stride and batch, workspaces that just do, matrices of any
// bits; coefficients and bands.
#include "matrix.hpp"
#include "target.hpp"

namespace steepest_fuzz {
namespace {

struct batch {
  msign_given config;
  bool default_config = false;
  std::int64_t rows = 0, cols = 0, ldx = 0, ldo = 0, count = 1;
  steepest_dtype dtype = STEEPEST_F32;
  std::vector<matrix> x, out;
  bool batched = false;
  bool openblas = false;
  const void* const* xs = nullptr;
  void* const* outs = nullptr;

  const steepest_msign_config* config_pointer() const {
    return default_config ? nullptr : config.pointer;
  }
};

batch some_batch(choices& input, memory& seen) {
  batch b;
  b.config = some_msign_config(input, seen);
  b.default_config = input.rarely(8);
  if (b.default_config) b.config = {};
  if (b.default_config) b.config.seen = STEEPEST_MSIGN_CONFIG_INIT;
  b.rows = some_side(input);
  b.cols = some_side(input);
  b.dtype = some_dtype(input);
  b.ldx = some_stride(input, b.cols);
  b.ldo = some_stride(input, b.cols);
  b.batched = input.rarely(3);
  b.count = b.batched ? input.below(5) : 1;
  b.openblas = input.rarely(8);
  const bool in_place = input.rarely(4);
  if (in_place && !input.rarely(4)) b.ldo = b.ldx;
  for (std::int64_t i = 0; i < b.count; ++i) {
    b.x.push_back(some_matrix(input, seen, in_place ? memory::output : memory::input, b.rows,
                              b.cols, b.ldx, b.dtype, some_content(input)));
    if (in_place) {
      b.out.push_back(b.x.back());
      b.out.back().stride = b.ldo != 0 ? b.ldo : b.cols;
    } else {
      b.out.push_back(some_matrix(input, seen, memory::output, b.rows, b.cols, b.ldo, b.dtype,
                                  content::any_bits));
    }
  }
  const auto n = static_cast<std::int64_t>(sizeof(void*)) * b.count;
  auto** const xs = static_cast<const void**>(seen.bytes(memory::input, n));
  auto** const outs = static_cast<void**>(seen.bytes(memory::input, n));
  for (std::size_t i = 0; i < b.x.size(); ++i) {
    xs[i] = b.x[i].data;
    outs[i] = b.out[i].data;
  }
  b.xs = xs;
  b.outs = outs;
  if (b.batched && input.rarely(32)) b.xs = nullptr;
  if (b.batched && input.rarely(32)) b.outs = nullptr;
  if (b.batched && input.rarely(32)) b.count = input.of<std::int64_t>({-1, INT64_MIN, INT64_MAX});
  return b;
}

// Of the configuration and the shape alone.
verdict rule_of_shape(const batch& b) {
  return worse(worse(b.config.rule, refuse_if(!is_plain(b.dtype))), shape_rule(b.rows, b.cols));
}

verdict rule_of_matrices(const batch& b, std::vector<range>& ranges) {
  if (b.xs == nullptr || b.outs == nullptr) return verdict::refuse;
  verdict rule = verdict::accept;
  for (std::size_t i = 0; i < b.x.size(); ++i) {
    rule = worse(rule, worse(b.x[i].rule(), b.out[i].rule()));
    if (rule == verdict::refuse) return rule;
    ranges.push_back(b.out[i].bytes(true, static_cast<std::int64_t>(2 * i)));
    if (b.x[i].data == b.out[i].data) {
      if (b.x[i].stride != b.out[i].stride) return verdict::refuse;
    } else {
      ranges.push_back(b.x[i].bytes(false, static_cast<std::int64_t>(2 * i + 1)));
    }
  }
  return rule;
}

// A method that answers in numbers of about 1 for whatever is finite.
bool is_bounded(const steepest_msign_config& c) {
  return c.normalization != STEEPEST_NORM_BOUND && c.compute_dtype != STEEPEST_BF16;
}

// Its n x n side and X part from each other in many steps: 6 has been seen after 100.
bool drifts(const steepest_msign_config& c) {
  return c.method == STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ && c.steps > 5;
}

void signs(choices& input, memory& seen) {
  const batch b = some_batch(input, seen);
  const bool empty = b.rows == 0 || b.cols == 0;
  const char* const function = b.batched ? "msign_batched" : "msign";
  callback_context context(some_isa(input), b.openblas ? STEEPEST_CONTEXT_OPENBLAS : 0);

  verdict rule = rule_of_shape(b);
  if (input.rarely(8)) {  // of any batch, there is no memory to have
    const std::int64_t count = input.wild_size();
    auto* const total = seen.object<std::size_t>(memory::output, std::size_t{0});
    const steepest_status status = watched("msign_workspace_size", seen, [&] {
      return steepest_msign_workspace_size(context.context, b.config_pointer(), b.rows, b.cols,
                                           b.dtype, count, total);
    });
    if (count < 0 || (count > INT32_MAX && !empty))
      expect(verdict::refuse, status, "msign_workspace_size");
  }
  auto* const bytes = seen.object<std::size_t>(memory::output, std::size_t{0});
  const steepest_status sized = watched("msign_workspace_size", seen, [&] {
    return steepest_msign_workspace_size(context.context, b.config_pointer(), b.rows, b.cols,
                                         b.dtype, b.count, bytes);
  });
  const verdict lower_bound = rule_in_use(b.config.seen, b.dtype, false, false);
  if (rule == verdict::refuse || b.count < 0)
    expect(verdict::refuse, sized, "msign_workspace_size");
  if (rule == verdict::accept && lower_bound == verdict::accept && b.count >= 0 &&
      b.count <= INT32_MAX && b.rows <= 1 << 20 && b.cols <= 1 << 20)
    expect(verdict::accept, sized, "msign_workspace_size");

  std::vector<given<steepest_msign_stats>> stats;
  if (input.even_chance()) {
    steepest_msign_stats init = STEEPEST_MSIGN_STATS_INIT;
    stats =
        hand_over(input, seen, memory::output, init,
                  std::vector<steepest_msign_stats>(static_cast<std::size_t>(std::max<std::int64_t>(
                                                        1, static_cast<std::int64_t>(b.x.size()))),
                                                    init));
  }
  auto* const results = stats.empty() ? nullptr : stats[0].pointer;
  // Of no matrices there is nothing to look at.
  if (b.count > 0) rule = worse(rule, rule_of(stats));
  rule = worse(rule, rule_in_use(b.config.seen, b.dtype, false, b.openblas));
  std::vector<range> ranges;
  workspace_given workspace;
  bool interleaved = false;
  if (rule != verdict::refuse && !empty && b.count != 0) {
    rule = worse(rule, refuse_if(b.count < 0 || b.count > INT32_MAX));
    if (rule != verdict::refuse) rule = worse(rule, rule_of_matrices(b, ranges));
    for (const matrix& m : b.x)
      if (rule != verdict::refuse && !m.exists()) return;
    for (const matrix& m : b.out)
      if (rule != verdict::refuse && !m.exists()) return;
    if (rule != verdict::refuse) rule = worse(rule, overlap_rule(ranges));
    interleaved = overlap_rule(ranges) == verdict::either;
    if (sized == STEEPEST_OK && rule != verdict::refuse)
      workspace = some_workspace(input, seen, *bytes);
    rule = worse(rule, workspace.rule);
  } else if (b.count < 0) {
    rule = worse(rule, verdict::either);
  }
  const auto call = [&](steepest_context* in) {
    if (!b.batched)
      return steepest_msign(in, b.config_pointer(), b.rows, b.cols, b.dtype, b.x[0].data, b.ldx,
                            b.out[0].data, b.ldo, workspace.pointer, results);
    return steepest_msign_batched(in, b.config_pointer(), b.rows, b.cols, b.dtype, b.xs, b.ldx,
                                  b.outs, b.ldo, b.count, workspace.pointer, results);
  };
  bool finite = true;
  double largest_given = 0;
  if (rule != verdict::refuse && !empty)
    for (const matrix& m : b.x) {
      const double largest = largest_of(m);
      if (!(largest <= DBL_MAX)) finite = false;
      largest_given = std::max(largest_given, largest);
    }
  if (input.rarely(8)) context.break_one(input);
  const steepest_status status = watched(function, seen, [&] { return call(context.context); });
  if (!has_answer(context, status, rule, function) || empty || b.count <= 0) return;
  if (!finite) REQUIRE(status != STEEPEST_OK, "an answer for what is not finite");
  if (finite && is_bounded(b.config.seen)) REQUIRE(status != STEEPEST_E_NONFINITE, "not finite?");
  for (std::size_t i = 0; i < b.out.size(); ++i) {
    const range bytes_out = b.out[i].bytes(true, 0);
    if (!interleaved) REQUIRE(gaps_unchanged(seen, bytes_out), "%s wrote between rows", function);
    const bool failed = !b.batched && status != STEEPEST_OK;
    if (failed) REQUIRE(rows_unchanged(seen, bytes_out), "%s failed and wrote", function);
    if (status == STEEPEST_OK && is_bounded(b.config.seen))
      REQUIRE(largest_of(b.out[i]) <= (drifts(b.config.seen) ? DBL_MAX : 2),
              "%s gave %g from at most %g: %lld x %lld of type %d, method %d with %d steps, "
              "coefficients %d, lower bound %g, compute type %d, normalization %d",
              function, largest_of(b.out[i]), largest_given, static_cast<long long>(b.rows),
              static_cast<long long>(b.cols), b.dtype, b.config.seen.method, b.config.seen.steps,
              b.config.seen.coefficients, b.config.seen.lower_bound, b.config.seen.compute_dtype,
              b.config.seen.normalization);
  }
  if (b.config.seen.method == STEEPEST_MSIGN_SVD || b.openblas) return;
  const auto first = seen.contents();
  const auto first_numbers = seen.numbers();
  const bool other_level = b.config.consistent() && input.even_chance();
  // The same workspace may be too small for more threads, never for fewer.
  steepest_context* const other =
      plain_context(other_level ? STEEPEST_ISA_GENERIC : steepest_context_isa(context.context));
  if (other_level && workspace.pointer != nullptr) return;
  seen.restore();
  REQUIRE(call(other) == status, "another status the second time");
  if (other_level)
    REQUIRE(seen.numbers() == first_numbers, "other bits on the generic level: %s",
            memory::difference(seen.numbers(), first_numbers).c_str());
  else
    REQUIRE(seen.contents() == first, "other bits the second time: %s",
            memory::difference(seen.contents(), first).c_str());
}

void bands(choices& input, memory& seen) {
  const msign_given config = some_msign_config(input, seen);
  const double lower_bound = input.number({1e-3, 0.1, 1, 1e-8});
  auto* const results = static_cast<double*>(seen.bytes(memory::output, 16));
  double* const low = input.rarely(32) ? nullptr : results;
  double* const high = input.rarely(32) ? nullptr : results + 1;
  const steepest_status status = watched("msign_band", seen, [&] {
    return steepest_msign_band(config.pointer, lower_bound, low, high);
  });
  const steepest_msign_config& c = config.seen;
  const bool rational = c.method == STEEPEST_MSIGN_RATIONAL || c.method == STEEPEST_MSIGN_HALLEY;
  verdict rule = worse(config.rule, refuse_if(!(lower_bound > 0 && lower_bound <= 1) ||
                                              low == nullptr || high == nullptr));
  if (rational && c.lower_bound != 0) rule = worse(rule, verdict::either);
  expect(rule, status, "msign_band");
  if (status == STEEPEST_OK)
    REQUIRE(*low >= 0 && *low <= *high && *high <= 2.1,
            "a band from %g to %g: method %d, %d steps, coefficients %d, from %g", *low, *high,
            c.method, c.steps, c.coefficients, lower_bound);
}

void coefficients(choices& input, memory& seen) {
  const double lower_bound = input.number({1e-3, 0.1, 0.5, 1e-8, 1e-12});
  const std::int64_t steps = input.integer({1, 5, 8, 100, 0, 101});
  const bool possible = steps >= 1 && steps <= 100;
  auto* const rows =
      input.rarely(32)
          ? nullptr
          : static_cast<double*>(seen.bytes(memory::output, possible ? 24 * steps : 8));
  const steepest_status status = watched("msign_coefficients", seen, [&] {
    return steepest_msign_coefficients(lower_bound, steps, rows);
  });
  expect(refuse_if(!possible || rows == nullptr || !(lower_bound >= 1e-12 && lower_bound < 1)),
         status, "msign_coefficients");
  for (std::int64_t i = 0; status == STEEPEST_OK && i < 3 * steps; ++i)
    REQUIRE(std::fabs(rows[i]) < 100, "coefficient %d is %g", int(i), rows[i]);
}

void run(const std::uint8_t* data, std::size_t size) {
  choices input(data, size);
  memory seen;
  switch (input.below(6)) {
    case 4: bands(input, seen); break;
    case 5: coefficients(input, seen); break;
    default: signs(input, seen);
  }
}

const registration registered("msign", run);

}  // namespace
}  // namespace steepest_fuzz
