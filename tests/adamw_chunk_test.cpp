// SPDX-License-Identifier: Apache-2.0
//
// begin, chunk, end: the bits of one call in any order and from several threads, and every way to
// do it wrong.
#include <atomic>
#include <thread>

#include "executors.hpp"
#include "narrow_support.hpp"

namespace steepest_test {
namespace {

constexpr std::size_t tile = STEEPEST_ADAMW_CHUNK;

struct piece {
  std::int64_t tensor, first, count;
};

// Tensors of several storages and sizes, the same each time.
struct model {
  std::vector<narrow_arrays> arrays;
  std::vector<steepest_adamw_tensor> tensors;
  steepest_adamw_config config = make_config(), other = make_config();

  model() {
    random_source random(501);
    const storage kinds[] = {
        {STEEPEST_F32, STEEPEST_BF16, 0, STEEPEST_F32, STEEPEST_F32, STEEPEST_BF16},
        {STEEPEST_BF16, STEEPEST_BF16, STEEPEST_RESIDUAL_LOW16, STEEPEST_F32, STEEPEST_F32},
        {STEEPEST_BF16, STEEPEST_BF16, 0, STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED},
        {STEEPEST_BF16, STEEPEST_BF16, STEEPEST_RESIDUAL_KAHAN, STEEPEST_BF16, STEEPEST_BF16},
        {STEEPEST_F32, STEEPEST_F32, 0, STEEPEST_Q8_COMPANDED, STEEPEST_Q8_DYNAMIC},
        {STEEPEST_BF16, STEEPEST_F32, STEEPEST_RESIDUAL_NEAREST8, STEEPEST_BF16, STEEPEST_F32},
    };
    const std::size_t counts[] = {3 * tile + 77, 2 * tile, 5 * tile + 1, 100, tile - 1, 0};
    for (std::size_t i = 0; i < std::size(kinds); ++i) {
      arrays.emplace_back(kinds[i], random_values(random, counts[i]));
      arrays.back().set_residuals(random);
    }
    config.flags = other.flags = STEEPEST_ADAMW_STOCHASTIC_ROUNDING;
    other.lr = 1e-2;
    other.step = 4;
    for (narrow_arrays& a : arrays) tensors.push_back(a.tensor());
    tensors[1].config = tensors[2].config = &other;
  }
  model(const model&) = delete;
  model& operator=(const model&) = delete;

