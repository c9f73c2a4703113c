// SPDX-License-Identifier: Apache-2.0
// What every entry point shares: the scope it runs in, and the checks of its arguments. Each check
// returns a status and sets the error text, which names the argument.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>

#include "core/context.hpp"
#include "core/dtype.hpp"
#include "core/error.hpp"
#include "core/fp_environment.hpp"
#include "steepest/steepest.h"

namespace steepest::api {

// Runs the body of an entry point: in our floating-point environment, with errno as it was found,
// and with no exception leaving.
template <class F>
steepest_status entry(const char* function, F&& body) noexcept {
  const int saved_errno = errno;
  steepest_status status = STEEPEST_E_INTERNAL;
  try {
    const fp_environment environment;
    status = body();
  } catch (const std::bad_alloc&) {
    status = fail(STEEPEST_E_OUT_OF_MEMORY, "%s: out of memory", function);
  } catch (...) {
    status = fail(STEEPEST_E_INTERNAL, "%s: unexpected exception", function);
  }
  errno = saved_errno;
  return status;
}

// Puts the entry point's name before the text of an error that came from below.
inline steepest_status failed_in(const char* function, steepest_status status) {
  return fail(status, "%s: %s", function, last_error());
}

// An argument's name for the error text: "adamw_step: tensors[3].config", or without the index or
// the member.
struct argument {
  const char* function;
  const char* name;
  int64_t index = -1;
  const char* member = "";

  // "<function>: <name>" and then the text, for instance ".exp_avg is null (count = 768)".
  [[gnu::format(printf, 3, 4)]] steepest_status fail(steepest_status status, const char* format,
                                                     ...) const;
};

// The context itself, or for NULL the default one.
steepest_status resolve_context(const char* function, steepest_context* given,
                                steepest_context*& context);

// The growth rule (see the header) on raw bytes: copies a caller's struct over `known`, which holds
// the INIT values. `struct_size` is the caller's.
steepest_status load_bytes(const argument& where, const void* given, size_t struct_size,
                           void* known, size_t known_size);

steepest_status check_struct_size(const argument& where, size_t struct_size);

inline size_t struct_size_of(const void* given) {
  size_t size = 0;
  std::memcpy(&size, given, sizeof size);
  return size;
}

template <class T>
steepest_status load_struct(const argument& where, const T* given, T& known) {
  return load_bytes(where, given, struct_size_of(given), &known, sizeof(T));
}

// A caller's array of structs, read by element 0's struct_size.
template <class T>
class struct_array {
 public:
  steepest_status open(const char* function, const char* name, const T* first, int64_t count) {
    where_ = {function, name};
    const argument count_argument = {function, "count"};
    if (count < 0)
      return count_argument.fail(STEEPEST_E_SHAPE, " is negative (%lld)",
                                 static_cast<long long>(count));
    if (count == 0) return STEEPEST_OK;
    if (first == nullptr)
      return where_.fail(STEEPEST_E_INVALID_ARGUMENT, " is null (count = %lld)",
                         static_cast<long long>(count));
    first_ = reinterpret_cast<const std::byte*>(first);
    stride_ = struct_size_of(first);
    if (const auto status = check_struct_size(at(0), stride_); status != STEEPEST_OK) return status;
    if (static_cast<uint64_t>(count) > (static_cast<uint64_t>(INT64_MAX) / stride_))
      return count_argument.fail(STEEPEST_E_SHAPE, " is too large (%lld)",
                                 static_cast<long long>(count));
    return STEEPEST_OK;
  }

  argument at(int64_t i) const { return {where_.function, where_.name, i}; }

  // `known` holds the INIT values.
  steepest_status load(int64_t i, T& known) const {
    const std::byte* element = first_ + static_cast<size_t>(i) * stride_;
    const size_t size = struct_size_of(element);
    if (size != stride_)
      return at(i).fail(STEEPEST_E_INVALID_ARGUMENT, ".struct_size is %zu, but element 0's is %zu",
                        size, stride_);
    return load_bytes(at(i), element, stride_, &known, sizeof(T));
  }

