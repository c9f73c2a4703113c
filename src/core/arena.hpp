// SPDX-License-Identifier: Apache-2.0
// Hands out slices of one piece of memory. Over no memory it only counts, so that the code which
// takes the slices is also the code that says how much it needs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace steepest {

class arena {
 public:
  explicit arena(std::byte* memory = nullptr) : memory_(memory) {}

  template <class T>
  T* take(int64_t count) {
    std::byte* slice = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += (static_cast<size_t>(count) * sizeof(T) + 63) & ~size_t{63};
    return reinterpret_cast<T*>(slice);
  }
  size_t used() const { return used_; }

 private:
  std::byte* memory_;
  size_t used_ = 0;
};

}  // namespace steepest
