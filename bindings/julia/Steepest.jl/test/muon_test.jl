# SPDX-License-Identifier: Apache-2.0
# The step against its formula in Float64, with the exact msign of LinearAlgebra.
function muon_formula(w, g, m; lr = 1e-3, mu = 0.95, weight_decay = 1e-2, nesterov = true,
    classic = false, scale)
    m = classic ? mu .* m .+ g : mu .* m .+ (1 - mu) .* g
    u = !nesterov ? m : classic ? mu .* m .+ g : mu .* m .+ (1 - mu) .* g
    o = exact_msign(u)
    return w .- lr .* (scale .* o .+ weight_decay .* w), m
end

factor(mode, out, in) = mode === :exact_rms ? 0.2 * sqrt(max(out, in)) : scale_factor(mode, out, in)
exact = MsignConfig(method = :svd)

Random.seed!(3)
for T in (Float32, Float64), (out, in) in ((6, 4), (3, 8), (5, 5)),
    mode in (:match_rms, :exact_rms, :none, :sqrt_max1_out_in, :sqrt_out_in, :sqrt_max)

    local w, g, m, wanted
    w, g, m = T.(randn(out, in)), T.(randn(out, in)), T.(randn(out, in))
    wanted = muon_formula(Float64.(w), g, m; lr = 0.1, scale = factor(mode, out, in))
    @test muon!(w, g, m; lr = 0.1, scale_mode = mode, msign = exact)
    @test difference(w, wanted[1]) < 50 * eps(T)
    @test difference(m, wanted[2]) < 4 * eps(T)
end
w, g, m = randn(4, 7), randn(4, 7), randn(4, 7)
wanted = muon_formula(w, g, m; classic = true, nesterov = false, scale = factor(:none, 4, 7))
muon!(w, g, m; momentum_kind = :classic, nesterov = false, scale_mode = :none, msign = exact)
@test difference(w, wanted[1]) < 1e-14

# y = x * W: out and in change places.
w, g, m = randn(4, 7), randn(4, 7), randn(4, 7)
wanted = muon_formula(w, g, m; scale = sqrt(7 / 4))
muon!(w, g, m; scale_mode = :sqrt_out_in, fan_out = 7, fan_in = 4, msign = exact)
@test difference(w, wanted[1]) < 1e-14

# Blocks of rows, and of columns, are as matrices of their own.
for (dims, sizes) in ((1, [4, 4, 4]), (2, [5, 5]), (1, [2, 10]), (2, [9, 1])),
    mode in (:match_rms, :sqrt_max1_out_in)

    local w, g, m, list
    w, g, m = randn(12, 10), randn(12, 10), randn(12, 10)
    copies = copy.((w, g, m))
    ends = cumsum(sizes)
    piece(x, range) = dims == 1 ? view(x, range, :) : view(x, :, range)
    pieces(x) = [piece(x, e-s+1:e) for (s, e) in zip(sizes, ends)]
    uneven = length(unique(sizes)) > 1 && mode !== :match_rms
    call() = muon!(w, g, m; blocks = sizes, dims = dims, scale_mode = mode, lr = 0.1)
    if uneven
        @test occursin("MuonList", error_text(call, ArgumentError))
        @test w == copies[1]
    else
        call()
    end
    list = MuonList(map(pieces, copies)...)
    muon!(list; scale_mode = mode, lr = 0.1)
    if !uneven
        @test difference(w, copies[1]) < 1e-14
        @test m == copies[3]
    end
    for (piece, before) in zip(pieces(copies[1]), pieces(w))
        @test uneven == (piece != before)
    end
end

# Views of rows: columns further apart. What lies between is left alone.
whole = randn(Float32, 9, 6)
kept = copy(whole)
w = view(whole, 3:7, :)
g, m = randn(Float32, 5, 6), zeros(Float32, 5, 6)
plain = (copy(w), copy(g), copy(m))
muon!(w, g, m; lr = 0.1)
muon!(plain...; lr = 0.1)
@test w == plain[1] && whole[[1, 2, 8, 9], :] == kept[[1, 2, 8, 9], :] && w != kept[3:7, :]

