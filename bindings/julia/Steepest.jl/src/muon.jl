# SPDX-License-Identifier: Apache-2.0

const MOMENTA = (ema = 0, classic = 1)
const SCALES = (match_rms = 0, exact_rms = 1, none = 2, sqrt_max1_out_in = 3, sqrt_out_in = 4,
    sqrt_max = 5)
# The scales that do not change when out and in are exchanged.
const SYMMETRIC_SCALES = (0, 1, 2, 5)

"""
    muon!(param, grad, momentum; options...)

One Muon step in place (Keller Jordan, https://kellerjordan.github.io/posts/muon) on the weights of
a hidden layer. Embeddings, the output head, norms and biases belong to [`adamw!`](@ref); with the
default scale both take the same lr and weight decay.

    g = grad_scale * grad
    m = mu m + (1 - mu) g                        :ema; :classic: mu m + g
    u = mu m + (1 - mu) g, or m                  with nesterov, or without; :classic: mu m + g
    O = msign(u)                                 per block, where there are blocks
    param = param - lr * (s O + weight_decay * param)

m is `momentum`, zeros before step 1. The matrices have one size; the elements of a column lie side
by side, and columns may be further apart, so views of rows work. Any mix of Float32, BF16 and
Float16; or all Float64. `grad` is only read. No two may overlap. In the place of `param` there may
be a [`Master`](@ref), whose residual's columns are as far apart as the parameter's; in that of
`momentum` a [`Q8State`](@ref).

# Options
* `lr = 1e-3`, `mu = 0.95`, `weight_decay = 1e-2`, `grad_scale = 1.0`, `step = 1` (for the
  statistics and `stochastic_rounding`)
* `nesterov = true`; `momentum_kind = :ema` (as torch) or `:classic`
* `scale_mode = :match_rms`, `scale_value = 0.2`: see [`scale_factor`](@ref); also `:exact_rms`
* `fan_out`, `fan_in`: of the layer. By default rows and columns of `param`, as in y = W * x
  (Flux, Lux). Exchange them for weights used as in y = x * W. A convolution's are those of its
  matrix: `muon!` on `reshape(w, :, size(w, 4))`, with `fan_out = size(w, 4)` and
  `fan_in = length(w) ÷ size(w, 4)`.
* `blocks`: sizes of blocks along `dims` (1: blocks of rows; 2: of columns), whose sum is the size.
  Each is a matrix of its own: fused query-key-value, heads, gate-up. Blocks of rows and y = W * x
  are the usual case.
* `cautious_decay`, `maximize`, `skip_nonfinite`, `consistent`, `stochastic_rounding`, `seed`,
  `delta`, `stats`, `context`: as in [`adamw!`](@ref)
* `msign`: a [`MsignConfig`](@ref)
* `workspace`: scratch memory of your own, a `Vector{UInt8}` of as many bytes as
  [`muon_workspace_size`](@ref) says; by default the context's

Returns `false` if `skip_nonfinite` skipped the step, else `true`. Errors as [`adamw!`](@ref) and
[`msign!`](@ref): a matrix that is not finite is left untouched, the others are done, and the error
has status -5.

    muon!(list::MuonList; options...)

The same for many matrices in one call. Each option but `msign`, `workspace`, `stats` and `context`
may then be a vector with a value for each matrix: parameter groups.
"""
function muon!(
    param::Parameter{2},
    grad::AbstractMatrix,
    momentum::State{2};
    delta::Union{Nothing,AbstractMatrix} = nothing,
    blocks::Union{Nothing,AbstractVector{<:Integer}} = nothing,
    dims::Integer = 1,
    fan_out::Integer = 0,
    fan_in::Integer = 0,
    stats::Stats = nothing,
    workspace::Memory = nothing,
    context::MaybeContext = nothing,
    options...,
)
    sizes = blocks === nothing ? nothing : Vector{Int64}(blocks)
    GC.@preserve param grad momentum delta sizes begin
        tensor = muon_tensor(param, grad, momentum, delta, sizes, dims, fan_out, fan_in)
        return muon_call(context, tensor, 1, delta !== nothing, !even(tensor, sizes), stats,
            workspace; options...)
    end
end

