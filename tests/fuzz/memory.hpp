// SPDX-License-Identifier: Apache-2.0
//
// All memory that a call gets to see: every piece between guards, with a copy of how it was.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "input.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif
#endif
#ifndef ASAN_POISON_MEMORY_REGION
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace steepest_fuzz {

class memory {
 public:
  // scratch: a call may leave anything there, also when it fails.
  enum access { input, output, scratch };

  // `size` zeros, `offset` bytes past a boundary of 64.
  void* bytes(access how, std::int64_t size, std::int64_t offset = 0) {
    pieces_.emplace_back(how, static_cast<std::size_t>(size), static_cast<std::size_t>(offset));
    return pieces_.back().data();
  }
  // The same, and `again` may hand it out once more.
  void* buffer(access how, std::int64_t size, std::int64_t offset) {
    buffers_.push_back(pieces_.size());
    return bytes(how, size, offset);
  }
  template <class T>
  T* object(access how, const T& value = {}) {
    T* place = static_cast<T*>(bytes(how, sizeof(T)));
    std::memcpy(place, &value, sizeof(T));
    return place;
  }
  // `size` bytes at the begin or the end of an earlier buffer, or null. What is an output once is
  // one.
  void* again(access how, std::int64_t number, std::int64_t size) {
    if (buffers_.empty()) return nullptr;
    piece& found = pieces_[buffers_[static_cast<std::size_t>(number / 2) % buffers_.size()]];
    const std::int64_t rest = static_cast<std::int64_t>(found.size) - size;
    if (rest < 0) return nullptr;
    if (how == output) found.how = how;
    return found.data() + (number % 2 == 0 ? 0 : rest);
  }

  void remember() {
    for (piece& p : pieces_) p.before.assign(p.data(), p.data() + p.size);
  }
  void restore() {
    for (piece& p : pieces_)
      if (p.size > 0) std::memcpy(p.data(), p.before.data(), p.size);
  }
  using bytes_of_pieces = std::vector<std::vector<std::uint8_t>>;
  // All but scratch memory, to compare.
  bytes_of_pieces contents() {
    bytes_of_pieces all;
    for (piece& p : pieces_)
      if (p.how != scratch) all.emplace_back(p.data(), p.data() + p.size);
    return all;
  }
  // Where two of them differ, for the report.
  static std::string difference(const bytes_of_pieces& a, const bytes_of_pieces& b) {
    for (std::size_t i = 0; i < a.size(); ++i)
      for (std::size_t j = 0; j < a[i].size(); ++j)
        if (a[i][j] != b[i][j])
          return "piece " + std::to_string(i) + " of " + std::to_string(a[i].size()) +
                 " bytes, byte " + std::to_string(j) + ": " + std::to_string(a[i][j]) + " and " +
                 std::to_string(b[i][j]);
    return "nowhere";
  }
  // The piece at this address holds numbers of that type, or with 0 what belongs to such numbers.
  void holds(const void* data, steepest_dtype dtype) {
    for (piece& p : pieces_)
      if (p.data() == data) p.dtype = dtype;
  }
  // The same of what holds numbers, every NaN being the same: CPUs differ in which they give.
  bytes_of_pieces numbers() {
    bytes_of_pieces all;
    for (piece& p : pieces_) {
      if (p.how == scratch || p.dtype <= 0) continue;
      all.emplace_back(p.data(), p.data() + p.size);
      const auto [fraction_bits, bytes] = format_of(p.dtype);
      const auto size = static_cast<std::size_t>(bytes);
      for (std::size_t i = 0; size > 1 && i + size <= p.size; i += size) {
        std::uint64_t bits = 0;
        std::memcpy(&bits, p.data() + i, size);
        const std::uint64_t largest = (std::uint64_t{1} << (8 * bytes - 1)) - 1;
        const std::uint64_t infinity = largest >> fraction_bits << fraction_bits;
        if ((bits & largest) > infinity) std::memcpy(&all.back()[i], &largest, size);
      }
    }
    return all;
  }
  void guard(bool on) {
    for (piece& p : pieces_) p.guard(on);
  }
  bool guards_intact() const {
    for (const piece& p : pieces_)
      if (!p.intact()) return false;
    return true;
  }
  bool unchanged(bool inputs_only) {
    for (piece& p : pieces_)
      if ((p.how == input || (p.how == output && !inputs_only)) && p.size > 0 &&
          std::memcmp(p.data(), p.before.data(), p.size) != 0)
        return false;
    return true;
  }
  // Whether the bytes at an address of this memory are as they were.
  bool unchanged(const void* data, std::int64_t size) {
    for (piece& p : pieces_) {
      const auto* at = static_cast<const std::uint8_t*>(data);
      if (at < p.data() || at >= p.data() + p.size) continue;
      return std::memcmp(at, p.before.data() + (at - p.data()), static_cast<std::size_t>(size)) ==
             0;
    }
    return true;
  }

 private:
  struct piece {
    piece(access a, std::size_t bytes, std::size_t offset)
        : how(a), size(bytes), lead(64 + offset) {
      total = (lead + size + 127) / 64 * 64;
      base = static_cast<std::uint8_t*>(std::aligned_alloc(64, total));
      std::memset(base, guard_byte, total);
      std::memset(base + lead, 0, size);
    }
    piece(piece&& other) noexcept
        : how(other.how), dtype(other.dtype), size(other.size), lead(other.lead),
          total(other.total), base(other.base), before(std::move(other.before)) {
      other.base = nullptr;
    }
    ~piece() {
      if (base == nullptr) return;
      guard(false);
      std::free(base);
    }
    std::uint8_t* data() { return base + lead; }
    void guard(bool on) {
      if (on) {
        ASAN_POISON_MEMORY_REGION(base, lead);
        ASAN_POISON_MEMORY_REGION(base + lead + size, total - lead - size);
      } else {
        ASAN_UNPOISON_MEMORY_REGION(base, total);
      }
    }
    bool intact() const {
      for (std::size_t i = 0; i < total; ++i)
        if ((i < lead || i >= lead + size) && base[i] != guard_byte) return false;
      return true;
    }

    access how;
    steepest_dtype dtype = 0;
    std::size_t size, lead, total;
    std::uint8_t* base;
    std::vector<std::uint8_t> before;
  };

  static constexpr std::uint8_t guard_byte = 0xa5;
  std::vector<piece> pieces_;
  std::vector<std::size_t> buffers_;  // which of them
};

}  // namespace steepest_fuzz
