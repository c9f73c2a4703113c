// SPDX-License-Identifier: Apache-2.0
//
// FNV-1a of all buffers after each call of every_call(call_size::small), with
// STEEPEST_FLAG_CONSISTENT. How to make it anew: determinism_test.cpp. The results behind them are
// held against oracles elsewhere; here a change is to be noticed, be it between levels, machines,
// compilers or versions.
#pragma once

#include <cstdint>

namespace steepest_test {

struct known_hash {
  const char* call;
  std::uint64_t hash;
};

inline constexpr known_hash known_hashes[] = {
    {"adamw_step f32", 0x9151a83bd5d59065},
    {"adamw_chunk f32", 0x3b5827514e53e419},
    {"adamw_step f64 amsgrad delta", 0x45aa14f9836b7edf},
    {"adamw_step f32 bf16 skip", 0x2e11002f4aa6a48d},
    {"adamw_step f32 f16 coupled", 0x8b08bda46fd57842},
    {"adamw_step bf16 moments f32", 0xdcbd9c68144ee4ba},
    {"adamw_step bf16 throughout", 0x2be55b7c8b451816},
    {"adamw_chunk bf16 throughout", 0xced476735744a6d1},
    {"adamw_step f16 throughout", 0x8fd851ef337dac79},
    {"adamw_chunk f16 throughout", 0x74deace4575fca6b},
    {"adamw_step mixed", 0xb9bbed9fe6081cf5},
    {"adamw_step f32 with a copy", 0xbfd2e62bf28379f2},
    {"adamw_chunk f32 with a copy", 0x9e849c59ebc964f7},
    {"adamw_step low16", 0x6f75f4d7a160fc8e},
    {"adamw_chunk low16", 0x422be8989144960f},
    {"adamw_step nearest16", 0xdc1c5d330eead4ef},
    {"adamw_chunk nearest16", 0xc048dd9b8c877789},
    {"adamw_step nearest8", 0x94c2d7b385b2ed72},
    {"adamw_chunk nearest8", 0xa3145a57b92735f7},
    {"adamw_step kahan", 0x9b47dbbfd69a6203},
    {"adamw_chunk kahan", 0x5c8d78915deb6f2b},
    {"adamw_step kahan f16", 0xbc3a69c183189b4f},
    {"adamw_chunk kahan f16", 0x5774f3696349bfa2},
    {"adamw_step bf16 stochastic", 0x203786125a922d74},
    {"adamw_step q8", 0x45382476f352a0fa},
    {"adamw_chunk q8", 0x7569b620a1492292},
    {"adamw_step q8 stochastic", 0x8deb8edfcb435f51},
    {"adamw_chunk q8 stochastic", 0xbdf33330f4e4eb2e},
    {"adamw_step companded", 0xdff34674293ba52a},
    {"adamw_chunk companded", 0xa574a94e1e94f9e7},
    {"adamw_step companded low16", 0xf8b8b6fac28c1b68},
    {"adamw_chunk companded low16", 0x92696af1d6c196d0},
    {"adamw_step q8 and companded", 0xb6bd8018fc513255},
    {"adamw_chunk q8 and companded", 0x064495be590b0f70},
    {"msign auto type 1", 0xa5900b79f72f27d8},
    {"msign auto type 2", 0x3b657911dfe6b862},
    {"msign newton-schulz type 1", 0x105c61aec94294da},
    {"msign newton-schulz type 2", 0x78c39cc5c14ce30f},
    {"msign gram type 1", 0x2b72ec705940b0ea},
    {"msign gram type 2", 0x91eb3ab0c84f899c},
    {"msign gram with restarts type 1", 0xce293ce7d0a7a0da},
    {"msign gram with restarts type 2", 0x989778b9943e98b5},
    {"msign rational, five poles type 1", 0x0e67f4df26498158},
    {"msign rational, five poles type 2", 0x2bdd792a6b20f746},
    {"msign halley type 1", 0xcf9876338d89b8f5},
    {"msign halley type 2", 0xd318ad8cc246357e},
    {"msign accurate type 1", 0xd518edbc4b5ce94f},
    {"msign accurate type 2", 0xa0f948a2f35e3fe3},
    {"msign auto type 3", 0xc398fcc767a623b8},
    {"msign_batched auto type 1", 0x878745f21fd0f3d4},
    {"msign_batched newton-schulz type 4", 0x1118c4082c695411},
    {"muon_step f32", 0x1cd11cef660fe14c},
    {"muon_step f64 classic blocks", 0x80a5c365a7ca05bc},
    {"muon_step bf16 columns skip", 0x0ac7ac4d1da4f98d},
    {"muon_step f16 delta newton-schulz", 0xe6374e8174427344},
    {"muon_step gram", 0xcf23d988a336e5f0},
    {"muon_step halley", 0x88927614d2a677d1},
    {"muon_step accurate", 0x484d1e600bb91437},
    {"muon_step low16", 0x8935f23eeb07f125},
    {"muon_step kahan", 0x4f45c8fcf5eaa03b},
    {"muon_step stochastic", 0x31c339cfa1659c5d},
    {"muon_step q8 with a copy", 0xfad58db2f7fe9b41},
    {"muon_step companded blocks", 0x9c9ae95462072db3},
    {"grad_norm", 0x3a2d5337b13ea0b3},
    {"rms", 0xc1676f55222fb175},
    {"q8_encode type 5", 0xd2658d27690765b5},
    {"q8_decode type 5", 0x1ad21f904eebeb67},
    {"q8_encode type 6", 0x3de2a0438381cc3b},
    {"q8_decode type 6", 0xb8be645ca9fb92ac},
    {"schedule_fill", 0xf5eb6107218a4066},
    {"schedule_at", 0xb7c2f7fac34bf212},
    {"schedule_bound", 0x4d04ed5e758b8a5a},
    {"schedule_optimal", 0xdae7c8eef6d4ddd2},
    {"schedule_refine", 0x447c56b089c4a449},
    {"singular_entropy", 0xc344c59b7bcee427},
    {"adam_update_rms", 0xf3c42d3cd2aa3d18},
    {"snr", 0xccebf9bfed51c8cc},
    {"scale_factor", 0x98cacf16ea2d12c8},
    {"msign_band", 0x3fba0b57542f8f25},
    {"msign_coefficients", 0xaea835ef0032ffaa},
};

}  // namespace steepest_test
