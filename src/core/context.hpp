// SPDX-License-Identifier: Apache-2.0
// The context: what every call needs besides its arguments, and the scratch memory behind it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>

#include "steepest/steepest.h"

namespace steepest {

struct kernel_tables;  // dispatch/tables.hpp

// Scratch memory that calls borrow and return, so that a steady-state step allocates nothing. The
// lock is only ever tried: in a child of fork() another thread of the parent may have held it, and
// would hold it forever. Where it cannot be had, memory comes from the allocator and goes back
// there.
class workspace_pool {
 public:
  explicit workspace_pool(const steepest_allocator& allocator) : allocator_(allocator) {}
  workspace_pool(const workspace_pool&) = delete;
  workspace_pool& operator=(const workspace_pool&) = delete;
  ~workspace_pool() { trim(); }

  void* acquire(size_t bytes);  // aligned to 64 bytes; null when the allocator has none
  void release(void* data);
  void trim();

 private:
  struct block;
  void free_list(block* list);
  const steepest_allocator allocator_;
  std::mutex mutex_;
  block* free_ = nullptr;
};

// A borrowed piece of the pool, or the caller's own memory, handed out in slices; small needs are
// met from the stack.
class workspace {
 public:
  explicit workspace(workspace_pool& pool) : pool_(pool) {}
  workspace(const workspace&) = delete;
  workspace& operator=(const workspace&) = delete;
  ~workspace() {
    if (borrowed_) pool_.release(data_);
  }

  // Adds room for count elements of T to what reserve() will obtain.
  template <class T>
  void plan(int64_t count) {
    bytes_ += padded(sizeof(T) * static_cast<size_t>(count));
  }
  bool reserve();
  // The same from memory of the caller's, of any alignment: at least bytes_needed().
  size_t bytes_needed() const { return bytes_ + alignment; }
  void use(void* memory);
  // The next slice, in the order of the plan() calls.
  template <class T>
  T* take(int64_t count) {
    T* slice = reinterpret_cast<T*>(next_);
    next_ += padded(sizeof(T) * static_cast<size_t>(count));
    return slice;
  }

 private:
  static constexpr size_t alignment = 64;
  static constexpr size_t padded(size_t bytes) {
    return (bytes + alignment - 1) & ~(alignment - 1);
  }

  workspace_pool& pool_;
  alignas(alignment) std::byte small_[2048];
  std::byte* data_ = small_;
  std::byte* next_ = small_;
  size_t bytes_ = 0;
  bool borrowed_ = false;
};

}  // namespace steepest

struct steepest_context {
  explicit steepest_context(const steepest_allocator& memory) : allocator(memory), pool(memory) {}

  steepest_allocator allocator;
  steepest::workspace_pool pool;
  const steepest::kernel_tables* tables = nullptr;
  steepest_executor executor = STEEPEST_EXECUTOR_INIT;
  void (*destroy_executor)(steepest_context& context) = nullptr;  // the library's own executor
  uint64_t flags = 0;
  uint64_t fork_generation = 0;
  steepest_isa isa = STEEPEST_ISA_AUTO;
  int32_t threads = 1;
};
