// SPDX-License-Identifier: Apache-2.0
//
// The Muon step against the formula of the header, in every combination of options, types and
// shapes; what must be equal bit by bit; what is known of the size of its updates; and what happens
// when something fails. That O is right is shown by the tests of msign.
#include <atomic>
#include <thread>

#include "executors.hpp"
#include "matrix_oracle.hpp"
#include "muon_support.hpp"

namespace steepest_test {
namespace {

constexpr std::uint64_t step_flags[] = {
    0,
    STEEPEST_MUON_NESTEROV,
    STEEPEST_MUON_MAXIMIZE,
    STEEPEST_MUON_CAUTIOUS_DECAY,
    STEEPEST_MUON_EMIT_DELTA,
    STEEPEST_MUON_NESTEROV | STEEPEST_MUON_MAXIMIZE | STEEPEST_MUON_CAUTIOUS_DECAY,
    STEEPEST_MUON_NESTEROV | STEEPEST_MUON_CAUTIOUS_DECAY | STEEPEST_MUON_EMIT_DELTA |
        STEEPEST_MUON_SKIP_NONFINITE,
};
constexpr std::int32_t scale_modes[] = {STEEPEST_SCALE_MATCH_RMS,   STEEPEST_SCALE_EXACT_RMS,
                                        STEEPEST_SCALE_NONE,        STEEPEST_SCALE_SQRT_MAX1_OUT_IN,
                                        STEEPEST_SCALE_SQRT_OUT_IN, STEEPEST_SCALE_SQRT_MAX};
constexpr std::int32_t momentum_kinds[] = {STEEPEST_MOMENTUM_EMA, STEEPEST_MOMENTUM_CLASSIC};
constexpr steepest_dtype narrow_types[] = {STEEPEST_F32, STEEPEST_BF16, STEEPEST_F16};

// Every term counts: none of them hides behind the rounding of another.
steepest_muon_config telling_config() {
  steepest_muon_config config = make_muon_config();
  config.lr = 0.5;
  config.momentum = 0.75;
  config.weight_decay = 0.25;
  config.scale_value = 0.3;
  config.grad_scale = 1.5;
  config.step = 7;
  return config;
}

steepest_step_stats empty_stats() { return STEEPEST_STEP_STATS_INIT; }

muon_layout layout_of(std::int64_t rows, std::int64_t cols, steepest_dtype dtype = STEEPEST_F32) {
  muon_layout layout;
  layout.rows = rows;
  layout.cols = cols;
  layout.param = layout.grad = layout.momentum = layout.delta = dtype;
  return layout;
}

// ------------------------------------------------------------------ the formula

TEST(muon, follows_the_formula_for_every_option) {
  random_source random(201);
  ASSERT_TRUE(openblas_is_single_threaded);
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_F64}) {
      for (const std::uint64_t flags : step_flags) {
        for (const std::int32_t kind : momentum_kinds) {
          for (const std::int32_t mode : scale_modes) {
            SCOPED_TRACE(testing::Message()
                         << steepest_isa_name(isa) << " dtype " << dtype << " flags " << flags
                         << " kind " << kind << " mode " << mode);
            steepest_muon_config config = telling_config();
            config.flags = flags;
            config.momentum_kind = kind;
            config.scale_mode = mode;
            check_step(context.get(), config,
                       random_matrices(random, layout_of(12, 29, dtype), random.below(2) == 0));
            if (HasFailure()) return;
          }
        }
      }
    }
  }
}

TEST(muon, any_shape) {
  random_source random(202);
  const std::pair<std::int64_t, std::int64_t> shapes[] = {
      {1, 1},   {1, 2},   {1, 17}, {1, 600}, {2, 1},   {17, 1},   {600, 1},
      {2, 2},   {3, 40},  {40, 3}, {16, 64}, {64, 16}, {7, 1031}, {515, 7},
      {33, 65}, {65, 33}, {0, 5},  {5, 0},   {0, 0}};
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    for (const auto& [rows, cols] : shapes) {
      for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_F64}) {
        SCOPED_TRACE(testing::Message() << steepest_isa_name(isa) << " " << rows << " x " << cols);
        check_step(context.get(), telling_config(),
                   random_matrices(random, layout_of(rows, cols, dtype)));
      }
    }
    // A square Gaussian matrix has small singular values; this one has none below 1.
    for (const std::int64_t n : {5, 16, 48}) {
      muon_matrices m = random_matrices(random, layout_of(n, n), true);
      m.grad.fill_with([&](std::int64_t i, std::int64_t j) {
        return m.grad.at(i, j) * 0.1 + (i == j ? std::sqrt(static_cast<double>(n)) : 0);
      });
      check_step(context.get(), telling_config(), m);
    }
  }
}

TEST(muon, any_mix_of_types) {
  random_source random(203);
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    for (const steepest_dtype param : narrow_types) {
      for (const steepest_dtype grad : narrow_types) {
        for (const steepest_dtype momentum : narrow_types) {
          for (const steepest_dtype delta : narrow_types) {
            SCOPED_TRACE(testing::Message() << steepest_isa_name(isa) << " types " << param << grad
                                            << momentum << delta);
            muon_layout layout = layout_of(11, 37);
            layout.param = param;
            layout.grad = grad;
            layout.momentum = momentum;
            layout.delta = delta;
            steepest_muon_config config = telling_config();
            check_step(context.get(), config, random_matrices(random, layout));
            config.flags |= STEEPEST_MUON_EMIT_DELTA;
            check_step(context.get(), config, random_matrices(random, layout));
            if (HasFailure()) return;
          }
        }
      }
    }
  }
}

TEST(muon, other_methods_of_msign) {
  random_source random(204);
  const std::int32_t methods[] = {STEEPEST_MSIGN_NEWTON_SCHULZ, STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ,
                                  STEEPEST_MSIGN_RATIONAL,      STEEPEST_MSIGN_HALLEY,
                                  STEEPEST_MSIGN_SVD,           STEEPEST_MSIGN_ACCURATE};
  for (const std::int32_t method : methods) {
    for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_F64}) {
      SCOPED_TRACE(testing::Message() << "method " << method << " dtype " << dtype);
      steepest_msign_config msign = make_msign_config();
      msign.method = method;
      steepest_muon_config config = telling_config();
      config.msign = &msign;
      for (const auto& [rows, cols] : {std::pair{9, 30}, std::pair{30, 9}})
        check_step(nullptr, config, random_matrices(random, layout_of(rows, cols, dtype)));
    }
  }
  // Their results differ, so that one taken for another would show: O of Keller's coefficients is
  // far from orthogonal.
  steepest_msign_config keller = make_msign_config();
  keller.method = STEEPEST_MSIGN_NEWTON_SCHULZ;
  keller.coefficients = STEEPEST_COEF_KELLER;
  steepest_muon_config config = telling_config();
  muon_matrices a = random_matrices(random, layout_of(9, 30));
  muon_matrices b = a;
  ASSERT_OK(run_muon(nullptr, config, a));
  config.msign = &keller;
  ASSERT_OK(run_muon(nullptr, config, b));
  EXPECT_FALSE(same_bits(a, b));
}

