// SPDX-License-Identifier: Apache-2.0
//
// Every function under faults of its surroundings: no memory, at each place where it is asked for,
// and executors in any order, of any width, or that fail.
#include <new>

#include "every_call.hpp"

namespace steepest_test {
namespace {

// operator new fails in this program at a call of our choice, also for the library: it has no other
// way to memory than this one and the context's allocator.
std::atomic<std::int64_t> news_left{INT64_MAX};
std::atomic<bool> new_failed{false};

void* allocate(std::size_t bytes) {
  if (news_left.load(std::memory_order_relaxed) != INT64_MAX && news_left.fetch_sub(1) == 0) {
    new_failed = true;
    throw std::bad_alloc();
  }
  void* const memory = std::malloc(bytes != 0 ? bytes : 1);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

// ------------------------------------------------------------------ no memory

// One allocation fails, or that one and all after it.
void check_without_memory(const sample_call& call, const sample_result& expected, bool only_one,
                          std::int32_t threads) {
  for (std::int64_t k = 0;; ++k) {
    SCOPED_TRACE(testing::Message() << call.name << ", allocation " << k);
    counting_allocator own;
    const steepest_allocator allocator = own.interface();
    {
      const context_pointer context = make_context({.threads = threads, .allocator = &allocator});
      own.fail_at = own.calls + k;
      own.fail_until = only_one ? own.fail_at + 1 : INT64_MAX;
      const std::int64_t calls = own.calls;
      const sample_result got = run_sample(call, context.get());
      if (own.calls - calls <= k) {  // none failed
        EXPECT_TRUE(got == expected);
        EXPECT_TRUE(k > 0 || !call.uses_context || !call.has_executor) << "no memory was needed";
        return;
      }
      ASSERT_EQ(got.status, STEEPEST_E_OUT_OF_MEMORY) << steepest_last_error();
      EXPECT_NE(std::string(steepest_last_error()).find("memory"), std::string::npos);
      EXPECT_TRUE(got.after == call.given) << "something was written";
      own.fail_at = INT64_MAX;
      EXPECT_TRUE(run_sample(call, context.get()) == expected) << "not as before the failure";
    }
    EXPECT_TRUE(own.all_released());
    ASSERT_LT(k, 100);
  }
}

TEST(faults, no_memory_at_any_allocation) {
  for (const sample_call& call : every_call(call_size::small)) {
    const sample_result expected = run_sample(call, make_context().get());
    ASSERT_OK(expected.status);
    for (const bool only_one : {false, true})
      for (const std::int32_t threads : {1, 2})
        check_without_memory(call, expected, only_one, threads);
  }
}

// The same for operator new. The call of this file allocates as well: what it throws has not
// passed through the library, whose functions are noexcept.
TEST(faults, operator_new_fails_at_any_call) {
  std::int64_t failures = 0;
  for (const sample_call& call : every_call(call_size::small)) {
    const context_pointer context = make_context({.threads = 2});
    const sample_result expected = run_sample(call, context.get());
    for (std::int64_t k = 0;; ++k) {
      SCOPED_TRACE(testing::Message() << call.name << ", call " << k << " of operator new");
      placed_buffers memory(call.given);
      steepest_status status = STEEPEST_OK;
      new_failed = false;
      news_left = k;
      try {
        status = call.run(context.get(), memory);
      } catch (const std::bad_alloc&) {
        news_left = INT64_MAX;
        continue;
      }
      news_left = INT64_MAX;
      if (!new_failed) {
        EXPECT_OK(status);
        EXPECT_TRUE(memory.contents() == expected.after);
        break;
      }
      ++failures;
      EXPECT_EQ(status, STEEPEST_E_OUT_OF_MEMORY) << steepest_last_error();
      EXPECT_TRUE(memory.contents() == call.given) << "something was written";
      EXPECT_TRUE(run_sample(call, context.get()) == expected);
      ASSERT_LT(k, 100);
    }
  }
  EXPECT_GE(failures, 4) << "schedule_refine has four arrays";
}

// A context asks for its own memory, and for oneTBB's arena.
TEST(faults, a_context_is_not_made_without_memory) {
  for (std::int64_t k = 0;; ++k) {
    counting_allocator own;
    own.fail_at = k;
    const steepest_allocator allocator = own.interface();
    steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
    options.allocator = &allocator;
    options.num_threads = 2;
    auto* context = reinterpret_cast<steepest_context*>(&options);
    const steepest_status status = steepest_context_create(&options, &context);
    if (status == STEEPEST_OK) {
      EXPECT_GE(k, 1);
      steepest_context_destroy(context);
      EXPECT_TRUE(own.all_released());
      break;
    }
    EXPECT_EQ(status, STEEPEST_E_OUT_OF_MEMORY);
    EXPECT_EQ(context, nullptr);
    EXPECT_TRUE(own.all_released());
    ASSERT_LT(k, 10);
  }
}

// ------------------------------------------------------------------ executors

// In the quick form one call of each kind; the others take the same ways to an executor.
std::vector<sample_call> parallel_calls() {
  static constexpr const char* chosen[] = {"adamw_step f32",
                                           "adamw_chunk companded",
                                           "msign auto type 1",
                                           "msign newton-schulz type 2",
                                           "msign accurate type 1",
                                           "msign_batched auto type 1",
                                           "muon_step f64 classic blocks",
                                           "muon_step q8 with a copy",
                                           "grad_norm",
                                           "spectral_norm_bounds"};
  std::vector<sample_call> all;
  for (sample_call& call : every_call(call_size::large))
    if (call.has_executor && (long_run() || std::find(std::begin(chosen), std::end(chosen),
                                                      call.name) != std::end(chosen)))
      all.push_back(std::move(call));
  return all;
}

// Singular values are LAPACK's work alone.
bool is_handed_out(const sample_call& call) {
  return call.name != "singular_values" && call.name != "spectral_norm";
}

TEST(faults, executors_of_any_order_and_width) {
  for (const sample_call& call : parallel_calls()) {
    SCOPED_TRACE(call.name);
    const sample_result expected = run_sample(call, make_context().get());
    ASSERT_OK(expected.status);
    for (const std::int32_t workers : {1, 2, 5, 64})
      for (const std::uint64_t shuffle : {0, 1, 2}) {
        if (workers == 64 && shuffle != 1 && !long_run()) continue;
        reversed_executor own(workers);
        own.shuffle = shuffle;
        const steepest_executor executor = own.interface();
        const context_pointer context = make_context({.executor = &executor});
        const sample_result got = run_sample(call, context.get());
        EXPECT_OK(got.status);
        EXPECT_TRUE(call.uses_lapack || got == expected) << workers << " workers";
        EXPECT_TRUE(workers == 1 || (own.calls > 0) == is_handed_out(call));
      }
  }
}

// In each of its calls the executor runs half of the tasks, or says that it failed, or does
// nothing. The call says so, ends, and leaves a context that works.
TEST(faults, an_executor_fails_at_any_call) {
  for (const sample_call& call : parallel_calls()) {
    reversed_executor own(2);
    const steepest_executor executor = own.interface();
    const context_pointer context = make_context({.executor = &executor});
    const sample_result expected = run_sample(call, context.get());
    const std::int64_t calls = own.calls;
    const std::int64_t stride = long_run() ? 1 : std::max<std::int64_t>(1, calls / 5);
    for (const auto fault :
         {reversed_executor::half_of_the_tasks, reversed_executor::all_but_an_error,
          reversed_executor::no_task_and_success})
      for (std::int64_t k = 0; k < calls; k += stride) {
        SCOPED_TRACE(testing::Message()
                     << call.name << ", fault " << fault << " in call " << k << " of " << calls);
        own.calls = 0;
        own.fail_at = k;
        own.fault = fault;
        const sample_result got = run_sample(call, context.get());
        EXPECT_EQ(got.status, STEEPEST_E_INTERNAL) << steepest_last_error();
        // What ends a step in chunks fails after the chunk, and has the last word.
        EXPECT_TRUE(call.name.find("chunk") != std::string::npos ||
                    std::string(steepest_last_error()).find("executor") != std::string::npos)
            << steepest_last_error();
        EXPECT_FALSE(got.after == buffers()) << "written outside of a buffer";
      }
    own.fail_at = INT64_MAX;
    EXPECT_TRUE(call.uses_lapack || run_sample(call, context.get()) == expected) << call.name;
  }
}

}  // namespace
}  // namespace steepest_test

void* operator new(std::size_t bytes) { return steepest_test::allocate(bytes); }
void* operator new[](std::size_t bytes) { return steepest_test::allocate(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
