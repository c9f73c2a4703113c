// SPDX-License-Identifier: Apache-2.0
//
// A caller's own executor and allocator.
#include "adamw_support.hpp"
#include "executors.hpp"

namespace steepest_test {
namespace {

constexpr std::size_t large_count = 1 << 19;

// The tasks of the last parallel_for, and how often each ran.
struct recording_executor {
  std::int32_t workers = 3;
  bool runs_tasks = true;
  steepest_status result = STEEPEST_OK;
  std::int64_t calls = 0;
  bool well_called = true;

  steepest_executor interface() {
    steepest_executor executor = STEEPEST_EXECUTOR_INIT;
    executor.user = this;
    executor.concurrency = [](void* user) {
      return static_cast<recording_executor*>(user)->workers;
    };
    executor.parallel_for = [](void* user, std::int64_t tasks, task_body body, void* arg) {
      auto& self = *static_cast<recording_executor*>(user);
      ++self.calls;
      self.well_called = self.well_called && tasks > 0 && body != nullptr;
      for (std::int64_t task = 0; self.runs_tasks && task < tasks; ++task) {
        body(arg, task, static_cast<std::int32_t>(task % self.workers));
      }
      return self.result;
    };
    return executor;
  }
};

TEST(executor, is_copied_and_used) {
  recording_executor own;
  steepest_executor executor = own.interface();
  const context_pointer context = make_context({.executor = &executor});
  std::memset(&executor, 0, sizeof(executor));
  EXPECT_EQ(steepest_context_threads(context.get()), 3);
  random_source random(81);
  auto a = random_arrays<float>(random, large_count, true);
  auto expected = a;
  ASSERT_OK(run_step(context.get(), make_config(), a));
  ASSERT_OK(run_step(make_context().get(), make_config(), expected));
  EXPECT_TRUE(same_bits(a, expected));
  EXPECT_GT(own.calls, 0);
  EXPECT_TRUE(own.well_called);
}

TEST(executor, one_join_for_a_whole_list) {
  recording_executor own;
  const steepest_executor executor = own.interface();
  const context_pointer context = make_context({.executor = &executor});
  adamw_arrays<float> a(large_count);
  std::vector<steepest_adamw_tensor> tensors;
  for (std::size_t first = 0; first < large_count; first += 512) {
    tensors.push_back(make_tensor(a, first, 512));
  }
  const steepest_adamw_config config = make_config();
  ASSERT_OK(steepest_adamw_step(context.get(), &config, tensors.data(),
                                static_cast<std::int64_t>(tensors.size()), nullptr));
  EXPECT_EQ(own.calls, 1);
}

TEST(executor, failure_is_internal) {
  recording_executor own;
  own.runs_tasks = false;
  own.result = STEEPEST_E_OUT_OF_MEMORY;
  const steepest_executor executor = own.interface();
  const context_pointer context = make_context({.executor = &executor});
  random_source random(82);
  const auto before = random_arrays<float>(random, large_count, true);
  auto a = before;
  EXPECT_EQ(run_step(context.get(), make_config(), a), STEEPEST_E_INTERNAL);
  EXPECT_NE(std::string(steepest_last_error()).find("adamw_step: executor"), std::string::npos)
      << steepest_last_error();
  EXPECT_TRUE(same_bits(a, before));

  steepest_vector vector = STEEPEST_VECTOR_INIT;
  vector.count = static_cast<std::int64_t>(large_count);
  vector.data = a.grad.data();
  double norm = -7;
  std::int64_t nonfinite = -7;
  EXPECT_EQ(steepest_grad_norm(context.get(), &vector, 1, &norm, &nonfinite), STEEPEST_E_INTERNAL);
  EXPECT_EQ(norm, -7);
  EXPECT_EQ(nonfinite, -7);

  // The scan for non-finite gradients fails before anything is updated.
  own.runs_tasks = true;
  steepest_adamw_config config = make_config();
  config.flags = STEEPEST_ADAMW_SKIP_NONFINITE;
  std::int32_t skipped = -7;
  config.skipped = &skipped;
  EXPECT_EQ(run_step(context.get(), config, a), STEEPEST_E_INTERNAL);
  EXPECT_TRUE(same_bits(a, before));
  EXPECT_EQ(skipped, -7);

  own.result = STEEPEST_OK;
  EXPECT_OK(run_step(context.get(), make_config(), a));
  own.runs_tasks = false;  // success without the work
  EXPECT_EQ(run_step(context.get(), make_config(), a), STEEPEST_E_INTERNAL);
}

TEST(executor, refused_when_it_cannot_work) {
  struct row {
    const char* name;
    void (*change)(steepest_executor&, recording_executor&);
  };
  const row rows[] = {
      {"concurrency", [](auto& e, auto&) { e.concurrency = nullptr; }},
      {"parallel_for", [](auto& e, auto&) { e.parallel_for = nullptr; }},
      {"concurrency", [](auto&, auto& own) { own.workers = 0; }},
      {"concurrency", [](auto&, auto& own) { own.workers = -2; }},
  };
  for (const row& r : rows) {
    recording_executor own;
    steepest_executor executor = own.interface();
    r.change(executor, own);
    steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
    options.executor = &executor;
    auto* context = reinterpret_cast<steepest_context*>(&options);
    EXPECT_EQ(steepest_context_create(&options, &context), STEEPEST_E_INVALID_ARGUMENT);
    EXPECT_EQ(context, nullptr);
    EXPECT_NE(std::string(steepest_last_error()).find(r.name), std::string::npos)
        << steepest_last_error();
  }
  recording_executor own;
  const steepest_executor executor = own.interface();
  steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
  options.executor = &executor;
  options.num_threads = 2;
  steepest_context* context = nullptr;
  EXPECT_EQ(steepest_context_create(&options, &context), STEEPEST_E_INVALID_ARGUMENT);
  EXPECT_NE(std::string(steepest_last_error()).find("num_threads"), std::string::npos);
}

// A list that needs scratch memory of every kind: statistics, tiles, many tensors.
struct large_call {
  adamw_arrays<float> arrays;
  std::vector<steepest_adamw_tensor> tensors;
  std::vector<steepest_step_stats> stats;
  steepest_adamw_config config = make_config();