// Two elements of a vector, by hand. EMA with mu = 1/2: m = (4, 2) / 2 + (2, 6) / 2 = (3, 4). O is
// m / 5. SCALE_NONE and lr 1/2, decay 1/4: W - 1/2 (O + W / 4).
TEST(muon, hand_worked) {
  for (const bool nesterov : {false, true}) {
    steepest_muon_config config = make_muon_config();
    config.flags = nesterov ? STEEPEST_MUON_NESTEROV : 0;
    config.lr = 0.5;
    config.momentum = 0.5;
    config.weight_decay = 0.25;
    config.scale_mode = STEEPEST_SCALE_NONE;
    steepest_msign_config svd = make_msign_config();
    svd.method = STEEPEST_MSIGN_SVD;
    config.msign = &svd;
    double param[] = {8, -16}, momentum[] = {4, 2};
    // With NESTEROV u = m / 2 + g / 2 = (2.5, 5), and O = (1, 2) / sqrt(5).
    const double grad[] = {2, 6};
    steepest_muon_tensor tensor = STEEPEST_MUON_TENSOR_INIT;
    tensor.rows = 1;
    tensor.cols = 2;
    tensor.param = param;
    tensor.grad = grad;
    tensor.momentum = momentum;
    tensor.param_dtype = tensor.grad_dtype = tensor.momentum_dtype = STEEPEST_F64;
    ASSERT_OK(steepest_muon_step(nullptr, &config, &tensor, 1, nullptr, nullptr));
    EXPECT_EQ(momentum[0], 3);
    EXPECT_EQ(momentum[1], 4);
    const double root = std::sqrt(5.0);
    EXPECT_NEAR(param[0], 8 - 0.5 * ((nesterov ? 1 / root : 0.6) + 2), 1e-14);
    EXPECT_NEAR(param[1], -16 - 0.5 * ((nesterov ? 2 / root : 0.8) - 4), 1e-14);
  }
}

// The two kinds of momentum give one direction, and buffers that differ by 1 - mu.
TEST(muon, kinds_of_momentum_agree_in_direction) {
  random_source random(205);
  for (const bool nesterov : {false, true}) {
    steepest_muon_config config = telling_config();
    config.grad_scale = 1;
    config.flags = nesterov ? STEEPEST_MUON_NESTEROV : 0;
    const muon_layout layout = layout_of(10, 25, STEEPEST_F64);
    muon_matrices ema = random_matrices(random, layout, true);
    muon_matrices classic = ema;
    for (int step = 1; step <= 5; ++step) {
      ema.grad.fill_with([&](auto, auto) { return random.normal(); });
      classic.grad = ema.grad;
      config.momentum_kind = STEEPEST_MOMENTUM_EMA;
      ASSERT_OK(run_muon(nullptr, config, ema));
      config.momentum_kind = STEEPEST_MOMENTUM_CLASSIC;
      ASSERT_OK(run_muon(nullptr, config, classic));
      for (std::int64_t i = 0; i < 10; ++i) {
        for (std::int64_t j = 0; j < 25; ++j) {
          EXPECT_NEAR(ema.momentum.at(i, j), 0.25 * classic.momentum.at(i, j), 1e-14);
          EXPECT_NEAR(ema.param.at(i, j), classic.param.at(i, j), 1e-12);
        }
      }
    }
  }
}

TEST(muon, strides_and_alignment) {
  random_source random(206);
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_F64, STEEPEST_BF16, STEEPEST_F16}) {
      for (const std::uint64_t flags :
           {STEEPEST_MUON_NESTEROV, STEEPEST_MUON_NESTEROV | STEEPEST_MUON_EMIT_DELTA}) {
        SCOPED_TRACE(testing::Message() << steepest_isa_name(isa) << " dtype " << dtype);
        steepest_muon_config config = telling_config();
        config.flags = flags;
        muon_layout layout = layout_of(9, 35, dtype);
        muon_matrices plain = random_matrices(random, layout);
        layout.gap = 1 + random.below(40);
        layout.offset = 1;
        muon_matrices other(layout);
        const std::pair<stored*, const stored*> copies[] = {{&other.param, &plain.param},
                                                            {&other.grad, &plain.grad},
                                                            {&other.momentum, &plain.momentum},
                                                            {&other.delta, &plain.delta}};
        for (const auto& [to, from] : copies)
          to->fill_with([source = from](auto i, auto j) { return source->at(i, j); });
        const muon_matrices before = other;
        steepest_step_stats plain_stats = empty_stats(), other_stats = empty_stats();
        ASSERT_OK(run_muon(context.get(), config, other, &other_stats));
        expect_step(config, before, other);
        ASSERT_OK(run_muon(context.get(), config, plain, &plain_stats));
        EXPECT_TRUE(same_bits(plain_stats, other_stats));
        for (const auto& [to, from] : copies)
          for (std::int64_t i = 0; i < 9; ++i)
            for (std::int64_t j = 0; j < 35; ++j) ASSERT_EQ(to->at(i, j), from->at(i, j));
      }
    }
  }
}

// ------------------------------------------------------------------ fans and blocks

TEST(muon, explicit_fans) {
  random_source random(207);
  for (const std::int32_t mode : scale_modes) {
    for (const auto& [out, in] :
         {std::pair{500, 3}, std::pair{3, 500}, std::pair{0, 500}, std::pair{500, 0}}) {
      SCOPED_TRACE(testing::Message() << "mode " << mode << " fans " << out << " " << in);
      steepest_muon_config config = telling_config();
      config.scale_mode = mode;
      muon_layout layout = layout_of(8, 20);
      layout.fan_out = out;
      layout.fan_in = in;
      check_step(nullptr, config, random_matrices(random, layout));
      layout.blocks = {3, 5};
      check_step(nullptr, config, random_matrices(random, layout));
    }
  }
}

struct block_row {
  std::int64_t rows, cols;
  std::int32_t axis;
  std::vector<std::int64_t> blocks;
};

const block_row block_rows[] = {
    {24, 40, 0, {24}},           {24, 40, 0, {5, 1, 18}}, {24, 40, 1, {40}},
    {24, 40, 1, {7, 13, 20}},    {30, 8, 0, {15, 15}},    {30, 8, 1, {1, 1, 1, 1, 1, 1, 1, 1}},
    {6, 300, 1, {100, 60, 140}}, {90, 7, 0, {20, 70}},
};

TEST(muon, blocks_follow_the_formula) {
  random_source random(208);
  for (const block_row& row : block_rows) {
    for (const std::int32_t mode : scale_modes) {
      for (const std::int64_t gap : {0, 3}) {
        SCOPED_TRACE(testing::Message() << row.rows << " x " << row.cols << " axis " << row.axis
                                        << " of " << row.blocks.size() << " mode " << mode);
        steepest_muon_config config = telling_config();
        config.scale_mode = mode;
        config.flags |= gap != 0 ? STEEPEST_MUON_CAUTIOUS_DECAY : 0;
        muon_layout layout = layout_of(row.rows, row.cols);
        layout.blocks = row.blocks;
        layout.block_axis = row.axis;
        layout.gap = gap;
        check_step(nullptr, config, random_matrices(random, layout));
      }
    }
  }
}

