# SPDX-License-Identifier: Apache-2.0
# The same bits as C calls on this machine, in every element type.
codes(arrays...) = Int32[Steepest.dtype(eltype(array)) for array in arrays]
bits(arrays...) = map(array -> reinterpret(UInt8, vec(collect(array))), arrays)

function adamw_bits(c, P, G, M)
    ours = (P.(randn(1003)), G.(randn(1003)), M.(0.1 .* randn(1003)), M.(0.1 .* rand(1003)))
    theirs = copy.(ours)
    stats, their_stats = StepStats[], [StepStats()]
    adamw!(ours...; step = 7, lr = 3e-4, stats = stats)
    failed = ccall(c.c_adamw, Int64,
        (Int64, Int64, Float64, Int64, Ptr{Int32}, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Cvoid},
            Ptr{StepStats}),
        7, 1, 3e-4, 1003, codes(theirs...), theirs[1], theirs[2], theirs[3], theirs[4],
        their_stats)
    return failed == 0 && bits(ours..., stats) == bits(theirs..., their_stats)
end

function muon_bits(c, P, G, M)
    ours = (P.(randn(24, 40)), G.(randn(24, 40)), M.(0.1 .* randn(24, 40)))
    theirs = copy.(ours)
    stats, their_stats = StepStats[], [StepStats()]
    muon!(ours...; lr = 3e-4, scale_mode = :sqrt_max1_out_in, stats = stats)
    failed = ccall(c.c_muon, Int64,
        (Float64, Int64, Int64, Ptr{Int32}, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{StepStats}),
        3e-4, 24, 40, codes(theirs...), theirs[1], theirs[2], theirs[3], their_stats)
    return failed == 0 && bits(ours..., stats) == bits(theirs..., their_stats)
end

function msign_bits(c, T, method)
    x = T.(randn(24, 40))
    theirs = similar(x)
    stats, their_stats = MsignStats[], [MsignStats()]
    ours = msign(x; method = method, stats = stats)
    failed = ccall(c.c_msign, Int64,
        (Int32, Int64, Int64, Int32, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{MsignStats}),
        Steepest.METHODS[method], 24, 40, Steepest.dtype(T), x, theirs, their_stats)
    return failed == 0 && bits(ours, stats) == bits(theirs, their_stats)
end

# Every field of narrow storage once.
function narrow_bits(c)
    grad = randn(Float32, 24, 40)
    # The parameter, its copy, its residual; codes and scales of the two moments.
    ours = (BF16.(randn(24, 40)), zeros(Float32, 24, 40), zeros(Int8, 24, 40),
        zeros(UInt8, 24, 40), zeros(Float32, cld(960, 256)),
        zeros(UInt8, 24, 40), zeros(UInt16, 960 ÷ 32))
    theirs = copy.(ours)
    master = Master(ours[1]; copy = ours[2], residual = ours[3], stream = 4, first_index = 100)
    exp_avg, exp_avg_sq = Q8State(ours[4], ours[5]), Q8State(ours[6], ours[7])
    adamw!(master, grad, exp_avg, exp_avg_sq; step = 1, stochastic_rounding = true, seed = 9)
    muon!(master, grad, exp_avg_sq; step = 2, stochastic_rounding = true, seed = 9)
    failed = ccall(c.c_narrow, Int64,
        (Ptr{Float32}, Ptr{Cvoid}, Ptr{Float32}, Ptr{Int8}, Ptr{UInt8}, Ptr{Float32}, Ptr{UInt8},
            Ptr{UInt16}),
        grad, theirs...)
    return failed == 0 && bits(ours...) == bits(theirs...) && any(!iszero, ours[3])
end

if CCalls.missing_part() !== nothing
    skip("same bits as C calls: $(CCalls.missing_part())")
else
    c = CCalls.functions()
    Random.seed!(7)
    for types in ((Float32, Float32, Float32), (Float64, Float64, Float64), (BF16, BF16, BF16),
        (Float16, Float16, Float16), (BF16, BF16, Float32), (Float32, Float16, BF16))

        @test adamw_bits(c, types...)
        @test muon_bits(c, types...)
    end
    for T in (Float32, Float64, BF16, Float16), method in (:auto, :newton_schulz, :halley)
        @test msign_bits(c, T, method)
    end
    @test narrow_bits(c)
end