 private:
  argument where_ = {};
  const std::byte* first_ = nullptr;
  size_t stride_ = 0;
};

// Writes the caller's part of a result.
template <class T>
void store_struct(T* out, size_t struct_size, T result) {
  result.struct_size = struct_size;
  std::memcpy(out, &result, struct_size < sizeof(T) ? struct_size : sizeof(T));
}

// An array of results, one for each of `count` inputs, or null: checked, and written by element 0's
// struct_size.
template <class T>
steepest_status check_results(const char* function, const T* results, int64_t count, T init) {
  if (results == nullptr) return STEEPEST_OK;
  struct_array<T> array;
  if (const auto status = array.open(function, "stats", results, count); status != STEEPEST_OK)
    return status;
  for (int64_t i = 0; i < count; ++i) {
    T known = init;
    if (const auto status = array.load(i, known); status != STEEPEST_OK) return status;
  }
  return STEEPEST_OK;
}

template <class T>
void store_result(T* results, int64_t i, const T& result) {
  const size_t stride = struct_size_of(results);
  auto* bytes = reinterpret_cast<std::byte*>(results) + static_cast<size_t>(i) * stride;
  store_struct(reinterpret_cast<T*>(bytes), stride, result);
}

// A hyper-parameter: finite, and `valid` says whether it keeps its rule.
struct number_rule {
  const char* name;
  double value;
  bool valid;
  const char* rule;
};

// The hyper-parameters of a config, and its step.
steepest_status check_numbers(const argument& where, std::initializer_list<number_rule> rules,
                              int64_t step);

// An argument that is a number: `valid` says whether it keeps the rule.
steepest_status check_number(const char* function, const char* name, double value, bool valid,
                             const char* rule);

// An element type of plain buffers: f32, f64, bf16 or f16.
steepest_status check_dtype(const argument& where, const char* field, steepest_dtype dtype);

// A buffer of `count` > 0 elements of a known type: not null, aligned to an element, not wrapping.
steepest_status check_buffer(const argument& where, const char* field, const void* data,
                             int64_t count, steepest_dtype dtype);
steepest_status check_count(const argument& where, int64_t count, steepest_dtype dtype);

// A row-major matrix of a known type with sizes > 0: as check_buffer, and the stride holds a row.
// The messages name `field` and `stride_field`.
steepest_status check_matrix(const argument& where, const char* field, const char* stride_field,
                             const void* data, int64_t rows, int64_t cols, int64_t stride,
                             steepest_dtype dtype);

// Narrow storage of a tensor: its residual_kind, param_copy and first_index.
steepest_status check_residual(const argument& where, int32_t kind, steepest_dtype param,
                               bool emit_delta);
steepest_status check_param_copy(const argument& where, const void* param_copy,
                                 steepest_dtype param, bool emit_delta);
steepest_status check_first_index(const argument& where, int64_t first_index, int64_t count);

// Obtains the planned memory, from the caller's workspace if there is one.
steepest_status obtain(const char* function, workspace& memory, const steepest_workspace* given);

// What one call touches, to find two that share memory.
struct memory_range {
  uintptr_t begin, end;
  const char* field;
  int64_t index;  // of the tensor
  bool written;
  uintptr_t pitch, width;  // in bytes, of a matrix whose rows have gaps; else 0
};

memory_range matrix_range(const void* data, int64_t rows, int64_t cols, int64_t stride,
                          steepest_dtype dtype, const char* field, int64_t index, bool written);

// What check_overlap sorts instead of the ranges themselves, which are larger.
struct range_key {
  uintptr_t begin;
  const memory_range* range;
};

// The ranges of one tensor, `count` of them: none may share memory with another.
steepest_status check_disjoint(const argument& where, const memory_range* ranges, int64_t count);

// Between tensors: fails if a written range shares memory with any other. keys[count] is scratch.
steepest_status check_overlap(const char* function, const char* name, const memory_range* ranges,
                              int64_t count, range_key* keys);

}  // namespace steepest::api