// Blocks are tensors of their own in one array: the same bits as given one by one.
TEST(muon, blocks_equal_separate_tensors) {
  random_source random(209);
  for (const block_row& row : block_rows) {
    for (const std::int32_t mode : scale_modes) {
      for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_F64, STEEPEST_BF16}) {
        SCOPED_TRACE(testing::Message() << row.rows << " x " << row.cols << " axis " << row.axis
                                        << " of " << row.blocks.size() << " mode " << mode);
        steepest_muon_config config = telling_config();
        config.scale_mode = mode;
        muon_layout layout = layout_of(row.rows, row.cols, dtype);
        layout.gap = 2;
        layout.blocks = row.blocks;
        layout.block_axis = row.axis;
        muon_matrices together = random_matrices(random, layout);
        muon_matrices apart = together;
        muon_matrices at_once = together;
        ASSERT_OK(run_muon(nullptr, config, together));
        const auto parts_of = [&](muon_matrices& m) {
          std::vector<steepest_muon_tensor> parts;
          std::int64_t from = 0;
          for (const std::int64_t length : row.blocks) {
            steepest_muon_tensor t = m.tensor();
            t.blocks = nullptr;
            t.block_count = 0;
            (row.axis == 0 ? t.rows : t.cols) = length;
            const auto shifted = [&](const void* data, std::int64_t ld) {
              const std::int64_t elements = row.axis == 0 ? from * ld : from;
              return const_cast<char*>(static_cast<const char*>(data)) +
                     elements * static_cast<std::int64_t>(size_of(dtype));
            };
            t.param = shifted(t.param, t.param_ld);
            t.grad = shifted(t.grad, t.grad_ld);
            t.momentum = shifted(t.momentum, t.momentum_ld);
            parts.push_back(t);
            from += length;
          }
          return parts;
        };
        for (const steepest_muon_tensor& part : parts_of(apart))
          ASSERT_OK(steepest_muon_step(nullptr, &config, &part, 1, nullptr, nullptr));
        EXPECT_TRUE(same_bits(together, apart));
        // In one call, columns of one array are interleaved tensors.
        const auto parts = parts_of(at_once);
        ASSERT_OK(steepest_muon_step(nullptr, &config, parts.data(),
                                     static_cast<std::int64_t>(parts.size()), nullptr, nullptr));
        EXPECT_TRUE(same_bits(together, at_once));
      }
    }
  }
}

// ------------------------------------------------------------------ lists

// Shapes, types and configs of all sorts in one call.
struct mixed_list {
  std::vector<muon_matrices> matrices;
  steepest_muon_config config = telling_config(), own = telling_config();
  std::vector<steepest_step_stats> stats;

  explicit mixed_list(std::uint64_t seed) {
    random_source random(seed);
    muon_layout layout = layout_of(12, 30);
    matrices.push_back(random_matrices(random, layout));
    layout = layout_of(41, 9, STEEPEST_F64);
    layout.gap = 3;
    matrices.push_back(random_matrices(random, layout));
    layout = layout_of(0, 7);
    matrices.push_back(random_matrices(random, layout));
    layout = layout_of(24, 60, STEEPEST_BF16);
    layout.momentum = STEEPEST_F32;
    layout.blocks = {8, 8, 8};
    matrices.push_back(random_matrices(random, layout));
    layout = layout_of(1, 50, STEEPEST_F16);
    matrices.push_back(random_matrices(random, layout));
    layout = layout_of(7, 40);  // the last needs least memory
    layout.block_axis = 1;
    layout.blocks = {22, 18};
    layout.offset = 1;
    matrices.push_back(random_matrices(random, layout));
    own.flags = STEEPEST_MUON_MAXIMIZE | STEEPEST_MUON_EMIT_DELTA;
    own.lr = 0.25;
    own.momentum = 0.5;
    own.momentum_kind = STEEPEST_MOMENTUM_CLASSIC;
    own.scale_mode = STEEPEST_SCALE_EXACT_RMS;
    stats.assign(matrices.size(), empty_stats());
  }
  bool has_own_config(std::size_t i) const { return i == 1 || i == 4; }
  std::vector<steepest_muon_tensor> tensors() {
    std::vector<steepest_muon_tensor> list;
    for (std::size_t i = 0; i < matrices.size(); ++i) {
      list.push_back(matrices[i].tensor());
      if (has_own_config(i)) list.back().config = &own;
    }
    return list;
  }
  steepest_status run(steepest_context* context, const steepest_workspace* workspace = nullptr) {
    const auto list = tensors();
    return steepest_muon_step(context, &config, list.data(), static_cast<std::int64_t>(list.size()),
                              workspace, stats.data());
  }
  bool same_matrices(const mixed_list& other) const {
    for (std::size_t i = 0; i < matrices.size(); ++i)
      if (!same_bits(matrices[i], other.matrices[i])) return false;
    return true;
  }
};

TEST(muon, one_call_equals_separate_calls) {
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    mixed_list list(210);
    mixed_list apart = list;
    const mixed_list before = list;
    ASSERT_OK(list.run(context.get()));
    const auto tensors = apart.tensors();
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      ASSERT_OK(steepest_muon_step(context.get(), &apart.config, &tensors[i], 1, nullptr,
                                   &apart.stats[i]));
      SCOPED_TRACE(i);
      expect_step(list.has_own_config(i) ? list.own : list.config, before.matrices[i],
                  list.matrices[i]);
    }
    EXPECT_TRUE(list.same_matrices(apart));
    EXPECT_TRUE(same_bits(list.stats, apart.stats));
    // No config for the call, if every tensor has one.
    mixed_list named = before;
    auto own_configs = named.tensors();
    for (auto& tensor : own_configs)
      if (tensor.config == nullptr) tensor.config = &named.config;
    ASSERT_OK(steepest_muon_step(context.get(), nullptr, own_configs.data(), 6, nullptr, nullptr));
    EXPECT_TRUE(list.same_matrices(named));
  }
}

TEST(muon, empty_tensors_and_lists) {
  const steepest_muon_config config = telling_config();
  EXPECT_OK(steepest_muon_step(nullptr, &config, nullptr, 0, nullptr, nullptr));
  EXPECT_OK(steepest_muon_step(nullptr, nullptr, nullptr, 0, nullptr, nullptr));
  std::size_t bytes = 7;
  EXPECT_OK(steepest_muon_workspace_size(nullptr, &config, nullptr, 0, &bytes));
  for (const auto& [rows, cols] : {std::pair{0, 9}, std::pair{9, 0}, std::pair{0, 0}}) {
    steepest_muon_tensor tensor = STEEPEST_MUON_TENSOR_INIT;  // all pointers null
    tensor.rows = rows;
    tensor.cols = cols;
    steepest_step_stats stats = empty_stats();
    EXPECT_OK(steepest_muon_step(nullptr, &config, &tensor, 1, nullptr, &stats));
    EXPECT_EQ(stats.status, STEEPEST_OK);
    EXPECT_EQ(stats.nonfinite, 0);
    EXPECT_TRUE(std::isnan(stats.snr_update) && std::isnan(stats.snr_momentum));
  }
}

// ------------------------------------------------------------------ the same bits

