// SPDX-License-Identifier: Apache-2.0
#include "api/arguments.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace steepest::api {

steepest_status argument::fail(steepest_status status, const char* format, ...) const {
  char text[384];
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  // A field of nothing is an argument itself.
  const char* rest = *name == '\0' && *text == '.' ? text + 1 : text;
  if (index < 0) return steepest::fail(status, "%s: %s%s%s", function, name, member, rest);
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

steepest_status check_numbers(const argument& where, std::initializer_list<number_rule> rules,
                              int64_t step) {
  for (const number_rule& rule : rules)
    if (!rule.valid || !std::isfinite(rule.value))
      return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".%s is %g: it must be %s", rule.name,
                        rule.value, rule.rule);
  if (step < 1)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".step is %lld: the first step is 1",
                      static_cast<long long>(step));
  return STEEPEST_OK;
}

steepest_status check_number(const char* function, const char* name, double value, bool valid,
                             const char* rule) {
  if (valid) return STEEPEST_OK;
  return fail(STEEPEST_E_INVALID_ARGUMENT, "%s: %s is %g: it must be %s", function, name, value,
              rule);
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

steepest_status check_matrix(const argument& where, const char* field, const char* stride_field,
                             const void* data, int64_t rows, int64_t cols, int64_t stride,
                             steepest_dtype dtype) {
  if (stride < cols)
    return where.fail(STEEPEST_E_SHAPE, ".%s is %lld, less than a row (cols = %lld)", stride_field,
                      static_cast<long long>(stride), static_cast<long long>(cols));
  int64_t count = 0;
  if (__builtin_mul_overflow(rows - 1, stride, &count) ||
      __builtin_add_overflow(count, cols, &count) || count > INT64_MAX >> dtype_shift(dtype))
    return where.fail(STEEPEST_E_SHAPE, ".%s: %lld rows of it overflow", stride_field,
                      static_cast<long long>(rows));
  return check_buffer(where, field, data, count, dtype);
}

steepest_status check_residual(const argument& where, int32_t kind, steepest_dtype param,
                               bool emit_delta) {
  if (kind < STEEPEST_RESIDUAL_NONE || kind > STEEPEST_RESIDUAL_KAHAN)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".residual_kind is %d: it must be in 0 to %d",
                      static_cast<int>(kind), STEEPEST_RESIDUAL_KAHAN);
  const bool f16_kahan = kind == STEEPEST_RESIDUAL_KAHAN && param == STEEPEST_F16;
  if (kind != STEEPEST_RESIDUAL_NONE && param != STEEPEST_BF16 && !f16_kahan)
    return where.fail(STEEPEST_E_DTYPE, ".param_dtype is %s: residual_kind %d needs %s",
                      dtype_name(param), static_cast<int>(kind),
                      kind == STEEPEST_RESIDUAL_KAHAN ? "bf16 or f16" : "bf16");
  if (emit_delta && kind != STEEPEST_RESIDUAL_NONE)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT,
                      ".residual_kind is %d, but with EMIT_DELTA the parameter is not written",
                      static_cast<int>(kind));
  return STEEPEST_OK;
}

steepest_status check_param_copy(const argument& where, const void* param_copy,
                                 steepest_dtype param, bool emit_delta) {
  if (param_copy == nullptr) return STEEPEST_OK;
  if (param == STEEPEST_F64)
    return where.fail(STEEPEST_E_DTYPE,
                      ".param_copy is set, but param_dtype is f64: only f32, "
                      "bf16 and f16 parameters have copies");
  if (emit_delta)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT,
                      ".param_copy is set, but with EMIT_DELTA the parameter is not written");
  return STEEPEST_OK;
}

steepest_status check_first_index(const argument& where, int64_t first_index, int64_t count) {
  int64_t end = 0;
  if (first_index < 0 || __builtin_add_overflow(first_index, count, &end))
    return where.fail(STEEPEST_E_SHAPE, ".first_index is %lld: it must be >= 0, and not overflow",
                      static_cast<long long>(first_index));
  return STEEPEST_OK;
}

steepest_status obtain(const char* function, workspace& memory, const steepest_workspace* given) {
  if (given == nullptr) {
    if (memory.reserve()) return STEEPEST_OK;
    return fail(STEEPEST_E_OUT_OF_MEMORY, "%s: out of memory (%zu bytes of workspace)", function,
                memory.bytes_needed());
  }
  const argument where = {function, "workspace"};
  steepest_workspace known = STEEPEST_WORKSPACE_INIT;
  if (const auto status = load_struct(where, given, known); status != STEEPEST_OK) return status;
  if (known.bytes < memory.bytes_needed())
    return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".bytes is %zu, but %zu are needed", known.bytes,
                      memory.bytes_needed());
  if (known.data == nullptr)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".data is null (bytes = %zu)", known.bytes);
  memory.use(known.data);
  return STEEPEST_OK;
}

memory_range matrix_range(const void* data, int64_t rows, int64_t cols, int64_t stride,
                          steepest_dtype dtype, const char* field, int64_t index, bool written) {
  const auto begin = reinterpret_cast<uintptr_t>(data);
  const auto bytes = [&](int64_t elements) {
    return static_cast<uintptr_t>(elements << dtype_shift(dtype));
  };
  const bool gaps = rows > 1 && stride > cols;
  return {begin,
          begin + bytes((rows - 1) * stride + cols),
          field,
          index,
          written,
          gaps ? bytes(stride) : 0,
          gaps ? bytes(cols) : 0};
}

namespace {

bool share_memory(const memory_range& a, const memory_range& b) {
  if (a.begin >= b.end || b.begin >= a.end) return false;
  if (a.pitch == 0 || a.pitch != b.pitch) return true;
  // Columns of one array: the rows of either may lie in the gaps of the other.
  const memory_range& first = a.begin <= b.begin ? a : b;
  const memory_range& second = &first == &a ? b : a;
  const uintptr_t shift = (second.begin - first.begin) % first.pitch;
  return shift < first.width || shift + second.width > first.pitch;
}

steepest_status overlap(const char* function, const char* name, const memory_range& a,
                        const memory_range& b) {
  const memory_range& first = a.index <= b.index ? a : b;
  const memory_range& second = &first == &a ? b : a;
  return argument{function, name, second.index}.fail(
      STEEPEST_E_INVALID_ARGUMENT, ".%s overlaps %s[%lld].%s", second.field, name,
      static_cast<long long>(first.index), first.field);
}

}  // namespace

steepest_status check_disjoint(const argument& where, const memory_range* ranges, int64_t count) {
  for (int64_t i = 1; i < count; ++i)
    for (int64_t j = 0; j < i; ++j)
      if (share_memory(ranges[i], ranges[j]))
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
  bool interleaved = false;
  for (int64_t i = 0; i < count; ++i) {
    const memory_range* range = keys[i].range;
    const memory_range* other = range->written ? furthest : furthest_written;
    if (range->begin < other->end) {
      if (share_memory(*range, *other)) return overlap(function, name, *range, *other);
      interleaved = true;
    }
    if (range->end > furthest->end) furthest = range;
    if (range->written && range->end > furthest_written->end) furthest_written = range;
  }
  // Then that one range does not answer for those before it.
  for (int64_t i = 0; interleaved && i < count; ++i)
    for (int64_t j = i + 1; j < count && keys[j].begin < keys[i].range->end; ++j) {
      const memory_range& a = *keys[i].range;
      const memory_range& b = *keys[j].range;
      if ((a.written || b.written) && share_memory(a, b)) return overlap(function, name, a, b);
    }
  return STEEPEST_OK;
}

}  // namespace steepest::api
