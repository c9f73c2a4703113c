// SPDX-License-Identifier: Apache-2.0
//
// Every function called from threads with small stacks, under signals, near the end of the address
// space, through many contexts and by many threads at once.
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "every_call.hpp"

namespace steepest_test {
namespace {

struct expected_call {
  sample_call call;
  sample_result expected;
};

// All calls, with what each gives on one thread.
std::vector<expected_call> expected_calls(call_size size) {
  std::vector<expected_call> all;
  const context_pointer context = make_context();
  for (sample_call& call : every_call(size)) {
    sample_result expected = run_sample(call, context.get());
    EXPECT_OK(expected.status);
    all.push_back({std::move(call), std::move(expected)});
  }
  return all;
}

bool is_right(const expected_call& e, const sample_result& got) {
  return e.call.uses_lapack ? got.status == STEEPEST_OK : got == e.expected;
}

constexpr std::size_t small_stack = 256 << 10;

// What is mapped for it now.
std::size_t main_stack_size() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find("[stack]") != std::string::npos) {
      char* end = nullptr;
      const std::size_t from = std::strtoull(line.c_str(), &end, 16);
      return std::strtoull(end + 1, nullptr, 16) - from;
    }
  return 0;
}

// ------------------------------------------------------------------ little memory

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool is_plain_build = false;  // sanitizers map terabytes, and have larger frames
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool is_plain_build = false;
#else
constexpr bool is_plain_build = true;
#endif
#else
constexpr bool is_plain_build = true;
#endif

// While it lives this process may map `more` bytes beyond what it has.
class memory_limit {
 public:
  explicit memory_limit(std::size_t more) {
    getrlimit(RLIMIT_AS, &before_);
    std::size_t pages = 0;
    if (std::FILE* file = std::fopen("/proc/self/statm", "re")) {
      if (std::fscanf(file, "%zu", &pages) != 1) pages = 0;
      std::fclose(file);
    }
    const rlimit tight = {pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) + more,
                          before_.rlim_max};
    in_force_ = pages != 0 && setrlimit(RLIMIT_AS, &tight) == 0;
  }
  ~memory_limit() { setrlimit(RLIMIT_AS, &before_); }
  memory_limit(const memory_limit&) = delete;
  memory_limit& operator=(const memory_limit&) = delete;
  bool in_force() const { return in_force_; }

 private:
  rlimit before_{};
  bool in_force_ = false;
};

// The first test of the program: oneTBB has no threads yet, and OpenBLAS not the buffer that it
// keeps. The one could not start them, the other would ask for memory for ever.
TEST(callers, a_first_call_with_little_address_space) {
  if (!is_plain_build) GTEST_SKIP() << "not with sanitizers";
  std::vector<sample_call> all;
  for (sample_call& call : every_call(call_size::large))
    if (call.name == "adamw_step f32" || call.name == "msign svd type 1" ||
        call.name == "singular_values")
      all.push_back(std::move(call));
  ASSERT_EQ(all.size(), 3U);
  const auto run = [&](const sample_call& call, std::size_t more) {
    return in_child([&] {
      const context_pointer context = try_context({.threads = 2});
      placed_buffers memory(call.given);
      steepest_status status = 1;
      {
        const memory_limit limit(more);
        if (!limit.in_force()) return 1;
        status = call.run(context.get(), memory);
      }
      const bool refused = status == STEEPEST_E_OUT_OF_MEMORY && memory.contents() == call.given;
      if (status != STEEPEST_OK && !refused) return 2;
      if (status != STEEPEST_OK && !call.uses_lapack) return 3;  // one thread is enough
      return run_sample(call, context.get()).status == STEEPEST_OK ? 0 : 4;
    });
  };
  for (const sample_call& call : all)
    for (const std::size_t more : {std::size_t{6} << 20, std::size_t{50} << 20})
      EXPECT_EQ(run(call, more), 0) << call.name << " with " << more << " bytes";
}

// ------------------------------------------------------------------ the main thread's stack

// As `ulimit -s 256` limits it; before another test of this program has made it grow.
TEST(callers, main_stack_of_256_KiB) {
  std::vector<expected_call> all;
  std::thread([&all] { all = expected_calls(call_size::large); }).join();
  EXPECT_EQ(in_child([&] {
              const rlimit limit = {small_stack, small_stack};
              if (setrlimit(RLIMIT_STACK, &limit) != 0) return 1;
              if (main_stack_size() > small_stack) return 2;
              const context_pointer context = try_context({});
              for (const expected_call& e : all)
                if (!is_right(e, run_sample(e.call, context.get()))) return 3;
              return 0;
            }),
            0);
}

