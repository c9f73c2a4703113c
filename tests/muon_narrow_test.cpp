// SPDX-License-Identifier: Apache-2.0
//
// The Muon step on narrow storage: 8-bit momentum, stochastic rounding, residuals, and the copy of
// the parameters.
#include <functional>

#include "executors.hpp"
#include "muon_narrow_support.hpp"

namespace steepest_test {
namespace {

constexpr steepest_dtype momentum_types[] = {STEEPEST_F32, STEEPEST_BF16, STEEPEST_F16,
                                             STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED};
constexpr steepest_dtype coded_types[] = {STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED};

struct param_mode {
  steepest_dtype dtype;
  std::int32_t residual;
};
constexpr param_mode param_modes[] = {
    {STEEPEST_F32, STEEPEST_RESIDUAL_NONE},       {STEEPEST_BF16, STEEPEST_RESIDUAL_NONE},
    {STEEPEST_F16, STEEPEST_RESIDUAL_NONE},       {STEEPEST_BF16, STEEPEST_RESIDUAL_LOW16},
    {STEEPEST_BF16, STEEPEST_RESIDUAL_NEAREST16}, {STEEPEST_BF16, STEEPEST_RESIDUAL_NEAREST8},
    {STEEPEST_BF16, STEEPEST_RESIDUAL_KAHAN},     {STEEPEST_F16, STEEPEST_RESIDUAL_KAHAN}};

steepest_dtype narrow_types_in_turn(std::size_t turn) {
  constexpr steepest_dtype types[] = {STEEPEST_F32, STEEPEST_BF16, STEEPEST_F16};
  return types[turn % 3];
}

steepest_muon_config telling_config() {
  steepest_muon_config config = make_muon_config();
  config.lr = 0.05;
  config.momentum = 0.75;
  config.weight_decay = 0.25;
  config.grad_scale = 1.5;
  config.step = 7;
  config.seed = 11;
  return config;
}

narrow_layout layout_of(std::int64_t rows, std::int64_t cols) {
  narrow_layout layout;
  layout.rows = rows;
  layout.cols = cols;
  return layout;
}

// ------------------------------------------------------------------ encode(step(decode))

TEST(muon_narrow, a_step_is_the_f32_step_between_decoding_and_encoding) {
  random_source random(401);
  const std::pair<std::int64_t, std::int64_t> shapes[] = {
      {1, 1}, {1, 300}, {300, 1}, {12, 29}, {29, 12}, {33, 65}, {300, 5}, {64, 256}, {7, 513}};
  std::size_t turn = 0;
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    for (const auto& [rows, cols] : shapes)
      for (const steepest_dtype momentum : momentum_types)
        for (const param_mode& mode : param_modes) {
          ++turn;  // the rest in turn, by numbers without a common factor
          narrow_layout layout = layout_of(rows, cols);
          layout.param = mode.dtype;
          layout.residual = mode.residual;
          layout.momentum = momentum;
          layout.gap = turn % 3 == 0 ? 3 : 0;
          layout.grad = narrow_types_in_turn(turn);
          layout.copy = turn % 4 == 0 ? 0 : narrow_types_in_turn(turn / 4);
          layout.block_axis = turn % 2 == 0 ? 1 : 0;
          const std::int64_t side = layout.block_axis == 0 ? rows : cols;
          if (turn % 5 == 0 && side > 4)
            layout.blocks = {side / 4, side / 2, side - side / 4 - side / 2};
          steepest_muon_config config = telling_config();
          if (turn % 7 == 0) config.flags |= STEEPEST_MUON_CAUTIOUS_DECAY;
          if (turn % 11 == 0) config.momentum_kind = STEEPEST_MOMENTUM_CLASSIC;
          if (turn % 13 == 0) config.flags |= STEEPEST_MUON_MAXIMIZE;
          if (mode.residual == STEEPEST_RESIDUAL_NONE && turn % 3 == 1) {
            config.flags |= STEEPEST_MUON_EMIT_DELTA;
            layout.copy = 0;
          }
          SCOPED_TRACE(testing::Message()
                       << steepest_isa_name(isa) << " " << rows << " x " << cols << " param "
                       << mode.dtype << " residual " << mode.residual << " momentum " << momentum
                       << " grad " << layout.grad << " copy " << layout.copy << " gap "
                       << layout.gap << " flags " << config.flags);
          narrow_matrix m(random, layout);
          steepest_step_stats stats = STEEPEST_STEP_STATS_INIT, wide_stats = stats;
          const narrow_matrix expected = stepped(context.get(), config, m, &wide_stats);
          ASSERT_OK(m.run(context.get(), config, turn % 2 == 0 ? &stats : nullptr));
          ASSERT_TRUE(same_bits(m, expected));
          ASSERT_TRUE(m.intact());
          if (turn % 2 == 0) {
            ASSERT_TRUE(same_bits(stats, wide_stats));
          }
        }
  }
}

// ------------------------------------------------------------------ random rounding

TEST(muon_narrow, random_bits_are_those_of_the_element) {
  random_source random(402);
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    for (const param_mode& mode : param_modes)
      for (const steepest_dtype momentum : momentum_types)
        for (const std::int64_t first :
             {std::int64_t{0}, std::int64_t{77}, (std::int64_t{1} << 32) - 100}) {
          narrow_layout layout = layout_of(21, 43);
          layout.param = mode.dtype;
          layout.residual = mode.residual;
          layout.momentum = momentum;
          layout.copy = STEEPEST_F16;
          layout.gap = 2;
          steepest_muon_config config = telling_config();
          config.flags |= STEEPEST_MUON_STOCHASTIC_ROUNDING;
          narrow_matrix m(random, layout);
          m.first_index = first;
          m.stream = random.bits();
          narrow_matrix expected = stepped(context.get(), config, m, nullptr);
          ASSERT_OK(m.run(context.get(), config));
          if (m.coded()) {
            EXPECT_FALSE(m.momentum == expected.momentum);
            expected.momentum = m.momentum;
            expected.scales = m.scales;
          }
          ASSERT_TRUE(same_bits(m, expected))
              << steepest_isa_name(isa) << " param " << mode.dtype << " residual " << mode.residual
              << " momentum " << momentum << " first_index " << first;
          ASSERT_TRUE(m.intact());
        }
  }
}

