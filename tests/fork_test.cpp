// SPDX-License-Identifier: Apache-2.0
//
// After fork(): a parent's context works in the child, on the calling thread; a context made in the
// child has threads, unless the parent had used the library's; nothing hangs, and the child exits
// normally.
#include <atomic>
#include <thread>

#include "adamw_support.hpp"
#include "every_call.hpp"

namespace steepest_test {
namespace {

class after_fork : public testing::Test {
 protected:
  after_fork() {
    random_source random(95);
    arrays_ = random_arrays<float>(random, 1 << 19, true);
    expected_ = arrays_;
    EXPECT_OK(run_step(make_context().get(), make_config(), expected_));
  }

  bool steps_right(steepest_context* context) const {
    auto a = arrays_;
    return run_step(context, make_config(), a) == STEEPEST_OK && same_bits(a, expected_);
  }

  adamw_arrays<float> arrays_, expected_;
};

// The first test of the program, before anything has run on the library's threads.
TEST_F(after_fork, a_new_context_has_threads) {
  const context_pointer context = make_context({.threads = 2});
  const std::int32_t threads = steepest_context_threads(context.get());
  EXPECT_EQ(in_child([&] {
              const context_pointer own = try_context({.threads = 2});
              if (own == nullptr || steepest_context_threads(own.get()) != threads) return 1;
              for (int i = 0; i < 20; ++i) {
                if (!steps_right(own.get())) return 2;
              }
              return in_child([&] { return steps_right(own.get()) ? 0 : 3; });
            }),
            0);
}

// Whose locks a child could not release: there a new context keeps to the calling thread.
TEST_F(after_fork, a_new_context_stays_out_of_what_the_parent_used) {
  const context_pointer context = make_context({.threads = 2});
  ASSERT_TRUE(steps_right(context.get()));
  const bool threaded = steepest_context_threads(context.get()) > 1;
  EXPECT_EQ(in_child([&] {
              const context_pointer own = try_context({.threads = 2});
              if (own == nullptr || !steps_right(own.get())) return 1;
              if (threaded && steepest_context_threads(own.get()) != 1) return 2;
              return in_child([&] {
                const context_pointer again = try_context({.threads = 2});
                return again != nullptr && steps_right(again.get()) ? 0 : 3;
              });
            }),
            0);
  EXPECT_EQ(in_child([&] {
              reversed_executor own(2);
              const steepest_executor executor = own.interface();
              const context_pointer with = try_context({.executor = &executor});
              return with != nullptr && steps_right(with.get()) && own.calls > 0 ? 0 : 1;
            }),
            0);
}

TEST_F(after_fork, a_parents_context_works) {
  const context_pointer context = make_context({.threads = 2});
  ASSERT_TRUE(steps_right(context.get()));  // its threads exist now
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(in_child([&] { return steps_right(context.get()) ? 0 : 1; }), 0);
    EXPECT_TRUE(steps_right(context.get()));
  }
}

TEST_F(after_fork, a_parents_unused_context_works) {
  const context_pointer context = make_context({.threads = 2});
  EXPECT_EQ(in_child([&] { return steps_right(context.get()) ? 0 : 1; }), 0);
  EXPECT_TRUE(steps_right(context.get()));
}

TEST_F(after_fork, a_parents_context_can_be_trimmed_and_destroyed) {
  context_pointer context = make_context({.threads = 2});
  ASSERT_TRUE(steps_right(context.get()));
  EXPECT_EQ(in_child([&] {
              const bool right =
                  steps_right(context.get()) && steepest_context_trim(context.get()) == STEEPEST_OK;
              context.reset();
              return right ? 0 : 1;
            }),
            0);
  EXPECT_TRUE(steps_right(context.get()));
}

TEST_F(after_fork, the_default_context_works) {
  EXPECT_EQ(in_child([&] { return steps_right(nullptr) ? 0 : 1; }), 0);  // made in the child
  ASSERT_TRUE(steps_right(nullptr));
  EXPECT_EQ(in_child([&] { return steps_right(nullptr) ? 0 : 1; }), 0);
  EXPECT_TRUE(steps_right(nullptr));
}

// The caller's executor belongs to the parent, whose threads the child does not have.
TEST_F(after_fork, a_parents_executor_is_not_called) {
  reversed_executor own(2);
  const steepest_executor executor = own.interface();
  const context_pointer context = make_context({.executor = &executor});
  ASSERT_TRUE(steps_right(context.get()));
  EXPECT_EQ(in_child([&] {
              const std::int64_t calls = own.calls;
              return steps_right(context.get()) && own.calls == calls ? 0 : 1;
            }),
            0);
}

// A fork may fall anywhere inside other threads' calls, whatever they hold at the moment. Trimming
// in a tight loop makes it likely that this is the lock of the scratch memory.
TEST_F(after_fork, during_calls_of_other_threads) {
  const context_pointer context = make_context({.threads = 2});
  std::atomic<bool> stop{false};
  std::thread trimming([&] {
    while (!stop) steepest_context_trim(context.get());
  });
  std::thread stepping([&] {
    adamw_arrays<float> a(20000);
    for (std::int64_t i = 0; !stop; ++i) {
      steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
      run_step(context.get(), make_config(), a, &stats);
      if (i % 7 == 0) make_context({.threads = 2});
    }
  });
  std::vector<steepest_adamw_tensor> list;  // many tensors need scratch memory
  adamw_arrays<float> small(1000);
  for (std::size_t i = 0; i < 500; ++i) list.push_back(make_tensor(small, 2 * i, 2));
  const steepest_adamw_config config = make_config();
  int code = 0;
  for (int i = 0; code == 0 && i < (long_run() ? 500 : 40); ++i) {
    code = in_child([&] {
      if (steepest_adamw_step(context.get(), &config, list.data(), 500, nullptr) != STEEPEST_OK) {
        return 1;
      }
      if (!steps_right(context.get())) return 2;
      const context_pointer own = try_context({.threads = 2});
      return own != nullptr && steps_right(own.get()) && steps_right(nullptr) ? 0 : 3;
    });
  }
  stop = true;
  trimming.join();
  stepping.join();
  EXPECT_EQ(code, 0);
}

// Every function, with the parent's context and with one of the child's: while other threads of the
// parent are inside some of them, LAPACK's included.
TEST_F(after_fork, every_function_during_calls_of_other_threads) {
  std::vector<sample_call> all = every_call(call_size::small);
  const context_pointer context = make_context({.threads = 2});
  std::vector<sample_result> expected;
  for (const sample_call& call : all) expected.push_back(run_sample(call, context.get()));
  const auto is_right = [&](std::size_t i, steepest_context* used) {
    const sample_result got = run_sample(all[i], used);
    return all[i].uses_lapack ? got.status == STEEPEST_OK : got == expected[i];
  };
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> others;
  for (std::size_t t = 0; t < 2; ++t)
    others.emplace_back([&, t] {
      for (std::size_t i = t; !stop; ++i)  // one thread makes LAPACK's calls alone
        if ((t != 0 || all[i % all.size()].uses_lapack) && !is_right(i % all.size(), context.get()))
          ++wrong;
    });
  int code = 0;
  for (int round = 0; code == 0 && round < (long_run() ? 200 : 5); ++round) {
    const auto all_right = [&] {
      const context_pointer own = try_context({.threads = 2});
      for (std::size_t i = 0; i < all.size(); ++i) {
        if (!is_right(i, context.get())) return 1;
        if (own == nullptr || !is_right(i, own.get())) return 2;
      }
      return 0;
    };
    code = in_child(all_right, 200);  // slow with sanitizers, beside the threads above
  }
  stop = true;
  for (std::thread& thread : others) thread.join();
  EXPECT_EQ(code, 0);
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace steepest_test
