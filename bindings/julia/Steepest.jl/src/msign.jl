# SPDX-License-Identifier: Apache-2.0

const METHODS = (auto = 0, newton_schulz = 1, gram_newton_schulz = 2, rational = 3, halley = 4,
    svd = 5, accurate = 6)
const COEFFICIENTS = (keller = 1, classic = 2, cubic = 3, you = 4, polar_express = 5)
const CUSTOM = Int32(6)
const NORMALIZATIONS = (auto = 0, frobenius = 1, schatten4 = 2, bound = 3)

"""
    MsignConfig(; options...)

How [`msign`](@ref) is computed. The default, `method = :auto`, is `:rational` with three poles.

* `method`: `:auto`, `:newton_schulz`, `:gram_newton_schulz`, `:rational`, `:halley`, `:svd`,
  `:accurate`
* `steps`: iterations or poles; 0: the method's default
* `coefficients` of the Newton–Schulz methods: `:keller`, `:classic`, `:cubic`, `:you`,
  `:polar_express`, or a 3 × k matrix, a column (a, b, c) per step
* `normalization`: `:auto`, `:frobenius`, `:schatten4`, or `:bound` with `norm_bound`
* `lower_bound` of `:rational` and `:halley`; `rank_tolerance` of `:svd`
* `compute`: Float32 or Float64; BF16: products in bfloat16, where the CPU has them. `split_bf16`:
  with Q as the sum of two
* `restarts` of `:gram_newton_schulz`: steps before which it starts anew
* `consistent`: the same bits on every instruction-set level

steepest.h says more about each, with the errors of the methods.
"""
mutable struct MsignConfig
    # First: the address of a MsignConfig is that of its options.
    options::MsignOptions
    coefficients::Matrix{Float64}
    restarts::Vector{Int32}

    function MsignConfig(;
        method::Symbol = :auto,
        steps::Integer = 0,
        coefficients::Union{Symbol,AbstractMatrix} = :polar_express,
        normalization::Symbol = :auto,
        lower_bound::Real = 0.0,
        norm_bound::Real = 0.0,
        rank_tolerance::Real = 0.0,
        compute::Union{Nothing,Type} = nothing,
        split_bf16::Bool = false,
        restarts::Union{Nothing,AbstractVector{<:Integer}} = nothing,
        consistent::Bool = false,
    )
        named = coefficients isa Symbol
        rows = named ? Matrix{Float64}(undef, 3, 0) : Matrix{Float64}(coefficients)
        size(rows, 1) == 3 || wrong_size("coefficients", size(rows), (3, size(rows, 2)))
        list = restarts === nothing ? Int32[] : Vector{Int32}(restarts)
        count = named ? 0 : size(rows, 2)
        options = MsignOptions(
            sizeof(MsignOptions),
            bit(split_bf16, 0) | bit(consistent, 32),
            code(METHODS, method, "method"),
            steps == 0 && !named ? count : steps,
            named ? code(COEFFICIENTS, coefficients, "coefficients") : CUSTOM,
            code(NORMALIZATIONS, normalization, "normalization"),
            named ? C_NULL : pointer(rows),
            lower_bound,
            norm_bound,
            rank_tolerance,
            compute === nothing ? 0 : dtype(compute),
            0,
            count,
            restarts === nothing ? C_NULL : pointer(list),
            length(list),
        )
        return new(options, rows, list)
    end
end

const MaybeMsign = Union{Nothing,MsignConfig}

@inline options(::Nothing) = Ptr{MsignOptions}(C_NULL)
@inline options(config::MsignConfig) = Ptr{MsignOptions}(pointer_from_objref(config))

const Matrices = AbstractVector{<:AbstractMatrix}
const MsignTable = Union{Nothing,Vector{MsignStats}}

"""
    msign(x; config = nothing, stats = nothing, context = nothing)
    msign(x; method, steps, ...)

The matrix sign (orthogonal polar factor) U Vᵀ of x = U S Vᵀ, as a new matrix; see
[`msign!`](@ref).
"""
msign(x::AbstractMatrix; options...) = msign!(similar(x), x; options...)
msign(xs::Matrices; options...) = msign!([similar(x) for x in xs], xs; options...)

