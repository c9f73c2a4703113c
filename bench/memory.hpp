// SPDX-License-Identifier: Apache-2.0
// The memory that every contender of a benchmark shares.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace bench {

// Arrays in one mapping, with transparent huge pages where the system allows them. Consecutive
// arrays start 17 cache lines further into their 4 KiB page, because a load whose address agrees
// with a recent store's in the low 12 bits waits for that store.
class arrays {
 public:
  arrays(int64_t array_bytes, int array_count)
      : stride_(round_up(array_bytes + array_count * shift) + shift),
        bytes_(static_cast<std::size_t>(round_up(stride_ * array_count) + huge_page)) {
    mapping_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping_ == MAP_FAILED) throw std::bad_alloc();
    madvise(mapping_, bytes_, MADV_HUGEPAGE);
  }
  arrays(const arrays&) = delete;
  arrays& operator=(const arrays&) = delete;
  ~arrays() { munmap(mapping_, bytes_); }

  template <class T>
  T* get(int index) const {
    const int64_t start = round_up(reinterpret_cast<int64_t>(mapping_));
    return reinterpret_cast<T*>(start + index * stride_);
  }

 private:
  static constexpr int64_t huge_page = 2 << 20;
  static constexpr int64_t shift = 17 * 64;
  static constexpr int64_t round_up(int64_t bytes) {
    return (bytes + huge_page - 1) / huge_page * huge_page;
  }
  int64_t stride_;
  std::size_t bytes_;
  void* mapping_;
};

// For vectors that are aligned as the library's own workspace is.
template <class T>
struct aligned_allocator {
  using value_type = T;
  static constexpr std::align_val_t alignment{64};

  aligned_allocator() = default;
  template <class Other>
  aligned_allocator(const aligned_allocator<Other>&) {}  // NOLINT(google-explicit-constructor)
  T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), alignment));
  }
  void deallocate(T* data, std::size_t) { ::operator delete(data, alignment); }
  bool operator==(const aligned_allocator&) const = default;
};
template <class T>
using aligned_vector = std::vector<T, aligned_allocator<T>>;

// Whether that many bytes are there without swapping, with room left for everything else.
inline bool memory_suffices(int64_t bytes) {
  const int64_t total = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  return bytes < total / 4 * 3;
}

}  // namespace bench
