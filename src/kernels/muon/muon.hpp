// SPDX-License-Identifier: Apache-2.0
// The element-wise ends of a Muon step, tile by tile: from gradient and momentum to the matrix u
// that msign takes, and from O = msign(u) back to momentum and parameters.
#pragma once

#include <cstdint>

#include "steepest/steepest.h"

namespace steepest {

// m' = momentum_keep m + momentum_take g,  u = blend_keep m' + blend_take g,  g = grad_factor grad
// t = decay param + rate O,  param' = param - t
struct muon_constants {
  double grad_factor;
  double momentum_keep, momentum_take;
  double blend_keep, blend_take;
  double decay, rate;
  bool cautious_decay;
  bool stochastic_rounding;  // by `seed` and `step`, the tensor's stream and the element's index
  uint64_t seed;
  int64_t step;
};

// A part of a tensor. u and O have the type of the arithmetic: f64 where param is F64, else f32.
struct muon_buffers {
  void* param;
  const void* grad;
  void* momentum;  // of 8-bit codes: always the whole
  void* delta;     // or null: then param is written
  steepest_dtype param_dtype, grad_dtype, momentum_dtype, delta_dtype;
  int64_t param_stride, grad_stride, momentum_stride, delta_stride;
  // Narrow storage: see the public header.
  int32_t residual_kind;
  void* residual;    // with param's stride
  void* param_copy;  // or null
  steepest_dtype param_copy_dtype;
  int64_t param_copy_stride;
  void* momentum_scales;  // of the whole
  uint64_t random_stream;
  int64_t first_index;  // of the whole
  int64_t index;        // of the part's first element in the whole, row by row,
  int64_t pitch;        // whose columns these are
};

// Its size, with cols <= muon_widest, and the distance between rows of u or O. All rows * stride
// elements of u may be used.
inline constexpr int64_t muon_widest = 256;
struct muon_part {
  int64_t rows, cols, stride;
};

// Sums of squares of g and m', and elements of g that are not finite.
struct muon_gradient_sums {
  double grad, momentum;
  int64_t nonfinite;
};

struct muon_kernels {
  // Writes u alone. Sums are added to, if they are asked for.
  void (*blend)(const muon_constants& k, const muon_buffers& b, const muon_part& part, void* u,
                muon_gradient_sums* sums);
  // Writes momentum unless that is in 8-bit codes, and param or delta. The squares of param are
  // added up, if they are asked for.
  void (*apply)(const muon_constants& k, const muon_buffers& b, const muon_part& part,
                const void* o, double* param_squares);
  // Writes elements [begin, end) of a whole momentum in 8-bit codes, row by row; `begin` is a
  // multiple of 256. Null for f64.
  void (*encode)(const muon_constants& k, const muon_buffers& b, int64_t begin, int64_t end);
};

// By the type of the arithmetic.
struct muon_set {
  muon_kernels f32, f64;
};

// The same bits on all levels: `exact`.
struct muon_table {
  muon_set fast, exact;
};

}  // namespace steepest