TEST(muon, threads_and_executors_do_not_matter) {
  random_source random(211);
  muon_layout wide = layout_of(100, 2100);  // of many groups of rows
  muon_layout blocks = wide;
  blocks.blocks = {30, 60, 10};
  blocks.param = STEEPEST_BF16;
  muon_layout tall = layout_of(2000, 90);
  tall.block_axis = 1;
  tall.blocks = {50, 40};
  for (const muon_layout& layout : {wide, blocks, tall}) {
    const muon_matrices before = random_matrices(random, layout);
    steepest_muon_config config = telling_config();
    config.scale_mode = STEEPEST_SCALE_EXACT_RMS;
    muon_matrices expected = before;
    steepest_step_stats expected_stats = empty_stats();
    ASSERT_OK(run_muon(make_context().get(), config, expected, &expected_stats));
    const auto expect_same = [&](steepest_context* context) {
      muon_matrices m = before;
      steepest_step_stats stats = empty_stats();
      ASSERT_OK(run_muon(context, config, m, &stats));
      EXPECT_TRUE(same_bits(m, expected));
      EXPECT_TRUE(same_bits(stats, expected_stats));
    };
    for (const std::int32_t threads : {1, 2, 3, 8}) {
      SCOPED_TRACE(threads);
      expect_same(make_context({.threads = threads}).get());
      reversed_executor own(threads);
      const steepest_executor executor = own.interface();
      expect_same(make_context({.executor = &executor}).get());
      EXPECT_EQ(own.calls > 0, threads > 1);
    }
  }
}

// Small matrices of a list go one per thread, in an order of their own; large ones on all threads.
TEST(muon, threads_do_not_matter_for_mixed_lists) {
  random_source random(212);
  const std::vector<muon_layout> layouts = {
      layout_of(40, 60),  layout_of(300, 320), layout_of(256, 256), layout_of(7, 500),
      layout_of(200, 90), layout_of(600, 280), layout_of(1, 9),     layout_of(256, 256)};
  std::vector<muon_matrices> before;
  for (const muon_layout& layout : layouts) before.push_back(random_matrices(random, layout));
  const steepest_muon_config config = telling_config();
  std::vector<muon_matrices> expected = before;
  std::vector<steepest_step_stats> expected_stats(before.size(), empty_stats());
  for (std::size_t i = 0; i < before.size(); ++i)
    ASSERT_OK(run_muon(make_context().get(), config, expected[i], &expected_stats[i]));
  const auto expect_same = [&](steepest_context* context) {
    std::vector<muon_matrices> matrices = before;
    std::vector<steepest_step_stats> stats(before.size(), empty_stats());
    std::vector<steepest_muon_tensor> tensors;
    for (muon_matrices& each : matrices) tensors.push_back(each.tensor());
    ASSERT_OK(steepest_muon_step(context, &config, tensors.data(),
                                 static_cast<std::int64_t>(tensors.size()), nullptr, stats.data()));
    for (std::size_t i = 0; i < before.size(); ++i) {
      SCOPED_TRACE(i);
      EXPECT_TRUE(same_bits(matrices[i], expected[i]));
    }
    EXPECT_TRUE(same_bits(stats, expected_stats));
  };
  for (const std::int32_t threads : {1, 2, 3, 8}) {
    SCOPED_TRACE(threads);
    expect_same(make_context({.threads = threads}).get());
    reversed_executor own(threads);
    const steepest_executor executor = own.interface();
    expect_same(make_context({.executor = &executor}).get());
  }
}

TEST(muon, levels_agree_within_rounding) {
  random_source random(212);
  const muon_matrices before = random_matrices(random, layout_of(40, 130));
  muon_matrices expected = before;
  ASSERT_OK(run_muon(make_context({.max_isa = levels()[0]}).get(), telling_config(), expected));
  for (const steepest_isa isa : levels()) {
    muon_matrices m = before;
    ASSERT_OK(run_muon(make_context({.max_isa = isa}).get(), telling_config(), m));
    for (std::int64_t i = 0; i < 40; ++i) {
      for (std::int64_t j = 0; j < 130; ++j) {
        EXPECT_NEAR(m.param.at(i, j), expected.param.at(i, j), 2e-6);
        EXPECT_NEAR(m.momentum.at(i, j), expected.momentum.at(i, j), 1e-6);
      }
    }
  }
}

