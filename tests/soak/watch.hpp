// SPDX-License-Identifier: Apache-2.0
//
// What a process holds, and whether that grows.
#pragma once

#include <dirent.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <thread>

namespace soak {

struct holdings {
  std::int64_t heap = 0;      // bytes that malloc has given out
  std::int64_t resident = 0;  // bytes of memory, without pages of files
  std::int64_t files = 0;     // open file descriptors
  std::int64_t threads = 0;
};

inline std::int64_t entries_of(const char* directory) {
  std::int64_t entries = 0;
  DIR* const open = opendir(directory);
  if (open == nullptr) return -1;
  while (readdir(open) != nullptr) ++entries;
  closedir(open);
  return entries - 2;
}

// Of this process, after malloc has given back what nobody uses.
inline holdings measure() {
  malloc_trim(0);
  holdings now;
  long long pages = 0, resident = 0, shared = 0;
  if (std::FILE* const file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%lld %lld %lld", &pages, &resident, &shared) == 3)
      now.resident = (resident - shared) * sysconf(_SC_PAGESIZE);
    std::fclose(file);
  }
  const struct mallinfo2 heap = mallinfo2();
  now.heap = static_cast<std::int64_t>(heap.uordblks + heap.hblkhd);
  now.files = entries_of("/proc/self/fd");
  // A thread that has been joined is listed for some moments more.
  now.threads = entries_of("/proc/self/task");
  for (int i = 0; i < 10; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    now.threads = std::min(now.threads, entries_of("/proc/self/task"));
  }
  return now;
}

// The most that a warm-up held, and what may come on top of it. Nothing that the library keeps
// depends on how long it has run; the allowances are for malloc's own bookkeeping, for pages of
// stacks and of OpenBLAS's buffers that a rarer call is the first to touch, and for threads of
// oneTBB, which are made when they are first wanted.
class watch {
 public:
  static constexpr std::int64_t heap_allowance = 256 << 10, resident_allowance = 3 << 20;
  static constexpr std::int64_t thread_allowance = 2;

  void warm_up(const holdings& now) { merge(base_, now); }
  // Empty, or what has grown.
  std::string grown(const holdings& now) {
    merge(most_, now);
    const auto beyond = [](const char* what, std::int64_t value, std::int64_t limit) {
      char text[120];
      std::snprintf(text, sizeof(text), "%s: %lld, above %lld; ", what,
                    static_cast<long long>(value), static_cast<long long>(limit));
      return value > limit ? std::string(text) : std::string();
    };
    return beyond("bytes on the heap", now.heap, base_.heap + heap_allowance) +
           beyond("bytes of memory", now.resident, base_.resident + resident_allowance) +
           beyond("file descriptors", now.files, base_.files) +
           beyond("threads", now.threads, base_.threads + thread_allowance);
  }
  const holdings& base() const { return base_; }
  const holdings& most() const { return most_; }

 private:
  static void merge(holdings& to, const holdings& now) {
    to.heap = std::max(to.heap, now.heap);
    to.resident = std::max(to.resident, now.resident);
    to.files = std::max(to.files, now.files);
    to.threads = std::max(to.threads, now.threads);
  }
  holdings base_, most_;
};

}  // namespace soak
