# SPDX-License-Identifier: Apache-2.0
# 8-bit codes and back. (same_bits_test.jl has the steps with narrow storage.)
values = Float32[2 -2 0; 0.5 -0.25 1]
for T in (Float32, UInt16)
    state, back = Q8State(T, 2, 3), fill(9.0f0, 2, 3)
    @test q8_encode!(state, values; signed = true) === state
    @test q8_decode!(back, state; signed = true) === back
    @test back ≈ values atol = 0.05
    @test back[1, 3] == 0
    q8_encode!(state, abs2.(values); signed = false, context = Context(threads = 1))
    @test q8_decode!(back, state; signed = false) ≈ abs2.(values) atol = 0.1
    @test_throws DimensionMismatch q8_encode!(state, vec(values); signed = true)
    @test_throws DimensionMismatch q8_decode!(zeros(Float32, 3, 2), state; signed = true)
end
@test length(Q8State(Float32, 257).scales) == 2
@test length(Q8State(UInt16, 257).scales) == 9
@test_throws DimensionMismatch Q8State(zeros(UInt8, 257), zeros(Float32, 1))