// Several threads in one context at the same time.
TEST(muon, concurrent_calls) {
  mixed_list expected(213);
  ASSERT_OK(expected.run(nullptr));
  const context_pointer context = make_context({.threads = 2});
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int repeat = 0; repeat < 20; ++repeat) {
        mixed_list list(213);
        if (list.run(context.get()) != STEEPEST_OK || !list.same_matrices(expected)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

// ------------------------------------------------------------------ the size of updates

TEST(muon, update_rms) {
  random_source random(214);
  steepest_muon_config config = telling_config();
  double low = 0, high = 0;
  const steepest_msign_config msign = make_msign_config();
  ASSERT_OK(steepest_msign_band(&msign, 1e-3, &low, &high));
  EXPECT_NEAR(low, 0.94, 0.005);
  EXPECT_NEAR(high, 1.06, 0.005);
  for (const auto& [rows, cols] : {std::pair{20, 100}, std::pair{100, 20}, std::pair{7, 400}}) {
    for (const double value : {0.2, 0.7, 0.0}) {
      config.scale_value = value;
      const muon_matrices before = random_matrices(random, layout_of(rows, cols), true);
      steepest_step_stats stats = empty_stats();
      muon_matrices m = before;
      config.scale_mode = STEEPEST_SCALE_EXACT_RMS;
      ASSERT_OK(run_muon(nullptr, config, m, &stats));
      EXPECT_NEAR(stats.update_rms, value, 1e-5 * value);
      m = before;
      config.scale_mode = STEEPEST_SCALE_MATCH_RMS;
      ASSERT_OK(run_muon(nullptr, config, m, &stats));
      EXPECT_GE(stats.update_rms, low * value * (1 - 1e-5));
      EXPECT_LE(stats.update_rms, high * value * (1 + 1e-5));
    }
  }
}

// Rank 2 of 12: RMS(O) is sqrt(2 / 12) of what full rank would give.
TEST(muon, update_rms_of_low_rank) {
  random_source random(215);
  const std::int64_t rows = 12, cols = 30;
  muon_matrices before = random_matrices(random, layout_of(rows, cols, STEEPEST_F64), true);
  double left[2][12], right[2][30];
  for (auto& row : left)
    for (double& x : row) x = random.normal();
  for (auto& row : right)
    for (double& x : row) x = random.normal();
  before.grad.fill_with([&](std::int64_t i, std::int64_t j) {
    return left[0][i] * right[0][j] + left[1][i] * right[1][j];
  });
  steepest_muon_config config = telling_config();
  config.scale_value = 0.2;
  for (const std::int32_t method : {STEEPEST_MSIGN_AUTO, STEEPEST_MSIGN_SVD}) {
    steepest_msign_config msign = make_msign_config();
    msign.method = method;
    config.msign = &msign;
    steepest_step_stats stats = empty_stats();
    muon_matrices m = before;
    config.scale_mode = STEEPEST_SCALE_EXACT_RMS;
    ASSERT_OK(run_muon(nullptr, config, m, &stats));
    EXPECT_NEAR(stats.update_rms, 0.2, 2e-6);
    m = before;
    config.scale_mode = STEEPEST_SCALE_MATCH_RMS;
    ASSERT_OK(run_muon(nullptr, config, m, &stats));
    EXPECT_NEAR(stats.update_rms / (0.2 * std::sqrt(2.0 / 12)), 1,
                method == STEEPEST_MSIGN_SVD ? 1e-9 : 0.065);
  }
}

// In fp64 with few poles |O|_F is known before O, from the inverses; else it is that of O.
TEST(muon, update_rms_of_any_spectrum) {
  random_source random(230);
  struct arithmetic {
    steepest_dtype storage, compute;
    std::uint64_t flags;
    double tolerance;
  };
  std::vector<arithmetic> kinds = {{STEEPEST_F32, STEEPEST_F32, 0, 1e-5},
                                   {STEEPEST_F64, STEEPEST_F64, 0, 1e-9},
                                   {STEEPEST_F32, STEEPEST_F64, 0, 1e-6}};
  if (levels().back() == STEEPEST_ISA_X86_AVX512_BF16) {
    kinds.push_back({STEEPEST_F32, STEEPEST_BF16, 0, 1e-5});
    kinds.push_back({STEEPEST_F32, STEEPEST_BF16, STEEPEST_MSIGN_SPLIT_BF16, 1e-5});
  }
  for (const auto& [rows, cols] : {std::pair{20, 100}, std::pair{150, 70}, std::pair{96, 96}}) {
    for (const matrix_case& given : matrix_families(random, rows, cols)) {
      for (const arithmetic& kind : kinds) {
        for (const std::int64_t poles : {1, 3, 4}) {
          steepest_msign_config msign = make_msign_config();
          msign.method = STEEPEST_MSIGN_RATIONAL;
          msign.steps = poles;
          msign.compute_dtype = kind.compute;
          msign.flags = kind.flags;
          steepest_muon_config config = telling_config();
          config.msign = &msign;
          config.scale_mode = STEEPEST_SCALE_EXACT_RMS;
          config.scale_value = 0.2;
          muon_matrices m = random_matrices(random, layout_of(rows, cols, kind.storage), true);
          m.grad.fill_with([&](std::int64_t i, std::int64_t j) { return given.x(i, j); });
          m.momentum.fill_with([](auto, auto) { return 0.0; });
          steepest_step_stats stats = empty_stats();
          ASSERT_OK(run_muon(nullptr, config, m, &stats));
          EXPECT_NEAR(stats.update_rms / 0.2, 1, kind.tolerance)
              << given.name << ' ' << rows << " x " << cols << " poles " << poles << " compute "
              << kind.compute << " flags " << kind.flags;
        }
      }
    }
  }
}

TEST(muon, zero_gradient_and_momentum) {
  random_source random(216);
  for (const std::int32_t mode : scale_modes) {
    for (const std::uint64_t flags : step_flags) {
      muon_matrices before = random_matrices(random, layout_of(6, 10), true);
      before.grad.fill_with([](auto, auto) { return 0.0; });
      steepest_muon_config config = telling_config();
      config.flags = flags;
      config.scale_mode = mode;
      steepest_step_stats stats = empty_stats();
      muon_matrices m = before;
      ASSERT_OK(run_muon(nullptr, config, m, &stats));
      EXPECT_EQ(stats.update_rms, 0);
      EXPECT_EQ(stats.status, STEEPEST_OK);
      EXPECT_TRUE(std::isnan(stats.snr_update));
      for (std::int64_t i = 0; i < 6; ++i) {
        for (std::int64_t j = 0; j < 10; ++j) {
          EXPECT_EQ(m.momentum.at(i, j), 0);
          const double decay = -0.5 * 0.25 * before.param.at(i, j);
          if ((flags & STEEPEST_MUON_EMIT_DELTA) != 0)
            EXPECT_NEAR(m.delta.at(i, j), decay, 1e-6);
          else
            EXPECT_NEAR(m.param.at(i, j), before.param.at(i, j) + decay, 1e-6);
        }
      }
    }
  }
}

// The example of the header.
TEST(muon, adamw_learning_rate_carries_over) {
  steepest_muon_config config = STEEPEST_MUON_CONFIG_INIT;
  config.lr = 3e-4;
  config.weight_decay = 0.1;
  ASSERT_OK(steepest_adam_update_rms(0.9, 0.0, 0, &config.scale_value));
  EXPECT_NEAR(config.scale_value, 0.2294, 5e-5);
  random_source random(217);
  muon_matrices m = random_matrices(random, layout_of(40, 160), true);
  const muon_matrices before = m;
  steepest_step_stats stats = empty_stats();
  ASSERT_OK(run_muon(nullptr, config, m, &stats));
  expect_step(config, before, m);
  EXPECT_NEAR(stats.update_rms, 0.2294, 0.065 * 0.2294);
}

double spectral_norm(stored& x) {
  std::vector<double> values(static_cast<std::size_t>(std::min(x.rows, x.cols)));
  EXPECT_OK(
      steepest_singular_values(nullptr, x.rows, x.cols, x.dtype, x.data(), x.ld, values.data()));
  return values.empty() ? 0 : values[0];
}

// |W_t| <= max(|W_t-1|, s |O| / decay): under noise from a large start, and with a constant
// gradient, which makes W -> -s O / decay and so reaches the bound.
TEST(muon, weight_decay_bounds_the_spectral_norm) {
  random_source random(218);
  const steepest_msign_config msign = make_msign_config();
  double low = 0, high = 0;
  ASSERT_OK(steepest_msign_band(&msign, 1e-3, &low, &high));
  for (const bool constant : {false, true}) {
    steepest_muon_config config = make_muon_config();
    config.lr = 0.1;
    config.weight_decay = 0.5;
    const double s = 0.2 * std::sqrt(40.0);
    muon_matrices m = random_matrices(random, layout_of(24, 40), true);
    if (constant) m.param.fill_with([](auto, auto) { return 0.0; });
    double before = spectral_norm(m.param);
    const double limit = s * high / config.weight_decay;
    const double first = before;
    for (int step = 1; step <= 200; ++step) {
      if (!constant) m.grad.fill_with([&](auto, auto) { return random.normal(); });
      config.step = step;
      ASSERT_OK(run_muon(nullptr, config, m));
      const double now = spectral_norm(m.param);
      ASSERT_LE(now, std::max(before, limit) * (1 + 1e-6)) << "step " << step;
      before = now;
    }
    if (constant)
      EXPECT_GE(before, 0.9 * limit);
    else
      EXPECT_LT(before, first);
  }
}

// ------------------------------------------------------------------ statistics

TEST(muon, statistics_meet_the_oracle) {
  random_source random(219);
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    for (const std::int32_t kind : momentum_kinds) {
      for (const std::int32_t mode : scale_modes) {
        for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_F64, STEEPEST_BF16}) {
          for (const std::int64_t step : {2, 3, 50}) {
            SCOPED_TRACE(testing::Message()
                         << steepest_isa_name(isa) << " kind " << kind << " mode " << mode
                         << " dtype " << dtype << " step " << step);
            muon_layout layout = layout_of(22, 47, dtype);
            if (random.below(2) == 0) layout.blocks = {4, 18};
            if (random.below(2) == 0) layout.gap = 2;
            steepest_muon_config config = telling_config();
            config.flags = step_flags[random.below(7)];
            config.momentum_kind = kind;
            config.scale_mode = mode;
            config.step = step;
            muon_matrices m = random_matrices(random, layout);
            const exact_muon exact = oracle(config, m);
            steepest_step_stats stats = empty_stats();
            ASSERT_OK(run_muon(context.get(), config, m, &stats));
            const auto close = [&](const char* name, double got, double expected) {
              EXPECT_NEAR(got, expected, 2e-6 * std::abs(expected)) << name;
            };
            close("update_rms", stats.update_rms, exact.update_rms);
            close("grad_rms", stats.grad_rms, exact.grad_rms);
            close("momentum_rms", stats.momentum_rms, exact.momentum_rms);
            close("param_rms", stats.param_rms, exact.param_rms);
            const double q = std::pow(exact.momentum_rms / exact.grad_rms, 2);
            EXPECT_NEAR(stats.snr_momentum, exact.snr_momentum,
                        2e-5 * (1 + q) * (1 + std::abs(exact.snr_momentum)) / std::abs(1 - q));
            EXPECT_TRUE(std::isnan(stats.snr_update));
            EXPECT_EQ(stats.status, STEEPEST_OK);
            EXPECT_EQ(stats.reserved, 0);
            EXPECT_EQ(stats.nonfinite, 0);
            EXPECT_EQ(stats.struct_size, sizeof(stats));
          }
        }
      }
    }
  }
}

