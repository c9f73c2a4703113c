# SPDX-License-Identifier: Apache-2.0
Random.seed!(4)
for (m, n) in ((5, 9), (9, 5), (7, 7), (1, 4), (4, 1)), T in (Float32, Float64)
    x = T.(randn(m, n))
    local o, stats = nothing, MsignStats[]
    @test difference(msign(x; method = :svd), exact_msign(x)) < 20 * eps(T)
    @test difference(msign(x; method = :accurate), exact_msign(x)) < max(1e-9, 4 * eps(T))
    o = msign(x; stats = stats)
    # Three poles leave singular values within 6.2 % of 1, where l covers the spectrum.
    if minimum(svdvals(x)) > 1e-2 * maximum(svdvals(x))
        @test all(s -> 0.93 < s < 1.07, svdvals(o))
    end
    @test stats[1].method == 3 || min(m, n) == 1
end

x = randn(6, 10)
out = zeros(6, 10)
@test msign!(out, x; method = :halley) === out
@test msign!(copy(x), x) == msign(x)
y = copy(x)
msign!(y, y)
@test y == msign(x)
config = MsignConfig(method = :newton_schulz, steps = 5)
@test msign(x; config = config) == msign(x; method = :newton_schulz)
rows = msign_coefficients(1e-3, 5)
@test size(rows) == (3, 5)
@test rows[1, 1] ≈ 8.28721 / 1.01 rtol = 1e-4
custom = msign(x; method = :gram_newton_schulz, coefficients = rows)
@test difference(custom, exact_msign(x)) < 0.2
@test msign_band(1e-3)[1] ≈ 0.938 atol = 1e-3
@test msign_band(1e-3; method = :newton_schulz, coefficients = :keller)[2] ≈ 1.202 atol = 2e-3
restarted = msign(x; method = :gram_newton_schulz, steps = 8, restarts = [3, 5])
@test difference(restarted, exact_msign(x)) < 1e-3
@test msign(zeros(3, 4)) == zeros(3, 4)
@test msign(zeros(0, 4)) == zeros(0, 4)

# Batches, and views of rows.
xs = [randn(Float32, 4, 6) for _ in 1:3]
@test msign(xs) == [msign(x) for x in xs]
whole = randn(8, 6)
@test msign(view(whole, 2:5, :)) == msign(whole[2:5, :])
halves = [view(whole, 1:4, :), view(whole, 5:8, :)]
@test msign(halves) == [msign(whole[1:4, :]), msign(whole[5:8, :])]

# Scratch memory of one's own.
config = MsignConfig(method = :halley)
memory = zeros(UInt8, msign_workspace_size(Float32, 4, 6; count = 3, config = config))
@test msign(xs; config = config, workspace = memory) == msign(xs; config = config)
@test occursin("workspace",
    error_text(() -> msign(xs; config = config, workspace = memory[1:8]), SteepestError))

# 16-bit storage.
b = BF16.(randn(5, 8))
@test difference(msign(b; method = :svd), exact_msign(b)) < 2.0^-8

bad = [1.0 NaN; 0 1]
text = error_text(() -> msign!(zeros(2, 2), bad), SteepestError)
@test occursin("NONFINITE", text)
@test_throws DimensionMismatch msign!(zeros(2, 3), zeros(3, 2))
@test_throws ArgumentError msign(view(whole, 1:2:8, :))
@test_throws ArgumentError msign(x; method = :qr)
@test_throws ArgumentError msign(x; config = config, steps = 3)
@test_throws ArgumentError msign!(zeros(Float32, 2, 2), zeros(2, 2))
@test_throws DimensionMismatch MsignConfig(coefficients = zeros(2, 3))
