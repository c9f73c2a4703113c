# SPDX-License-Identifier: Apache-2.0

const Stats = Union{Nothing,Vector{StepStats}}

# The pointer to `count` initialised statistics, or null.
@inline statistics(::Nothing, count) = Ptr{StepStats}(C_NULL)
@inline function statistics(stats::Vector{StepStats}, count)
    length(stats) == count || resize!(stats, count)
    fill!(stats, StepStats())
    return pointer(stats)
end

"""
    adamw!(param, grad, exp_avg, exp_avg_sq; step, options...)

One AdamW step in place (Loshchilov & Hutter, arXiv 1711.05101). For each element:

    g  = grad_scale * grad
    m  = beta1 * m + (1 - beta1) * g            mh = m / (1 - beta1^step)
    v  = beta2 * v + (1 - beta2) * g^2          vh = v / (1 - beta2^step)
    u  = mh / (sqrt(vh) + eps)                  0 where the denominator is 0
    param = param - lr * (u + weight_decay * param)

m is `exp_avg` and v is `exp_avg_sq`, zeros before step 1.

The arrays have one size and no gaps between elements: `Array`s, views of whole columns,
reinterpreted and reshaped ones. Any mix of Float32, BF16 and Float16, computed in Float32; or all
Float64. `grad` is only read. No two may overlap. In the place of `param` there may be a
[`Master`](@ref), in that of `exp_avg` and `exp_avg_sq` a [`Q8State`](@ref).

# Options
* `step`: the number of this step, from 1. Required.
* `lr = 1e-3`, `beta1 = 0.9`, `beta2 = 0.999`, `eps = 1e-8`, `weight_decay = 1e-2`
* `grad_scale = 1.0`: unscaling and clipping as one factor; `grad` is not modified
* `maximize`: g = -grad_scale * grad. `coupled_l2`: g += weight_decay * param and no other decay.
  `cautious_decay`: decay only where u * param >= 0 (arXiv 2510.12402)
* `skip_nonfinite`: if a gradient has a NaN or infinity, nothing at all is updated
* `consistent`: the same bits on every instruction-set level
* `stochastic_rounding`, `seed = 0`: what is stored as BF16 or in 8 bits is rounded up or down by
  random bits, a function of seed, step, stream and the element's place; see [`Master`](@ref)
* `max_exp_avg_sq`: AMSGrad's largest v, of `exp_avg_sq`'s type, zeros before step 1
* `delta`: receives new - old; `param` itself is then only read
* `stats`: a `Vector{StepStats}`, which gets one for each array
* `context`: a [`Context`](@ref)

Returns `false` if `skip_nonfinite` skipped the step, else `true`. Nothing is allocated for `Array`s
in compiled code. A call may come from any thread.

Errors, before anything is written: `DimensionMismatch`, `ArgumentError`, [`SteepestError`](@ref).

    adamw!(list::AdamWList; step, options...)

The same for many arrays in one call, which costs one fork and join of threads: a thousand small
arrays cost little more than a large one. Each option but `stats` and `context` may then be a vector
with a value for each array: parameter groups, steps of their own. (That allocates, a little.)
"""
function adamw!(
    param::Parameter,
    grad::AbstractArray,
    exp_avg::State,
    exp_avg_sq::State;
    max_exp_avg_sq::Union{Nothing,AbstractArray} = nothing,
    delta::Union{Nothing,AbstractArray} = nothing,
    stats::Stats = nothing,
    context::MaybeContext = nothing,
    options...,
)
    GC.@preserve param grad exp_avg exp_avg_sq max_exp_avg_sq delta begin
        tensor = adamw_tensor(param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, delta)
        config = adamw_config(max_exp_avg_sq !== nothing, delta !== nothing; options...)
        return adamw_call(context, config, tensor, 1, stats)
    end
end

"""
    AdamWList(params, grads, exp_avgs, exp_avg_sqs; max_exp_avg_sqs = nothing, deltas = nothing)

The arrays of a model for [`adamw!`](@ref): collections of equally many arrays. It keeps them alive
and holds their addresses: make it once, unless an array is replaced or resized. Two arrays that
are the same (tied weights) are an error of the step.
"""
struct AdamWList
    tensors::Vector{AdamWTensor}
    arrays::Vector{Any}
    amsgrad::Bool
    emits::Bool

    function AdamWList(params, grads, exp_avgs, exp_avg_sqs; max_exp_avg_sqs = nothing,
        deltas = nothing)
        count = length(params)
        per(name, arrays) =
            arrays === nothing ? fill(nothing, count) :
            length(arrays) == count ? arrays : wrong_length(name, length(arrays), count)
        columns = (params, per("grads", grads), per("exp_avgs", exp_avgs),
            per("exp_avg_sqs", exp_avg_sqs), per("max_exp_avg_sqs", max_exp_avg_sqs),
            per("deltas", deltas))
        tensors = AdamWTensor[adamw_tensor(arrays...) for arrays in zip(columns...)]
        return new(tensors, Any[array for column in columns for array in column],
            max_exp_avg_sqs !== nothing, deltas !== nothing)
    end
end

Base.length(list::AdamWList) = length(list.tensors)
Base.isempty(list::AdamWList) = isempty(list.tensors)

function adamw!(list::AdamWList; stats::Stats = nothing, context::MaybeContext = nothing,
    options...)
    listed(values(options)) && return adamw_each(list, stats, context, values(options))
    config = adamw_config(list.amsgrad, list.emits; options...)
    return GC.@preserve list adamw_call(context, config, list.tensors, length(list), stats)
