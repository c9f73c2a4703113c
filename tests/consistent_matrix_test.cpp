// SPDX-License-Identifier: Apache-2.0
//
// STEEPEST_FLAG_CONSISTENT for the matrix functions: the same bits on every level and for any
// threads, statistics included, whether the call or the context has the flag. The generic level on
// one thread is what the others are compared with. Without the flag levels agree within rounding.
#include <array>

#include "executors.hpp"
#include "muon_support.hpp"

namespace steepest_test {
namespace {

using std::int64_t;

struct shape {
  int64_t rows, cols;
};

// Every n up to 70 with one of four partners, by turns wide and tall. (The generic level may have
// its fma in software, and is not asked for more.)
std::vector<shape> shapes() {
  std::vector<shape> found;
  for (int64_t n = 1; n <= 70; ++n) {
    const std::array<int64_t, 4> others = {n, n + 1, 2 * n + 3, 131};
    for (std::size_t k = 0; k < others.size(); ++k) {
      if (!long_run() && static_cast<std::size_t>(n % 4) != k) continue;
      const bool is_wide = (n + n / 4) % 2 == 0;
      found.push_back(is_wide ? shape{n, others[k]} : shape{others[k], n});
    }
  }
  if (long_run()) found.push_back({150, 310});
  return found;
}

// What one kind of context is made of. An executor lives as long as the contexts.
struct machine {
  std::string name;
  context_pointer context;
};

struct executors {
  reversed_executor one{1}, three{3};
  steepest_executor reversed = one.interface(), odd = three.interface();
};

// Every level alone, with two threads and with executors of the caller's.
std::vector<machine> machines(const executors& own, std::uint64_t flags) {
  std::vector<machine> found;
  for (const steepest_isa isa : levels()) {
    const std::string name = steepest_isa_name(isa);
    found.push_back({name, make_context({.max_isa = isa, .flags = flags})});
    // The generic level is slow: once is enough, as threads do not depend on levels.
    if (isa == STEEPEST_ISA_GENERIC && levels().size() > 1) continue;
    found.push_back(
        {name + ", two threads", make_context({.max_isa = isa, .threads = 2, .flags = flags})});
    found.push_back({name + ", reversed",
                     make_context({.max_isa = isa, .flags = flags, .executor = &own.reversed})});
    found.push_back({name + ", three workers",
                     make_context({.max_isa = isa, .flags = flags, .executor = &own.odd})});
  }
  return found;
}

// ------------------------------------------------------------------ msign

struct method_case {
  std::string name;
  steepest_msign_config config;
};

std::vector<method_case> methods() {
  std::vector<method_case> found;
  const auto add = [&](const std::string& name, std::int32_t method, std::int32_t steps = 0) {
    steepest_msign_config config = STEEPEST_MSIGN_CONFIG_INIT;
    config.method = method;
    config.steps = steps;
    found.push_back({name, config});
    return &found.back().config;
  };
  add("auto", STEEPEST_MSIGN_AUTO);
  add("newton-schulz", STEEPEST_MSIGN_NEWTON_SCHULZ);
  add("newton-schulz schatten", STEEPEST_MSIGN_NEWTON_SCHULZ)->normalization =
      STEEPEST_NORM_SCHATTEN4;
  add("cubic", STEEPEST_MSIGN_NEWTON_SCHULZ, 2)->coefficients = STEEPEST_COEF_CUBIC;
  add("gram", STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ);
  add("gram with restarts", STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ, 7);
  add("rational", STEEPEST_MSIGN_RATIONAL, 2)->lower_bound = 0.01;
  add("rational, two rounds", STEEPEST_MSIGN_RATIONAL, 5);
  add("halley", STEEPEST_MSIGN_HALLEY);
  add("accurate", STEEPEST_MSIGN_ACCURATE);
  return found;
}

struct answer {
  steepest_status status = STEEPEST_OK;
  stored o;
  steepest_msign_stats stats = STEEPEST_MSIGN_STATS_INIT;

