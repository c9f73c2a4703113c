# SPDX-License-Identifier: Apache-2.0
@test schedule_fill(Schedule(:linear; lr = 1.0), 4) ≈ [0.8, 0.6, 0.4, 0.2]
@test schedule_fill(Schedule(:constant; lr = 2.0, warmup_steps = 2), 3) ≈ [1.0, 2, 2]
for kind in keys(Steepest.SCHEDULES)
    schedule = Schedule(kind; lr = 0.1, warmup_steps = 3)
    @test [schedule_at(schedule, 20, t) for t in 1:20] == schedule_fill(schedule, 20)
end
wsd = Schedule(:warmup_stable_decay; lr = 1.0, decay_steps = 4, decay_shape = :one_minus_sqrt)
@test schedule_at(wsd, 10, 8) ≈ 1 - sqrt(2 / 5)

# Figures of the theory, at D = G = 1.
lr, bound = schedule_optimal(100)
@test bound ≈ 0.20011 atol = 1e-5
@test schedule_bound(lr) ≈ bound rtol = 1e-12
@test schedule_bound(lr; grad_norm = ones(100)) ≈ bound rtol = 1e-12
@test schedule_optimal(10; grad_norm = fill(2.0, 10))[2] ≈ 2 * 0.57801 rtol = 1e-4
@test schedule_refine(ones(4); kind = :sgd, smoothing = 0) ≈ [1, 2 / 3, 1 / 3, 0]
@test_throws SteepestError schedule_fill(Schedule(), 0)
@test_throws SteepestError schedule_fill(Schedule(), -1)
@test_throws SteepestError schedule_at(Schedule(), 10, 11)
@test_throws SteepestError schedule_bound([1.0, 0.0])
@test_throws DimensionMismatch schedule_bound([1.0, 1.0]; grad_norm = [1.0])
@test_throws ArgumentError Schedule(:exponential)