// Large enough for several threads; on every level, since the flag makes the f32 step the same.
TEST(muon_narrow, the_same_bits_for_threads_strides_and_levels) {
  for (const steepest_dtype momentum : {STEEPEST_BF16, STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED})
    for (const std::int32_t residual : {STEEPEST_RESIDUAL_NONE, STEEPEST_RESIDUAL_NEAREST8}) {
      narrow_matrix expected;
      for (const steepest_isa isa : levels())
        for (const std::int32_t threads : {1, 4})
          for (const std::int64_t gap : {0, 5}) {
            const context_pointer context = make_context(
                {.max_isa = isa, .threads = threads, .flags = STEEPEST_FLAG_CONSISTENT});
            random_source random(403);
            narrow_layout layout = layout_of(270, 331);
            layout.momentum = momentum;
            layout.residual = residual;
            layout.copy = STEEPEST_BF16;
            layout.gap = gap;
            narrow_matrix m(random, layout);
            steepest_muon_config config = telling_config();
            config.flags |= STEEPEST_MUON_STOCHASTIC_ROUNDING;
            ASSERT_OK(m.run(context.get(), config));
            if (expected.count() == 0) expected = m;
            bool same = m.momentum.get(0, 0) == expected.momentum.get(0, 0);
            for (std::int64_t i = 0; i < layout.rows; ++i)
              for (std::int64_t j = 0; j < layout.cols; ++j)
                same = same && m.param.get(i, j) == expected.param.get(i, j) &&
                       m.residual.get(i, j) == expected.residual.get(i, j) &&
                       m.momentum.get(i, j) == expected.momentum.get(i, j) &&
                       m.copy.get(i, j) == expected.copy.get(i, j);
            EXPECT_TRUE(same && m.scales == expected.scales)
                << steepest_isa_name(isa) << " threads " << threads << " gap " << gap
                << " momentum " << momentum << " residual " << residual;
          }
    }
}

