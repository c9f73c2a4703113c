# SPDX-License-Identifier: Apache-2.0
# julia --project=. test/runtests.jl, or Pkg.test; only the standard library is needed. Finds
# libsteepest as the package does.
using LinearAlgebra, Random, Steepest, Test

include("c_calls.jl")

# Each file in a module of its own, with what this one uses.
function run_file(name)
    tests = Module(Symbol(name, :_test))
    Core.eval(tests, :(using LinearAlgebra, Random, Steepest, Test))
    Core.eval(tests, :(const CCalls = $CCalls))
    for file in ("support.jl", "json.jl", "$(name)_test.jl")
        Base.include(tests, joinpath(@__DIR__, file))
    end
end

println(Steepest.build_info(), "; level ", Steepest.level(), "; Julia ", VERSION)

@testset "Steepest.jl" begin
    for name in ("layout", "library", "context", "bf16", "adamw", "muon", "narrow", "msign",
        "diagnostics", "schedule", "optimisers", "same_bits", "conformance")
        @testset "$name" begin
            run_file(name)
        end
    end
end
