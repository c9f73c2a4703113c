// SPDX-License-Identifier: Apache-2.0
//
// Contexts: options, levels, the environment variables, the default context, use by several
// threads.
#include <sched.h>

#include <thread>

#include "adamw_support.hpp"

namespace steepest_test {
namespace {

// A variable of the environment, for a scope.
class environment {
 public:
  environment(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~environment() { unsetenv(name_); }
  environment(const environment&) = delete;
  environment& operator=(const environment&) = delete;

 private:
  const char* name_;
};

// Runs the statements in a fresh process, in which no default context exists yet.
#define EXPECT_IN_NEW_PROCESS(...)                        \
  do {                                                    \
    GTEST_FLAG_SET(death_test_style, "threadsafe");       \
    EXPECT_EXIT(                                          \
        {                                                 \
          __VA_ARGS__;                                    \
          std::exit(testing::Test::HasFailure() ? 1 : 0); \
        },                                                \
        testing::ExitedWithCode(0), "");                  \
  } while (false)

void expect_refused(const context_request& request, steepest_status status, const char* text) {
  steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
  options.flags = request.flags;
  options.num_threads = request.threads;
  options.max_isa = request.max_isa;
  auto* context = reinterpret_cast<steepest_context*>(&options);
  EXPECT_EQ(steepest_context_create(&options, &context), status) << text;
  EXPECT_EQ(context, nullptr);
  EXPECT_NE(std::string(steepest_last_error()).find(text), std::string::npos)
      << steepest_last_error();
}

TEST(context, defaults) {
  steepest_context* context = nullptr;
  ASSERT_OK(steepest_context_create(nullptr, &context));
  const context_pointer owner(context);
  EXPECT_EQ(steepest_context_isa(context), levels().back());
  cpu_set_t cores;
  ASSERT_EQ(sched_getaffinity(0, sizeof(cores), &cores), 0);
  EXPECT_GE(steepest_context_threads(context), 1);
  EXPECT_LE(steepest_context_threads(context), CPU_COUNT(&cores));  // less under a CPU quota
  EXPECT_OK(steepest_context_trim(context));
  EXPECT_OK(steepest_context_trim(nullptr));
  steepest_context_destroy(nullptr);
}

TEST(context, num_threads) {
  const auto cores = static_cast<std::int32_t>(std::thread::hardware_concurrency());
  for (const std::int32_t threads : {1, 2, 3, 64}) {
    EXPECT_EQ(steepest_context_threads(make_context({.threads = threads}).get()),
              std::min(threads, cores));
  }
  expect_refused({.threads = -1}, STEEPEST_E_INVALID_ARGUMENT, "num_threads");
  expect_refused({.threads = INT32_MIN}, STEEPEST_E_INVALID_ARGUMENT, "num_threads");
}

TEST(context, levels_are_what_was_asked_for) {
  ASSERT_FALSE(levels().empty());
  EXPECT_EQ(levels().front(), STEEPEST_ISA_GENERIC);
  for (const steepest_isa isa : levels()) {
    EXPECT_EQ(steepest_context_isa(make_context({.max_isa = isa}).get()), isa);
  }
  for (steepest_isa isa = -1; isa <= STEEPEST_ISA_ARM64_NEON + 1; ++isa) {
    if (isa == STEEPEST_ISA_AUTO) continue;
    if (std::count(levels().begin(), levels().end(), isa) != 0) continue;
    expect_refused({.max_isa = isa}, STEEPEST_E_UNSUPPORTED, "max_isa");
  }
#if defined(__x86_64__)
  expect_refused({.max_isa = STEEPEST_ISA_ARM64_NEON}, STEEPEST_E_UNSUPPORTED, "arm64_neon");
#else
  expect_refused({.max_isa = STEEPEST_ISA_X86_AVX2}, STEEPEST_E_UNSUPPORTED, "x86_avx2");
#endif
}

TEST(context, unknown_flags) {
  EXPECT_NE(try_context({.flags = STEEPEST_FLAG_CONSISTENT}), nullptr);
  for (const int bit : {1, 31, 33, 63}) {
    expect_refused({.flags = std::uint64_t{1} << bit}, STEEPEST_E_UNSUPPORTED, "flags");
  }
}

TEST(context, null_out) {
  EXPECT_EQ(steepest_context_create(nullptr, nullptr), STEEPEST_E_INVALID_ARGUMENT);
  EXPECT_NE(std::string(steepest_last_error()).find("context_create: out is null"),
            std::string::npos);
}

TEST(names, of_levels_and_statuses) {
  EXPECT_STREQ(steepest_isa_name(STEEPEST_ISA_AUTO), "auto");
  EXPECT_STREQ(steepest_isa_name(STEEPEST_ISA_GENERIC), "generic");
  EXPECT_STREQ(steepest_isa_name(STEEPEST_ISA_X86_AVX2), "x86_avx2");
  EXPECT_STREQ(steepest_isa_name(STEEPEST_ISA_X86_AVX512), "x86_avx512");
  EXPECT_STREQ(steepest_isa_name(STEEPEST_ISA_X86_AVX512_BF16), "x86_avx512_bf16");
  EXPECT_STREQ(steepest_isa_name(STEEPEST_ISA_ARM64_NEON), "arm64_neon");
  EXPECT_STREQ(steepest_isa_name(-1), "unknown isa");
  EXPECT_STREQ(steepest_isa_name(5), "unknown isa");
  EXPECT_STREQ(steepest_status_name(STEEPEST_OK), "STEEPEST_OK");
  EXPECT_STREQ(steepest_status_name(-1), "STEEPEST_E_INVALID_ARGUMENT");
  EXPECT_STREQ(steepest_status_name(-2), "STEEPEST_E_SHAPE");
  EXPECT_STREQ(steepest_status_name(-3), "STEEPEST_E_DTYPE");
  EXPECT_STREQ(steepest_status_name(-4), "STEEPEST_E_OUT_OF_MEMORY");
  EXPECT_STREQ(steepest_status_name(-5), "STEEPEST_E_NONFINITE");
  EXPECT_STREQ(steepest_status_name(-6), "STEEPEST_E_NOT_CONVERGED");
  EXPECT_STREQ(steepest_status_name(-7), "STEEPEST_E_UNSUPPORTED");
  EXPECT_STREQ(steepest_status_name(-8), "STEEPEST_E_INTERNAL");
  EXPECT_STREQ(steepest_status_name(1), "unknown status");
  EXPECT_STREQ(steepest_status_name(-9), "unknown status");
  EXPECT_EQ(steepest_version(),
            std::uint32_t(STEEPEST_VERSION_MAJOR << 16 | STEEPEST_VERSION_MINOR << 8 |
                          STEEPEST_VERSION_PATCH));
  EXPECT_EQ(steepest_abi_version(), std::uint32_t{STEEPEST_ABI_VERSION});
  EXPECT_NE(std::string(steepest_build_info()).find("generic"), std::string::npos);
  EXPECT_EQ(std::string(steepest_build_info()).find('\n'), std::string::npos);
}

TEST(environment, max_isa_lowers_the_level) {
  const auto& available = levels();
  for (const steepest_isa isa : available) {
    const environment variable("STEEPEST_MAX_ISA", steepest_isa_name(isa));
    EXPECT_EQ(steepest_context_isa(make_context().get()), isa);
    for (const steepest_isa asked : available) {
      EXPECT_EQ(steepest_context_isa(make_context({.max_isa = asked}).get()), std::min(isa, asked));
    }
  }
}

TEST(environment, max_isa_invalid) {
  levels();  // while the environment is still clean
#if defined(__x86_64__)
  const char* impossible = "arm64_neon";
#else
  const char* impossible = "x86_avx2";
#endif
  for (const char* value : {"sse9", "AVX2", "generic ", "unknown isa", "2", impossible}) {
    const environment variable("STEEPEST_MAX_ISA", value);
    const bool known = value == impossible;
    expect_refused({}, known ? STEEPEST_E_UNSUPPORTED : STEEPEST_E_INVALID_ARGUMENT,
                   "STEEPEST_MAX_ISA");
    expect_refused({.max_isa = STEEPEST_ISA_GENERIC},
                   known ? STEEPEST_E_UNSUPPORTED : STEEPEST_E_INVALID_ARGUMENT, value);
  }
}

TEST(environment, num_threads_stands_in_for_zero) {
  const auto cores = static_cast<std::int32_t>(std::thread::hardware_concurrency());
  for (const std::int32_t threads : {1, 2}) {
    const environment variable("STEEPEST_NUM_THREADS", std::to_string(threads).c_str());
    EXPECT_EQ(steepest_context_threads(make_context({.threads = 0}).get()),
              std::min(threads, cores));
    EXPECT_EQ(steepest_context_threads(make_context({.threads = 3 - threads}).get()),
              std::min(3 - threads, cores));
  }
}

TEST(environment, num_threads_invalid) {
  for (const char* value : {"0", "-1", "two", "2x", " ", "1.5", "99999999999", "4294967297"}) {
    const environment variable("STEEPEST_NUM_THREADS", value);
    expect_refused({.threads = 0}, STEEPEST_E_INVALID_ARGUMENT, "STEEPEST_NUM_THREADS");
    expect_refused({.threads = 0}, STEEPEST_E_INVALID_ARGUMENT, value);
  }
}

float step_one_element(steepest_context* context, steepest_status expected = STEEPEST_OK) {
  adamw_arrays<float> a(1);
  a.grad[0] = 1;
  EXPECT_EQ(run_step(context, make_config(), a), expected) << steepest_last_error();
  return a.param[0];
}

TEST(default_context, reads_the_environment_at_first_use) {
  EXPECT_IN_NEW_PROCESS({
    setenv("STEEPEST_NUM_THREADS", "1", 1);
    setenv("STEEPEST_MAX_ISA", "generic", 1);
    EXPECT_EQ(steepest_context_threads(nullptr), 1);
    unsetenv("STEEPEST_NUM_THREADS");
    unsetenv("STEEPEST_MAX_ISA");
    EXPECT_EQ(steepest_context_threads(nullptr), 1);
    EXPECT_EQ(steepest_context_isa(nullptr), STEEPEST_ISA_GENERIC);
    EXPECT_LT(step_one_element(nullptr), 0);
    steepest_context_destroy(nullptr);
    EXPECT_LT(step_one_element(nullptr), 0);
  });
}

TEST(default_context, may_fail_and_succeed_later) {
  EXPECT_IN_NEW_PROCESS({
    setenv("STEEPEST_NUM_THREADS", "none", 1);
    EXPECT_EQ(steepest_context_threads(nullptr), 0);
    EXPECT_EQ(steepest_context_isa(nullptr), 0);
    EXPECT_EQ(step_one_element(nullptr, STEEPEST_E_INVALID_ARGUMENT), 0);
    EXPECT_NE(std::strstr(steepest_last_error(), "STEEPEST_NUM_THREADS"), nullptr);
    EXPECT_NE(std::strstr(steepest_last_error(), "none"), nullptr);
    unsetenv("STEEPEST_NUM_THREADS");
    EXPECT_LT(step_one_element(nullptr), 0);
    EXPECT_GE(steepest_context_threads(nullptr), 1);
  });
}

TEST(default_context, made_by_many_threads_at_once) {
  EXPECT_IN_NEW_PROCESS({
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i)
      threads.emplace_back([] { EXPECT_LT(step_one_element(nullptr), 0); });
    for (std::thread& thread : threads) thread.join();
  });
}

TEST(default_context, uses_only_the_cores_of_the_process) {
  EXPECT_IN_NEW_PROCESS({
    cpu_set_t cores;
    sched_getaffinity(0, sizeof(cores), &cores);
    int first = 0;
    while (!CPU_ISSET(first, &cores)) ++first;
    CPU_ZERO(&cores);
    CPU_SET(first, &cores);
    ASSERT_EQ(sched_setaffinity(0, sizeof(cores), &cores), 0);
    EXPECT_EQ(steepest_context_threads(nullptr), 1);
    EXPECT_EQ(steepest_context_threads(make_context({.threads = 0}).get()), 1);
  });
}

TEST(context, several_threads_at_once) {
  constexpr int thread_count = 4;
  constexpr int step_count = 50;
  random_source random(61);
  std::vector<adamw_arrays<float>> together;
  for (int i = 0; i < thread_count; ++i)
    together.push_back(random_arrays<float>(random, 70001, true));
  auto alone = together;
  const auto train = [](steepest_context* context, adamw_arrays<float>& a) {
    steepest_adamw_config config = make_config();
    for (config.step = 1; config.step <= step_count; ++config.step) {
      steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
      EXPECT_OK(run_step(context, config, a, &stats));
      EXPECT_OK(config.step % 16 == 0 ? steepest_context_trim(context) : STEEPEST_OK);
    }
  };
  const context_pointer shared = make_context({.threads = 2});
  std::vector<std::thread> threads;
  for (auto& a : together) threads.emplace_back([&] { train(shared.get(), a); });
  for (std::thread& thread : threads) thread.join();
  const context_pointer serial = make_context();
  for (auto& a : alone) train(serial.get(), a);
  for (int i = 0; i < thread_count; ++i) EXPECT_TRUE(same_bits(together[i], alone[i]));
}

}  // namespace
}  // namespace steepest_test
