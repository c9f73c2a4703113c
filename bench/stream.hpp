// SPDX-License-Identifier: Apache-2.0
// The limit of a step: a loop that reads and writes the same memory with one addition per word that
// is written.
//
// What loop is fastest depends on the CPU, so there are several, and a benchmark takes the best.
// They go block by block, one array after the other within a block, and differ in the block's
// length (short: all arrays at once; long: memory sees fewer streams at a time) and in software
// prefetch.
//
// The words are 32-bit integers, whatever the elements are, and adding to them is what the compiler
// vectorises anew for each instruction set into which it inlines the bodies. A step that follows
// makes numbers of them again.
#pragma once

#include <cstdint>
#include <vector>

namespace bench {

struct stream_variant {
  const char* name;
  void (*run)(void* p, const void* g, void* m, void* v, int64_t count);
};

template <class T>
struct read_variant {
  const char* name;
  T (*run)(const T* x, int64_t count);
};

// Bytes of an element of param, grad, exp_avg, exp_avg_sq.
struct element_sizes {
  int p, g, m, v;
};

// Blocks of `block` elements, prefetching `ahead` elements further on (0: not at all).
struct walk {
  int block;
  int ahead;
};

constexpr int words_per_line = 16;
constexpr int shortest_block = 32;  // a line of 16-bit elements

// One array's part of a block, `bytes` long: read, and written with an addition.
template <int bytes, int ahead_bytes>
[[gnu::always_inline]] inline void update_block(uint32_t* x) {
  for (int i = 0; i < bytes / 4; i += words_per_line) {
    if constexpr (ahead_bytes > 0) __builtin_prefetch(x + i + ahead_bytes / 4);
    for (int k = 0; k < words_per_line; ++k) x[i + k] += 1;
  }
}

template <int bytes, int ahead_bytes>
[[gnu::always_inline]] inline void read_block(const uint32_t* x, uint32_t* sums) {
  for (int i = 0; i < bytes / 4; i += words_per_line) {
    if constexpr (ahead_bytes > 0) __builtin_prefetch(x + i + ahead_bytes / 4);
    for (int k = 0; k < words_per_line; ++k) sums[k] += x[i + k];
  }
}

// The whole blocks from `i` on; returns where they end.
template <element_sizes size, walk how>
[[gnu::always_inline]] inline int64_t stream_blocks(uint32_t* p, const uint32_t* g, uint32_t* m,
                                                    uint32_t* v, uint32_t* sums, int64_t i,
                                                    int64_t count) {
  for (; i + how.block <= count; i += how.block) {
    read_block<how.block * size.g, how.ahead * size.g>(g + i * size.g / 4, sums);
    update_block<how.block * size.m, how.ahead * size.m>(m + i * size.m / 4);
    update_block<how.block * size.v, how.ahead * size.v>(v + i * size.v / 4);
    update_block<how.block * size.p, how.ahead * size.p>(p + i * size.p / 4);
  }
  return i;
}

// `count` is rounded down to a multiple of the shortest block.
template <element_sizes size, walk how>
[[gnu::always_inline]] inline void stream_body(void* p, const void* g, void* m, void* v,
                                               int64_t count) {
  auto* pw = static_cast<uint32_t*>(p);
  auto* mw = static_cast<uint32_t*>(m);
  auto* vw = static_cast<uint32_t*>(v);
  const auto* gw = static_cast<const uint32_t*>(g);
  uint32_t sums[words_per_line] = {};
  const int64_t rest = stream_blocks<size, how>(pw, gw, mw, vw, sums, 0, count);
  stream_blocks<size, walk{shortest_block, 0}>(pw, gw, mw, vw, sums, rest, count);
  // What is read must be read.
  asm volatile("" : : "r"(sums) : "memory");
}

// A sum with 16 lines of independent partial sums, or fewer lines when it prefetches.
template <class T, int lines, int ahead>
[[gnu::always_inline]] inline T read_body(const T* __restrict x, int64_t count) {
  constexpr int line = 64 / sizeof(T), block = lines * line;
  T sums[block] = {};
  int64_t i = 0;
  for (; i + block <= count; i += block) {
    if constexpr (ahead > 0)
      for (int k = ahead; k < ahead + block; k += line) __builtin_prefetch(x + i + k);
    for (int k = 0; k < block; ++k) sums[k] += x[i + k];
  }
  T sum = 0;
  for (; i < count; ++i) sum += x[i];
  for (const T partial : sums) sum += partial;
  return sum;
}

template <element_sizes size, walk how>
void stream_generic(void* p, const void* g, void* m, void* v, int64_t count) {
  stream_body<size, how>(p, g, m, v, count);
}
template <class T, int lines, int ahead>
T read_generic(const T* x, int64_t count) {
  return read_body<T, lines, ahead>(x, count);
}

#if defined(__x86_64__)
template <element_sizes size, walk how>
[[gnu::target("avx2")]] void stream_avx2(void* p, const void* g, void* m, void* v, int64_t count) {
  stream_body<size, how>(p, g, m, v, count);
}
template <element_sizes size, walk how>
[[gnu::target("avx512f")]] void stream_avx512(void* p, const void* g, void* m, void* v,
                                              int64_t count) {
  stream_body<size, how>(p, g, m, v, count);
}
template <class T, int lines, int ahead>
[[gnu::target("avx2")]] T read_avx2(const T* x, int64_t count) {
  return read_body<T, lines, ahead>(x, count);
}
template <class T, int lines, int ahead>
[[gnu::target("avx512f")]] T read_avx512(const T* x, int64_t count) {
  return read_body<T, lines, ahead>(x, count);
}
#endif

// The function compiled for the widest vectors of this CPU.
template <element_sizes size, walk how>
auto stream_here() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return stream_avx512<size, how>;
  if (__builtin_cpu_supports("avx2")) return stream_avx2<size, how>;
#endif
  return stream_generic<size, how>;
}
template <class T, int lines, int ahead>
auto read_here() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return read_avx512<T, lines, ahead>;
  if (__builtin_cpu_supports("avx2")) return read_avx2<T, lines, ahead>;
#endif
  return read_generic<T, lines, ahead>;
}

template <element_sizes size>
std::vector<stream_variant> stream_variants() {
  return {
      {"blocks of 32", stream_here<size, walk{32, 0}>()},
      {"blocks of 64", stream_here<size, walk{64, 0}>()},
      {"blocks of 256", stream_here<size, walk{256, 0}>()},
      {"blocks of 512", stream_here<size, walk{512, 0}>()},
      {"blocks of 2048", stream_here<size, walk{2048, 0}>()},
      {"blocks of 64, prefetch 256 ahead", stream_here<size, walk{64, 256}>()},
      {"blocks of 64, prefetch 512 ahead", stream_here<size, walk{64, 512}>()},
  };
}

template <class T>
std::vector<read_variant<T>> read_variants() {
  return {
      {"unrolled", read_here<T, 8, 0>()},
      {"unrolled by more", read_here<T, 16, 0>()},
      {"prefetch 32 lines ahead", read_here<T, 8, 32 * 64 / static_cast<int>(sizeof(T))>()},
  };
}

}  // namespace bench