// With step 1 from zero the bias-corrected momentum is the gradient, whatever the kind.
TEST(muon, statistics_of_the_first_step) {
  random_source random(220);
  for (const std::int32_t kind : momentum_kinds) {
    steepest_muon_config config = telling_config();
    config.momentum_kind = kind;
    config.step = 1;
    muon_matrices m = random_matrices(random, layout_of(10, 30), true);
    steepest_step_stats stats = empty_stats();
    ASSERT_OK(run_muon(nullptr, config, m, &stats));
    EXPECT_NEAR(stats.momentum_rms, stats.grad_rms, 1e-6 * stats.grad_rms);
    EXPECT_TRUE(std::isnan(stats.snr_momentum));
  }
}

// Noise with a signal of a quarter of its variance, after many steps: the estimate is unbiased.
TEST(muon, snr_of_signal_in_noise) {
  random_source random(221);
  for (const std::int32_t kind : momentum_kinds) {
    steepest_muon_config config = make_muon_config();
    config.momentum = 0.9;
    config.momentum_kind = kind;
    muon_matrices m = random_matrices(random, layout_of(32, 1024), true);
    steepest_step_stats stats = empty_stats();
    for (int step = 1; step <= 60; ++step) {
      m.grad.fill_with([&](auto, auto) { return random.normal() + 0.5; });
      config.step = step;
      ASSERT_OK(run_muon(nullptr, config, m, &stats));
    }
    EXPECT_NEAR(stats.snr_momentum, 0.25, 0.01);
  }
}

// ------------------------------------------------------------------ numbers that are not finite

enum class spot { grad, momentum };

TEST(muon, a_tensor_that_is_not_finite_is_left_alone) {
  const double bad[] = {NAN, INFINITY, -INFINITY};
  mixed_list good(222);
  ASSERT_OK(good.run(nullptr));
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    mixed_list reference(222);
    ASSERT_OK(reference.run(context.get()));
    for (const spot where : {spot::grad, spot::momentum}) {
      for (const double value : bad) {
        for (const std::size_t which : {0, 1, 3, 4, 5}) {
          SCOPED_TRACE(testing::Message() << (where == spot::grad ? "grad" : "momentum") << " of "
                                          << which << " " << value);
          mixed_list list(222);
          muon_matrices& m = list.matrices[which];
          stored& buffer = where == spot::grad ? m.grad : m.momentum;
          buffer.set(buffer.rows - 1, buffer.cols - 1, value);
          std::int32_t skipped = -7;
          list.config.skipped = &skipped;
          const muon_matrices before = m;
          EXPECT_EQ(list.run(context.get()), STEEPEST_E_NONFINITE);
          const std::string text = steepest_last_error();
          EXPECT_EQ(text.rfind("muon_step: tensors[" + std::to_string(which) + "]", 0), 0u) << text;
          EXPECT_EQ(skipped, -7);
          EXPECT_TRUE(same_bits(m, before));
          for (std::size_t i = 0; i < list.matrices.size(); ++i) {
            if (i == which) {
              EXPECT_EQ(list.stats[i].status, STEEPEST_E_NONFINITE);
              EXPECT_EQ(list.stats[i].nonfinite, where == spot::grad ? 1 : 0);
            } else {
              EXPECT_TRUE(same_bits(list.matrices[i], reference.matrices[i]));
              EXPECT_TRUE(same_bits(list.stats[i], reference.stats[i]));
            }
          }
        }
      }
    }
  }
}

TEST(muon, nonfinite_elements_are_counted) {
  random_source random(223);
  for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_F64, STEEPEST_BF16, STEEPEST_F16}) {
    muon_layout layout = layout_of(30, 70, dtype);
    layout.gap = 1;
    muon_matrices m = random_matrices(random, layout);
    std::int64_t expected = 0;
    const double bad[] = {NAN, INFINITY, -INFINITY};
    for (std::int64_t i = 0; i < 30; i += 1 + random.below(4)) {
      m.grad.set(i, random.below(70), bad[random.below(3)]);
      ++expected;
    }
    const muon_matrices before = m;
    steepest_step_stats stats = empty_stats();
    EXPECT_EQ(run_muon(nullptr, telling_config(), m, &stats), STEEPEST_E_NONFINITE);
    EXPECT_EQ(stats.nonfinite, expected);
    EXPECT_EQ(stats.status, STEEPEST_E_NONFINITE);
    EXPECT_TRUE(same_bits(m, before));
  }
}

TEST(muon, skip_nonfinite) {
  mixed_list good(224);
  std::int32_t skipped = -7, own_skipped = -7;
  const auto prepare = [&](mixed_list& list, bool flag) {
    list.config.flags |= flag ? STEEPEST_MUON_SKIP_NONFINITE : 0;
    list.own.flags |= flag ? STEEPEST_MUON_SKIP_NONFINITE : 0;
    list.config.skipped = &skipped;
    list.own.skipped = &own_skipped;
    skipped = own_skipped = -7;
  };
  mixed_list plain = good;
  ASSERT_OK(plain.run(nullptr));
  prepare(good, true);
  ASSERT_OK(good.run(nullptr));
  EXPECT_EQ(skipped, 0);
  EXPECT_EQ(own_skipped, 0);
  EXPECT_TRUE(good.same_matrices(plain));
  EXPECT_TRUE(same_bits(good.stats, plain.stats));

  for (const std::size_t which : {0, 1, 3, 4, 5}) {
    SCOPED_TRACE(which);
    mixed_list list(224);
    prepare(list, true);
    stored& grad = list.matrices[which].grad;
    grad.set(0, 0, NAN);
    grad.set(grad.rows - 1, grad.cols - 1, -INFINITY);
    const mixed_list before = list;
    EXPECT_OK(list.run(nullptr));
    EXPECT_EQ(skipped, 1);
    EXPECT_EQ(own_skipped, 1);
    EXPECT_TRUE(list.same_matrices(before));
    for (std::size_t i = 0; i < list.stats.size(); ++i) {
      const steepest_step_stats& s = list.stats[i];
      EXPECT_EQ(s.status, i == which ? STEEPEST_E_NONFINITE : STEEPEST_OK);
      EXPECT_EQ(s.nonfinite, i == which ? 2 : 0);
      for (const double value :
           {s.update_rms, s.grad_rms, s.momentum_rms, s.param_rms, s.snr_update, s.snr_momentum})
        EXPECT_TRUE(std::isnan(value));
    }
    // The flag is each tensor's own: without it on the one concerned, nothing is skipped.
    if (list.has_own_config(which)) {
      mixed_list partly = before;
      prepare(partly, true);
      partly.own.flags &= ~STEEPEST_MUON_SKIP_NONFINITE;
      EXPECT_EQ(partly.run(nullptr), STEEPEST_E_NONFINITE);
      EXPECT_TRUE(same_bits(partly.matrices[which], before.matrices[which]));
      EXPECT_FALSE(same_bits(partly.matrices[0], before.matrices[0]));
      EXPECT_EQ(skipped, -7);
    }
  }
  // Momentum is not what the scan looks at.
  mixed_list list(224);
  prepare(list, true);
  list.matrices[0].momentum.set(3, 3, NAN);
  EXPECT_EQ(list.run(nullptr), STEEPEST_E_NONFINITE);
}

