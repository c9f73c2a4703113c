// SPDX-License-Identifier: Apache-2.0
// The checks of steepest_msign_config, which the Muon step takes too.
#pragma once

#include "api/arguments.hpp"

namespace steepest::api {

// Reads a config, or the defaults for NULL, and checks all that does not depend on the element
// type.
steepest_status load_msign_config(const argument& where, const steepest_msign_config* given,
                                  steepest_msign_config& config);

// What depends on the type of x, a plain one: the lower bound, and fp64 where it is needed.
steepest_status check_msign_types(const argument& where, const steepest_msign_config& config,
                                  steepest_dtype dtype);

// What the context can do: bf16 products; and CONSISTENT, in its flags or the call's, only without
// them and without OpenBLAS and LAPACK.
steepest_status check_context(const argument& where, const steepest_msign_config& config,
                              const steepest_context& context, bool consistent);

// rows and cols are not negative, and neither they nor their squares overflow what LAPACK and the
// workspace count with.
steepest_status check_msign_shape(const argument& where, int64_t rows, int64_t cols);

}  // namespace steepest::api
