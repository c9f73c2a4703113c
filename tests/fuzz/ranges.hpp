// SPDX-License-Identifier: Apache-2.0
//
// Which memory a list of tensors reads and writes, and whether the contract allows that.
#pragma once

#include <cstdint>
#include <vector>

#include "calls.hpp"

namespace steepest_fuzz {

// `rows` pieces of `width` bytes, one every `pitch` bytes.
struct range {
  const void* data;
  std::int64_t rows, width, pitch;
  bool written;
  std::int64_t tensor;

  std::uintptr_t row(std::int64_t i) const {
    return reinterpret_cast<std::uintptr_t>(data) + static_cast<std::uintptr_t>(i * pitch);
  }
};

inline bool share_a_byte(const range& a, const range& b) {
  const auto end = [](const range& r) { return r.row(r.rows - 1) + std::uintptr_t(r.width); };
  if (end(a) <= b.row(0) || end(b) <= a.row(0)) return false;
  for (std::int64_t i = 0; i < a.rows; ++i)
    for (std::int64_t j = 0; j < b.rows; ++j)
      if (a.row(i) < b.row(j) + std::uintptr_t(b.width) &&
          b.row(j) < a.row(i) + std::uintptr_t(a.width))
        return true;
  return false;
}

// No two of one tensor may share memory, of two tensors none that is written. Where ranges lie
// between each other's rows the library may be stricter.
inline verdict overlap_rule(const std::vector<range>& all) {
  verdict rule = verdict::accept;
  for (std::size_t i = 0; i < all.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) {
      const range& a = all[i];
      const range& b = all[j];
      if (a.tensor != b.tensor && !a.written && !b.written) continue;
      if (share_a_byte(a, b)) return verdict::refuse;
      const range whole_a = {a.data, 1, (a.rows - 1) * a.pitch + a.width, 0, false, 0};
      const range whole_b = {b.data, 1, (b.rows - 1) * b.pitch + b.width, 0, false, 0};
      if (share_a_byte(whole_a, whole_b)) rule = verdict::either;
    }
  return rule;
}

}  // namespace steepest_fuzz
