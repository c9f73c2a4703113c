// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/convert/convert.hpp"
#include "simd/convert.hpp"

namespace steepest {
namespace {

template <class Level, class From, class To>
STEEPEST_KERNEL void convert(const From* from, To* to, int64_t count) {
  simd::convert<Level>(from, to, count);
}

template <class Level>
constexpr convert_table make_convert_table() {
  return {convert<Level, bf16, float>, convert<Level, f16, float>, convert<Level, float, bf16>,
          convert<Level, float, f16>};
}

}  // namespace
}  // namespace steepest
