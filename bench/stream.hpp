// SPDX-License-Identifier: Apache-2.0
// The limit of a step: a loop that reads and writes the same memory with one addition per write.
//
// What loop is fastest depends on the CPU, so there are several, and a benchmark takes the best:
// plain; unrolled; with software prefetch; and in passes, which finish one array's part of a short
// block before they turn to the next array, so that memory sees fewer streams at a time.
//
// The bodies are scalar code that the compiler vectorises anew for each instruction set into which
// it inlines them.
#pragma once

#include <cstdint>
#include <vector>

namespace bench {

template <class T>
struct stream_variant {
  const char* name;
  void (*run)(T* p, const T* g, T* m, T* v, int64_t count);
};

template <class T>
struct read_variant {
  const char* name;
  T (*run)(const T* x, int64_t count);
};

// How a variant walks: blocks of `block` elements, prefetching `ahead` elements further on (0: not
// at all), one pass over the block for each written array or a single one.
struct walk {
  int block;
  int ahead;
  bool passes;
};

template <class T, walk how>
[[gnu::always_inline]] inline void stream_body(T* __restrict p, const T* __restrict g,
                                               T* __restrict m, T* __restrict v, int64_t count) {
  constexpr int line = 64 / sizeof(T);
  int64_t i = 0;
  for (; i + how.block <= count; i += how.block) {
    if constexpr (how.ahead > 0) {
      for (int k = how.ahead; k < how.ahead + how.block; k += line) {
        __builtin_prefetch(g + i + k);
        __builtin_prefetch(p + i + k);
        __builtin_prefetch(m + i + k);
        __builtin_prefetch(v + i + k);
      }
    }
    if constexpr (how.passes) {
      for (int k = 0; k < how.block; ++k) m[i + k] += g[i + k];
      for (int k = 0; k < how.block; ++k) v[i + k] += g[i + k];
      for (int k = 0; k < how.block; ++k) p[i + k] += g[i + k];
    } else {
      for (int k = 0; k < how.block; ++k) {
        const T theta = p[i + k], first = m[i + k], second = v[i + k], gradient = g[i + k];
        m[i + k] = first + gradient;
        v[i + k] = second + gradient;
        p[i + k] = theta + gradient;
      }
    }
  }
  for (; i < count; ++i) {
    p[i] += g[i];
    m[i] += g[i];
    v[i] += g[i];
  }
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

template <class T, walk how>
void stream_generic(T* p, const T* g, T* m, T* v, int64_t count) {
  stream_body<T, how>(p, g, m, v, count);
}
template <class T, int lines, int ahead>
T read_generic(const T* x, int64_t count) {
  return read_body<T, lines, ahead>(x, count);
}

#if defined(__x86_64__)
template <class T, walk how>
[[gnu::target("avx2")]] void stream_avx2(T* p, const T* g, T* m, T* v, int64_t count) {
  stream_body<T, how>(p, g, m, v, count);
}
template <class T, walk how>
[[gnu::target("avx512f")]] void stream_avx512(T* p, const T* g, T* m, T* v, int64_t count) {
  stream_body<T, how>(p, g, m, v, count);
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
template <class T, walk how>
auto stream_here() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return stream_avx512<T, how>;
  if (__builtin_cpu_supports("avx2")) return stream_avx2<T, how>;
#endif
  return stream_generic<T, how>;
}
template <class T, int lines, int ahead>
auto read_here() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return read_avx512<T, lines, ahead>;
  if (__builtin_cpu_supports("avx2")) return read_avx2<T, lines, ahead>;
#endif
  return read_generic<T, lines, ahead>;
}

// Blocks and distances in lines of 64 bytes, so that both element types do the same to memory.
template <class T>
std::vector<stream_variant<T>> stream_variants() {
  constexpr int line = 64 / sizeof(T);
  return {
      {"plain", stream_here<T, walk{line, 0, false}>()},
      {"unrolled", stream_here<T, walk{4 * line, 0, false}>()},
      {"prefetch 16 lines ahead", stream_here<T, walk{4 * line, 16 * line, false}>()},
      {"prefetch 32 lines ahead", stream_here<T, walk{4 * line, 32 * line, false}>()},
      {"passes of 8 lines", stream_here<T, walk{8 * line, 0, true}>()},
      {"passes of 32 lines", stream_here<T, walk{32 * line, 0, true}>()},
      {"passes of 128 lines", stream_here<T, walk{128 * line, 0, true}>()},
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
