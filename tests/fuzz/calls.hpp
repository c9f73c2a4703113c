// SPDX-License-Identifier: Apache-2.0
//
// A call under watch: what every function of the library promises whatever its arguments are.
#pragma once

#include <steepest/steepest.h>

#include <cerrno>
#include <cfenv>
#include <cstdio>
#include <string>
#include <vector>

#include "input.hpp"
#include "memory.hpp"

namespace steepest_fuzz {

#define REQUIRE(condition, ...)                                                      \
  do {                                                                               \
    if (!(condition)) {                                                              \
      std::fprintf(stderr, "\n%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::fprintf(stderr, "  " __VA_ARGS__);                                        \
      std::fprintf(stderr, "\n  last error: %s\n", steepest_last_error());           \
      std::abort();                                                                  \
    }                                                                                \
  } while (false)

// What a call must do: the contract decides, or (numbers near the range of a type) leaves open.
enum class verdict { accept, refuse, either };

inline verdict worse(verdict a, verdict b) {
  if (a == verdict::refuse || b == verdict::refuse) return verdict::refuse;
  return a == verdict::either ? a : b;
}
inline verdict refuse_if(bool broken) { return broken ? verdict::refuse : verdict::accept; }

inline bool known(steepest_status status) {
  return status <= STEEPEST_OK && status >= STEEPEST_E_INTERNAL;
}

// Results that come with an error: of a failing executor anything, of a matrix without an answer
// what the others have.
inline bool may_have_written(steepest_status status) {
  return status == STEEPEST_OK || status == STEEPEST_E_INTERNAL || status == STEEPEST_E_NONFINITE ||
         status == STEEPEST_E_NOT_CONVERGED;
}

// Calls, and checks: inputs and guards untouched, errno and rounding kept; an error has a known
// number and a text of its own, and has written nothing.
template <class Call>
steepest_status watched(const char* function, memory& seen, Call call) {
  static const steepest_vector unknown = {sizeof(steepest_vector), -1, nullptr, 0, 0};
  steepest_rms(nullptr, &unknown, -1, nullptr, nullptr);  // some other error before
  const std::string before = steepest_last_error();
  seen.remember();
  seen.guard(true);
  errno = 1234;
  const steepest_status status = call();
  const int error = errno;
  seen.guard(false);
  REQUIRE(error == 1234, "%s changed errno to %d", function, error);
  REQUIRE(std::fegetround() == FE_TONEAREST, "%s changed the rounding mode", function);
  REQUIRE(known(status), "%s returned %d", function, status);
  REQUIRE(seen.guards_intact(), "%s wrote outside of a buffer", function);
  REQUIRE(seen.unchanged(true), "%s changed an input", function);
  const std::string text = steepest_last_error();
  if (status == STEEPEST_OK) {
    REQUIRE(text == before, "%s succeeded and set an error", function);
    return status;
  }
  REQUIRE(text.starts_with(std::string(function) + ": ") && text.size() > std::strlen(function) + 4,
          "%s returned %d without a text", function, status);
  if (!may_have_written(status))
    REQUIRE(seen.unchanged(false), "%s returned %d and has written", function, status);
  return status;
}

inline void expect(verdict wanted, steepest_status status, const char* function) {
  if (wanted == verdict::accept)
    REQUIRE(status == STEEPEST_OK, "%s refused good arguments (%d)", function, status);
  if (wanted == verdict::refuse)
    REQUIRE(status != STEEPEST_OK, "%s accepted bad arguments", function);
}

// ---- structs of any age

// A struct as a caller hands it over, and as the library should see it.
template <class T>
struct given {
  T* pointer = nullptr;
  T seen = {};
  verdict rule = verdict::accept;
  std::size_t struct_size = sizeof(T);
};

// A struct_size, and whether it may be: mostly today's, else an older, newer or impossible one.
template <class T>
std::size_t some_struct_size(choices& input) {
  if (!input.rarely(8)) return sizeof(T);
  switch (input.below(4)) {
    case 0: return 16 + 8 * static_cast<std::size_t>(input.below(sizeof(T) / 8 - 1));
    case 1: return sizeof(T) + 8 * static_cast<std::size_t>(1 + input.below(8));
    case 2: return input.of<std::size_t>({0, 8, 15, 17, sizeof(T) + 1, 65536, SIZE_MAX & ~7});
    default: return input.raw<std::uint16_t>();
  }
}

// What a caller of an older header does not set: to be done before memory is sized by it.
template <class T>
void forget(T& value, const T& init, std::size_t struct_size) {
  if (struct_size < sizeof(T))
    std::memcpy(reinterpret_cast<char*>(&value) + struct_size,
                reinterpret_cast<const char*>(&init) + struct_size, sizeof(T) - struct_size);
}

// Structs as one array with one stride. Past today's end there are zeros, or not.
template <class T>
std::vector<given<T>> hand_over(choices& input, memory& seen, memory::access how, const T& init,
                                std::vector<T> values, std::size_t stride) {
  const bool possible = stride >= 16 && stride % 8 == 0 && stride < 65536;
  const std::size_t room = possible ? stride : sizeof(T);
  auto* const place =
      static_cast<std::uint8_t*>(seen.bytes(how, static_cast<std::int64_t>(room * values.size())));
  std::vector<given<T>> all(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    given<T>& one = all[i];
    std::uint8_t* const at = place + i * room;
    one.pointer = reinterpret_cast<T*>(at);
    values[i].struct_size = stride;
    if (i > 0 && input.rarely(64)) values[i].struct_size = some_struct_size<T>(input);
    one.struct_size = stride;
    one.rule = refuse_if(!possible || values[i].struct_size != stride);
    const std::size_t shared = room < sizeof(T) ? room : sizeof(T);
    std::memcpy(at, &values[i], shared);
    one.seen = init;
    std::memcpy(&one.seen, &values[i], shared);
    if (possible && stride > sizeof(T) && input.rarely(4)) {
      at[sizeof(T) +
         static_cast<std::size_t>(input.below(static_cast<std::int64_t>(stride - sizeof(T))))] = 1;
      one.rule = verdict::refuse;
    }
  }
  return all;
}

template <class T>
std::vector<given<T>> hand_over(choices& input, memory& seen, memory::access how, const T& init,
                                std::vector<T> values) {
  return hand_over(input, seen, how, init, std::move(values), some_struct_size<T>(input));
}
template <class T>
given<T> hand_over(choices& input, memory& seen, memory::access how, const T& init,
                   const T& value) {
  return hand_over(input, seen, how, init, std::vector<T>{value})[0];
}

template <class T>
verdict rule_of(const std::vector<given<T>>& all) {
  verdict rule = verdict::accept;
  for (const given<T>& one : all) rule = worse(rule, one.rule);
  return rule;
}

// ---- contexts

using task_body = void (*)(void* arg, std::int64_t task, std::int32_t worker);

// Tasks from the last to the first on the calling thread, as of three workers; fails on request.
struct inline_executor {
  std::int64_t fail_at = INT64_MAX;
  steepest_status result = STEEPEST_E_OUT_OF_MEMORY;
  bool failed = false;

  steepest_executor interface() {
    steepest_executor executor = STEEPEST_EXECUTOR_INIT;
    executor.user = this;
    executor.concurrency = [](void*) { return std::int32_t{3}; };
    executor.parallel_for = [](void* user, std::int64_t tasks, task_body body, void* arg) {
      auto& self = *static_cast<inline_executor*>(user);
      for (std::int64_t task = tasks; task-- > 0;) {
        if (self.fail_at-- <= 0) {
          self.failed = true;
          return self.result;
        }
        body(arg, task, static_cast<std::int32_t>(task % 3));
      }
      return steepest_status{STEEPEST_OK};
    };
    return executor;
  }
};

// Refuses from one allocation on, and whatever is larger than 256 MiB; counts what is out.
struct limited_allocator {
  std::int64_t fail_at = INT64_MAX;
  bool failed = false;
  std::int64_t live = 0;

  steepest_allocator interface() {
    steepest_allocator allocator = STEEPEST_ALLOCATOR_INIT;
    allocator.user = this;
    allocator.allocate = [](void* user, std::size_t alignment, std::size_t bytes) -> void* {
      auto& self = *static_cast<limited_allocator*>(user);
      if (self.fail_at-- <= 0 || bytes > std::size_t{1} << 28) {
        self.failed = true;
        return nullptr;
      }
      ++self.live;
      return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    };
    allocator.release = [](void* user, void* pointer, std::size_t) {
      --static_cast<limited_allocator*>(user)->live;
      std::free(pointer);
    };
    return allocator;
  }
};

// A context with both, which stays where it is.
class callback_context {
 public:
  explicit callback_context(steepest_isa isa = STEEPEST_ISA_AUTO, std::uint64_t flags = 0) {
    steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
    const steepest_executor executor_interface = executor.interface();
    const steepest_allocator allocator_interface = allocator.interface();
    options.executor = &executor_interface;
    options.allocator = &allocator_interface;
    options.max_isa = isa;
    options.flags = flags;
    REQUIRE(steepest_context_create(&options, &context) == STEEPEST_OK, "no context");
  }
  callback_context(const callback_context&) = delete;
  callback_context& operator=(const callback_context&) = delete;
  ~callback_context() {
    steepest_context_destroy(context);
    REQUIRE(allocator.live == 0, "%lld allocations are left over",
            static_cast<long long>(allocator.live));
  }

  // A callback fails soon.
  void break_one(choices& input) {
    if (input.even_chance())
      allocator.fail_at = input.below(4);
    else
      executor.fail_at = input.below(16);
    executor.result = input.of<steepest_status>({STEEPEST_E_OUT_OF_MEMORY, 5, INT32_MIN, 1});
  }
  bool failed() const { return executor.failed || allocator.failed; }

  inline_executor executor;
  limited_allocator allocator;
  steepest_context* context = nullptr;
};

// A context of one level with one thread and no callbacks, made once.
inline steepest_context* plain_context(steepest_isa isa) {
  static steepest_context* made[STEEPEST_ISA_ARM64_NEON + 1] = {};
  if (made[isa] == nullptr) {
    steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
    options.max_isa = isa;
    options.num_threads = 1;
    REQUIRE(steepest_context_create(&options, &made[isa]) == STEEPEST_OK, "no context");
  }
  return made[isa];
}

inline steepest_isa some_isa(choices& input) {
  const std::vector<steepest_isa>& all = steepest_test::levels();
  return all[all.size() - 1 -
             static_cast<std::size_t>(input.below(static_cast<std::int64_t>(all.size())))];
}

// An element type, mostly one that exists.
inline steepest_dtype some_dtype(choices& input) {
  if (input.rarely(32)) return input.of<steepest_dtype>({0, 7, -1, INT32_MAX, INT32_MIN, 5, 6});
  return input.of<steepest_dtype>(
      {STEEPEST_F32, STEEPEST_F32, STEEPEST_BF16, STEEPEST_BF16, STEEPEST_F16, STEEPEST_F64});
}
inline bool is_plain(steepest_dtype dtype) {
  return dtype >= STEEPEST_F32 && dtype <= STEEPEST_F16;
}
inline bool is_q8(steepest_dtype dtype) {
  return dtype == STEEPEST_Q8_DYNAMIC || dtype == STEEPEST_Q8_COMPANDED;
}

// A pointer as it should be, or now and then null, misaligned, or to memory that is also given
// elsewhere. `size`: of an element, for the alignment. What is in it: see `fill`.
inline void* some_buffer(choices& input, memory& seen, memory::access how, std::int64_t bytes,
                         std::int64_t size) {
  const bool odd = input.rarely(16);
  if (odd) {
    switch (input.below(3)) {
      case 0: return nullptr;
      case 1:
        if (void* again = seen.again(how, input.below(256), bytes)) return again;
        break;
      default: return seen.buffer(how, bytes, 1);  // fits one-byte elements
    }
  }
  return seen.buffer(how, bytes, size * input.below(16));
}
inline bool is_aligned(const void* data, std::int64_t size) {
  return reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(size) == 0;
}

}  // namespace steepest_fuzz