  bool operator==(const answer& other) const {
    return status == other.status && o == other.o && same_bits(stats, other.stats);
  }
};

answer run_msign(steepest_context* context, const steepest_msign_config& config,
                 const stored& given) {
  answer result;
  stored x = given;
  result.o = stored(given.dtype, given.rows, given.cols, 3);
  std::memset(&result.stats, 0, sizeof(result.stats));
  result.stats.struct_size = sizeof(result.stats);
  result.status = steepest_msign(context, &config, x.rows, x.cols, x.dtype, x.data(), x.ld,
                                 result.o.data(), result.o.ld, nullptr, &result.stats);
  EXPECT_TRUE(result.o.intact());
  EXPECT_TRUE(x == given);
  return result;
}

stored gaussian_matrix(random_source& random, steepest_dtype dtype, const shape& size,
                       double scale = 1) {
  stored x(dtype, size.rows, size.cols, random.below(2) == 0 ? 0 : 1 + random.below(9));
  x.fill_with([&](int64_t, int64_t) { return scale * random.normal(); });
  return x;
}

// The given matrix with one method on all machines, with the flag on the call and on the context.
class msign_comparison {
 public:
  void check(const method_case& method, const stored& x, const std::string& what) const {
    steepest_msign_config flagged = method.config;
    flagged.flags = STEEPEST_FLAG_CONSISTENT;
    const answer expected = run_msign(by_call_[0].context.get(), flagged, x);
    EXPECT_OK(expected.status);
    const auto compare = [&](const machine& by, const steepest_msign_config& config) {
      EXPECT_TRUE(run_msign(by.context.get(), config, x) == expected)
          << method.name << ' ' << x.rows << " x " << x.cols << ' ' << what << " on " << by.name;
    };
    for (std::size_t i = 1; i < by_call_.size(); ++i) compare(by_call_[i], flagged);
    for (const machine& by : by_context_) compare(by, method.config);
  }

 private:
  executors executors_;
  std::vector<machine> by_call_ = machines(executors_, 0);
  std::vector<machine> by_context_ = machines(executors_, STEEPEST_FLAG_CONSISTENT);
};

TEST(consistent_matrix, msign_of_every_shape) {
  const msign_comparison comparison;
  random_source random(21);
  const std::vector<method_case> all = methods();
  std::size_t turn = 0;
  for (const shape& size : shapes()) {
    const stored f32 = gaussian_matrix(random, STEEPEST_F32, size);
    const stored f64 = gaussian_matrix(random, STEEPEST_F64, size);
    for (const method_case& method : all) {
      // Of the two types one with each method, unless there is time.
      ++turn;
      if (turn % 2 == 0 || long_run()) comparison.check(method, f32, "f32");
      if (turn % 2 == 1 || long_run()) comparison.check(method, f64, "f64");
    }
    ++turn;
  }
}

TEST(consistent_matrix, msign_of_every_type_and_scale) {
  const msign_comparison comparison;
  random_source random(22);
  for (const method_case& method : methods())
    for (const shape& size : {shape{20, 37}, shape{35, 18}}) {
      for (const steepest_dtype dtype : {STEEPEST_BF16, STEEPEST_F16})
        comparison.check(method, gaussian_matrix(random, dtype, size),
                         dtype == STEEPEST_F16 ? "f16" : "bf16");
      for (const double scale : {1e-30, 3e29})
        comparison.check(method, gaussian_matrix(random, STEEPEST_F32, size, scale), "scaled");
    }
  method_case wider = {"rational in f64", STEEPEST_MSIGN_CONFIG_INIT};
  wider.config.compute_dtype = STEEPEST_F64;
  wider.config.lower_bound = 1e-6;
  comparison.check(wider, gaussian_matrix(random, STEEPEST_BF16, {19, 33}), "bf16");
  method_case narrower = {"rational in f32", STEEPEST_MSIGN_CONFIG_INIT};
  narrower.config.compute_dtype = STEEPEST_F32;
  comparison.check(narrower, gaussian_matrix(random, STEEPEST_F64, {33, 19}), "f64");
}

// Rounding decides here: a zero matrix, one of rank 2, and one whose rows fall by powers of ten.
TEST(consistent_matrix, msign_of_singular_matrices) {
  const msign_comparison comparison;
  random_source random(23);
  for (const method_case& method : methods())
    for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_F64}) {
      stored x(dtype, 34, 40);
      x.fill_with([](auto, auto) { return 0.0; });
      comparison.check(method, x, "zero");
      const stored left = gaussian_matrix(random, STEEPEST_F32, {34, 2});
      const stored right = gaussian_matrix(random, STEEPEST_F32, {2, 40});
      x.fill_with([&](int64_t i, int64_t j) {
        return left.at(i, 0) * right.at(0, j) + left.at(i, 1) * right.at(1, j);
      });
      comparison.check(method, x, "rank 2");
      x.fill_with([&](int64_t i, int64_t) {
        return random.normal() * std::pow(10.0, -static_cast<double>(i) / 3);
      });
      comparison.check(method, x, "falling");
    }
}