TEST(muon, scaled_gradients_give_the_same_update) {
  random_source random(225);
  for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_F64, STEEPEST_BF16}) {
    for (const std::uint64_t flags : {STEEPEST_MUON_NESTEROV, STEEPEST_MUON_MAXIMIZE}) {
      const muon_matrices before = random_matrices(random, layout_of(15, 50, dtype), true);
      steepest_muon_config config = telling_config();
      config.flags = flags;
      muon_matrices expected = before;
      ASSERT_OK(run_muon(nullptr, config, expected));
      for (const double factor : {0x1p100, 0x1p-100, 1e30, 1e-30}) {
        SCOPED_TRACE(testing::Message() << "dtype " << dtype << " factor " << factor);
        muon_matrices m = before;
        m.grad.fill_with([&](auto i, auto j) { return factor * before.grad.at(i, j); });
        const muon_matrices scaled = m;
        steepest_step_stats stats = empty_stats();
        ASSERT_OK(run_muon(nullptr, config, m, &stats));
        EXPECT_EQ(stats.nonfinite, 0);
        expect_step(config, scaled, m);
        const bool power = factor == 0x1p100 || factor == 0x1p-100;
        // bf16 rounds a decimal factor's products on its own.
        const double slack = power ? 2e-6 : dtype == STEEPEST_BF16 ? 0.05 : 2e-5;
        for (std::int64_t i = 0; i < 15; ++i)
          for (std::int64_t j = 0; j < 50; ++j)
            EXPECT_NEAR(m.param.at(i, j), expected.param.at(i, j), slack);
      }
    }
  }
}

TEST(muon, denormal_gradients) {
  random_source random(226);
  struct row {
    steepest_dtype dtype;
    double quantum;
  };
  for (const row& r : {row{STEEPEST_F32, 0x1p-149}, row{STEEPEST_BF16, 0x1p-133},
                       row{STEEPEST_F16, 0x1p-24}, row{STEEPEST_F64, 0x1p-1074}}) {
    for (const steepest_isa isa : levels()) {
      SCOPED_TRACE(testing::Message() << steepest_isa_name(isa) << " dtype " << r.dtype);
      const context_pointer context = make_context({.max_isa = isa});
      muon_matrices tiny = random_matrices(random, layout_of(6, 20, r.dtype), true);
      muon_matrices large = tiny;
      // Small whole numbers of the least denormal; with these factors all of the step is exact.
      tiny.grad.fill_with(
          [&](auto, auto) { return r.quantum * static_cast<double>(4 * random.below(16) - 30); });
      large.grad.fill_with([&](auto i, auto j) { return tiny.grad.at(i, j) / r.quantum; });
      steepest_muon_config config = telling_config();
      config.flags = 0;
      config.grad_scale = 1;
      config.momentum = 0.5;
      ASSERT_OK(run_muon(context.get(), config, tiny));
      ASSERT_OK(run_muon(context.get(), config, large));
      for (std::int64_t i = 0; i < 6; ++i) {
        for (std::int64_t j = 0; j < 20; ++j) {
          EXPECT_EQ(tiny.momentum.at(i, j), r.quantum * large.momentum.at(i, j));
          EXPECT_NEAR(tiny.param.at(i, j), large.param.at(i, j), 2e-6);
        }
      }
    }
  }
}

// Finite elements whose norm is not, in their own type.
TEST(muon, largest_gradients) {
  random_source random(233);
  for (const auto& [dtype, largest] :
       {std::pair{STEEPEST_F32, 3e38}, std::pair{STEEPEST_BF16, 3e38}, std::pair{STEEPEST_F16, 6e4},
        std::pair{STEEPEST_F64, 1.5e308}}) {
    SCOPED_TRACE(testing::Message() << "dtype " << dtype);
    muon_matrices large = random_matrices(random, layout_of(8, 30, dtype), true);
    for (std::int64_t i = 0; i < 8; ++i)
      for (std::int64_t j = 0; j < 30; ++j)
        large.grad.set(i, j, largest * (random.below(2) == 0 ? 1 : -1));
    muon_matrices plain = large;
    for (std::int64_t i = 0; i < 8; ++i)
      for (std::int64_t j = 0; j < 30; ++j)
        plain.grad.set(i, j, std::copysign(1.0, large.grad.at(i, j)));
    steepest_muon_config config = telling_config();
    config.grad_scale = 1;
    EXPECT_OK(run_muon(nullptr, config, large));
    ASSERT_OK(run_muon(nullptr, config, plain));
    for (std::int64_t i = 0; i < 8; ++i)
      for (std::int64_t j = 0; j < 30; ++j)
        ASSERT_NEAR(large.param.at(i, j), plain.param.at(i, j), 2e-6);
  }
}

// ------------------------------------------------------------------ memory and failure

TEST(muon, workspace_of_the_caller) {
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    mixed_list expected(227);
    const mixed_list before = expected;
    ASSERT_OK(expected.run(context.get()));
    std::size_t bytes = 0;
    {
      mixed_list list(227);
      const auto tensors = list.tensors();
      ASSERT_OK(
          steepest_muon_workspace_size(context.get(), &list.config, tensors.data(), 6, &bytes));
      ASSERT_GT(bytes, 0u);
      EXPECT_TRUE(list.same_matrices(before));
    }
    for (const bool at_end : {false, true}) {
      for (const std::size_t skew : {0, 1, 3}) {
        fenced<unsigned char> memory(std::vector<unsigned char>(bytes + skew, 0xcd), at_end);
        steepest_workspace workspace = STEEPEST_WORKSPACE_INIT;
        workspace.data = memory.data() + skew;
        workspace.bytes = bytes;
        mixed_list list(227);
        EXPECT_OK(list.run(context.get(), &workspace));
        EXPECT_TRUE(list.same_matrices(expected));
        EXPECT_TRUE(same_bits(list.stats, expected.stats));
      }
    }
    // One byte less, and nothing at all.
    std::vector<unsigned char> memory(bytes, 0xcd);
    for (const bool is_null : {false, true}) {
      steepest_workspace workspace = STEEPEST_WORKSPACE_INIT;
      workspace.data = is_null ? nullptr : memory.data();
      workspace.bytes = is_null ? bytes : bytes - 1;
      mixed_list list(227);
      EXPECT_EQ(list.run(context.get(), &workspace), STEEPEST_E_INVALID_ARGUMENT);
      EXPECT_NE(std::string(steepest_last_error()).find("workspace"), std::string::npos);
      EXPECT_TRUE(list.same_matrices(before));
      EXPECT_TRUE(same_bits(list.stats, before.stats));
      EXPECT_EQ(memory, std::vector<unsigned char>(bytes, 0xcd));
    }
  }
}