end

# With a config for each array.
@noinline function adamw_each(list, stats, context, options)
    isempty(list) && return true
    skipped = Ref{Int32}(0)
    GC.@preserve list skipped begin
        place = Base.unsafe_convert(Ptr{Int32}, skipped)
        configs = [adamw_config(list.amsgrad, list.emits, place; each...)
                   for each in one_by_one(options, length(list))]
        tensors = with_configs(list.tensors, configs)
        GC.@preserve configs adamw_ccall(context, configs, tensors, length(list), stats)
    end
    return skipped[] == 0
end

@inline function adamw_tensor(param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, delta)
    shape = size(array(param))
    low, copy = residual(param), param_copy(param)
    if max_exp_avg_sq !== nothing && eltype(max_exp_avg_sq) !== eltype(array(exp_avg_sq))
        throw(ArgumentError("max_exp_avg_sq must have the element type of exp_avg_sq"))
    end
    return AdamWTensor(
        sizeof(AdamWTensor),
        length(array(param)),
        address("param", array(param), shape),
        address("grad", grad, shape),
        address("exp_avg", array(exp_avg), shape),
        address("exp_avg_sq", array(exp_avg_sq), shape),
        dtype(eltype(array(param))),
        dtype(eltype(grad)),
        state_dtype(exp_avg),
        state_dtype(exp_avg_sq),
        C_NULL,
        max_exp_avg_sq === nothing ? C_NULL : address("max_exp_avg_sq", max_exp_avg_sq, shape),
        delta === nothing ? C_NULL : address("delta", delta, shape),
        # An unused one has the type that goes with the others.
        delta === nothing ? dtype(eltype(array(param))) : dtype(eltype(delta)),
        0,
        low === nothing ? C_NULL : address("residual", low, shape),
        copy === nothing ? C_NULL : address("copy", copy, shape),
        scales(exp_avg),
        scales(exp_avg_sq),
        residual_kind(low),
        copy_dtype(copy),
        stream(param),
        first_index(param),
    )
end

@inline function adamw_config(
    amsgrad::Bool,
    emits::Bool,
    skipped::Ptr{Int32} = Ptr{Int32}(C_NULL);
    step::Integer,
    lr::Real = 1e-3,
    beta1::Real = 0.9,
    beta2::Real = 0.999,
    eps::Real = 1e-8,
    weight_decay::Real = 1e-2,
    grad_scale::Real = 1.0,
    maximize::Bool = false,
    coupled_l2::Bool = false,
    cautious_decay::Bool = false,
    skip_nonfinite::Bool = false,
    consistent::Bool = false,
    stochastic_rounding::Bool = false,
    seed::Integer = 0,
)
    flags = bit(amsgrad, 0) | bit(maximize, 1) | bit(coupled_l2, 2) | bit(cautious_decay, 3) |
            bit(skip_nonfinite, 4) | bit(emits, 5) | bit(stochastic_rounding, 6) |
            bit(consistent, 32)
    return AdamWConfig(sizeof(AdamWConfig), flags, lr, beta1, beta2, eps, weight_decay, grad_scale,
        step, seed % UInt64, skipped)
end

# The struct with one field changed.
function with(x::T, field::Symbol, value) where {T}
    return T((name === field ? value : getfield(x, name) for name in fieldnames(T))...)
end

# Whether an option has a value for each array of a list.
@inline listed(options::NamedTuple) = listed(Tuple(options))
@inline listed(::Tuple{}) = false
@inline listed(options::Tuple) = first(options) isa AbstractVector || listed(Base.tail(options))

# The options of each of `count` arrays.
function one_by_one(options::NamedTuple, count)
    for (name, value) in pairs(options)
        value isa AbstractVector && length(value) != count &&
            throw(DimensionMismatch("$name has $(length(value)) values, must be $count"))
    end
    return [map(value -> value isa AbstractVector ? value[i] : value, options) for i in 1:count]
end

# The tensors with the addresses of their configs, which the caller keeps alive.
function with_configs(tensors, configs)
    return [with(tensor, :config, Address(pointer(configs, i)))
            for (i, tensor) in enumerate(tensors)]
end

const ADAMW_SKIP_NONFINITE = UInt64(1) << 4

# The call, on one tensor or a vector of them: whether it was made.
@inline function adamw_call(context, config::AdamWConfig, tensors, count, stats)
    config.flags & ADAMW_SKIP_NONFINITE == 0 ||
        return adamw_call_or_skip(context, config, tensors, count, stats)
    adamw_ccall(context, config, tensors, count, stats)
    return true
end

@inline function adamw_ccall(context, config, tensors, count, stats)
    GC.@preserve context stats check(
        ccall(loaded(adamw_step_), Int32,
            (Address, Ref{AdamWConfig}, Ref{AdamWTensor}, Int64, Ptr{StepStats}),
            handle(context), config, tensors, count, statistics(stats, count)),
    )
end

@noinline function adamw_call_or_skip(context, c::AdamWConfig, tensors, count, stats)
    skipped = Ref{Int32}(0)
    GC.@preserve skipped begin
        config = with(c, :skipped, Base.unsafe_convert(Ptr{Int32}, skipped))
        adamw_ccall(context, config, tensors, count, stats)
    end
    return skipped[] == 0
end