// A tensor of blocks of rows is its blocks as tensors of their own, each from its first_index on.
TEST(muon_narrow, blocks_equal_separate_tensors) {
  for (const steepest_dtype momentum :
       {STEEPEST_BF16, STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED}) {
    random_source random(404);
    narrow_layout layout = layout_of(24, 64);
    layout.momentum = momentum;
    layout.blocks = {8, 4, 12};  // 8-bit blocks end with them
    narrow_matrix whole(random, layout);
    narrow_matrix parts = whole;
    steepest_muon_config config = telling_config();
    config.flags |= STEEPEST_MUON_STOCHASTIC_ROUNDING;
    ASSERT_OK(whole.run(nullptr, config));
    std::vector<steepest_muon_tensor> tensors;
    std::int64_t row = 0;
    for (const std::int64_t rows : layout.blocks) {
      steepest_muon_tensor t = parts.tensor();
      const std::int64_t first = row * layout.cols;
      t.blocks = nullptr;
      t.block_count = 0;
      t.rows = rows;
      t.first_index = first;
      t.param = static_cast<char*>(t.param) + 2 * first;
      t.grad = static_cast<const char*>(t.grad) + 4 * first;
      t.momentum = static_cast<char*>(t.momentum) + (momentum == STEEPEST_BF16 ? 2 : 1) * first;
      if (momentum == STEEPEST_Q8_DYNAMIC)
        t.momentum_scales = static_cast<char*>(t.momentum_scales) + 4 * (first / 256);
      if (momentum == STEEPEST_Q8_COMPANDED)
        t.momentum_scales = static_cast<char*>(t.momentum_scales) + 2 * (first / 32);
      tensors.push_back(t);
      row += rows;
    }
    ASSERT_OK(steepest_muon_step(nullptr, &config, tensors.data(), 3, nullptr, nullptr));
    EXPECT_TRUE(same_bits(whole, parts)) << "momentum " << momentum;
  }
}

// The mean over seeds of what is stored, against the f32 step's value.
TEST(muon_narrow, random_rounding_has_the_right_mean) {
  const int seeds = long_run() ? 20000 : 1500;
  for (const steepest_dtype momentum :
       {STEEPEST_BF16, STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED}) {
    random_source random(405);
    narrow_layout layout = layout_of(16, 17);
    layout.momentum = momentum;
    narrow_matrix start(random, layout);
    narrow_matrix wide = widened(start);
    steepest_muon_config config = telling_config();
    config.lr = 1e-4;  // much less than an ulp of most parameters
    ASSERT_OK(wide.run(nullptr, config));
    config.flags |= STEEPEST_MUON_STOCHASTIC_ROUNDING;
    const auto count = static_cast<std::size_t>(start.count());
    std::vector<double> sums(2 * count), squares(2 * count);
    for (int seed = 0; seed < seeds; ++seed) {
      config.seed = static_cast<std::uint64_t>(seed);
      narrow_matrix m = start;
      ASSERT_OK(m.run(nullptr, config));
      const std::vector<float> stored = m.decoded_momentum();
      for (std::size_t i = 0; i < 2 * count; ++i) {
        const auto row = static_cast<std::int64_t>(i % count) / layout.cols;
        const auto col = static_cast<std::int64_t>(i % count) % layout.cols;
        const double error =
            i < count ? double{stored[i]} - double{float_of(wide.momentum.get(row, col))}
                      : double{m.master(row, col)} - double{float_of(wide.param.get(row, col))};
        sums[i] += error;
        squares[i] += error * error;
      }
    }
    int moved = 0;
    double largest = 0, sum = 0, variances = 0;
    for (const float m : wide.decoded_momentum()) largest = std::max(largest, std::abs(double{m}));
    for (std::size_t i = 0; i < 2 * count; ++i) {
      const double mean = sums[i] / seeds;
      const double variance = squares[i] / seeds - mean * mean;
      const auto row = static_cast<std::int64_t>(i % count) / layout.cols;
      const auto col = static_cast<std::int64_t>(i % count) % layout.cols;
      const double value = float_of((i < count ? wide.momentum : wide.param).get(row, col));
      moved += variance > 0;
      if (i >= count) {
        sum += mean;
        variances += variance / seeds;
      }
      // The scales of COMPANDED are rounded to 11 bits, and with them the largest of a block.
      const double slack =
          (i < count && momentum == STEEPEST_Q8_COMPANDED ? 0x1p-10 : 0x1p-16) * std::abs(value);
      // Who should move a few times in all seeds may not have moved at all.
      const bool coded = i < count && momentum != STEEPEST_BF16;
      const double gap = coded ? largest / 63 : 2 * half_ulp(STEEPEST_BF16, value);
      const double rare = 7 * gap / seeds;
      EXPECT_LE(std::abs(mean), 5 * std::sqrt(variance / seeds) + slack + rare)
          << (i < count ? "momentum " : "param ") << i % count << " of type " << momentum;
    }
    EXPECT_GT(moved, static_cast<int>(count));
    EXPECT_LE(std::abs(sum), 5 * std::sqrt(variances));  // all parameters together
  }
}

