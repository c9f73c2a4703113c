// SPDX-License-Identifier: Apache-2.0
#include <tbb/version.h>

#include <xsimd/config/xsimd_config.hpp>

#include "core/error.hpp"
#include "dispatch/cpu.hpp"
#include "steepest/steepest.h"

#define STEEPEST_TEXT_(x) #x
#define STEEPEST_TEXT(x) STEEPEST_TEXT_(x)

#define STEEPEST_DOTTED(a, b, c) STEEPEST_TEXT(a) "." STEEPEST_TEXT(b) "." STEEPEST_TEXT(c)
#define STEEPEST_RELEASE \
  STEEPEST_DOTTED(STEEPEST_VERSION_MAJOR, STEEPEST_VERSION_MINOR, STEEPEST_VERSION_PATCH)
#define STEEPEST_XSIMD \
  STEEPEST_DOTTED(XSIMD_VERSION_MAJOR, XSIMD_VERSION_MINOR, XSIMD_VERSION_PATCH)

#if defined(__clang__)
#define STEEPEST_COMPILER "clang " __clang_version__
#else
#define STEEPEST_COMPILER "gcc " __VERSION__
#endif

#if defined(__x86_64__)
#define STEEPEST_LEVELS "generic x86_avx2 x86_avx512 x86_avx512_bf16"
#elif defined(__aarch64__)
#define STEEPEST_LEVELS "generic arm64_neon"
#else
#define STEEPEST_LEVELS "generic"
#endif

extern "C" {

uint32_t steepest_version(void) {
  return STEEPEST_VERSION_MAJOR << 16 | STEEPEST_VERSION_MINOR << 8 | STEEPEST_VERSION_PATCH;
}

uint32_t steepest_abi_version(void) { return STEEPEST_ABI_VERSION; }

const char* steepest_build_info(void) {
  return "steepest " STEEPEST_RELEASE "; " STEEPEST_COMPILER "; levels " STEEPEST_LEVELS
         "; xsimd " STEEPEST_XSIMD "; oneTBB " TBB_VERSION_STRING;
}

const char* steepest_status_name(steepest_status status) {
  switch (status) {
    case STEEPEST_OK: return "STEEPEST_OK";
    case STEEPEST_E_INVALID_ARGUMENT: return "STEEPEST_E_INVALID_ARGUMENT";
    case STEEPEST_E_SHAPE: return "STEEPEST_E_SHAPE";
    case STEEPEST_E_DTYPE: return "STEEPEST_E_DTYPE";
    case STEEPEST_E_OUT_OF_MEMORY: return "STEEPEST_E_OUT_OF_MEMORY";
    case STEEPEST_E_NONFINITE: return "STEEPEST_E_NONFINITE";
    case STEEPEST_E_NOT_CONVERGED: return "STEEPEST_E_NOT_CONVERGED";
    case STEEPEST_E_UNSUPPORTED: return "STEEPEST_E_UNSUPPORTED";
    case STEEPEST_E_INTERNAL: return "STEEPEST_E_INTERNAL";
    default: return "unknown status";
  }
}

const char* steepest_last_error(void) { return steepest::last_error(); }

const char* steepest_isa_name(steepest_isa isa) { return steepest::isa_name(isa); }

}  // extern "C"
