# SPDX-License-Identifier: Apache-2.0
Random.seed!(5)
a, b = randn(Float32, 30), BF16.(randn(4, 5))
exact = sqrt(sum(abs2, Float64.(a)) + sum(abs2, Float64.(b)))
@test grad_norm(a)[1] ≈ norm(Float64.(a)) rtol = 1e-14
@test grad_norm((a, b))[1] ≈ exact rtol = 1e-14
@test grad_norm(Any[a, b]) == grad_norm((a, b))
@test rms([a, a]) ≈ norm(Float64.(a)) / sqrt(30) rtol = 1e-14
@test grad_norm([1.0, Inf, NaN])[2] == 2
@test grad_norm(Vector{Float32}[]) == (0.0, 0)
@test grad_norm(view(a, 3:9))[1] ≈ norm(Float64.(a[3:9])) rtol = 1e-14

norm_of(x) = (grad_norm(x); nothing)
norm_of(a)
@test (@allocated norm_of(a)) == 0

# Figures of kexue.fm 11267 and of the formulas.
@test adam_update_rms() ≈ sqrt(0.1 / 1.9)
@test adam_update_rms(step = 1) == 1
@test adam_update_rms(beta1 = 0.9, snr = 1.0) ≈ sqrt((1 + 0.1 / 1.9) / 2)
@test adam_update_rms_second_order(beta2 = 0.95) ≈ 0.2258 atol = 1e-4
@test snr_from_update_rms(0.3) ≈ 0.041 atol = 5e-4
@test isnan(snr_from_update_rms(0.5; step = 1))
@test snr_from_momentum(1.0, 2.0; beta = 0.9) ≈ (0.25 - 0.1 / 1.9) / 0.75

x = randn(7, 4)
@test singular_values(x) ≈ svdvals(x)
@test singular_values(view(x, 2:5, :)) ≈ svdvals(x[2:5, :])
@test spectral_norm(x) ≈ opnorm(x)
lower, upper = spectral_norm_bounds(x; tolerance = 1e-3)
@test lower <= opnorm(x) * (1 + 1e-15) && opnorm(x) <= upper * (1 + 1e-15)
@test upper <= 1.001 * lower * (1 + 1e-15)
@test singular_entropy([2.0, 2, 2]) ≈ 1
@test singular_entropy([2, 0]) == 0
@test_throws SteepestError spectral_norm([1.0 NaN; 0 1])
@test_throws SteepestError adam_update_rms(beta1 = 1.0)