// ------------------------------------------------------------------ over many steps

// Regression of W X onto noisy targets: 300 steps with mini-batches, linear decay.
struct regression {
  explicit regression(const narrow_layout& layout) : source(406) {
    const std::int64_t rows = layout.rows, cols = layout.cols;
    target.resize(static_cast<std::size_t>(rows * cols));
    for (double& x : target) x = source.normal();
    matrix = narrow_matrix(source, layout);
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < cols; ++j) matrix.set_master(i, j, 0);
    matrix.momentum = cells(matrix.momentum.size, rows, cols, 0);
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < cols; ++j) matrix.momentum.put(i, j, 0);
    std::fill(matrix.scales.begin(), matrix.scales.end(), static_cast<unsigned char>(0));
  }

  void run(std::int64_t first, std::int64_t last, std::uint64_t flags) {
    const std::int64_t cols = matrix.layout.cols;
    for (std::int64_t step = first; step <= last; ++step) {
      random_source noise(static_cast<std::uint64_t>(step));
      for (std::int64_t i = 0; i < matrix.layout.rows; ++i)
        for (std::int64_t j = 0; j < cols; ++j) {
          const double error = double{matrix.master(i, j)} - wanted(i, j);
          const double curvature = 1.0 / static_cast<double>(1 + j % 7);
          matrix.grad.put(
              i, j, bits_of(static_cast<float>(1e-3 * (curvature * error + 0.3 * noise.normal()))));
        }
      steepest_muon_config config = make_muon_config();
      config.flags |= flags;
      config.lr = 0.2 * static_cast<double>(301 - step) / 300;
      config.weight_decay = 0;
      config.step = step;
      ASSERT_OK(matrix.run(nullptr, config));
    }
  }
  double wanted(std::int64_t i, std::int64_t j) const {
    return target[static_cast<std::size_t>(i * matrix.layout.cols + j)];
  }
  // RMS of W - target over that of target.
  double loss() const {
    double sum = 0, all = 0;
    for (std::int64_t i = 0; i < matrix.layout.rows; ++i)
      for (std::int64_t j = 0; j < matrix.layout.cols; ++j) {
        sum += std::pow(double{matrix.master(i, j)} - wanted(i, j), 2);
        all += std::pow(wanted(i, j), 2);
      }
    return std::sqrt(sum / all);
  }

  random_source source;
  std::vector<double> target;
  narrow_matrix matrix;
};

