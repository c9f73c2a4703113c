// SPDX-License-Identifier: Apache-2.0
// 8-bit arrays: their size, and the way from and to floats.
#include "api/arguments.hpp"
#include "core/narrow.hpp"
#include "dispatch/tables.hpp"
#include "kernels/convert/convert.hpp"

namespace steepest::api {
namespace {

steepest_status check_sizes(const char* function, steepest_dtype dtype, int64_t count) {
  if (!is_q8(dtype))
    return argument{function, "dtype"}.fail(STEEPEST_E_DTYPE,
                                            " is %s (%d): q8_dynamic or q8_companded is needed",
                                            dtype_name(dtype), static_cast<int>(dtype));
  if (count < 0 || count > INT64_MAX / static_cast<int64_t>(sizeof(float)))
    return argument{function, "count"}.fail(STEEPEST_E_SHAPE, " is %lld",
                                            static_cast<long long>(count));
  return STEEPEST_OK;
}

// Checks the three arrays, and calls body(context).
template <class F>
steepest_status convert(const char* function, steepest_context* given_context, steepest_dtype dtype,
                        int32_t is_signed, int64_t count, const void* codes, const void* scales,
                        const float* values, bool encode, F body) {
  if (const auto status = check_sizes(function, dtype, count); status != STEEPEST_OK) return status;
  if (is_signed != 0 && is_signed != 1)
    return argument{function, "is_signed"}.fail(
        STEEPEST_E_INVALID_ARGUMENT, " is %d: it must be 0 or 1", static_cast<int>(is_signed));
  steepest_context* context = nullptr;
  if (const auto status = resolve_context(function, given_context, context); status != STEEPEST_OK)
    return status;
  if (count == 0) return STEEPEST_OK;
  const steepest_dtype scale = dtype == STEEPEST_Q8_DYNAMIC ? STEEPEST_F32 : STEEPEST_F16;
  const struct {
    const char* name;
    const void* data;
    int64_t count;
    steepest_dtype dtype;
    bool written;
  } arrays[] = {{"values", values, count, STEEPEST_F32, !encode},
                {"codes", codes, count, dtype, encode},
                {"scales", scales, q8_blocks(dtype, count), scale, encode}};
  memory_range ranges[3];
  for (int i = 0; i < 3; ++i) {
    const auto& a = arrays[i];
    if (const auto status = check_buffer({function, ""}, a.name, a.data, a.count, a.dtype);
        status != STEEPEST_OK)
      return status;
    const auto begin = reinterpret_cast<uintptr_t>(a.data);
    ranges[i] = {begin,     begin + static_cast<uintptr_t>(a.count << dtype_shift(a.dtype)),
                 a.name,    0,
                 a.written, 0,
                 0};
  }
  if (const auto status = check_disjoint({function, ""}, ranges, 3); status != STEEPEST_OK)
    return status;
  body(context->tables->convert);
  return STEEPEST_OK;
}

}  // namespace
}  // namespace steepest::api

using namespace steepest;
using namespace steepest::api;

steepest_status steepest_q8_scales(steepest_dtype dtype, int64_t count, int64_t* scales,
                                   int64_t* scale_bytes) {
  return entry("q8_scales", [&] {
    if (const auto status = check_sizes("q8_scales", dtype, count); status != STEEPEST_OK)
      return status;
    const int64_t blocks = q8_blocks(dtype, count);
    if (scales != nullptr) *scales = blocks;
    if (scale_bytes != nullptr) *scale_bytes = blocks * q8_scale_size(dtype);
    return steepest_status{STEEPEST_OK};
  });
}

steepest_status steepest_q8_encode(steepest_context* context, steepest_dtype dtype,
                                   int32_t is_signed, int64_t count, const float* values,
                                   uint8_t* codes, void* scales) {
  return entry("q8_encode", [&] {
    return convert("q8_encode", context, dtype, is_signed, count, codes, scales, values, true,
                   [&](const convert_table& table) {
                     table.q8_encode(dtype, is_signed != 0, values, codes, scales, count);
                   });
  });
}

steepest_status steepest_q8_decode(steepest_context* context, steepest_dtype dtype,
                                   int32_t is_signed, int64_t count, const uint8_t* codes,
                                   const void* scales, float* values) {
  return entry("q8_decode", [&] {
    return convert("q8_decode", context, dtype, is_signed, count, codes, scales, values, false,
                   [&](const convert_table& table) {
                     table.q8_decode(dtype, is_signed != 0, codes, scales, values, count);
                   });
  });
}