// ------------------------------------------------------------------ less memory later

// In a child that may map `more` bytes beyond what it has: each call is right, or ends in
// OUT_OF_MEMORY with nothing written. Returns 0, or 1 + the number of the call that went wrong.
int run_with_little_memory(const std::vector<expected_call>& all, std::size_t more) {
  std::vector<std::unique_ptr<placed_buffers>> memory;
  std::vector<context_pointer> contexts;
  for (const expected_call& e : all) {
    memory.push_back(std::make_unique<placed_buffers>(e.call.given));
    contexts.push_back(try_context({}));
  }
  std::vector<steepest_status> status(all.size());
  {
    const memory_limit limit(more);
    if (!limit.in_force()) return 251;
    for (std::size_t i = 0; i < all.size(); ++i) {
      try {
        status[i] = all[i].call.run(contexts[i].get(), *memory[i]);
      } catch (const std::bad_alloc&) {  // this program's own
        status[i] = STEEPEST_E_OUT_OF_MEMORY;
      }
    }
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    const sample_result got = {status[i], memory[i]->contents()};
    const bool refused = got.status == STEEPEST_E_OUT_OF_MEMORY && got.after == all[i].call.given;
    if (!refused && !is_right(all[i], got)) return static_cast<int>(1 + i);
  }
  return 0;
}

TEST(callers, little_address_space) {
  if (!is_plain_build) GTEST_SKIP() << "not with sanitizers";
  const std::vector<expected_call> all = expected_calls(call_size::large);
  for (const std::size_t more : {std::size_t{0}, std::size_t{1} << 18, std::size_t{1} << 22}) {
    const int code = in_child([&] { return run_with_little_memory(all, more); });
    EXPECT_EQ(code, 0) << "with " << more << " bytes, "
                       << (code > 0 && static_cast<std::size_t>(code) <= all.size()
                               ? all[static_cast<std::size_t>(code) - 1].call.name
                               : std::string("a signal or no limit"));
  }
}

// ------------------------------------------------------------------ stacks

constexpr unsigned char untouched = 0xa5;

struct thread_call {
  void (*body)(void*);
  void* argument;
};

// Runs body() on a thread whose stack has 256 KiB, the last of which may not be touched. Returns
// how much of it was used.
template <class Body>
std::size_t on_small_stack(Body body) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* const map =
      mmap(nullptr, small_stack + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED || mprotect(map, page, PROT_NONE) != 0) std::abort();
  auto* const stack = static_cast<unsigned char*>(map) + page;
  std::memset(stack, untouched, small_stack);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, stack, small_stack);
  thread_call call = {[](void* self) { (*static_cast<Body*>(self))(); }, &body};
  pthread_t thread{};
  const auto start = [](void* given) -> void* {
    const auto* c = static_cast<thread_call*>(given);
    c->body(c->argument);
    return nullptr;
  };
  EXPECT_EQ(pthread_create(&thread, &attributes, start, &call), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  std::size_t free = 0;
  while (free < small_stack && stack[free] == untouched) ++free;
  munmap(map, small_stack + page);
  return small_stack - free;
}

// The caller's stack, and those of its executor's threads.
TEST(callers, stacks_of_256_KiB) {
  pthread_attr_t before, small;
  pthread_getattr_default_np(&before);
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, small_stack);
  ASSERT_EQ(pthread_setattr_default_np(&small), 0);
  reversed_executor own(3);
  const steepest_executor executor = own.interface();
  const context_pointer contexts[] = {make_context(), make_context({.threads = 2}),
                                      make_context({.executor = &executor})};
  std::size_t deepest = 0;
  std::string where;
  for (const expected_call& e : expected_calls(call_size::large))
    for (const context_pointer& context : contexts) {
      sample_result got;
      const std::size_t used = on_small_stack([&] { got = run_sample(e.call, context.get()); });
      EXPECT_TRUE(is_right(e, got)) << e.call.name;
      if (used > deepest) where = e.call.name;
      deepest = std::max(deepest, used);
    }
  pthread_setattr_default_np(&before);
  std::printf("the deepest stack: %zu KiB, in %s\n", deepest >> 10, where.c_str());
  EXPECT_TRUE(!is_plain_build || deepest <= small_stack / 2) << "as much is left to the caller";
}

// ------------------------------------------------------------------ signals

std::atomic<std::int64_t> signals{0};

