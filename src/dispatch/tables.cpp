// SPDX-License-Identifier: Apache-2.0
#include "dispatch/tables.hpp"

namespace steepest {

// Each is the one symbol of its translation unit.
namespace linalg {
extern const linalg_table linalg_generic;
#if defined(__x86_64__)
extern const linalg_table linalg_x86_avx2;
extern const linalg_table linalg_x86_avx512;
extern const bf16_kernels bf16_x86_avx512_bf16;
#endif
}  // namespace linalg
extern const adamw_table adamw_generic;
extern const convert_table convert_generic;
extern const muon_table muon_generic;
extern const sum_squares_table sum_squares_generic;
#if defined(__x86_64__)
extern const adamw_table adamw_x86_avx2;
extern const adamw_table adamw_x86_avx512;
extern const adamw_table adamw_x86_avx512_bf16;
extern const convert_table convert_x86_avx2;
extern const convert_table convert_x86_avx512;
extern const convert_table convert_x86_avx512_bf16;
extern const muon_table muon_x86_avx2;
extern const muon_table muon_x86_avx512;
extern const muon_table muon_x86_avx512_bf16;
extern const sum_squares_table sum_squares_x86_avx2;
extern const sum_squares_table sum_squares_x86_avx512;
#endif

const kernel_tables& tables_for(steepest_isa isa) {
  static const kernel_tables generic = {adamw_generic, convert_generic, muon_generic,
                                        sum_squares_generic, linalg::linalg_generic};
#if defined(__x86_64__)
  static const kernel_tables avx2 = [] {
    kernel_tables t = generic;
    t.adamw = adamw_x86_avx2;
    t.convert = convert_x86_avx2;
    t.muon = muon_x86_avx2;
    t.sum_squares = sum_squares_x86_avx2;
    t.linalg = linalg::linalg_x86_avx2;
    return t;
  }();
  static const kernel_tables avx512 = [] {
    kernel_tables t = avx2;
    t.adamw = adamw_x86_avx512;
    t.convert = convert_x86_avx512;
    t.muon = muon_x86_avx512;
    t.sum_squares = sum_squares_x86_avx512;
    t.linalg = linalg::linalg_x86_avx512;
    return t;
  }();
  static const kernel_tables avx512_bf16 = [] {
    kernel_tables t = avx512;
    t.adamw = adamw_x86_avx512_bf16;
    t.convert = convert_x86_avx512_bf16;
    t.muon = muon_x86_avx512_bf16;
    t.linalg.bf16 = linalg::bf16_x86_avx512_bf16;
    return t;
  }();
  switch (isa) {
    case STEEPEST_ISA_X86_AVX2: return avx2;
    case STEEPEST_ISA_X86_AVX512: return avx512;
    case STEEPEST_ISA_X86_AVX512_BF16: return avx512_bf16;
    default: return generic;
  }
#else
  (void)isa;
  return generic;
#endif
}

}  // namespace steepest
