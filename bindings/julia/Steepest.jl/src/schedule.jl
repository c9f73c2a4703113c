# SPDX-License-Identifier: Apache-2.0

const SCHEDULES = (constant = 0, linear = 1, cosine = 2, inverse_sqrt = 3, inverse = 4,
    warmup_stable_decay = 5)
const DECAYS = (linear = 0, cosine = 1, one_minus_sqrt = 2)
const REFINEMENTS = (sgd = 0, adam = 1)

"""
    Schedule(kind = :linear; lr = 1e-3, warmup_steps = 0, final_ratio = 0.0, decay_steps = 0,
             decay_shape = :linear)

A learning-rate schedule with the peak `lr`: `:constant`, `:linear`, `:cosine`, `:inverse_sqrt`,
`:inverse`, `:warmup_stable_decay`, each after a linear warm-up. `final_ratio`: of lr, where the
decay ends, one step after the last. `decay_steps` and `decay_shape` (`:linear`, `:cosine`,
`:one_minus_sqrt`) belong to `:warmup_stable_decay`; 0 is a fifth of the steps. steepest.h has the
formulas.
"""
struct Schedule # steepest_schedule
    struct_size::Csize_t
    kind::Int32
    decay_shape::Int32
    lr::Float64
    final_ratio::Float64
    warmup_steps::Int64
    decay_steps::Int64
end

function Schedule(kind::Symbol = :linear; lr::Real = 1e-3, warmup_steps::Integer = 0,
    final_ratio::Real = 0.0, decay_steps::Integer = 0, decay_shape::Symbol = :linear)
    return Schedule(sizeof(Schedule), code(SCHEDULES, kind, "kind"),
        code(DECAYS, decay_shape, "decay_shape"), lr, final_ratio, warmup_steps, decay_steps)
end

"""
    schedule_fill(schedule, total_steps)

The rates of steps 1 to `total_steps`.
"""
function schedule_fill(schedule::Schedule, total_steps::Integer)
    lr = rates(total_steps)
    check(ccall(loaded(schedule_fill_), Int32, (Ref{Schedule}, Int64, Ptr{Float64}),
        schedule, total_steps, lr))
    return lr
end

# What is refused by the library needs no memory.
rates(count) = zeros(clamp(count, 0, 2^40))

"""
    schedule_at(schedule, total_steps, step)

The rate of one step, from 1; the same bits.
"""
function schedule_at(schedule::Schedule, total_steps::Integer, step::Integer)
    lr = Ref(0.0)
    check(ccall(loaded(schedule_at_), Int32, (Ref{Schedule}, Int64, Int64, Ref{Float64}),
        schedule, total_steps, step, lr))
    return lr[]
end

const Norms = Union{Real,AbstractVector{<:Real}}

# (grad_norm, grad_norms) as the library takes them; an empty vector is a null pointer.
norms(norm::Real, count) = (Float64(norm), Float64[])
function norms(norms::AbstractVector, count)
    length(norms) == count ||
        throw(DimensionMismatch("grad_norm has $(length(norms)) values, must be $count"))
    return 0.0, Vector{Float64}(norms)
end
pointer_or_null(values) = isempty(values) ? Ptr{Float64}(C_NULL) : pointer(values)

"""
    schedule_bound(lr; distance = 1.0, grad_norm = 1.0)

What a schedule, any vector of rates, guarantees for SGD on a convex loss: a bound of
E L(θ_T) - L(θ*) (https://kexue.fm/archives/11494, arXiv 2310.07831), for a start at most `distance`
from θ* and gradients of at most `grad_norm`, one number or one for each step. The last rate must be
positive: for N updates give N + 1 rates.
"""
function schedule_bound(lr::AbstractVector{<:Real}; distance::Real = 1.0, grad_norm::Norms = 1.0)
    given = Vector{Float64}(lr)
    norm, all_norms = norms(grad_norm, length(given))
    bound = Ref(0.0)
    GC.@preserve all_norms check(ccall(loaded(schedule_bound_), Int32,
        (Ptr{Float64}, Int64, Float64, Float64, Ptr{Float64}, Ref{Float64}),
        given, length(given), distance, norm, pointer_or_null(all_norms), bound))
    return bound[]
end

"""
    schedule_optimal(total_steps; distance = 1.0, grad_norm = 1.0) -> (lr, bound)

The schedule with the least bound, and that bound.
"""
function schedule_optimal(total_steps::Integer; distance::Real = 1.0, grad_norm::Norms = 1.0)
    norm, all_norms = norms(grad_norm, total_steps)
    lr = rates(total_steps)
    bound = Ref(0.0)
    GC.@preserve all_norms check(ccall(loaded(schedule_optimal_), Int32,
        (Int64, Float64, Float64, Ptr{Float64}, Ptr{Float64}, Ref{Float64}),
        total_steps, distance, norm, pointer_or_null(all_norms), lr, bound))
    return lr, bound[]
end

"""
    schedule_refine(grad_norms; kind = :adam, smoothing = 0.1, distance = 0.0)

A schedule for the next run from the gradient norms of one that was made (arXiv 2310.07831).
`kind`: `:sgd` from Euclidean norms, `:adam` from sums of absolute values. The largest rate is 1, or
absolute for `distance` > 0 with `:sgd`.
"""
function schedule_refine(grad_norms::AbstractVector{<:Real}; kind::Symbol = :adam,
    smoothing::Real = 0.1, distance::Real = 0.0)
    given = Vector{Float64}(grad_norms)
    lr = rates(length(given))
    check(ccall(loaded(schedule_refine_), Int32,
        (Ptr{Float64}, Int64, Int32, Float64, Float64, Ptr{Float64}),
        given, length(given), code(REFINEMENTS, kind, "kind"), smoothing, distance, lr))
    return lr
end
