// SPDX-License-Identifier: Apache-2.0
//
// What surrounds every call: the text of the last error, errno, and nothing printed.
#include <fcntl.h>

#include <cerrno>
#include <functional>
#include <thread>

#include "adamw_support.hpp"

namespace steepest_test {
namespace {

TEST(last_error, belongs_to_the_thread_and_is_not_cleared) {
  std::thread([] {
    EXPECT_STREQ(steepest_last_error(), "");
    adamw_arrays<float> a(8);
    steepest_adamw_config config = make_config();
    config.beta1 = 2;
    EXPECT_EQ(run_step(nullptr, config, a), STEEPEST_E_INVALID_ARGUMENT);
    const std::string text = steepest_last_error();
    EXPECT_NE(text.find("beta1"), std::string::npos);

    std::thread([] {
      EXPECT_STREQ(steepest_last_error(), "");
      EXPECT_EQ(steepest_context_create(nullptr, nullptr), STEEPEST_E_INVALID_ARGUMENT);
      EXPECT_NE(std::string(steepest_last_error()).find("out"), std::string::npos);
    }).join();

    EXPECT_OK(run_step(nullptr, make_config(), a));
    EXPECT_EQ(steepest_last_error(), text);
    EXPECT_EQ(steepest_context_create(nullptr, nullptr), STEEPEST_E_INVALID_ARGUMENT);
    EXPECT_NE(steepest_last_error(), text);
  }).join();
}

// Calls of every function, half of them failing.
std::vector<std::function<void()>> calls() {
  return {
      [] { make_context({.threads = 2}); },
      [] { EXPECT_EQ(try_context({.threads = -3}), nullptr); },
      [] {
        random_source random(71);
        auto a = random_arrays<float>(random, 1 << 18, true);
        steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
        EXPECT_OK(run_step(make_context({.threads = 2}).get(), make_config(), a, &stats));
        EXPECT_OK(run_step(nullptr, make_config(), a, &stats));
        a.grad[5] = std::numeric_limits<float>::infinity();
        EXPECT_OK(run_step(nullptr, make_config(), a, &stats));
      },
      [] {
        adamw_arrays<float> a(8);
        steepest_adamw_config config = make_config();
        config.step = 0;
        EXPECT_EQ(run_step(nullptr, config, a), STEEPEST_E_INVALID_ARGUMENT);
      },
      [] {
        const double values[] = {1e300, 1e-300, NAN};
        steepest_vector vector = STEEPEST_VECTOR_INIT;
        vector.data = values;
        vector.count = 3;
        vector.dtype = STEEPEST_F64;
        double norm = 0;
        EXPECT_OK(steepest_grad_norm(nullptr, &vector, 1, &norm, nullptr));
        vector.dtype = 77;
        EXPECT_EQ(steepest_grad_norm(nullptr, &vector, 1, &norm, nullptr), STEEPEST_E_DTYPE);
      },
      [] {
        steepest_adamw_config config;
        EXPECT_OK(steepest_adamw_config_init(&config, sizeof(config)));
        EXPECT_NE(steepest_adamw_config_init(&config, 3), STEEPEST_OK);
      },
      [] { EXPECT_OK(steepest_context_trim(nullptr)); },
      [] {
        steepest_version();
        steepest_abi_version();
        steepest_build_info();
        steepest_status_name(-1);
        steepest_isa_name(1);
        steepest_last_error();
        steepest_context_isa(nullptr);
        steepest_context_threads(nullptr);
      },
  };
}

TEST(errno_test, is_left_alone) {
  std::size_t number = 0;
  for (const auto& call : calls()) {
    for (const int value : {0, 4711}) {
      errno = value;
      call();
      EXPECT_EQ(errno, value) << "call " << number;
    }
    ++number;
  }
  setenv("STEEPEST_NUM_THREADS", "99999999999999999999", 1);
  errno = 4711;
  EXPECT_EQ(try_context({.threads = 0}), nullptr);
  EXPECT_EQ(errno, 4711);
  unsetenv("STEEPEST_NUM_THREADS");
}

// Also with more threads than there are cores.
TEST(output, nothing_is_printed) {
  char path[] = "/tmp/steepest_output_XXXXXX";
  const int file = mkstemp(path);
  ASSERT_GE(file, 0);
  unlink(path);
  const int code = in_child([&] {
    dup2(file, STDOUT_FILENO);
    dup2(file, STDERR_FILENO);
    for (const auto& call : calls()) call();
    random_source random(72);
    auto a = random_arrays<float>(random, 1 << 20, true);
    for (const std::int32_t threads : {3, 64}) {
      run_step(make_context({.threads = threads}).get(), make_config(), a);
    }
    return 0;
  });
  EXPECT_EQ(code, 0);
  const auto bytes = lseek(file, 0, SEEK_END);
  std::string text(static_cast<std::size_t>(bytes), '\0');
  EXPECT_EQ(pread(file, text.data(), text.size(), 0), bytes);
  close(file);
  EXPECT_EQ(text, "");
}

}  // namespace
}  // namespace steepest_test
