// SPDX-License-Identifier: Apache-2.0
//
// A call of a public function as a value: its buffers, to be compared as bytes, and how it is run.
// The inputs are made from integers, so they are the same bits on every machine.
#pragma once

#include <functional>

#include "executors.hpp"

namespace steepest_test {

// The buffers of one call: what it reads, and what it may write.
class buffers {
 public:
  template <class T>
  std::size_t add(const std::vector<T>& values) {
    return add(sizeof(T), reinterpret_cast<const unsigned char*>(values.data()), values.size());
  }
  std::size_t add(std::size_t element, const unsigned char* from, std::size_t count) {
    parts_.push_back({element, {from, from + element * count}});
    return parts_.size() - 1;
  }
  bool operator==(const buffers&) const = default;

  std::uint64_t hash() const {  // FNV-1a
    std::uint64_t value = 0xcbf29ce484222325;
    for (const part& p : parts_)
      for (const unsigned char byte : p.bytes) value = (value ^ byte) * 0x100000001b3;
    return value;
  }

 private:
  friend class placed_buffers;
  struct part {
    std::size_t element;
    std::vector<unsigned char> bytes;
    bool operator==(const part&) const = default;
  };
  std::vector<part> parts_;
};

// The same in memory, each `offset` elements behind a 64-byte boundary and with guard bytes.
class placed_buffers {
 public:
  explicit placed_buffers(const buffers& from, std::size_t offset = 0) : from_(from) {
    for (const buffers::part& p : from.parts_) {
      const std::size_t lead = offset * p.element + guard;
      std::vector<unsigned char> memory(p.bytes.size() + lead + 2 * guard, fill);
      const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
      const std::size_t start = lead + (guard - address % guard) % guard;
      std::copy(p.bytes.begin(), p.bytes.end(),
                memory.begin() + static_cast<std::ptrdiff_t>(start));
      places_.push_back({std::move(memory), start});
    }
  }
  placed_buffers(const placed_buffers&) = delete;
  placed_buffers& operator=(const placed_buffers&) = delete;

  template <class T = void>
  T* at(std::size_t i) {
    return static_cast<T*>(static_cast<void*>(places_[i].memory.data() + places_[i].start));
  }
  // What is there now; empty if a guard byte has changed.
  buffers contents() {
    buffers now = from_;
    for (std::size_t i = 0; i < places_.size(); ++i) {
      std::vector<unsigned char>& bytes = now.parts_[i].bytes;
      place& p = places_[i];
      std::copy_n(p.memory.data() + p.start, bytes.size(), bytes.data());
      std::fill_n(p.memory.data() + p.start, bytes.size(), fill);
      const auto is_fill = [](unsigned char byte) { return byte == fill; };
      const bool intact = std::all_of(p.memory.begin(), p.memory.end(), is_fill);
      std::copy_n(bytes.data(), bytes.size(), p.memory.data() + p.start);
      if (!intact) return {};
    }
    return now;
  }

 private:
  static constexpr std::size_t guard = 64;
  static constexpr unsigned char fill = 0xa5;
  struct place {
    std::vector<unsigned char> memory;
    std::size_t start;
  };
  const buffers& from_;
  std::vector<place> places_;
};

struct sample_call {
  std::string name;
  buffers given;
  std::function<steepest_status(steepest_context*, placed_buffers&)> run;
  // Which promises do not hold of it.
  bool uses_context = true;
  bool uses_lapack = false;  // not the same bits for any threads; CONSISTENT is refused
  bool uses_libm = false;    // the C library's functions may differ between machines
  bool has_executor = true;  // hands out tasks, at the large size
};

struct sample_result {
  steepest_status status = 1;
  buffers after;
  bool operator==(const sample_result&) const = default;
};

inline sample_result run_sample(const sample_call& call, steepest_context* context,
                                std::size_t offset = 0) {
  placed_buffers memory(call.given, offset);
  const steepest_status status = call.run(context, memory);
  return {status, memory.contents()};
}

// ------------------------------------------------------------------ inputs

// Bytes of `count` values in [-1, 1), or in [0, 1) if not signed, of any storage type.
inline std::vector<unsigned char> sample_bytes(random_source& random, steepest_dtype dtype,
                                               std::size_t count, bool is_signed = true) {
  std::vector<unsigned char> bytes;
  const auto put = [&](const auto& x) {
    const auto* from = reinterpret_cast<const unsigned char*>(&x);
    bytes.insert(bytes.end(), from, from + sizeof(x));
  };
  for (std::size_t i = 0; i < count; ++i) {
    const double value = is_signed ? 2 * random.uniform() - 1 : random.uniform();
    const auto single = static_cast<float>(value);
    std::uint32_t bits = 0;
    std::memcpy(&bits, &single, 4);
    // Of a number in 2^-14 .. 1 the first 11 bits.
    const auto half = static_cast<std::uint16_t>(
        (bits >> 16 & 0x8000) | (std::max((bits >> 13 & 0x3ffff), 0x1c401u) - 0x1c000u));
    switch (dtype) {
      case STEEPEST_F64: put(value); break;
      case STEEPEST_F32: put(single); break;
      case STEEPEST_BF16: put(static_cast<std::uint16_t>(bits >> 16)); break;
      case STEEPEST_F16: put(half); break;
      default: {  // no first moment has the code -128
        const auto code = static_cast<std::uint8_t>(random.bits());
        put(code == 128 ? std::uint8_t{0} : code);
      }
    }
  }
  return bytes;
}

inline std::size_t sample_size(steepest_dtype dtype) {
  return dtype == STEEPEST_F64 ? 8 : dtype == STEEPEST_F32 ? 4 : dtype <= STEEPEST_F16 ? 2 : 1;
}

inline std::size_t add_sample(buffers& to, random_source& random, steepest_dtype dtype,
                              std::size_t count, bool is_signed = true) {
  const auto bytes = sample_bytes(random, dtype, count, is_signed);
  return to.add(sample_size(dtype), bytes.data(), count);
}

// Of zeros, as at the start.
inline std::size_t add_residual(buffers& to, std::int32_t kind, std::size_t count) {
  if (kind == STEEPEST_RESIDUAL_NEAREST8) return to.add(std::vector<std::int8_t>(count));
  return to.add(std::vector<std::uint16_t>(count));
}

// The scales of a Q8 array, about 1.
inline std::size_t add_scales(buffers& to, random_source& random, steepest_dtype dtype,
                              std::size_t count) {
  if (dtype == STEEPEST_Q8_DYNAMIC) {
    std::vector<float> scales;
    for (std::size_t i = 0; i < (count + 255) / 256; ++i)
      scales.push_back(static_cast<float>(0.5 + random.uniform()));
    return to.add(scales);
  }
  std::vector<std::uint16_t> scales;
  for (std::size_t i = 0; i < (count + 31) / 32; ++i)
    scales.push_back(static_cast<std::uint16_t>((39 << 10) + random.below(2048)));
  return to.add(scales);
}

inline bool is_blocked(steepest_dtype dtype) { return dtype >= STEEPEST_Q8_DYNAMIC; }

}  // namespace steepest_test