double distance(const stored& a, const stored& b) {
  double difference = 0;
  double size = 0;
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t j = 0; j < a.cols; ++j) {
      difference += std::pow(a.at(i, j) - b.at(i, j), 2);
      size += std::pow(b.at(i, j), 2);
    }
  return std::sqrt(difference / size);
}

// How much a method may amplify rounding errors where all singular values lie within a factor of
// four. The slopes of five polynomials have a product of up to 8.2 4.1 3.9 3.3 2.3, near 1000.
double amplification(const steepest_msign_config& config) {
  const bool polynomial = config.method == STEEPEST_MSIGN_NEWTON_SCHULZ ||
                          config.method == STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ;
  return polynomial ? 1000 : 100;
}

// Those of a Gaussian matrix with sides 1 : 3 do.
TEST(consistent_matrix, levels_agree_without_the_flag) {
  random_source random(24);
  for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_F64})
    for (const shape& size : {shape{1, 3}, shape{11, 33}, shape{16, 48}, shape{99, 33},
                              shape{70, 211}, shape{390, 130}}) {
      const stored x = gaussian_matrix(random, dtype, size);
      for (const method_case& method : methods()) {
        const auto consistent =
            make_context({.max_isa = levels().back(), .flags = STEEPEST_FLAG_CONSISTENT});
        const answer expected = run_msign(consistent.get(), method.config, x);
        EXPECT_OK(expected.status);
        const double eps = dtype == STEEPEST_F32 ? FLT_EPSILON : DBL_EPSILON;
        const double allowed = amplification(method.config) * eps;
        for (const steepest_isa isa : levels()) {
          const answer got = run_msign(make_context({.max_isa = isa}).get(), method.config, x);
          EXPECT_OK(got.status);
          const std::string where = method.name + " on " + steepest_isa_name(isa) + ' ' +
                                    std::to_string(size.rows) + " x " + std::to_string(size.cols);
          EXPECT_LE(distance(got.o, expected.o), allowed) << where;
          EXPECT_NEAR(got.stats.norm, expected.stats.norm, 4 * eps * expected.stats.norm) << where;
          EXPECT_EQ(got.stats.steps, expected.stats.steps) << where;
        }
      }
    }
}

// ------------------------------------------------------------------ Muon

struct muon_case {
  std::string name;
  steepest_muon_config config = STEEPEST_MUON_CONFIG_INIT;
  steepest_msign_config msign = STEEPEST_MSIGN_CONFIG_INIT;
};

