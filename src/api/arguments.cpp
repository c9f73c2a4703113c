// SPDX-License-Identifier: Apache-2.0
#include "api/arguments.hpp"

#include <algorithm>
#include <cstdio>

namespace steepest::api {

steepest_status argument::fail(steepest_status status, const char* format, ...) const {
  char text[384];
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (index < 0) return steepest::fail(status, "%s: %s%s%s", function, name, member, text);
  return steepest::fail(status, "%s: %s[%lld]%s%s", function, name, static_cast<long long>(index),
                        member, text);
}

steepest_status check_struct_size(const argument& where, size_t struct_size) {
  if (struct_size >= 16 && struct_size % 8 == 0 && struct_size < 65536) return STEEPEST_OK;
  return where.fail(STEEPEST_E_INVALID_ARGUMENT,
                    ".struct_size is %zu: it must be the size of the struct (begin with its INIT)",
                    struct_size);
}

steepest_status load_bytes(const argument& where, const void* given, size_t struct_size,
                           void* known, size_t known_size) {
  if (const auto status = check_struct_size(where, struct_size); status != STEEPEST_OK)
    return status;
  const auto* bytes = static_cast<const std::byte*>(given);
  for (size_t i = known_size; i < struct_size; ++i)
    if (bytes[i] != std::byte{0})
      return where.fail(STEEPEST_E_UNSUPPORTED,
                        " sets a field that this library does not know (byte %zu of %zu; this "
                        "release knows %zu)",
                        i, struct_size, known_size);
  std::memcpy(known, given, std::min(struct_size, known_size));
  return STEEPEST_OK;
}

steepest_status check_count(const argument& where, int64_t count, steepest_dtype dtype) {
  if (count < 0)
    return where.fail(STEEPEST_E_SHAPE, ".count is negative (%lld)", static_cast<long long>(count));
  if (count > INT64_MAX >> dtype_shift(dtype))
    return where.fail(STEEPEST_E_SHAPE, ".count overflows (%lld elements of %lld bytes)",
                      static_cast<long long>(count), static_cast<long long>(dtype_size(dtype)));
  return STEEPEST_OK;
}

steepest_status check_dtype(const argument& where, const char* field, steepest_dtype dtype) {
  if (dtype_size(dtype) != 0) return STEEPEST_OK;
  return where.fail(STEEPEST_E_DTYPE, ".%s is %s (%d): f32, f64, bf16 or f16 is needed", field,
                    dtype_name(dtype), static_cast<int>(dtype));
}

steepest_status check_buffer(const argument& where, const char* field, const void* data,
                             int64_t count, steepest_dtype dtype) {
  if (data == nullptr)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".%s is null (count = %lld)", field,
                      static_cast<long long>(count));
  const int shift = dtype_shift(dtype);
  const auto address = reinterpret_cast<uintptr_t>(data);
  if ((address & ((uintptr_t{1} << shift) - 1)) != 0)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT,
                      ".%s is not aligned to its element type (%p, %s)", field, data,
                      dtype_name(dtype));
  if (static_cast<uintptr_t>(count) > (UINTPTR_MAX - address) >> shift)
    return where.fail(STEEPEST_E_SHAPE,
                      ".%s runs past the end of the address space (%p, count = %lld)", field, data,
                      static_cast<long long>(count));
  return STEEPEST_OK;
}

steepest_status check_disjoint(const argument& where, const memory_range* ranges, int64_t count) {
  for (int64_t i = 1; i < count; ++i)
    for (int64_t j = 0; j < i; ++j)
      if (ranges[i].begin < ranges[j].end && ranges[j].begin < ranges[i].end)
        return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".%s overlaps its %s", ranges[i].field,
                          ranges[j].field);
  return STEEPEST_OK;
}

steepest_status check_overlap(const char* function, const char* name, const memory_range* ranges,
                              int64_t count, range_key* keys) {
  for (int64_t i = 0; i < count; ++i) keys[i] = {ranges[i].begin, ranges + i};
  std::sort(keys, keys + count,
            [](const range_key& a, const range_key& b) { return a.begin < b.begin; });
  // In order of address, a range can only run into one that reaches furthest so far: a written one
  // into any, a read one into a written one.
  const memory_range none = {};
  const memory_range* furthest = &none;
  const memory_range* furthest_written = &none;
  for (int64_t i = 0; i < count; ++i) {
    const memory_range* range = keys[i].range;
    const memory_range* other = range->written ? furthest : furthest_written;
    if (range->begin < other->end) {
      const memory_range* first = other->index <= range->index ? other : range;
      const memory_range* second = first == other ? range : other;
      return argument{function, name, second->index}.fail(
          STEEPEST_E_INVALID_ARGUMENT, ".%s overlaps %s[%lld].%s", second->field, name,
          static_cast<long long>(first->index), first->field);
    }
    if (range->end > furthest->end) furthest = range;
    if (range->written && range->end > furthest_written->end) furthest_written = range;
  }
  return STEEPEST_OK;
}

}  // namespace steepest::api
