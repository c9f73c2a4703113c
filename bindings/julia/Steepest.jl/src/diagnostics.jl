# SPDX-License-Identifier: Apache-2.0

const Arrays = Union{AbstractArray,Tuple}

@inline view_of(a) = VectorView(sizeof(VectorView), length(a), address("array", a, size(a)),
    dtype(eltype(a)), 0)

# (one view or a vector of them, their number)
@inline views(array::AbstractArray{<:Number}) = view_of(array), 1
views(arrays) = VectorView[view_of(array) for array in arrays], length(arrays)

"""
    grad_norm(grads; context = nothing) -> (norm, nonfinite)

The Euclidean norm of all elements of an array, or of a vector or tuple of arrays, together, summed
in Float64 without overflow; and how many are NaN or infinite (the norm is then NaN or infinite).
To clip: `grad_scale = min(1, max_norm / norm)`, passed to the step.
"""
grad_norm(grads::Arrays; context::MaybeContext = nothing) = reduction(grad_norm_, grads, context)

"""
    rms(arrays; context = nothing)

sqrt(mean(x²)) over all elements of an array, or of a vector or tuple of arrays, together.
"""
rms(arrays::Arrays; context::MaybeContext = nothing) = first(reduction(rms_, arrays, context))

@inline function reduction(f, arrays, context)
    value, nonfinite = Ref(0.0), Ref(Int64(0))
    GC.@preserve arrays context begin
        vectors, count = views(arrays)
        check(ccall(loaded(f), Int32,
            (Address, Ref{VectorView}, Int64, Ref{Float64}, Ref{Int64}),
            handle(context), vectors, count, value, nonfinite))
    end
    return value[], nonfinite[]
end

"""
    adam_update_rms(; beta1 = 0.9, snr = 0.0, step = 0)

The update RMS of Adam that mean-field theory predicts (https://kexue.fm/archives/11267), at a step
or (0) in the steady state: sqrt((snr + a) / (snr + 1)), where
a = (1 - beta1)(1 + beta1^t) / ((1 + beta1)(1 - beta1^t)). 0.2294 by default.
"""
function adam_update_rms(; beta1::Real = 0.9, snr::Real = 0.0, step::Integer = 0)
    out = Ref(0.0)
    check(ccall(loaded(adam_update_rms_), Int32, (Float64, Float64, Int64, Ref{Float64}),
        beta1, snr, step, out))
    return out[]
end

"""
    adam_update_rms_second_order(; beta1 = 0.9, beta2 = 0.999, snr = 0.0, kurtosis = 3.0, step = 0)

The same to second order in 1 - beta2; steepest.h has the formula.
"""
function adam_update_rms_second_order(; beta1::Real = 0.9, beta2::Real = 0.999, snr::Real = 0.0,
    kurtosis::Real = 3.0, step::Integer = 0)
    out = Ref(0.0)
    check(ccall(loaded(adam_update_rms_second_order_), Int32,
        (Float64, Float64, Float64, Float64, Int64, Ref{Float64}),
        beta1, beta2, snr, kurtosis, step, out))
    return out[]
end

"""
    snr_from_update_rms(update_rms; beta1 = 0.9, step = 0)

The gradient's signal-to-noise ratio |mean|² / |deviation|² from Adam's update RMS:
(rms² - a) / (1 - rms²), a as in [`adam_update_rms`](@ref). May be slightly negative near zero; NaN
at step 1.
"""
function snr_from_update_rms(update_rms::Real; beta1::Real = 0.9, step::Integer = 0)
    out = Ref(0.0)
    check(ccall(loaded(snr_from_update_rms_), Int32, (Float64, Float64, Int64, Ref{Float64}),
        update_rms, beta1, step, out))
    return out[]
end

"""
    snr_from_momentum(momentum_rms, grad_rms; beta = 0.9, step = 0)

The same from the RMS of the gradient and of its bias-corrected exponential average, for Muon as
well: (q - a) / (1 - q), q = (momentum_rms / grad_rms)².
"""
function snr_from_momentum(momentum_rms::Real, grad_rms::Real; beta::Real = 0.9,
    step::Integer = 0)
    out = Ref(0.0)
    check(ccall(loaded(snr_from_momentum_), Int32,
        (Float64, Float64, Float64, Int64, Ref{Float64}), momentum_rms, grad_rms, beta, step, out))
    return out[]
end

"""
    singular_values(x; context = nothing)

All singular values of a matrix, falling, in Float64 (LAPACK's gesdd).
"""
function singular_values(x::AbstractMatrix; context::MaybeContext = nothing)
    values = zeros(minimum(size(x)))
    data, ld = columns("x", x, size(x))
    GC.@preserve x context check(ccall(loaded(singular_values_), Int32,
        (Address, Int64, Int64, Int32, Address, Int64, Ptr{Float64}),
        handle(context), size(x, 2), size(x, 1), dtype(eltype(x)), data, ld, values))
    return values
end

"""
    spectral_norm(x; context = nothing)

The largest singular value, by the same decomposition.
"""
function spectral_norm(x::AbstractMatrix; context::MaybeContext = nothing)
    norm = Ref(0.0)
    data, ld = columns("x", x, size(x))
    GC.@preserve x context check(ccall(loaded(spectral_norm_), Int32,
        (Address, Int64, Int64, Int32, Address, Int64, Ref{Float64}),
        handle(context), size(x, 2), size(x, 1), dtype(eltype(x)), data, ld, norm))
    return norm[]
end

"""
    spectral_norm_bounds(x; tolerance = 0.01, context = nothing) -> (lower, upper)

Proven bounds of it, many times as fast: lower <= |x|₂ <= upper <= (1 + tolerance) lower.
"""
function spectral_norm_bounds(x::AbstractMatrix; tolerance::Real = 0.01,
    context::MaybeContext = nothing)
    lower, upper = Ref(0.0), Ref(0.0)
    data, ld = columns("x", x, size(x))
    GC.@preserve x context check(ccall(loaded(spectral_norm_bounds_), Int32,
        (Address, Int64, Int64, Int32, Address, Int64, Float64, Ref{Float64}, Ref{Float64}),
        handle(context), size(x, 2), size(x, 1), dtype(eltype(x)), data, ld, tolerance, lower,
        upper))
    return lower[], upper[]
end

"""
    singular_entropy(values)

-(1 / log n) Σ pᵢ log pᵢ with pᵢ = sᵢ² / Σ s², for n singular values: 1 if all are equal, 0 if only
one is not zero.
"""
function singular_entropy(values::AbstractVector{<:Real})
    doubles = Vector{Float64}(values)
    entropy = Ref(0.0)
    check(ccall(loaded(singular_entropy_), Int32, (Ptr{Float64}, Int64, Ref{Float64}),
        doubles, length(doubles), entropy))
    return entropy[]
end