double distance(const regression& a, const regression& b) {
  double sum = 0, all = 0;
  for (std::int64_t i = 0; i < a.matrix.layout.rows; ++i)
    for (std::int64_t j = 0; j < a.matrix.layout.cols; ++j) {
      sum += std::pow(double{a.matrix.master(i, j)} - double{b.matrix.master(i, j)}, 2);
      all += std::pow(double{a.matrix.master(i, j)}, 2);
    }
  return std::sqrt(sum / all);
}

TEST(muon_narrow, narrow_momentum_stays_close_over_300_steps) {
  narrow_layout layout = layout_of(24, 40);
  layout.param = STEEPEST_F32;
  regression exact(layout);
  exact.run(1, 300, 0);
  EXPECT_LT(exact.loss(), 0.2);
  for (const steepest_dtype momentum : {STEEPEST_BF16, STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED})
    for (const std::uint64_t flags : {std::uint64_t{0}, STEEPEST_MUON_STOCHASTIC_ROUNDING}) {
      layout.momentum = momentum;
      regression narrow(layout);
      narrow.run(1, 300, flags);
      // At most 0.0072 and 1.004 seen.
      EXPECT_LT(distance(exact, narrow), 0.02) << "momentum " << momentum << ", flags " << flags;
      EXPECT_LT(narrow.loss(), 1.02 * exact.loss());
    }
}

// The arrays are all the state there is.
TEST(muon_narrow, goes_on_from_a_checkpoint) {
  for (const steepest_dtype momentum : coded_types)
    for (const std::int32_t residual : {STEEPEST_RESIDUAL_NONE, STEEPEST_RESIDUAL_NEAREST8,
                                        STEEPEST_RESIDUAL_LOW16, STEEPEST_RESIDUAL_KAHAN}) {
      narrow_layout layout = layout_of(24, 40);
      layout.momentum = momentum;
      layout.residual = residual;
      regression straight(layout), first(layout);
      straight.run(1, 12, STEEPEST_MUON_STOCHASTIC_ROUNDING);
      first.run(1, 5, STEEPEST_MUON_STOCHASTIC_ROUNDING);
      regression second(layout);
      second.matrix = first.matrix;
      second.run(6, 12, STEEPEST_MUON_STOCHASTIC_ROUNDING);
      EXPECT_TRUE(same_bits(straight.matrix, second.matrix));
      EXPECT_FALSE(same_bits(straight.matrix, first.matrix));
    }
}

// ------------------------------------------------------------------ failures and memory

TEST(muon_narrow, a_tensor_that_is_not_finite_is_left_alone) {
  random_source random(407);
  for (const steepest_dtype momentum : coded_types)
    for (const bool blocks : {false, true})
      for (const bool in_scale : {false, true}) {
        narrow_layout layout = layout_of(24, 64);
        layout.momentum = momentum;
        layout.residual = STEEPEST_RESIDUAL_LOW16;
        layout.copy = STEEPEST_BF16;
        if (blocks) layout.blocks = {8, 16};
        narrow_matrix bad(random, layout), good(random, layout);
        if (in_scale)
          std::fill_n(bad.scales.end() - 4, 4, static_cast<unsigned char>(0xff));
        else
          bad.grad.put(23, 60, bits_of(std::numeric_limits<float>::quiet_NaN()));
        const narrow_matrix before = bad, good_before = good;
        const steepest_muon_tensor tensors[] = {bad.tensor(), good.tensor()};
        const steepest_muon_config config = telling_config();
        EXPECT_EQ(steepest_muon_step(nullptr, &config, tensors, 2, nullptr, nullptr),
                  STEEPEST_E_NONFINITE);
        EXPECT_TRUE(same_bits(bad, before));
        EXPECT_FALSE(same_bits(good, good_before));
      }
}