  large_call() {
    random_source random(83);
    arrays = random_arrays<float>(random, large_count, true);
    for (std::size_t first = 0; first + 700 <= large_count;) {
      const std::size_t count = first == 0 ? large_count / 2 : 700;
      tensors.push_back(make_tensor(arrays, first, count));
      first += count;
    }
    stats.assign(tensors.size(), STEEPEST_STEP_STATS_INIT);
    config.flags = STEEPEST_ADAMW_SKIP_NONFINITE;
  }
  steepest_status run(steepest_context* context) {
    return steepest_adamw_step(context, &config, tensors.data(),
                               static_cast<std::int64_t>(tensors.size()), stats.data());
  }
};

TEST(allocator, everything_is_released) {
  counting_allocator own;
  steepest_allocator allocator = own.interface();
  {
    const context_pointer context = make_context({.threads = 2, .allocator = &allocator});
    std::memset(&allocator, 0, sizeof(allocator));
    EXPECT_GT(own.live_bytes, 0);  // the context itself
    const std::int64_t fresh = own.live_bytes;
    large_call call;
    for (int i = 0; i < 3; ++i) EXPECT_OK(call.run(context.get()));
    const std::int64_t calls = own.calls;
    EXPECT_OK(call.run(context.get()));
    EXPECT_EQ(own.calls, calls) << "scratch memory is kept for the next call";
    EXPECT_OK(steepest_context_trim(context.get()));
    EXPECT_LE(own.live_bytes, fresh);
    EXPECT_OK(call.run(context.get()));
  }
  EXPECT_TRUE(own.all_released());
}

// Scratch memory that several calls at once borrow, return and trim.
TEST(allocator, everything_is_released_under_contention) {
  counting_allocator own;
  const steepest_allocator allocator = own.interface();
  {
    const context_pointer context = make_context({.allocator = &allocator});
    std::atomic<bool> stop{false};
    std::thread trimming([&] {
      while (!stop) steepest_context_trim(context.get());
    });
    std::vector<std::thread> stepping;
    for (int t = 0; t < 3; ++t) {
      stepping.emplace_back([&] {
        adamw_arrays<float> a(200);
        std::vector<steepest_adamw_tensor> list;
        for (std::size_t i = 0; i < a.count(); ++i) list.push_back(make_tensor(a, i, 1));
        const steepest_adamw_config config = make_config();
        for (int i = 0; i < 2000; ++i) {
          EXPECT_OK(steepest_adamw_step(context.get(), &config, list.data(), 200, nullptr));
        }
      });
    }
    for (std::thread& thread : stepping) thread.join();
    stop = true;
    trimming.join();
    EXPECT_GT(own.calls, 10);
  }
  EXPECT_TRUE(own.all_released());
}

// Whichever allocation fails, in context_create or in a call: an error, and nothing written.
TEST(allocator, failure_at_every_allocation) {
  std::int64_t failures = 0;
  for (std::int64_t fail_at = 0;; ++fail_at) {
    counting_allocator own;
    own.fail_at = fail_at;
    const steepest_allocator allocator = own.interface();
    bool failed = true;
    const context_pointer context = try_context({.threads = 2, .allocator = &allocator});
    if (context != nullptr) {
      large_call call;
      std::int32_t skipped = -7;
      call.config.skipped = &skipped;
      const auto arrays = call.arrays;
      const auto stats = call.stats;
      const steepest_status status = call.run(context.get());
      failed = status != STEEPEST_OK;
      if (failed) {
        EXPECT_EQ(status, STEEPEST_E_OUT_OF_MEMORY);
        EXPECT_TRUE(same_bits(call.arrays, arrays));
        EXPECT_TRUE(same_bits(call.stats, stats));
        EXPECT_EQ(skipped, -7);
        own.fail_at = INT64_MAX;
        EXPECT_OK(call.run(context.get()));
      }
    } else {
      EXPECT_TRUE(own.all_released());
    }
    if (!failed) break;
    ++failures;
    EXPECT_NE(std::string(steepest_last_error()), "");
    ASSERT_LT(fail_at, 100);
  }
  EXPECT_GE(failures, 2);  // at least the context, and the scratch memory of the call
}

TEST(allocator, create_reports_out_of_memory) {
  counting_allocator own;
  own.fail_at = 0;
  const steepest_allocator allocator = own.interface();
  steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
  options.allocator = &allocator;
  auto* context = reinterpret_cast<steepest_context*>(&options);
  EXPECT_EQ(steepest_context_create(&options, &context), STEEPEST_E_OUT_OF_MEMORY);
  EXPECT_EQ(context, nullptr);
}

TEST(allocator, refused_without_callbacks) {
  counting_allocator own;
  for (const bool without_allocate : {true, false}) {
    steepest_allocator allocator = own.interface();
    if (without_allocate) {
      allocator.allocate = nullptr;
    } else {
      allocator.release = nullptr;
    }
    EXPECT_EQ(try_context({.allocator = &allocator}), nullptr);
    const std::string text = steepest_last_error();
    EXPECT_NE(
        text.find(without_allocate ? "options.allocator->allocate" : "options.allocator->release"),
        std::string::npos)
        << text;
  }
  EXPECT_EQ(own.calls, 0);
}

}  // namespace
}  // namespace steepest_test
