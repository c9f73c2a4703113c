# SPDX-License-Identifier: Apache-2.0
# Rules against the two functions of Optimisers.jl's interface, init(rule, x) and
# apply!(rule, state, x, dx) -> (state, dx'), after which Optimisers.jl itself subtracts dx' from x.
# Included into a module that has Optimisers and Steepest.

struct AdamWRule{C} <: Optimisers.AbstractRule
    eta::Float64
    beta::Tuple{Float64,Float64}
    lambda::Float64
    epsilon::Float64
    context::C
end

function Steepest.AdamW(; eta = 1e-3, beta = (0.9, 0.999), lambda = 1e-2, epsilon = 1e-8,
    context = nothing)
    return AdamWRule(Float64(eta), Float64.(beta), Float64(lambda), Float64(epsilon), context)
end

state_type(::Type{Float64}) = Float64
state_type(::Type) = Float32

zeros_like(x) = fill!(similar(x, state_type(eltype(x))), 0)

function Optimisers.init(::AdamWRule, x::AbstractArray)
    return (exp_avg = zeros_like(x), exp_avg_sq = zeros_like(x), step = 0)
end

# The gradient as an array of x's size; Optimisers.jl may hand over lazy ones.
gradient(x, dx::DenseArray) = dx
gradient(x, dx) = copyto!(similar(x), dx)

# new - old with the sign that Optimisers.jl wants.
subtrahend(delta) = delta .= .-delta

function Optimisers.apply!(rule::AdamWRule, state, x::AbstractArray, dx)
    step = state.step + 1
    delta = similar(x, state_type(eltype(x)))
    Steepest.adamw!(x, gradient(x, dx), state.exp_avg, state.exp_avg_sq; delta = delta, step = step,
        lr = rule.eta, beta1 = rule.beta[1], beta2 = rule.beta[2], eps = rule.epsilon,
        weight_decay = rule.lambda, context = rule.context)
    return (exp_avg = state.exp_avg, exp_avg_sq = state.exp_avg_sq, step = step), subtrahend(delta)
end

struct MuonRule{O<:NamedTuple,F} <: Optimisers.AbstractRule
    eta::Float64
    mu::Float64
    lambda::Float64
    options::O
    fallback::F
end

function Steepest.Muon(; eta = 1e-3, mu = 0.95, lambda = 1e-2,
    fallback = Steepest.AdamW(; eta = eta, lambda = lambda), options...)
    return MuonRule(Float64(eta), Float64(mu), Float64(lambda), (; options...), fallback)
end

Optimisers.init(rule::MuonRule, x::AbstractArray) = Optimisers.init(rule.fallback, x)
Optimisers.init(::MuonRule, x::AbstractMatrix) = (momentum = zeros_like(x), step = 0)

function Optimisers.apply!(rule::MuonRule, state, x::AbstractArray, dx)
    return Optimisers.apply!(rule.fallback, state, x, dx)
end

function Optimisers.apply!(rule::MuonRule, state, x::AbstractMatrix, dx)
    step = state.step + 1
    delta = similar(x, state_type(eltype(x)))
    Steepest.muon!(x, gradient(x, dx), state.momentum; delta = delta, step = step, lr = rule.eta,
        mu = rule.mu, weight_decay = rule.lambda, rule.options...)
    return (momentum = state.momentum, step = step), subtrahend(delta)
end

# adjust!(state, eta = ...) reaches the fallback's rate too.
if isdefined(Optimisers, :adjust)
    function Optimisers.adjust(rule::MuonRule, eta::Real)
        return MuonRule(Float64(eta), rule.mu, rule.lambda, rule.options,
            Optimisers.adjust(rule.fallback, eta))
    end
end