std::vector<muon_case> muon_cases() {
  std::vector<muon_case> found;
  const auto add = [&](const std::string& name, std::uint64_t flags, std::int32_t kind,
                       std::int32_t scale, std::int32_t method) {
    muon_case c;
    c.name = name;
    c.config.flags = flags;
    c.config.lr = 0.02;
    c.config.weight_decay = 0.1;
    c.config.grad_scale = 0.3;
    c.config.step = 7;
    c.config.momentum_kind = kind;
    c.config.scale_mode = scale;
    c.msign.method = method;
    found.push_back(c);
  };
  add("ema", 0, STEEPEST_MOMENTUM_EMA, STEEPEST_SCALE_MATCH_RMS, STEEPEST_MSIGN_AUTO);
  add("nesterov", STEEPEST_MUON_NESTEROV, STEEPEST_MOMENTUM_EMA, STEEPEST_SCALE_EXACT_RMS,
      STEEPEST_MSIGN_AUTO);
  add("nesterov cautious delta",
      STEEPEST_MUON_NESTEROV | STEEPEST_MUON_CAUTIOUS_DECAY | STEEPEST_MUON_EMIT_DELTA,
      STEEPEST_MOMENTUM_EMA, STEEPEST_SCALE_SQRT_MAX, STEEPEST_MSIGN_NEWTON_SCHULZ);
  add("classic maximize", STEEPEST_MUON_MAXIMIZE, STEEPEST_MOMENTUM_CLASSIC,
      STEEPEST_SCALE_SQRT_OUT_IN, STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ);
  add("classic nesterov cautious", STEEPEST_MUON_NESTEROV | STEEPEST_MUON_CAUTIOUS_DECAY,
      STEEPEST_MOMENTUM_CLASSIC, STEEPEST_SCALE_NONE, STEEPEST_MSIGN_HALLEY);
  add("accurate skip", STEEPEST_MUON_NESTEROV | STEEPEST_MUON_SKIP_NONFINITE, STEEPEST_MOMENTUM_EMA,
      STEEPEST_SCALE_EXACT_RMS, STEEPEST_MSIGN_ACCURATE);
  return found;
}

struct step_result {
  steepest_status status = STEEPEST_OK;
  std::vector<muon_matrices> matrices;
  std::vector<steepest_step_stats> stats;
};

// One call on all of them.
step_result run_step(steepest_context* context, muon_case c, std::uint64_t flags,
                     const std::vector<muon_matrices>& before) {
  c.config.flags |= flags;
  c.config.msign = &c.msign;
  step_result result;
  result.matrices = before;
  std::vector<steepest_muon_tensor> tensors;
  for (muon_matrices& m : result.matrices) tensors.push_back(m.tensor());
  result.stats.resize(before.size());
  std::memset(result.stats.data(), 0, before.size() * sizeof(steepest_step_stats));
  for (steepest_step_stats& stats : result.stats) stats.struct_size = sizeof(stats);
  result.status =
      steepest_muon_step(context, &c.config, tensors.data(), static_cast<int64_t>(tensors.size()),
                         nullptr, result.stats.data());
  EXPECT_OK(result.status);
  for (const muon_matrices& m : result.matrices) EXPECT_TRUE(m.intact());
  return result;
}

void expect_same(const step_result& got, const step_result& expected) {
  EXPECT_EQ(got.status, expected.status);
  for (std::size_t i = 0; i < got.matrices.size(); ++i) {
    EXPECT_TRUE(same_bits(got.matrices[i], expected.matrices[i])) << "tensor " << i;
    EXPECT_TRUE(same_bits(got.stats[i], expected.stats[i])) << "tensor " << i;
  }
}

// Tensors of all sorts, for fp32 arithmetic or for fp64.
std::vector<muon_matrices> tensor_list(random_source& random, bool f64) {
  std::vector<muon_layout> layouts;
  const auto add = [&](int64_t rows, int64_t cols, const std::vector<int64_t>& blocks = {},
                       std::int32_t axis = 0, int64_t gap = 0) {
    muon_layout l;
    l.rows = rows;
    l.cols = cols;
    l.blocks = blocks;
    l.block_axis = axis;
    l.gap = gap;
    const steepest_dtype types[] = {STEEPEST_F32, STEEPEST_BF16, STEEPEST_F16};
    const auto pick = [&] { return f64 ? STEEPEST_F64 : types[random.below(3)]; };
    l.param = pick();
    l.grad = pick();
    l.momentum = pick();
    l.delta = pick();
    layouts.push_back(l);
  };
  add(1, 13);
  add(9, 5);
  add(16, 33, {}, 0, 3);
  add(40, 24, {7, 32, 1});
  add(24, 40, {20, 19, 1}, 1, 2);
  add(48, 17, {16, 16, 16});
  add(33, 64);
  if (long_run()) add(130, 150, {65, 65});
  std::vector<muon_matrices> result;
  for (const muon_layout& l : layouts) result.push_back(random_matrices(random, l));
  return result;
}

