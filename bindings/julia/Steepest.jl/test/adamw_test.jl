# SPDX-License-Identifier: Apache-2.0
arrays(T, dims...) = (T.(randn(dims...)), T.(randn(dims...)), T.(0.1 .* randn(dims...)),
    T.(0.1 .* rand(dims...)))

Random.seed!(1)
for T in (Float32, Float64), dims in ((1,), (67,), (33, 5), (4, 3, 2))
    p, g, m, v = arrays(T, dims...)
    wanted = adamw_formula(p, g, m, v; step = 3, lr = 0.01, weight_decay = 0.1)
    before = copy(g)
    @test adamw!(p, g, m, v; step = 3, lr = 0.01, weight_decay = 0.1)
    for (array, exact) in zip((p, m, v), wanted)
        @test difference(array, exact) < 8 * eps(T)
    end
    @test g == before
end

# Mixed types: within half an ulp of the storage type.
for (P, G, M, V) in ((BF16, BF16, Float32, Float32), (Float32, BF16, Float32, Float32),
    (Float32, Float16, BF16, Float32), (Float16, Float16, Float16, Float16))
    p, g, m, v = P.(randn(100)), G.(randn(100)), M.(zeros(100)), V.(zeros(100))
    wanted = adamw_formula(p, g, m, v; step = 1)
    adamw!(p, g, m, v; step = 1)
    @test difference(p, wanted[1]) < (P === Float32 ? 1e-6 : P === BF16 ? 2.0^-8 : 2.0^-11)
    @test difference(m, wanted[2]) < (M === Float32 ? 1e-6 : M === BF16 ? 2.0^-8 : 2.0^-11)
end

# Views are used in place; raw bits too.
whole = randn(Float32, 8, 6)
kept = copy(whole)
p = view(whole, :, 2:4)
g, m, v = randn(Float32, 8, 3), zeros(Float32, 8, 3), zeros(Float32, 8, 3)
wanted = adamw_formula(p, g, m, v; step = 1)
adamw!(p, g, m, v; step = 1)
@test difference(p, wanted[1]) < 1e-6
@test whole[:, [1, 5, 6]] == kept[:, [1, 5, 6]]
raw = reinterpret(UInt16, BF16.(ones(5)))
p = Vector{UInt16}(raw)
g, m, v = ones(Float32, 5), zeros(Float32, 5), zeros(Float32, 5)
adamw!(reinterpret(BF16, p), g, m, v; step = 1, lr = 0.5, weight_decay = 0)
@test Float32.(reinterpret(BF16, p)) == fill(0.5f0, 5)
adamw!(vec(reshape(m, 1, 5)), g, vec(v), copy(v); step = 1)

# A list gives the same bits as single calls, for any number of threads.
shapes = [(70, 30), (5,), (0,), (129,)]
make() = (Random.seed!(2); [arrays(Float32, dims...) for dims in shapes])
one_by_one, together = make(), make()
single_stats = StepStats[]
for (p, g, m, v) in one_by_one
    stats = StepStats[]
    adamw!(p, g, m, v; step = 2, lr = 0.1, stats = stats)
    push!(single_stats, stats[1])
end
list = AdamWList((getindex.(together, i) for i in 1:4)...)
@test length(list) == 4
stats = StepStats[]
@test adamw!(list; step = 2, lr = 0.1, stats = stats, context = Context(threads = 2))
@test one_by_one == together
@test isequal(stats, single_stats)
@test stats[1].grad_rms ≈ rms(together[1][2]) rtol = 1e-5
@test stats[1].status == 0 && 0 < stats[1].update_rms < 10

# A list whose arrays have options of their own, as so many calls.
one_by_one, together = make(), make()
lrs, decays, steps = [0.1, 0.2, 0.3, 0.4], [0, 0.1, 0.0, 0.5], [1, 5, 2, 9]
for ((p, g, m, v), lr, decay, step) in zip(one_by_one, lrs, decays, steps)
    adamw!(p, g, m, v; step = step, lr = lr, weight_decay = decay, beta1 = 0.8)
