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
    # Every field of narrow storage once.
    low, copy = BF16.(trunc.(draw(24, 40) .* 100.0f0)), zeros(Float32, 24, 40)
    rest = zeros(Int8, 24, 40)
    first, second = Q8State(Float32, 24, 40), Q8State(UInt16, 24, 40)
    master = Master(low; residual = rest, copy = copy, stream = 4, first_index = 100)
    adamw!(master, g, first, second; step = 1, stochastic_rounding = true, seed = 9)
    muon!(master, g, second; step = 2, stochastic_rounding = true, seed = 9)
    result = IOBuffer()
    foreach(array -> write(result, array), (param, exp_avg, exp_avg_sq, w, m, o, stats,
        matrix_stats, low, copy, rest, first.codes, first.scales, second.codes, second.scales))
    return take!(result) == read(`$program`)
end

if haskey(ENV, "STEEPEST_C_CALLS")
    @test same_bits(ENV["STEEPEST_C_CALLS"])
else
    skip("same bits as C calls: STEEPEST_C_CALLS does not name the compiled test/c_calls.c")
end
