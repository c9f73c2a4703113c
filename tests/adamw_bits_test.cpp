// SPDX-License-Identifier: Apache-2.0
//
// The promise of equal bits: for any threads, executor, alignment, position in a buffer and company
// in the list; with STEEPEST_FLAG_CONSISTENT on every level too.
#include "adamw_support.hpp"
#include "executors.hpp"

namespace steepest_test {
namespace {

constexpr std::uint64_t flag_sets[] = {
    0,
    STEEPEST_ADAMW_AMSGRAD,
    STEEPEST_ADAMW_MAXIMIZE | STEEPEST_ADAMW_COUPLED_L2,
    STEEPEST_ADAMW_CAUTIOUS_DECAY | STEEPEST_ADAMW_EMIT_DELTA,
};
constexpr std::size_t element_count = 1 << 18 | 5;  // many tiles, and a tail

template <class Real>
struct outcome {
  adamw_arrays<Real> arrays;
  steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
};

template <class Real>
outcome<Real> step(steepest_context* context, const steepest_adamw_config& config,
                   const adamw_arrays<Real>& arrays) {
  outcome<Real> after{arrays};
  EXPECT_OK(run_step(context, config, after.arrays, &after.stats));
  return after;
}

template <class Real>
class adamw_bits : public testing::Test {
 protected:
  // For each level and flag set, with stats: body(level, config, arrays, the one-thread result).
  template <class Body>
  void for_each_case(Body body) {
    random_source random(11);
    const adamw_arrays<Real> arrays = random_arrays<Real>(random, element_count, false);
    for (const std::uint64_t flags : flag_sets) {
      steepest_adamw_config config = make_config();
      config.flags = flags;
      config.step = 7;
      config.grad_scale = 0.3;
      for (const steepest_isa isa : levels()) {
        const context_pointer serial = make_context({.max_isa = isa});
        SCOPED_TRACE(testing::Message() << steepest_isa_name(isa) << " flags " << flags);
        body(isa, config, arrays, step(serial.get(), config, arrays));
        if (testing::Test::HasFailure()) return;
      }
    }
  }
};
using types = testing::Types<float, double>;
TYPED_TEST_SUITE(adamw_bits, types);

template <class Real>
void expect_same(const outcome<Real>& a, const outcome<Real>& b) {
  EXPECT_TRUE(same_bits(a.arrays, b.arrays));
  EXPECT_TRUE(same_bits(a.stats, b.stats));
}

TYPED_TEST(adamw_bits, any_number_of_threads) {
  this->for_each_case(
      [](steepest_isa isa, const auto& config, const auto& arrays, const auto& expected) {
        for (const std::int32_t threads : {2, 3, 8}) {
          const context_pointer context = make_context({.max_isa = isa, .threads = threads});
          expect_same(step(context.get(), config, arrays), expected);
        }
      });
}

TYPED_TEST(adamw_bits, any_executor) {
  this->for_each_case(
      [](steepest_isa isa, const auto& config, const auto& arrays, const auto& expected) {
        for (const std::int32_t workers : {1, 3, 8}) {
          reversed_executor own(workers);
          const steepest_executor executor = own.interface();
          const context_pointer context = make_context({.max_isa = isa, .executor = &executor});
          expect_same(step(context.get(), config, arrays), expected);
          EXPECT_EQ(own.tasks_run > 0, workers > 1);
        }
      });
}

TYPED_TEST(adamw_bits, without_stats) {
  this->for_each_case(
      [](steepest_isa isa, const auto& config, const auto& arrays, const auto& expected) {
        auto after = arrays;
        EXPECT_OK(run_step(make_context({.max_isa = isa, .threads = 2}).get(), config, after));
        EXPECT_TRUE(same_bits(after, expected.arrays));
      });
}

TYPED_TEST(adamw_bits, scan_for_nonfinite_changes_nothing) {
  this->for_each_case([](steepest_isa isa, auto config, const auto& arrays, const auto& expected) {
    config.flags |= STEEPEST_ADAMW_SKIP_NONFINITE;
    expect_same(step(make_context({.max_isa = isa}).get(), config, arrays), expected);
  });
}

// Pieces of a tensor in separate calls, cut where no vector or tile would end.
TYPED_TEST(adamw_bits, any_position_in_a_buffer) {
  this->for_each_case(
      [](steepest_isa isa, const auto& config, const auto& arrays, const auto& expected) {
        const context_pointer context = make_context({.max_isa = isa, .threads = 2});
        auto after = arrays;
        std::size_t first = 0;
        for (std::size_t size = 1; first < element_count; size = size * 3 + 2) {
          const std::size_t count = std::min(size, element_count - first);
          const steepest_adamw_tensor tensor = make_tensor(after, first, count);
          ASSERT_OK(steepest_adamw_step(context.get(), &config, &tensor, 1, nullptr));
          first += count;
        }
        EXPECT_TRUE(same_bits(after, expected.arrays));
      });
}

// A list in one call, against one call per tensor: the arrays and every tensor's statistics.
TYPED_TEST(adamw_bits, any_company_in_the_list) {
  this->for_each_case([](steepest_isa isa, const auto& config, const auto& arrays, const auto&) {
    const context_pointer context = make_context({.max_isa = isa, .threads = 3});
    auto together = arrays;
    auto alone = arrays;
    std::vector<steepest_adamw_tensor> list;
    std::vector<steepest_step_stats> stats_alone;
    random_source random(12);
    for (std::size_t first = 0; first < element_count;) {
      const std::size_t size = random.below(40) == 0 ? 70000 : std::size_t(random.below(600));
      const std::size_t count = std::min(size, element_count - first);
      list.push_back(make_tensor(together, first, count));
      const steepest_adamw_tensor tensor = make_tensor(alone, first, count);
      steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
      ASSERT_OK(steepest_adamw_step(context.get(), &config, &tensor, 1, &stats));
      stats_alone.push_back(stats);
      first += count;
    }
    std::vector<steepest_step_stats> stats(list.size(), STEEPEST_STEP_STATS_INIT);
    ASSERT_OK(steepest_adamw_step(context.get(), &config, list.data(),
                                  static_cast<std::int64_t>(list.size()), stats.data()));
    EXPECT_TRUE(same_bits(together, alone));
    EXPECT_TRUE(same_bits(stats, stats_alone));
  });
}

TYPED_TEST(adamw_bits, any_level_when_consistent) {
  random_source random(13);
  for (const int high : {20, 60}) {
    const auto arrays = random_arrays<TypeParam>(random, element_count, false, 0.9, -high, high);
    for (const std::uint64_t flags : flag_sets) {
      steepest_adamw_config config = make_config();
      config.flags = flags | STEEPEST_FLAG_CONSISTENT;
      config.grad_scale = 0.3;
      const auto generic = make_context({.max_isa = STEEPEST_ISA_GENERIC});
      const auto expected = step(generic.get(), config, arrays);
      for (const steepest_isa isa : levels()) {
        SCOPED_TRACE(testing::Message() << steepest_isa_name(isa) << " flags " << flags);
        expect_same(step(make_context({.max_isa = isa, .threads = 2}).get(), config, arrays),
                    expected);
        config.flags = flags;  // the context's flag stands for every call's
        expect_same(step(make_context({.max_isa = isa, .flags = STEEPEST_FLAG_CONSISTENT}).get(),
                         config, arrays),
                    expected);
        config.flags = flags | STEEPEST_FLAG_CONSISTENT;
      }
    }
  }
}

}  // namespace
}  // namespace steepest_test
