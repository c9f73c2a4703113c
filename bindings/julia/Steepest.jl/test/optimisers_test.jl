# SPDX-License-Identifier: Apache-2.0
# The rules against Optimisers.jl itself where it is installed, else against the same interface:
# what its update! does with init and apply!.
module StandIn

abstract type AbstractRule end
function init end
function apply! end
function adjust end
function adjust(rule::T, eta::Real) where {T<:AbstractRule}
    return T((name === :eta ? T.types[i](eta) : getfield(rule, name) for
              (i, name) in enumerate(fieldnames(T)))...)
end

end

installed = Base.find_package("Optimisers") !== nothing
installed || skip("the real Optimisers.jl is not installed; its interface's stand-in is used")
if installed
    @eval import Optimisers
    const Framework = Optimisers
    isdefined(Base, :get_extension) || Steepest.define_rules(Optimisers)
else
    const Framework = StandIn
    Steepest.define_rules(StandIn)
end

update(rule, state, x, dx) = begin
    state, change = Framework.apply!(rule, state, x, dx)
    x .-= change
    state
end

Random.seed!(6)
rule = Steepest.AdamW(eta = 0.01, lambda = 0.1)
x = randn(Float32, 5, 3)
y, m, v = copy(x), zero(x), zero(x)
state = Framework.init(rule, x)
for step in 1:3
    local g = randn(Float32, 5, 3)
    lazy = step == 2 ? view(vcat(g, g), 1:5, :) : g
    global state = update(rule, state, x, lazy)
    adamw!(y, g, m, v; step = step, lr = 0.01, weight_decay = 0.1)
    @test difference(x, y) < 1e-6
    @test state.exp_avg == m && state.step == step
end

rule = Steepest.Muon(eta = 0.02, lambda = 0.0, scale_mode = :sqrt_max, nesterov = false)
w = randn(4, 6)
state = Framework.init(rule, w)
y, m = copy(w), zero(w)
g = randn(4, 6)
state = update(rule, state, w, g)
muon!(y, g, m; lr = 0.02, weight_decay = 0, scale_mode = :sqrt_max, nesterov = false)
@test difference(w, y) < 1e-14 && state.momentum == m

# A vector gets AdamW, whose rate is adjusted with Muon's.
b = randn(6)
state = Framework.init(rule, b)
rule = Framework.adjust(rule, 0.5)
@test rule.eta == 0.5 && rule.fallback.eta == 0.5
before = copy(b)
update(rule, state, b, ones(6))
@test b ≈ before .- 0.5

# Narrow parameters keep wide moments.
h = BF16.(ones(3))
state = Framework.init(Steepest.AdamW(), h)
@test eltype(state.exp_avg) === Float32
state, change = Framework.apply!(Steepest.AdamW(eta = 0.25, lambda = 0.0), state, h, BF16.(ones(3)))
@test change ≈ fill(0.25f0, 3)
