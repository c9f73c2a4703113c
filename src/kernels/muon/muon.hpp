// SPDX-License-Identifier: Apache-2.0
// The element-wise ends of a Muon step: from gradient and momentum to the matrix u that msign
// takes, and from O = msign(u) back to momentum and parameters.
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
};

// One piece of a row. O has the type of the arithmetic: f64 where param is F64, else f32.
struct muon_buffers {
  void* param;
  const void* grad;
  void* momentum;
  void* delta;  // or null: then param is written
  steepest_dtype param_dtype, grad_dtype, momentum_dtype, delta_dtype;
};

// Sums of squares of g and m', and elements of g that are not finite.
struct muon_gradient_sums {
  double grad, momentum;
  int64_t nonfinite;
};

struct muon_kernels {
  // Writes u alone; sums may be null.
  void (*blend)(const muon_constants& k, const muon_buffers& b, void* u, int64_t count,
                muon_gradient_sums* sums);
  // Writes momentum, and param or delta. *param_squares, if asked for: the sum of squares of param.
  void (*apply)(const muon_constants& k, const muon_buffers& b, const void* o, int64_t count,
                double* param_squares);
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
