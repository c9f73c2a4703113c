# SPDX-License-Identifier: Apache-2.0

"""
    Steepest.AdamW(; eta = 1e-3, beta = (0.9, 0.999), lambda = 1e-2, epsilon = 1e-8,
                   context = nothing)

A rule for Optimisers.jl: `Optimisers.setup(Steepest.AdamW(eta = 3e-4), model)`. Options by the
names that Optimisers.jl uses, so that `Optimisers.adjust!(state, eta = ...)` works. Parameters of
any type that [`adamw!`](@ref) takes; moments are Float32 (Float64 for Float64). The decay is
decoupled and multiplied by eta.

On Julia 1.9 and later it is there once Optimisers.jl is loaded; before that, call
[`Steepest.define_rules`](@ref) once.
"""
function AdamW end

"""
    Steepest.Muon(; eta = 1e-3, mu = 0.95, lambda = 1e-2, fallback = Steepest.AdamW(...),
                  options...)

A rule for Optimisers.jl that takes Muon steps on matrices and `fallback` on all else, by default
`Steepest.AdamW` with the same eta and lambda. Embeddings and the output head are matrices
too but belong to AdamW: give them that rule with `Optimisers.setup` on their part of the model.
Weights are as in y = W * x. `options` are those of [`muon!`](@ref): `scale_mode`, `scale_value`,
`nesterov`, `momentum_kind`, `msign`, `context`. See [`Steepest.AdamW`](@ref).
"""
function Muon end

"""
    Steepest.define_rules(Optimisers)

For Julia before 1.9, which has no package extensions: makes the methods of `Steepest.AdamW` and
`Steepest.Muon` for that module, at top level and once.

    using Optimisers, Steepest
    Steepest.define_rules(Optimisers)
"""
function define_rules(optimisers::Module)
    rules = Module(:SteepestRules)
    Core.eval(rules, :(const Optimisers = $optimisers))
    Core.eval(rules, :(const Steepest = $(@__MODULE__)))
    Base.include(rules, joinpath(@__DIR__, "..", "ext", "rules.jl"))
    return rules
end