TEST(muon, failure_at_every_allocation) {
  std::int64_t failures = 0;
  for (std::int64_t fail_at = 0;; ++fail_at) {
    counting_allocator own;
    own.fail_at = fail_at;
    const steepest_allocator allocator = own.interface();
    bool failed = true;
    {
      const context_pointer context = try_context({.threads = 2, .allocator = &allocator});
      if (context != nullptr) {
        mixed_list list(228);
        std::int32_t skipped = -7;
        list.config.skipped = list.own.skipped = &skipped;
        const mixed_list before = list;
        const steepest_status status = list.run(context.get());
        failed = status != STEEPEST_OK;
        if (failed) {
          EXPECT_EQ(status, STEEPEST_E_OUT_OF_MEMORY);
          EXPECT_TRUE(list.same_matrices(before));
          EXPECT_TRUE(same_bits(list.stats, before.stats));
          EXPECT_EQ(skipped, -7);
          own.fail_at = INT64_MAX;
          EXPECT_OK(list.run(context.get()));
        }
      }
    }
    EXPECT_TRUE(own.all_released());
    if (!failed) break;
    ++failures;
    ASSERT_LT(fail_at, 100);
  }
  EXPECT_GE(failures, 2);  // at least the context, and the scratch memory of the call
}

// Runs nothing from call number `fail_at` on.
struct failing_executor {
  std::int64_t fail_at = 0;
  std::int64_t calls = 0;

  steepest_executor interface() {
    steepest_executor executor = STEEPEST_EXECUTOR_INIT;
    executor.user = this;
    executor.concurrency = [](void*) { return std::int32_t{3}; };
    executor.parallel_for = [](void* user, std::int64_t tasks, task_body body, void* arg) {
      auto& self = *static_cast<failing_executor*>(user);
      if (self.calls++ >= self.fail_at) return STEEPEST_E_OUT_OF_MEMORY;
      for (std::int64_t task = 0; task < tasks; ++task) body(arg, task, 0);
      return STEEPEST_OK;
    };
    return executor;
  }
};

TEST(muon, failure_of_the_executor_is_internal) {
  random_source random(229);
  const muon_matrices before = random_matrices(random, layout_of(150, 3000));
  bool failed = true;
  for (std::int64_t fail_at = 0; failed; ++fail_at) {
    failing_executor own;
    own.fail_at = fail_at;
    const steepest_executor executor = own.interface();
    const context_pointer context = make_context({.executor = &executor});
    steepest_muon_config config = telling_config();
    config.flags |= STEEPEST_MUON_SKIP_NONFINITE;
    std::int32_t skipped = -7;
    config.skipped = &skipped;
    muon_matrices m = before;
    steepest_step_stats stats = empty_stats();
    const steepest_status status = run_muon(context.get(), config, m, &stats);
    failed = status != STEEPEST_OK;
    if (!failed) {
      EXPECT_GE(fail_at, 4);
      break;
    }
    EXPECT_EQ(status, STEEPEST_E_INTERNAL);
    EXPECT_EQ(std::string(steepest_last_error()).rfind("muon_step: executor", 0), 0u)
        << steepest_last_error();
    EXPECT_EQ(skipped, -7);
    EXPECT_TRUE(same_bits(m, before)) << fail_at;  // this one runs no task when it fails
    ASSERT_LT(fail_at, 100);
  }
}

// A failed step of an allocator or executor aside, nothing that a call leaves behind matters to the
// next one.
TEST(muon, scratch_memory_is_reused) {
  for (const std::int32_t method :
       {STEEPEST_MSIGN_AUTO, STEEPEST_MSIGN_NEWTON_SCHULZ, STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ,
        STEEPEST_MSIGN_RATIONAL, STEEPEST_MSIGN_HALLEY, STEEPEST_MSIGN_SVD,
        STEEPEST_MSIGN_ACCURATE}) {
    for (const std::int32_t threads : {1, 3}) {
      SCOPED_TRACE(testing::Message() << "method " << method << ", threads " << threads);
      reversed_executor own_threads(threads);
      const steepest_executor executor = own_threads.interface();
      counting_allocator own;
      const steepest_allocator allocator = own.interface();
      steepest_msign_config msign = make_msign_config();
      msign.method = method;
      const auto run = [&](steepest_context* context) {
        mixed_list list(230);
        list.config.msign = list.own.msign = &msign;
        EXPECT_OK(list.run(context));
        return list;
      };
      {
        const context_pointer context =
            make_context({.executor = &executor, .allocator = &allocator});
        const mixed_list first = run(context.get());
        const std::int64_t calls = own.calls;
        for (int i = 0; i < 3; ++i) EXPECT_TRUE(run(context.get()).same_matrices(first));
        EXPECT_EQ(own.calls, calls);
        EXPECT_OK(steepest_context_trim(context.get()));
        EXPECT_TRUE(run(context.get()).same_matrices(first));
      }
      EXPECT_TRUE(own.all_released());
    }
  }
}

// ------------------------------------------------------------------ after fork()

bool steps_right(steepest_context* context, const mixed_list& expected) {
  mixed_list list(231);
  return list.run(context) == STEEPEST_OK && list.same_matrices(expected);
}

TEST(muon, after_fork) {
  const context_pointer context = make_context({.threads = 2});
  mixed_list expected(231);
  ASSERT_OK(expected.run(context.get()));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(in_child([&] { return steps_right(context.get(), expected) ? 0 : 1; }), 0);
    EXPECT_EQ(in_child([&] { return steps_right(nullptr, expected) ? 0 : 1; }), 0);
    EXPECT_TRUE(steps_right(context.get(), expected));
  }
}

TEST(muon, fork_during_calls_of_other_threads) {
  const context_pointer context = make_context({.threads = 2});
  mixed_list expected(231);
  ASSERT_OK(expected.run(context.get()));
  std::atomic<bool> stop{false};
  std::vector<std::thread> others;
  for (int i = 0; i < 2; ++i) {
    others.emplace_back([&] {
      mixed_list list(232);
      while (!stop) list.run(context.get());
    });
  }
  const auto code_in_child = [&] {
    if (!steps_right(context.get(), expected)) return 1;
    const context_pointer own = try_context({.threads = 2});
    return own != nullptr && steps_right(own.get(), expected) ? 0 : 2;
  };
  int code = 0;
  // Without the exit handlers: a leak checker's would take what the other threads had in hand for
  // lost. That they run is shown above.
  for (int i = 0; code == 0 && i < (long_run() ? 500 : 40); ++i)
    code = in_child([&]() -> int { _exit(code_in_child()); });
  stop = true;
  for (std::thread& thread : others) thread.join();
  EXPECT_EQ(code, 0);
}

}  // namespace
}  // namespace steepest_test
