// SPDX-License-Identifier: Apache-2.0
#include "core/context.hpp"

#include <bit>
#include <new>
#include <thread>
#include <utility>

namespace steepest {

// The bookkeeping stands in front of the memory that is handed out and keeps its alignment.
struct alignas(64) workspace_pool::block {
  block* next;
  size_t bytes;  // of the whole allocation
};

void* workspace_pool::acquire(size_t bytes) {
  if (std::unique_lock lock(mutex_, std::try_to_lock); lock) {
    for (block** link = &free_; *link != nullptr; link = &(*link)->next) {
      block* found = *link;
      if (found->bytes - sizeof(block) >= bytes) {
        *link = found->next;
        return found + 1;
      }
    }
  }
  // Sizes are rounded up to powers of two, so that calls of slightly different size share blocks.
  if (bytes > (SIZE_MAX >> 2)) return nullptr;
  const size_t total = std::bit_ceil(bytes + sizeof(block));
  void* memory = allocator_.allocate(allocator_.user, alignof(block), total);
  if (memory == nullptr) return nullptr;
  return new (memory) block{nullptr, total} + 1;
}

void workspace_pool::release(void* data) {
  if (data == nullptr) return;
  block* returned = static_cast<block*>(data) - 1;
  if (std::unique_lock lock(mutex_, std::try_to_lock); lock) {
    returned->next = free_;
    free_ = returned;
    return;
  }
  returned->next = nullptr;
  free_list(returned);
}

void workspace_pool::trim() {
  for (int attempt = 0; attempt < 1000; ++attempt) {
    if (std::unique_lock lock(mutex_, std::try_to_lock); lock) {
      block* list = std::exchange(free_, nullptr);
      lock.unlock();
      free_list(list);
      return;
    }
    std::this_thread::yield();
  }
}

void workspace_pool::free_list(block* list) {
  while (list != nullptr) {
    block* next = list->next;
    allocator_.release(allocator_.user, list, list->bytes);
    list = next;
  }
}

bool workspace::reserve() {
  if (bytes_ > sizeof(small_)) {
    data_ = static_cast<std::byte*>(pool_.acquire(bytes_));
    borrowed_ = data_ != nullptr;
    next_ = data_;
  }
  return data_ != nullptr;
}

void workspace::use(void* memory) {
  const auto address = reinterpret_cast<uintptr_t>(memory);
  data_ = static_cast<std::byte*>(memory) + (-address & (alignment - 1));
  next_ = data_;
}

}  // namespace steepest
