# SPDX-License-Identifier: Apache-2.0
"""
Steepest: optimizer-step kernels for CPUs, on Julia arrays in place.

* [`adamw!`](@ref), [`AdamWList`](@ref): AdamW for one array or a whole model
* [`muon!`](@ref), [`MuonList`](@ref), [`scale_factor`](@ref): Muon
* [`Q8State`](@ref), [`Master`](@ref): 8-bit state, and what is kept beside 16-bit parameters;
  [`q8_encode!`](@ref), [`q8_decode!`](@ref)
* [`msign`](@ref), [`msign!`](@ref): the matrix sign
* [`grad_norm`](@ref), [`rms`](@ref), [`StepStats`](@ref) and the functions of `diagnostics.jl`
* [`Schedule`](@ref) and the functions of `schedule.jl`
* `Steepest.AdamW`, `Steepest.Muon`: rules for Optimisers.jl

Arrays are column-major and are used where they lie: a Julia matrix of size (m, n) is to the
library a row-major matrix of n rows and m columns. The functions here take and return everything
in Julia's terms.

A call blocks Julia's garbage collector until it returns, as any `ccall` does: other Julia threads
that allocate wait for it.
"""
module Steepest

using Libdl

export BF16, Context, SteepestError
export Master, Q8State, q8_decode!, q8_encode!
export AdamWList, StepStats, adamw!, grad_norm
export MuonList, muon!, muon_workspace_size, scale_factor
export MsignConfig, MsignStats, msign, msign!, msign_band, msign_coefficients
export msign_workspace_size
export adam_update_rms, adam_update_rms_second_order, rms, singular_entropy, singular_values
export snr_from_momentum, snr_from_update_rms, spectral_norm, spectral_norm_bounds
export Schedule, schedule_at, schedule_bound, schedule_fill, schedule_optimal, schedule_refine

include("library.jl")
include("errors.jl")
include("bf16.jl")
include("structs.jl")
include("arrays.jl")
include("context.jl")
include("narrow.jl")
include("adamw.jl")
include("msign.jl")
include("muon.jl")
include("diagnostics.jl")
include("schedule.jl")
include("optimisers.jl")

end