end
list = AdamWList((getindex.(together, i) for i in 1:4)...)
@test adamw!(list; step = steps, lr = lrs, weight_decay = decays, beta1 = 0.8, stats = stats)
@test one_by_one == together && length(stats) == 4
together[4][2][1] = NaN
before = deepcopy(together[1])
@test !adamw!(list; step = 2, lr = lrs, skip_nonfinite = true)
@test together[1] == before
@test occursin("lr has 2 values, must be 4",
    error_text(() -> adamw!(list; step = 2, lr = [1, 2]), DimensionMismatch))
@test occursin("tensors[1]", error_text(SteepestError) do
    adamw!(list; step = [1, 0, 1, 1])
end)
@test adamw!(AdamWList([], [], [], []); step = Int[])
list = AdamWList((getindex.(make(), i) for i in 1:4)...)

# The change instead of the step; AMSGrad; the other flags against their formula.
p, g, m, v = arrays(Float32, 50)
q, n, w = copy(p), copy(m), copy(v)
delta = fill(NaN32, 50)
adamw!(p, g, m, v; step = 1, delta = delta)
@test p == q
adamw!(q, g, n, w; step = 1)
@test difference(p .+ delta, q) < 1e-6 && n == m
largest = zeros(Float32, 50)
adamw!(q, g, n, w; step = 2, max_exp_avg_sq = largest)
@test largest == w
a, b = copy(q), copy(q)
for (x, sign) in ((a, 1), (b, -1))
    adamw!(x, sign .* g, zero(g), zero(g); step = 1, maximize = sign == 1, consistent = true)
end
@test a == b
adamw!(a, g, zero(g), zero(g); step = 1, coupled_l2 = true)
adamw!(a, g, zero(g), zero(g); step = 1, cautious_decay = true, grad_scale = 0.5)

# Skipping.
p, g, m, v = arrays(Float32, 9)
@test adamw!(p, g, m, v; step = 1, skip_nonfinite = true)
q = copy(p)
g[5] = NaN32
@test !adamw!(p, g, m, v; step = 2, skip_nonfinite = true, stats = stats)
@test p == q && stats[1].nonfinite == 1 && stats[1].status == -5

# Errors name the argument, and nothing is written.
text = error_text(() -> adamw!(p, g, m, v; step = 0), SteepestError)
@test occursin("STEEPEST_E_INVALID_ARGUMENT", text) && occursin("step", text)
@test occursin("lr", error_text(() -> adamw!(p, g, m, v; step = 1, lr = -1), SteepestError))
@test occursin("overlap", error_text(() -> adamw!(p, g, m, m; step = 1), SteepestError))
@test occursin("grad has size (3,), must be (9,)",
    error_text(() -> adamw!(p, g[1:3], m, v; step = 1), DimensionMismatch))
@test_throws ArgumentError adamw!(view(whole, 1:2, :), whole[1:2, :], whole[1:2, :],
    whole[1:2, :]; step = 1)
@test_throws ArgumentError adamw!(p, [1, 2, 3, 4, 5, 6, 7, 8, 9], m, v; step = 1)
@test_throws ArgumentError adamw!(p, g, m, v; step = 1, max_exp_avg_sq = zeros(9))
@test_throws SteepestError adamw!(p, g, m, Float64.(v); step = 1)
@test_throws DimensionMismatch AdamWList([p], [g, g], [m], [v])
@test occursin("tensors[1]", error_text(SteepestError) do
    adamw!(AdamWList([p, p], [g, g], [m, copy(m)], [v, copy(v)]); step = 1)
end)
@test p == q

# Nothing is allocated.
step!(p, g, m, v, t, lr) = adamw!(p, g, m, v; step = t, lr = lr, weight_decay = 0.1)
step!(list, t, lr, stats) = adamw!(list; step = t, lr = lr, stats = stats)
g[5] = 0
step!(p, g, m, v, 2, 1e-3), step!(list, 2, 1e-3, stats)
@test (@allocated step!(p, g, m, v, 2, 1e-3)) == 0
@test (@allocated step!(list, 2, 1e-3, stats)) == 0