TEST(muon_narrow, no_memory_is_obtained_after_the_first_step) {
  counting_allocator own;
  const steepest_allocator allocator = own.interface();
  const context_pointer context = make_context({.threads = 2, .allocator = &allocator});
  random_source random(408);
  for (const steepest_dtype momentum : coded_types) {
    narrow_layout layout = layout_of(70, 300);
    layout.momentum = momentum;
    layout.residual = STEEPEST_RESIDUAL_NEAREST8;
    layout.copy = STEEPEST_BF16;
    narrow_matrix m(random, layout);
    steepest_muon_config config = telling_config();
    config.flags |= STEEPEST_MUON_STOCHASTIC_ROUNDING;
    ASSERT_OK(m.run(context.get(), config));
    const std::int64_t calls = own.calls;
    for (int i = 0; i < 3; ++i) ASSERT_OK(m.run(context.get(), config));
    EXPECT_EQ(own.calls, calls);
    // Nor more of it than in f32.
    narrow_matrix wide = widened(m);
    const steepest_muon_tensor narrow_tensor = m.tensor(), wide_tensor = wide.tensor();
    std::size_t narrow_bytes = 0, wide_bytes = 0;
    ASSERT_OK(steepest_muon_workspace_size(nullptr, &config, &narrow_tensor, 1, &narrow_bytes));
    ASSERT_OK(steepest_muon_workspace_size(nullptr, &config, &wide_tensor, 1, &wide_bytes));
    EXPECT_EQ(narrow_bytes, wide_bytes);
  }
}

// ------------------------------------------------------------------ bad input

struct bad_row {
  steepest_status status;
  const char* start;
  std::function<void(steepest_muon_tensor&, steepest_muon_config&)> spoil;
};

TEST(muon_narrow, bad_input_names_the_argument) {
  const bad_row rows[] = {
      {STEEPEST_E_INVALID_ARGUMENT, ".residual_kind is 5",
       [](auto& t, auto&) { t.residual_kind = 5; }},
      {STEEPEST_E_INVALID_ARGUMENT, ".residual_kind is -1",
       [](auto& t, auto&) { t.residual_kind = -1; }},
      {STEEPEST_E_DTYPE, ".param_dtype is f16",
       [](auto& t, auto&) { t.param_dtype = STEEPEST_F16; }},
      {STEEPEST_E_INVALID_ARGUMENT, ".residual_kind is 1",
       [](auto&, auto& c) { c.flags |= STEEPEST_MUON_EMIT_DELTA; }},
      {STEEPEST_E_INVALID_ARGUMENT, ".param_copy is set",
       [](auto& t, auto& c) {
         c.flags |= STEEPEST_MUON_EMIT_DELTA;
         t.residual_kind = STEEPEST_RESIDUAL_NONE;
       }},
      {STEEPEST_E_INVALID_ARGUMENT, ".residual is null",
       [](auto& t, auto&) { t.residual = nullptr; }},
      {STEEPEST_E_INVALID_ARGUMENT, ".momentum_scales is null",
       [](auto& t, auto&) { t.momentum_scales = nullptr; }},
      {STEEPEST_E_INVALID_ARGUMENT, ".momentum_scales ",
       [](auto& t, auto&) { t.momentum_scales = static_cast<char*>(t.momentum_scales) + 1; }},
      {STEEPEST_E_DTYPE, ".param_copy_dtype ",
       [](auto& t, auto&) { t.param_copy_dtype = STEEPEST_Q8_DYNAMIC; }},
      {STEEPEST_E_DTYPE, ".param_copy_dtype is f64",
       [](auto& t, auto&) { t.param_copy_dtype = STEEPEST_F64; }},
      {STEEPEST_E_SHAPE, ".param_copy_ld is 39", [](auto& t, auto&) { t.param_copy_ld = 39; }},
      {STEEPEST_E_SHAPE, ".momentum_ld is 41", [](auto& t, auto&) { t.momentum_ld = 41; }},
      {STEEPEST_E_SHAPE, ".momentum_ld is 39", [](auto& t, auto&) { t.momentum_ld = 39; }},
      {STEEPEST_E_SHAPE, ".first_index is -1", [](auto& t, auto&) { t.first_index = -1; }},
      {STEEPEST_E_SHAPE, ".first_index is 9223372036854775807",
       [](auto& t, auto&) { t.first_index = INT64_MAX; }},
      {STEEPEST_E_INVALID_ARGUMENT, ".residual overlaps its param",
       [](auto& t, auto&) { t.residual = t.param; }},
      {STEEPEST_E_INVALID_ARGUMENT, ".momentum_scales overlaps its param_copy",
       [](auto& t, auto&) { t.momentum_scales = t.param_copy; }},
      {STEEPEST_E_INVALID_ARGUMENT, ".param_copy overlaps its momentum",
       [](auto& t, auto&) { t.param_copy = t.momentum; }},
  };
  for (const bad_row& row : rows) {
    random_source random(409);
    narrow_layout layout = layout_of(12, 40);
    layout.momentum = STEEPEST_Q8_DYNAMIC;
    layout.residual = STEEPEST_RESIDUAL_LOW16;
    layout.copy = STEEPEST_BF16;
    narrow_matrix m(random, layout);
    const narrow_matrix before = m;
    steepest_muon_tensor tensor = m.tensor();
    steepest_muon_config config = telling_config();
    row.spoil(tensor, config);
    EXPECT_EQ(steepest_muon_step(nullptr, &config, &tensor, 1, nullptr, nullptr), row.status)
        << row.start;
    EXPECT_EQ(std::string(steepest_last_error())
                  .rfind(std::string("muon_step: tensors[0]") + row.start, 0),
              0u)
        << steepest_last_error() << ", not " << row.start;
    EXPECT_TRUE(same_bits(m, before));
  }
}

