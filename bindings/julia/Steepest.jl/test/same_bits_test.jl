# SPDX-License-Identifier: Apache-2.0
# The same bits as C calls on this machine: c_calls.c, compiled, is the program STEEPEST_C_CALLS.
mutable struct Numbers
    state::UInt32
end

function next!(numbers)
    numbers.state = numbers.state * 0x0019660d + 0x3c6ef35f
    return Float32(Int32(numbers.state >> 21) - 1024) / 1024.0f0
end

function same_bits(program)
    numbers = Numbers(1)
    draw(dims...) = [next!(numbers) for _ in CartesianIndices(dims)]
    param = draw(1003)
    grad = BF16.(trunc.(draw(1003) .* 100.0f0))
    exp_avg, exp_avg_sq = draw(1003), zeros(Float32, 1003)
    w, g, m = draw(24, 40), draw(24, 40), draw(24, 40)
    stats, matrix_stats = StepStats[], StepStats[]
    adamw!(param, grad, exp_avg, exp_avg_sq; step = 7, lr = 3e-4, weight_decay = 0.1, stats = stats)
    muon!(w, g, m; lr = 3e-4, scale_mode = :sqrt_max1_out_in, stats = matrix_stats)
    o = msign(g)
    result = IOBuffer()
    foreach(array -> write(result, array), (param, exp_avg, exp_avg_sq, w, m, o, stats,
        matrix_stats))
    return take!(result) == read(`$program`)
end

if haskey(ENV, "STEEPEST_C_CALLS")
    @test same_bits(ENV["STEEPEST_C_CALLS"])
else
    skip("same bits as C calls: STEEPEST_C_CALLS does not name the compiled test/c_calls.c")
end