"""
    MuonList(params, grads, momenta; deltas = nothing, blocks = nothing, dims = 1,
             fan_out = 0, fan_in = 0)

The matrices of a model for [`muon!`](@ref), as [`AdamWList`](@ref). `blocks`, `dims`, `fan_out`
and `fan_in` are one for all, or a vector with one for each (`blocks`: a vector of vectors, or of
`nothing` where a matrix has none).
"""
struct MuonList
    tensors::Vector{MuonTensor}
    arrays::Vector{Any}
    emits::Bool
    uneven::Bool

    function MuonList(params, grads, momenta; deltas = nothing, blocks = nothing, dims = 1,
        fan_out = 0, fan_in = 0)
        count = length(params)
        per(name, values::Union{AbstractVector,Tuple}) =
            length(values) == count ? values : wrong_length(name, length(values), count)
        per(name, value) = fill(value, count)
        all_blocks = blocks isa AbstractVector{<:Integer} ? fill(blocks, count) : blocks
        sizes = [b === nothing ? nothing : Vector{Int64}(b) for b in per("blocks", all_blocks)]
        columns = (params, per("grads", grads), per("momenta", momenta), per("deltas", deltas),
            sizes, per("dims", dims), per("fan_out", fan_out), per("fan_in", fan_in))
        tensors = MuonTensor[muon_tensor(values...) for values in zip(columns...)]
        return new(tensors, Any[array for column in columns for array in column],
            deltas !== nothing, any(!even(t, s) for (t, s) in zip(tensors, sizes)))
    end
end

Base.length(list::MuonList) = length(list.tensors)

Base.isempty(list::MuonList) = isempty(list.tensors)

function muon!(list::MuonList; stats::Stats = nothing, workspace::Memory = nothing,
    context::MaybeContext = nothing, options...)
    listed(values(options)) &&
        return muon_call_each(list, stats, workspace, context; options...)
    GC.@preserve list muon_call(context, list.tensors, length(list), list.emits, list.uneven,
        stats, workspace; options...)
end

# A config for each matrix, and the tensors with their addresses.
function muon_each(list, msign, skipped, options::NamedTuple)
    configs = [muon_config(list.emits, list.uneven, msign, skipped; each...)
               for each in one_by_one(options, length(list))]
    return configs, with_configs(list.tensors, configs)
end

@noinline function muon_call_each(list, stats, workspace, context;
    msign::MaybeMsign = nothing, opts...)
    isempty(list) && return true
    skipped = Ref{Int32}(0)
    GC.@preserve list msign skipped begin
        place = Base.unsafe_convert(Ptr{Int32}, skipped)
        configs, tensors = muon_each(list, msign, place, values(opts))
        GC.@preserve configs muon_ccall(context, configs, tensors, length(list), stats, workspace)
    end
    return skipped[] == 0
end

# A row of the library's is a column here: rows and columns change places, blocks of rows are its
# blocks of columns, and what it takes fan_out and fan_in from by default is the wrong way round.
@inline function muon_tensor(param, grad, momentum, delta, blocks, dims, fan_out, fan_in)
    m, n = shape = size(array(param))
    dims == 1 || dims == 2 || throw(ArgumentError("dims is $dims, must be 1 or 2"))
    (fan_out == 0) == (fan_in == 0) || throw(ArgumentError("give both fan_out and fan_in"))
    if fan_out == 0 && (blocks === nothing || allequal(blocks))
        block = blocks === nothing || isempty(blocks) ? size(array(param), dims) : first(blocks)
        fan_out, fan_in = dims == 1 ? (block, n) : (m, block)
    end
    param_data, param_ld = columns("param", array(param), shape)
    grad_data, grad_ld = columns("grad", grad, shape)
    momentum_data, momentum_ld = momentum_columns(momentum, shape)
    low, copy = residual(param), param_copy(param)
    low_data, low_ld = low === nothing ? (C_NULL, param_ld) : columns("residual", low, shape)
    low_ld == param_ld || throw(ArgumentError("residual: its columns must be as far apart as" *
                                              " the parameter's"))
    copy_data, copy_ld = copy === nothing ? (C_NULL, 0) : columns("copy", copy, shape)
    delta_data, delta_ld = delta === nothing ? (C_NULL, 0) : columns("delta", delta, shape)
    return MuonTensor(
        sizeof(MuonTensor), n, m, param_ld, grad_ld, momentum_ld, delta_ld, fan_out, fan_in,
        param_data, grad_data, momentum_data, delta_data,
        dtype(eltype(array(param))), dtype(eltype(grad)), state_dtype(momentum),
        dtype(eltype(delta === nothing ? array(param) : delta)),
        blocks === nothing ? C_NULL : pointer(blocks), blocks === nothing ? 0 : length(blocks),
        2 - dims, 0, C_NULL,
        low_data, copy_data, scales(momentum), copy_ld, residual_kind(low), copy_dtype(copy),
        stream(param), first_index(param),
    )
end

@inline momentum_columns(momentum::AbstractMatrix, shape) = columns("momentum", momentum, shape)
@inline momentum_columns(momentum::Q8State, shape) =
    (address("momentum", momentum.codes, shape), 0)

allequal(values) = all(==(first(values)), values)

# Whether the library knows this tensor's fan_out and fan_in the right way round.
@inline even(tensor::MuonTensor, ::Nothing) = true
even(tensor::MuonTensor, blocks) = tensor.fan_out != 0 || isempty(blocks)