// As a handler may be: it computes, and sees flags of the floating-point unit.
void handle(int) {
  volatile double x = static_cast<double>(signals.fetch_add(1));
  x = std::sqrt(x) / 3;
}

void install(int signal, int flags) {
  struct sigaction action = {};
  action.sa_handler = handle;
  action.sa_flags = flags;
  sigaction(signal, &action, nullptr);
}

// Sends a signal to each thread of the process in turn until it ends; so oneTBB's get theirs.
class signal_storm {
 public:
  explicit signal_storm(int signal)
      : thread_([this, signal] {
          const auto self = static_cast<long>(gettid());
          while (!stop_) {
            std::error_code none;
            for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task", none)) {
              const long task = std::atol(entry.path().filename().c_str());
              if (task != self && task > 0) syscall(SYS_tgkill, getpid(), task, signal);
            }
            std::this_thread::sleep_for(std::chrono::microseconds(50));
          }
        }) {}
  ~signal_storm() {
    stop_ = true;
    thread_.join();
  }
  signal_storm(const signal_storm&) = delete;
  signal_storm& operator=(const signal_storm&) = delete;

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// In the quick form each kind of signal meets another quarter of the calls.
void check_under_signals(const std::vector<expected_call>& all, std::size_t quarter) {
  const std::int64_t before = signals;
  reversed_executor own(3);
  const steepest_executor executor = own.interface();
  const context_pointer contexts[] = {make_context({.threads = 2}),
                                      make_context({.executor = &executor})};
  for (const context_pointer& context : contexts)
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (!long_run() && i % 4 != quarter) continue;
      EXPECT_TRUE(is_right(all[i], run_sample(all[i].call, context.get()))) << all[i].call.name;
    }
  EXPECT_GT(signals - before, 10);
}

TEST(callers, signals_during_any_call) {
  const std::vector<expected_call> all = expected_calls(call_size::large);
  for (const int flags : {0, SA_RESTART}) {
    install(SIGALRM, flags);
    const itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, nullptr);
    check_under_signals(all, flags == 0 ? 0 : 1);
    setitimer(ITIMER_REAL, &never, nullptr);
    install(SIGUSR1, flags);
    const signal_storm storm(SIGUSR1);
    check_under_signals(all, flags == 0 ? 2 : 3);
  }
}

// ------------------------------------------------------------------ many contexts and threads

TEST(callers, a_hundred_contexts) {
  const std::vector<expected_call> all = expected_calls(call_size::small);
  std::vector<context_pointer> contexts;
  for (std::size_t i = 0; i < 100; ++i)
    contexts.push_back(make_context({.threads = 1 + static_cast<std::int32_t>(i % 3)}));
  // Each context has some of the calls, and all of them are in use by turns.
  const std::size_t rounds = long_run() ? all.size() : 8;
  for (std::size_t round = 0; round < rounds; ++round)
    for (std::size_t i = 0; i < contexts.size(); ++i) {
      const expected_call& e = all[(i * 7 + round) % all.size()];
      EXPECT_TRUE(is_right(e, run_sample(e.call, contexts[i].get()))) << e.call.name;
    }
  // From the middle outwards, with some in use to the last.
  for (std::size_t i = 0; i < contexts.size(); ++i) {
    contexts[(50 + i * 37) % 100].reset();
    const std::size_t other = (50 + (i + 1) * 37) % 100;
    if (contexts[other] == nullptr) continue;
    EXPECT_TRUE(is_right(all[0], run_sample(all[0].call, contexts[other].get())));
  }
}

// Eight threads, each of which makes all calls, from another one on.
void check_eight_threads(const std::vector<expected_call>& all, std::size_t context_count) {
  std::vector<context_pointer> contexts;
  for (std::size_t i = 0; i < context_count; ++i) contexts.push_back(make_context({.threads = 2}));
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (std::size_t t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      steepest_context* const context = contexts[t % context_count].get();
      for (std::size_t i = 0; i < all.size(); ++i) {
        const expected_call& e = all[(i + t * all.size() / 8) % all.size()];
        if (!is_right(e, run_sample(e.call, context))) ++wrong;
        if (i % 16 == t) steepest_context_trim(context);
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(callers, eight_threads_with_one_context) {
  check_eight_threads(expected_calls(call_size::small), 1);
  if (long_run()) check_eight_threads(expected_calls(call_size::large), 1);
}

TEST(callers, eight_threads_with_eight_contexts) {
  check_eight_threads(expected_calls(call_size::small), 8);
  if (long_run()) check_eight_threads(expected_calls(call_size::large), 8);
}

}  // namespace
}  // namespace steepest_test