// Written by another tensor of the call, in either order.
TEST(muon_narrow, overlap_across_tensors) {
  random_source random(410);
  narrow_layout layout = layout_of(12, 40);
  layout.momentum = STEEPEST_Q8_COMPANDED;
  layout.residual = STEEPEST_RESIDUAL_KAHAN;
  layout.copy = STEEPEST_BF16;
  void* steepest_muon_tensor::*const fields[] = {
      &steepest_muon_tensor::residual, &steepest_muon_tensor::param_copy,
      &steepest_muon_tensor::momentum_scales, &steepest_muon_tensor::momentum};
  const steepest_muon_config config = telling_config();
  for (const auto field : fields)
    for (const int other : {0, 1}) {
      narrow_matrix a(random, layout), b(random, layout);
      const narrow_matrix a_before = a, b_before = b;
      steepest_muon_tensor tensors[] = {a.tensor(), b.tensor()};
      tensors[other].*field = tensors[1 - other].*field;
      EXPECT_EQ(steepest_muon_step(nullptr, &config, tensors, 2, nullptr, nullptr),
                STEEPEST_E_INVALID_ARGUMENT);
      EXPECT_NE(std::string(steepest_last_error()).find("overlaps"), std::string::npos);
      EXPECT_TRUE(same_bits(a, a_before) && same_bits(b, b_before));
    }
}

// A caller that was compiled before these fields were there.
TEST(muon_narrow, an_older_struct_is_as_before) {
  constexpr std::size_t older = offsetof(steepest_muon_tensor, residual);
  random_source random(411);
  narrow_matrix a(random, layout_of(12, 40));
  narrow_matrix b = a;
  const steepest_muon_config config = telling_config();
  ASSERT_OK(a.run(nullptr, config));
  steepest_muon_tensor tensor = b.tensor();
  tensor.struct_size = older;
  tensor.residual_kind = 99;  // not looked at
  tensor.first_index = -1;
  ASSERT_OK(steepest_muon_step(nullptr, &config, &tensor, 1, nullptr, nullptr));
  EXPECT_TRUE(same_bits(a, b));
  // Without a place for the scales 8-bit momentum is refused.
  tensor.momentum_dtype = STEEPEST_Q8_COMPANDED;
  EXPECT_EQ(steepest_muon_step(nullptr, &config, &tensor, 1, nullptr, nullptr),
            STEEPEST_E_INVALID_ARGUMENT);
  EXPECT_NE(std::string(steepest_last_error()).find("momentum_scales is null"), std::string::npos);
  EXPECT_TRUE(same_bits(a, b));
}

}  // namespace
}  // namespace steepest_test