@inline function muon_config(
    emits::Bool,
    uneven::Bool,
    msign::MaybeMsign,
    skipped::Ptr{Int32};
    lr::Real = 1e-3,
    mu::Real = 0.95,
    weight_decay::Real = 1e-2,
    scale_value::Real = 0.2,
    grad_scale::Real = 1.0,
    step::Integer = 1,
    nesterov::Bool = true,
    momentum_kind::Symbol = :ema,
    scale_mode::Symbol = :match_rms,
    cautious_decay::Bool = false,
    maximize::Bool = false,
    skip_nonfinite::Bool = false,
    consistent::Bool = false,
    stochastic_rounding::Bool = false,
    seed::Integer = 0,
)
    flags = bit(nesterov, 0) | bit(cautious_decay, 1) | bit(skip_nonfinite, 2) | bit(emits, 3) |
            bit(maximize, 4) | bit(stochastic_rounding, 5) | bit(consistent, 32)
    scale = code(SCALES, scale_mode, "scale_mode")
    uneven && !(scale in SYMMETRIC_SCALES) && uneven_blocks(scale_mode)
    kind = code(MOMENTA, momentum_kind, "momentum_kind")
    return MuonConfig(sizeof(MuonConfig), flags, lr, mu, weight_decay, scale_value, grad_scale,
        step, seed % UInt64, kind, scale, options(msign), skipped)
end

# The call, on one tensor or a vector of them: whether it was made.
@inline function muon_call(context, tensors, count, emits, uneven, stats, workspace;
    skip_nonfinite::Bool = false, msign::MaybeMsign = nothing, opts...)
    GC.@preserve msign begin
        if !skip_nonfinite
            config = muon_config(emits, uneven, msign, Ptr{Int32}(C_NULL); opts...)
            muon_ccall(context, config, tensors, count, stats, workspace)
            return true
        end
        skipped = Ref{Int32}(0)
        GC.@preserve skipped begin
            place = Base.unsafe_convert(Ptr{Int32}, skipped)
            config = muon_config(emits, uneven, msign, place; skip_nonfinite = true, opts...)
            muon_ccall(context, config, tensors, count, stats, workspace)
        end
        return skipped[] == 0
    end
end

@inline function muon_ccall(context, config, tensors, count, stats, workspace)
    GC.@preserve context stats workspace check(
        ccall(loaded(muon_step_), Int32,
            (Address, Ref{MuonConfig}, Ref{MuonTensor}, Int64, Ptr{WorkspaceView},
                Ptr{StepStats}),
            handle(context), config, tensors, count, workspace_of(workspace),
            statistics(stats, count)),
    )
end

"""
    muon_workspace_size(list::MuonList; options...)

The bytes of scratch memory that [`muon!`](@ref) needs for the list with the same options.
"""
function muon_workspace_size(list::MuonList; msign::MaybeMsign = nothing,
    context::MaybeContext = nothing, opts...)
    bytes, place = Ref{Csize_t}(0), Ptr{Int32}(C_NULL)
    isempty(list) && return 0
    GC.@preserve list msign context begin
        configs, tensors = listed(values(opts)) ? muon_each(list, msign, place, values(opts)) :
                           ([muon_config(list.emits, list.uneven, msign, place; opts...)],
            list.tensors)
        GC.@preserve configs check(ccall(loaded(muon_workspace_size_), Int32,
            (Address, Ref{MuonConfig}, Ref{MuonTensor}, Int64, Ref{Csize_t}),
            handle(context), configs, tensors, length(list), bytes))
    end
    return Int(bytes[])
end

@noinline function uneven_blocks(scale_mode)
    throw(ArgumentError("blocks of different sizes with scale_mode = :$scale_mode: give them as" *
                        " views of their own in a MuonList, or fan_out and fan_in"))
end

"""
    scale_factor(mode, fan_out, fan_in; value = 0.2)

The s of a Muon step, from the layer's outputs and inputs:

* `:match_rms`         value sqrt(max(out, in)): an update of RMS `value`; 0.2 is Adam's (arXiv
  2502.16982)
* `:none`              1
* `:sqrt_max1_out_in`  sqrt(max(1, out / in)): Keller Jordan
* `:sqrt_out_in`       sqrt(out / in): the spectral condition, μP
* `:sqrt_max`          sqrt(max(out, in))

`:exact_rms`, value / RMS(O), depends on the matrix and is an error here.
"""
function scale_factor(mode::Symbol, fan_out::Integer, fan_in::Integer; value::Real = 0.2)
    out = Ref(0.0)
    check(ccall(loaded(scale_factor_), Int32, (Int32, Float64, Int64, Int64, Ref{Float64}),
        code(SCALES, mode, "mode"), value, fan_out, fan_in, out))
    return out[]
end
