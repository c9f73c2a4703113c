// SPDX-License-Identifier: Apache-2.0
#include "dispatch/cpu.hpp"

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace steepest {

namespace {

struct named_level {
  steepest_isa isa;
  const char* name;
};

constexpr named_level levels[] = {
    {STEEPEST_ISA_GENERIC, "generic"},       {STEEPEST_ISA_X86_AVX2, "x86_avx2"},
    {STEEPEST_ISA_X86_AVX512, "x86_avx512"}, {STEEPEST_ISA_X86_AVX512_BF16, "x86_avx512_bf16"},
    {STEEPEST_ISA_ARM64_NEON, "arm64_neon"},
};

#if defined(__x86_64__)
constexpr bool has_bits(uint64_t value, uint64_t bits) { return (value & bits) == bits; }

uint64_t xcr0() {
  uint32_t low = 0;
  uint32_t high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}
#endif

}  // namespace

steepest_isa detect_isa() {
#if defined(__x86_64__)
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  // Leaf 1 ECX: FMA 12, XSAVE in use by the system 27, AVX 28, F16C 29.
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return STEEPEST_ISA_GENERIC;
  if (!has_bits(ecx, 1U << 12 | 1U << 27 | 1U << 28 | 1U << 29)) return STEEPEST_ISA_GENERIC;
  // XCR0: xmm 1, ymm 2, AVX-512 masks and upper registers 5 to 7.
  const uint64_t saved = xcr0();
  if (!has_bits(saved, 0x6)) return STEEPEST_ISA_GENERIC;
  // Leaf 7 EBX: AVX2 5, AVX512F 16, DQ 17, BW 30, VL 31.
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return STEEPEST_ISA_GENERIC;
  if (!has_bits(ebx, 1U << 5)) return STEEPEST_ISA_GENERIC;
  const unsigned last_subleaf = eax;
  if (!has_bits(saved, 0xe6) || !has_bits(ebx, 1U << 16 | 1U << 17 | 1U << 30 | 1U << 31))
    return STEEPEST_ISA_X86_AVX2;
  // Leaf 7, subleaf 1, EAX: AVX512_BF16 5.
  if (last_subleaf < 1 || !__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) ||
      !has_bits(eax, 1U << 5))
    return STEEPEST_ISA_X86_AVX512;
  return STEEPEST_ISA_X86_AVX512_BF16;
#elif defined(__aarch64__)
  return STEEPEST_ISA_ARM64_NEON;  // part of the architecture
#else
  return STEEPEST_ISA_GENERIC;
#endif
}

bool isa_includes(steepest_isa highest, steepest_isa level) {
  if (level == STEEPEST_ISA_GENERIC || level == highest) return true;
  const bool both_x86 = level >= STEEPEST_ISA_X86_AVX2 && highest <= STEEPEST_ISA_X86_AVX512_BF16;
  return both_x86 && level < highest;
}

const char* isa_name(steepest_isa isa) {
  if (isa == STEEPEST_ISA_AUTO) return "auto";
  for (const named_level& level : levels)
    if (level.isa == isa) return level.name;
  return "unknown isa";
}

steepest_isa isa_from_name(const char* name) {
  for (const named_level& level : levels)
    if (std::strcmp(level.name, name) == 0) return level.isa;
  return STEEPEST_ISA_AUTO;
}

}  // namespace steepest
