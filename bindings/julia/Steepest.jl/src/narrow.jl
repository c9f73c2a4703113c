# SPDX-License-Identifier: Apache-2.0
# Narrow storage: see the section of that name in steepest.h.

"""
    Q8State(codes, scales)

Optimizer state in 8 bits, in the place of an array `exp_avg`, `exp_avg_sq` or `momentum`: `codes`
is an array of UInt8 of the parameter's size and without gaps, and `scales` has one number per block
of elements. A `Vector{Float32}`: blocks of 256 with the map of bitsandbytes' 8-bit optimizers. A
`Vector{UInt16}`: blocks of 32 with companded codes. All zeros before step 1.

    Q8State(Float32 or UInt16, size...)

Zeros for a parameter of that size.
"""
struct Q8State{C<:AbstractArray{UInt8},T<:Union{Float32,UInt16}}
    codes::C
    scales::Vector{T}

    function Q8State(codes::C, scales::Vector{T}) where {C<:AbstractArray{UInt8},T}
        needed = q8_scales(T, length(codes))
        length(scales) == needed || wrong_length("scales", length(scales), needed)
        return new{C,T}(codes, scales)
    end
end
Q8State(::Type{T}, size::Integer...) where {T} =
    Q8State(zeros(UInt8, size...), zeros(T, q8_scales(T, prod(size))))

# How many scales of that type `count` codes have.
function q8_scales(::Type{T}, count) where {T}
    scales = Ref(Int64(0))
    check(ccall(loaded(q8_scales_), Int32, (Int32, Int64, Ref{Int64}, Ptr{Int64}),
        q8_dtype(T), count, scales, C_NULL))
    return Int(scales[])
end

q8_dtype(::Type{Float32}) = Int32(5)
q8_dtype(::Type{UInt16}) = Int32(6)

"""
    q8_encode!(state::Q8State, values; signed, context = nothing)

Codes and scales from an array of Float32, each rounded to nearest; `signed = true` for first
moments, `false` for second ones, which are not negative. Returns `state`.
"""
function q8_encode!(state::Q8State, values::AbstractArray{Float32}; signed::Bool,
    context::MaybeContext = nothing)
    GC.@preserve state values context begin
        shape = size(state.codes)
        check(ccall(loaded(q8_encode_), Int32,
            (Address, Int32, Int32, Int64, Address, Address, Address),
            handle(context), state_dtype(state), signed, length(values),
            address("values", values, shape), address("codes", state.codes, shape), scales(state)))
    end
    return state
end

"""
    q8_decode!(values, state::Q8State; signed, context = nothing)

And back. Returns `values`.
"""
function q8_decode!(values::AbstractArray{Float32}, state::Q8State; signed::Bool,
    context::MaybeContext = nothing)
    GC.@preserve state values context begin
        shape = size(state.codes)
        check(ccall(loaded(q8_decode_), Int32,
            (Address, Int32, Int32, Int64, Address, Address, Address),
            handle(context), state_dtype(state), signed, length(values),
            address("codes", state.codes, shape), scales(state), address("values", values, shape)))
    end
    return values
end

"""
    Master(param; residual = nothing, copy = nothing, stream = 0, first_index = 0)

A parameter in the place of an array `param`, and what is kept beside it.

* `residual`: the bits beyond those of a BF16 `param`, an array of its size. UInt16: the lower half
  of a Float32 (`param` is the upper one). Int16: what to add to a `param` that is rounded to
  nearest. Int8: the same in 8 bits. BF16, or Float16 beside a Float16 `param`: Kahan's
  compensation.
* `copy`: receives the new parameters rounded to nearest, in Float32, BF16 or Float16.
* `stream`, `first_index`: of `stochastic_rounding`: one stream per array of a model, and the place
  of the first element in the array that this is a part of.
"""
struct Master{P<:AbstractArray,R<:Union{Nothing,AbstractArray},C<:Union{Nothing,AbstractArray}}
    param::P
    residual::R
    copy::C
    stream::UInt64
    first_index::Int64
end
Master(param; residual = nothing, copy = nothing, stream = 0, first_index = 0) =
    Master(param, residual, copy, stream % UInt64, Int64(first_index))

const Parameter{N} = Union{AbstractArray{<:Any,N},Master{<:AbstractArray{<:Any,N}}}
const State{N} = Union{AbstractArray{<:Any,N},Q8State{<:AbstractArray{UInt8,N}}}

@inline array(x::AbstractArray) = x
@inline array(x::Master) = x.param
@inline array(x::Q8State) = x.codes
@inline scales(::AbstractArray) = Address(C_NULL)
@inline scales(x::Q8State) = data(x.scales)
@inline state_dtype(x::AbstractArray) = dtype(eltype(x))
@inline state_dtype(::Q8State{<:Any,T}) where {T} = q8_dtype(T)

@inline residual(::AbstractArray) = nothing
@inline residual(x::Master) = x.residual
@inline residual_kind(::Nothing) = Int32(0)
@inline residual_kind(::AbstractArray{UInt16}) = Int32(1)
@inline residual_kind(::AbstractArray{Int16}) = Int32(2)
@inline residual_kind(::AbstractArray{Int8}) = Int32(3)
@inline residual_kind(::AbstractArray{<:Union{BF16,Float16}}) = Int32(4)
@inline param_copy(::AbstractArray) = nothing
@inline param_copy(x::Master) = x.copy
@inline copy_dtype(::Nothing) = dtype(BF16)
@inline copy_dtype(copy) = dtype(eltype(copy))
@inline stream(::AbstractArray) = UInt64(0)
@inline stream(x::Master) = x.stream
@inline first_index(::AbstractArray) = Int64(0)
@inline first_index(x::Master) = x.first_index