"""
    msign!(out, x; config = nothing, stats = nothing, context = nothing)
    msign!(out, x; method, steps, ...)

The matrix sign U Vᵀ of x = U S Vᵀ, into `out`, which may be `x` itself (and overlap it in no other
way). Wide, tall or square; Float32, Float64, BF16 or Float16. The elements of a column lie side by
side; columns may be further apart, so views of rows work. Options are those of
[`MsignConfig`](@ref), or one as `config`.

Vectors of matrices of one size are done in one call, side by side. `stats`: a `Vector{MsignStats}`,
which gets one for each matrix; that costs one more product. `workspace`: scratch memory of your
own, a `Vector{UInt8}` of as many bytes as [`msign_workspace_size`](@ref) says; by default the
context's.

A zero matrix gives zero. Returns `out`. Errors: `DimensionMismatch`, `ArgumentError`,
[`SteepestError`](@ref); with status -5 where x is not finite, -6 where a factorisation failed. Of
several matrices the others are then done.
"""
msign!(out::AbstractMatrix, x::AbstractMatrix; options...) = (msign!([out], [x]; options...); out)

function msign!(outs::Matrices, xs::Matrices; config::MaybeMsign = nothing,
    stats::MsignTable = nothing, workspace::Memory = nothing, context::MaybeContext = nothing,
    options...)
    isempty(options) || config === nothing ||
        throw(ArgumentError("give either config or single options of it"))
    chosen = isempty(options) ? config : MsignConfig(; options...)
    msign_call(outs, xs, chosen, stats, workspace, context)
    return outs
end

function msign_call(outs, xs, config, stats, workspace, context)
    length(outs) == length(xs) || wrong_length("outs", length(outs), length(xs))
    isempty(xs) && return nothing
    shape = size(first(xs))
    T = eltype(first(xs))
    GC.@preserve outs xs config stats workspace context begin
        sources, ldx = common("x", xs, T, shape)
        targets, ldo = common("out", outs, T, shape)
        table = Ptr{MsignStats}(C_NULL)
        if stats !== nothing
            fill!(resize!(stats, length(xs)), MsignStats())
            table = pointer(stats)
        end
        # msign(Xᵀ) is msign(X)ᵀ: a row of the library's is a column here.
        check(ccall(loaded(msign_batched_), Int32,
            (Address, Ptr{MsignOptions}, Int64, Int64, Int32, Ptr{Address}, Int64, Ptr{Address},
                Int64, Int64, Ptr{WorkspaceView}, Ptr{MsignStats}),
            handle(context), options(config), shape[2], shape[1], dtype(T), sources, ldx, targets,
            ldo, length(xs), workspace_of(workspace), table))
    end
    return nothing
end

"""
    msign_workspace_size(T, m, n; count = 1, config = nothing, context = nothing)

The bytes of scratch memory that [`msign!`](@ref) needs for `count` matrices of size (m, n) and
element type T in one call.
"""
function msign_workspace_size(T::Type, m::Integer, n::Integer; count::Integer = 1,
    config::MaybeMsign = nothing, context::MaybeContext = nothing)
    bytes = Ref{Csize_t}(0)
    GC.@preserve config context check(ccall(loaded(msign_workspace_size_), Int32,
        (Address, Ptr{MsignOptions}, Int64, Int64, Int32, Int64, Ref{Csize_t}),
        handle(context), options(config), n, m, dtype(T), count, bytes))
    return Int(bytes[])
end

# Addresses of matrices of one type, shape and stride, and the stride.
function common(name, matrices, T, shape)
    addresses = Vector{Address}(undef, length(matrices))
    ld = 0
    for (i, matrix) in enumerate(matrices)
        eltype(matrix) === T ||
            throw(ArgumentError("$name has elements of type $(eltype(matrix)), must be $T"))
        addresses[i], stride = columns(name, matrix, shape)
        i == 1 || stride == ld || throw(ArgumentError("$name: columns must be equally far apart"))
        ld = stride
    end
    return addresses, ld
end

"""
    msign_band(lower_bound; options...) -> (low, high)

What a method makes of singular values in [lower_bound, 1]: all of them become values in
[low, high]. Options as in [`MsignConfig`](@ref).
"""
function msign_band(lower_bound::Real; opts...)
    config = MsignConfig(; opts...)
    low, high = Ref(0.0), Ref(0.0)
    GC.@preserve config check(ccall(loaded(msign_band_), Int32,
        (Ptr{MsignOptions}, Float64, Ref{Float64}, Ref{Float64}),
        options(config), lower_bound, low, high))
    return low[], high[]
end

"""
    msign_coefficients(lower_bound, steps)

Coefficients of Polar Express (arXiv 2505.16932) for singular values in [lower_bound, 1] and that
many steps, as `MsignConfig(coefficients = ...)` takes them: 3 × steps.
"""
function msign_coefficients(lower_bound::Real, steps::Integer)
    rows = zeros(3, max(steps, 1))
    check(ccall(loaded(msign_coefficients_), Int32, (Float64, Int64, Ptr{Float64}),
        lower_bound, steps, rows))
    return rows
end