# Mixed types, the change, statistics, lists.
w, g, m = BF16.(randn(6, 8)), BF16.(randn(6, 8)), zeros(Float32, 6, 8)
delta = zeros(Float32, 6, 8)
stats = StepStats[]
before = copy(w)
muon!(w, g, m; delta = delta, lr = 1.0, weight_decay = 0, scale_mode = :exact_rms, stats = stats)
@test w == before
@test rms(delta) ≈ 0.2 rtol = 1e-5
@test stats[1].update_rms ≈ 0.2 rtol = 1e-5
ws, gs, ms = [randn(5, 3), randn(4, 4)], [randn(5, 3), randn(4, 4)], [zeros(5, 3), zeros(4, 4)]
copies = deepcopy((ws, gs, ms))
muon!(MuonList(ws, gs, ms); context = Context(threads = 2))
foreach((w, g, m) -> muon!(w, g, m), copies...)
@test (ws, gs, ms) == copies

# Options and scratch memory of their own.
copies = deepcopy((ws, gs, ms))
list = MuonList(ws, gs, ms)
memory = zeros(UInt8, muon_workspace_size(list; lr = 0.1))
their_own = (lr = [0.1, 0.2], scale_mode = [:none, :sqrt_max], weight_decay = 0.3, msign = exact)
muon!(list; workspace = zeros(UInt8, muon_workspace_size(list; their_own...)), their_own...)
for (lr, mode, w, g, m) in zip([0.1, 0.2], [:none, :sqrt_max], copies...)
    muon!(w, g, m; lr = lr, scale_mode = mode, weight_decay = 0.3, msign = exact)
end
@test (ws, gs, ms) == copies
muon!(list; workspace = memory)
foreach((w, g, m) -> muon!(w, g, m), copies...)
@test (ws, gs, ms) == copies
@test occursin("workspace",
    error_text(() -> muon!(list; workspace = memory[1:16]), SteepestError))
@test_throws DimensionMismatch muon!(list; lr = [0.1, 0.2, 0.3])

# Not finite: that matrix alone is left untouched.
gs[1][2] = NaN
text = error_text(() -> muon!(MuonList(ws, gs, ms); stats = stats), SteepestError)
@test occursin("NONFINITE", text) && [s.status for s in stats] == [-5, 0]
@test ws[1] == copies[1][1] && ws[2] != copies[1][2]
@test !muon!(ws[1], gs[1], ms[1]; skip_nonfinite = true)
@test muon!(ws[2], gs[2], ms[2]; skip_nonfinite = true)

@test_throws DimensionMismatch muon!(ws[1], gs[2], ms[1])
@test_throws DimensionMismatch MuonList(ws, gs, ms[1:1])
@test_throws ArgumentError muon!(ws[2], gs[2], ms[2]; scale_mode = :spectral)
@test_throws ArgumentError muon!(ws[2], gs[2], ms[2]; fan_out = 3)
@test_throws ArgumentError muon!(ws[2], gs[2], ms[2]; dims = 3, blocks = [2, 2])
@test_throws SteepestError muon!(ws[2], gs[2], ms[2]; blocks = [2, 3])
@test_throws SteepestError scale_factor(:exact_rms, 3, 4)
@test scale_factor(:match_rms, 3, 4; value = 0.5) == 1.0

list = MuonList(ws[2:2], gs[2:2], ms[2:2])
step!(list, lr, stats) = muon!(list; lr = lr, stats = stats)
step!(w, g, m, lr) = muon!(w, g, m; lr = lr, weight_decay = 0.1)
step!(list, 0.1, stats), step!(ws[2], gs[2], ms[2], 0.1)
allocated(list, stats) = @allocated step!(list, 0.1, stats)
allocated(w, g, m) = @allocated step!(w, g, m, 0.1)
allocated(list, stats), allocated(ws[2], gs[2], ms[2])
@test allocated(list, stats) == 0
@test allocated(ws[2], gs[2], ms[2]) == 0
