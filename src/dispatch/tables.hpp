// SPDX-License-Identifier: Apache-2.0
// The kernels of one ISA level. A level's table starts as the one below it and is overridden entry
// by entry, so that every level is complete whatever has been tuned for it.
#pragma once

#include "kernels/adamw/adamw.hpp"
#include "kernels/convert/convert.hpp"
#include "kernels/muon/muon.hpp"
#include "kernels/sum_squares/sum_squares.hpp"
#include "linalg/panels.hpp"

namespace steepest {

struct kernel_tables {
  adamw_table adamw;
  convert_table convert;
  muon_table muon;
  sum_squares_table sum_squares;
  linalg::linalg_table linalg;
};

// `isa` is a level that detect_isa() includes.
const kernel_tables& tables_for(steepest_isa isa);

}  // namespace steepest