TEST(consistent_matrix, muon_step) {
  random_source random(25);
  const executors own;
  const std::vector<machine> by_call = machines(own, 0);
  const std::vector<machine> by_context = machines(own, STEEPEST_FLAG_CONSISTENT);
  for (const bool f64 : {false, true})
    for (const muon_case& c : muon_cases())
      for (int round = 0; round < (long_run() ? 5 : 1); ++round) {
        const std::vector<muon_matrices> before = tensor_list(random, f64);
        const step_result expected =
            run_step(by_call[0].context.get(), c, STEEPEST_FLAG_CONSISTENT, before);
        for (std::size_t i = 1; i < by_call.size(); ++i) {
          SCOPED_TRACE(c.name + (f64 ? " f64 on " : " on ") + by_call[i].name);
          expect_same(run_step(by_call[i].context.get(), c, STEEPEST_FLAG_CONSISTENT, before),
                      expected);
        }
        for (const machine& by : by_context) {
          SCOPED_TRACE(c.name + (f64 ? " f64 on flagged " : " on flagged ") + by.name);
          expect_same(run_step(by.context.get(), c, 0, before), expected);
        }
        // The flag on msign's config alone, which makes the whole step consistent.
        muon_case by_msign = c;
        by_msign.msign.flags = STEEPEST_FLAG_CONSISTENT;
        SCOPED_TRACE(c.name + " by msign's config");
        const auto best = make_context({.max_isa = levels().back()});
        expect_same(run_step(best.get(), by_msign, 0, before), expected);
      }
}

// Eight steps in a row, whose parameters and momenta depend on all before.
TEST(consistent_matrix, muon_trajectory) {
  random_source random(26);
  for (const bool f64 : {false, true}) {
    muon_case c = muon_cases()[1];
    std::vector<muon_matrices> start = tensor_list(random, f64);
    std::vector<step_result> ends;
    for (const steepest_isa isa : levels()) {
      const auto context =
          make_context({.max_isa = isa, .threads = 2, .flags = STEEPEST_FLAG_CONSISTENT});
      step_result state;
      state.matrices = start;
      for (int step = 1; step <= 8; ++step) {
        c.config.step = step;
        state = run_step(context.get(), c, 0, state.matrices);
      }
      ends.push_back(state);
    }
    for (std::size_t i = 1; i < ends.size(); ++i) {
      SCOPED_TRACE(steepest_isa_name(levels()[i]));
      expect_same(ends[i], ends[0]);
    }
  }
}

// Of fp32 and fp64 parameters, one step by each level.
TEST(consistent_matrix, muon_levels_agree_without_the_flag) {
  random_source random(27);
  for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_F64})
    for (const muon_case& c : muon_cases()) {
      // Sides 1 : 3, as above; and no cautious decay, which rounding may switch.
      muon_case steady = c;
      steady.config.flags &= ~STEEPEST_MUON_CAUTIOUS_DECAY;
      steady.config.flags |= STEEPEST_MUON_EMIT_DELTA;
      muon_layout layout;
      layout.rows = 33;
      layout.cols = 100;
      layout.param = layout.grad = layout.momentum = layout.delta = dtype;
      const std::vector<muon_matrices> before = {random_matrices(random, layout)};
      const auto consistent =
          make_context({.max_isa = levels().back(), .flags = STEEPEST_FLAG_CONSISTENT});
      const step_result expected = run_step(consistent.get(), steady, 0, before);
      const double eps = dtype == STEEPEST_F32 ? FLT_EPSILON : DBL_EPSILON;
      const double allowed = amplification(c.msign) * eps;
      for (const steepest_isa isa : levels()) {
        const step_result got = run_step(make_context({.max_isa = isa}).get(), steady, 0, before);
        const muon_matrices& a = got.matrices[0];
        const muon_matrices& b = expected.matrices[0];
        EXPECT_LE(distance(a.delta, b.delta), allowed) << c.name << steepest_isa_name(isa);
        EXPECT_LE(distance(a.momentum, b.momentum), 4 * eps) << c.name << steepest_isa_name(isa);
        EXPECT_NEAR(got.stats[0].update_rms, expected.stats[0].update_rms,
                    allowed * expected.stats[0].update_rms)
            << c.name << steepest_isa_name(isa);
      }
    }
}

}  // namespace
}  // namespace steepest_test
