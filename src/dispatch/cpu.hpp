// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "steepest/steepest.h"

namespace steepest {

// The highest level that this CPU and its operating system can run. Asked of cpuid and of XCR0
// (does the system save the registers?): xsimd's own detection is wrong before 13.2.
steepest_isa detect_isa();

// Whether `level` is one that `highest` includes.
bool isa_includes(steepest_isa highest, steepest_isa level);

const char* isa_name(steepest_isa isa);
// STEEPEST_ISA_AUTO when no level has this name.
steepest_isa isa_from_name(const char* name);

}  // namespace steepest