  std::int64_t count() const { return static_cast<std::int64_t>(tensors.size()); }
  bool same(const model& b) const {
    for (std::size_t i = 0; i < arrays.size(); ++i)
      if (!(arrays[i] == b.arrays[i])) return false;
    return true;
  }
  // Of `tiles` tiles each at most.
  std::vector<piece> pieces(std::int64_t tiles) const {
    std::vector<piece> all;
    for (std::int64_t i = 0; i < count(); ++i) {
      const std::int64_t n = tensors[static_cast<std::size_t>(i)].count;
      const auto size = tiles * static_cast<std::int64_t>(tile);
      for (std::int64_t at = 0; at < n; at += size) all.push_back({i, at, std::min(size, n - at)});
    }
    return all;
  }
  steepest_adamw_plan* begin(steepest_context* context = nullptr) {
    steepest_adamw_plan* plan = nullptr;
    EXPECT_OK(steepest_adamw_begin(context, &config, tensors.data(), count(), &plan));
    return plan;
  }
};

using statistics = std::vector<steepest_step_stats>;

TEST(adamw_chunk, any_order_and_size_is_one_call) {
  model expected;
  statistics expected_stats(6, STEEPEST_STEP_STATS_INIT);
  ASSERT_OK(steepest_adamw_step(nullptr, &expected.config, expected.tensors.data(), 6,
                                expected_stats.data()));
  random_source random(502);
  for (const std::int64_t tiles : {1, 2, 3, 100}) {
    for (const std::int32_t threads : {1, 2}) {
      const context_pointer context = make_context({.threads = threads});
      model m;
      steepest_adamw_plan* const plan = m.begin(context.get());
      EXPECT_TRUE(m.same(model()));
      // The structs may go.
      std::memset(m.tensors.data(), 0, m.tensors.size() * sizeof(m.tensors[0]));
      m.config = m.other = {};
      auto all = expected.pieces(tiles);
      for (std::size_t i = all.size(); i > 1; --i)
        std::swap(all[i - 1], all[static_cast<std::size_t>(random.below(std::int64_t(i)))]);
      for (const piece& p : all) ASSERT_OK(steepest_adamw_chunk(plan, p.tensor, p.first, p.count));
      statistics stats(6, STEEPEST_STEP_STATS_INIT);
      ASSERT_OK(steepest_adamw_end(plan, stats.data()));
      EXPECT_TRUE(m.same(expected));
      EXPECT_TRUE(same_bits(stats, expected_stats));
    }
  }
}

TEST(adamw_chunk, from_several_threads_at_once) {
  model expected;
  ASSERT_OK(steepest_adamw_step(nullptr, &expected.config, expected.tensors.data(), 6, nullptr));
  const context_pointer context = make_context({.threads = 2});
  for (int round = 0; round < 5; ++round) {
    model m;
    steepest_adamw_plan* const plan = m.begin(context.get());
    const auto all = m.pieces(1);
    std::atomic<std::size_t> next{0};
    std::atomic<int> failures{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (std::size_t i = next++; i < all.size(); i = next++)
          if (steepest_adamw_chunk(plan, all[i].tensor, all[i].first, all[i].count) != STEEPEST_OK)
            ++failures;
      });
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(failures, 0);
    ASSERT_OK(steepest_adamw_end(plan, nullptr));
    EXPECT_TRUE(m.same(expected));
  }
}

// Two that want the same tile: not both, and the step is right if each tile is done once.
TEST(adamw_chunk, a_race_for_a_tile_has_one_winner) {
  model expected;
  ASSERT_OK(steepest_adamw_step(nullptr, &expected.config, expected.tensors.data(), 6, nullptr));
  model m;
  steepest_adamw_plan* const plan = m.begin();
  for (const piece& p : m.pieces(1)) {
    std::atomic<int> done{0};
    const auto work = [&] {
      if (steepest_adamw_chunk(plan, p.tensor, p.first, p.count) == STEEPEST_OK) ++done;
    };
    std::thread a(work), b(work);
    a.join();
    b.join();
    EXPECT_EQ(done, 1);
  }
  ASSERT_OK(steepest_adamw_end(plan, nullptr));
  EXPECT_TRUE(m.same(expected));
}

void expect_refused(steepest_status status, steepest_status expected, const std::string& text) {
  EXPECT_EQ(status, expected);
  EXPECT_EQ(std::string(steepest_last_error()).rfind(text, 0), 0u) << steepest_last_error();
}

TEST(adamw_chunk, a_failing_executor) {
  reversed_executor own(2);
  own.result = STEEPEST_E_OUT_OF_MEMORY;
  const steepest_executor executor = own.interface();
  const context_pointer context = make_context({.executor = &executor});
  adamw_arrays<float> arrays(8 * tile);
  const steepest_adamw_tensor tensor = make_tensor(arrays);
  const steepest_adamw_config config = make_config();
  steepest_adamw_plan* plan = nullptr;
  ASSERT_OK(steepest_adamw_begin(context.get(), &config, &tensor, 1, &plan));
  EXPECT_EQ(steepest_adamw_chunk(plan, 0, 0, 8 * tile), STEEPEST_E_INTERNAL);
  EXPECT_EQ(std::string(steepest_last_error()).find("adamw_chunk: executor"), 0u)
      << steepest_last_error();
  EXPECT_GT(own.calls, 0);
  // How far it came is not known, so that it can neither be repeated nor be closed.
  EXPECT_EQ(steepest_adamw_chunk(plan, 0, 0, tile), STEEPEST_E_INVALID_ARGUMENT);
  EXPECT_EQ(steepest_adamw_end(plan, nullptr), STEEPEST_E_INVALID_ARGUMENT);
}

TEST(adamw_chunk, bad_chunks_write_nothing) {
  model m;
  const model before;
  steepest_adamw_plan* const plan = m.begin();
  constexpr std::int64_t t = tile;
  const struct {
    piece at;
    const char* text;
  } rows[] = {
      {{-1, 0, t}, "adamw_chunk: tensor is -1"},
      {{6, 0, t}, "adamw_chunk: tensor is 6"},
      {{INT64_MAX, 0, t}, "adamw_chunk: tensor"},
      {{0, 1, t}, "adamw_chunk: first is 1:"},
      {{0, t / 2, t / 2}, "adamw_chunk: first is 8192:"},
      {{0, -t, t}, "adamw_chunk: first is -16384:"},
      {{0, 4 * t, t}, "adamw_chunk: first is 65536:"},
      {{0, 3 * t + 1, 76}, "adamw_chunk: first"},
      {{0, INT64_MIN, t}, "adamw_chunk: first"},
      {{0, 0, t - 1}, "adamw_chunk: count is 16383:"},
      {{0, 0, t / 2}, "adamw_chunk: count is 8192:"},
      {{0, 0, -1}, "adamw_chunk: count is -1:"},
      {{0, 3 * t, 78}, "adamw_chunk: count is 78:"},
      {{0, 3 * t, t}, "adamw_chunk: count"},
      {{0, t, INT64_MAX}, "adamw_chunk: count"},
      {{1, 0, 3 * t}, "adamw_chunk: count"},
      {{5, 0, 1}, "adamw_chunk: count is 1:"},
  };
  for (const auto& row : rows)
    expect_refused(steepest_adamw_chunk(plan, row.at.tensor, row.at.first, row.at.count),
                   STEEPEST_E_INVALID_ARGUMENT, row.text);
  EXPECT_TRUE(m.same(before));
  EXPECT_OK(steepest_adamw_chunk(plan, 5, 0, 0));
  EXPECT_OK(steepest_adamw_chunk(plan, 0, t, 0));
  EXPECT_TRUE(m.same(before));

  ASSERT_OK(steepest_adamw_chunk(plan, 0, t, t));
  const narrow_arrays once = m.arrays[0];
  for (const piece& p :
       {piece{0, t, t}, piece{0, 0, 2 * t}, piece{0, t, 2 * t + 77}, piece{0, 0, 3 * t + 77}})
    expect_refused(steepest_adamw_chunk(plan, p.tensor, p.first, p.count),
                   STEEPEST_E_INVALID_ARGUMENT, "adamw_chunk: first is ");
  EXPECT_NE(std::string(steepest_last_error()).find("element 16384 of tensors[0] has been stepped"),
            std::string::npos)
      << steepest_last_error();
  EXPECT_TRUE(m.arrays[0] == once);
  // What the refused ones touched is still open.
  EXPECT_OK(steepest_adamw_chunk(plan, 0, 0, t));
  EXPECT_OK(steepest_adamw_chunk(plan, 0, 2 * t, t + 77));
  statistics stats(6, STEEPEST_STEP_STATS_INIT);
  stats[0].update_rms = -7;
  expect_refused(steepest_adamw_end(plan, stats.data()), STEEPEST_E_INVALID_ARGUMENT,
                 "adamw_end: tensors[1] has not been stepped from element 0 on");
  EXPECT_EQ(stats[0].update_rms, -7);
  expect_refused(steepest_adamw_chunk(nullptr, 0, 0, t), STEEPEST_E_INVALID_ARGUMENT,
                 "adamw_chunk: plan is null");
  expect_refused(steepest_adamw_end(nullptr, nullptr), STEEPEST_E_INVALID_ARGUMENT,
                 "adamw_end: plan is null");
}

TEST(adamw_chunk, end_names_the_first_that_is_missing) {
  for (const piece& left_out : model().pieces(1)) {
    model m;
    steepest_adamw_plan* const plan = m.begin();
    for (const piece& p : m.pieces(1))
      if (p.tensor != left_out.tensor || p.first != left_out.first) {
        ASSERT_OK(steepest_adamw_chunk(plan, p.tensor, p.first, p.count));
      }
    char text[80];
    std::snprintf(text, sizeof(text), "adamw_end: tensors[%d] has not been stepped from element %d",
                  int(left_out.tensor), int(left_out.first));
    expect_refused(steepest_adamw_end(plan, nullptr), STEEPEST_E_INVALID_ARGUMENT, text);
  }
}

TEST(adamw_chunk, bad_begin) {
  model m;
  std::int32_t skipped = -7;
  m.config.skipped = &skipped;
  auto* const none = reinterpret_cast<steepest_adamw_plan*>(&m);
  const auto begin = [&](const steepest_adamw_tensor* tensors, std::int64_t count) {
    steepest_adamw_plan* plan = none;
    const steepest_status status = steepest_adamw_begin(nullptr, &m.config, tensors, count, &plan);
    EXPECT_EQ(plan, none);
    return status;
  };
  expect_refused(begin(nullptr, 1), STEEPEST_E_INVALID_ARGUMENT, "adamw_begin: tensors is null");
  expect_refused(begin(m.tensors.data(), -1), STEEPEST_E_SHAPE, "adamw_begin: count");
  auto tensors = m.tensors;
  tensors[2].exp_avg_scales = nullptr;
  expect_refused(begin(tensors.data(), 6), STEEPEST_E_INVALID_ARGUMENT,
                 "adamw_begin: tensors[2].exp_avg_scales is null");
  tensors = m.tensors;
  tensors[4].exp_avg = tensors[0].exp_avg;
  expect_refused(begin(tensors.data(), 6), STEEPEST_E_INVALID_ARGUMENT, "adamw_begin: tensors[");
  m.other.flags |= STEEPEST_ADAMW_SKIP_NONFINITE;
  expect_refused(begin(m.tensors.data(), 6), STEEPEST_E_UNSUPPORTED, "adamw_begin: tensors[1]");
  m.other.flags = 0;
  m.config.lr = -1;
  expect_refused(begin(m.tensors.data(), 6), STEEPEST_E_INVALID_ARGUMENT, "adamw_begin: config.lr");
  m.config.lr = 1e-3;
  expect_refused(steepest_adamw_begin(nullptr, &m.config, m.tensors.data(), 6, nullptr),
                 STEEPEST_E_INVALID_ARGUMENT, "adamw_begin: plan is null");
  EXPECT_EQ(skipped, -7);
  EXPECT_TRUE(m.same(model()));
  steepest_adamw_plan* plan = nullptr;
  ASSERT_OK(steepest_adamw_begin(nullptr, &m.config, nullptr, 0, &plan));
  ASSERT_OK(steepest_adamw_end(plan, nullptr));
  plan = m.begin();
  EXPECT_EQ(skipped, 0);
  EXPECT_EQ(steepest_adamw_end(plan, nullptr), STEEPEST_E_INVALID_ARGUMENT);  // abandoned
  // Results of a size that no version has: refused, and the plan is gone all the same.
  plan = m.begin();
  for (const piece& p : m.pieces(100))
    ASSERT_OK(steepest_adamw_chunk(plan, p.tensor, p.first, p.count));
  statistics stats(6, STEEPEST_STEP_STATS_INIT);
  stats[0].struct_size = 3;
  expect_refused(steepest_adamw_end(plan, stats.data()), STEEPEST_E_INVALID_ARGUMENT,
                 "adamw_end: stats[0]");
}

// Each allocation of begin refused in turn: an error, nothing written, nothing kept. Afterwards
// chunks and end allocate nothing.
TEST(adamw_chunk, memory) {
  model expected;
  ASSERT_OK(steepest_adamw_step(nullptr, &expected.config, expected.tensors.data(), 6, nullptr));
  for (std::int64_t allowed = 0;; ++allowed) {
    counting_allocator own;
    const steepest_allocator allocator = own.interface();
    context_pointer context = make_context({.allocator = &allocator});
    model m;
    own.fail_at = own.calls + allowed;
    steepest_adamw_plan* plan = nullptr;
    const steepest_status status =
        steepest_adamw_begin(context.get(), &m.config, m.tensors.data(), 6, &plan);
    if (status == STEEPEST_OK) {
      EXPECT_GE(allowed, 2);
      own.fail_at = own.calls;
      for (const piece& p : m.pieces(2))
        ASSERT_OK(steepest_adamw_chunk(plan, p.tensor, p.first, p.count));
      ASSERT_OK(steepest_adamw_end(plan, nullptr));
      EXPECT_TRUE(m.same(expected));
    } else {
      expect_refused(status, STEEPEST_E_OUT_OF_MEMORY, "adamw_begin: out of memory");
      EXPECT_EQ(plan, nullptr);
      EXPECT_TRUE(m.same(model()));
    }
    context.reset();
    EXPECT_TRUE(own.all_released());
    if (status == STEEPEST_OK) break;
    ASSERT_LT(allowed, 10);
  }
}

TEST(adamw_chunk, after_fork_each_process_has_its_own) {
  model expected;
  ASSERT_OK(steepest_adamw_step(nullptr, &expected.config, expected.tensors.data(), 6, nullptr));
  const context_pointer context = make_context({.threads = 2});
  model m;
  steepest_adamw_plan* const plan = m.begin(context.get());
  const auto all = m.pieces(2);
  ASSERT_OK(steepest_adamw_chunk(plan, all[0].tensor, all[0].first, all[0].count));
  const auto rest = [&] {
    for (std::size_t i = 1; i < all.size(); ++i)
      if (steepest_adamw_chunk(plan, all[i].tensor, all[i].first, all[i].count) != STEEPEST_OK)
        return 1;
    return steepest_adamw_end(plan, nullptr) == STEEPEST_OK && m.same(expected) ? 0 : 2;
  };
  EXPECT_EQ(in_child(rest), 0);
  EXPECT_EQ(rest(), 0);
}

}  // namespace
}  // namespace steepest_test
