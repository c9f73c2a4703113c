# SPDX-License-Identifier: Apache-2.0

"""
    BF16

A bfloat16 number: 16 bits, the upper half of a Float32. For storage; there is no arithmetic, and
mixed expressions become Float32 or Float64. `BF16(x)` rounds to nearest, ties to even, and keeps
NaN and denormals. An array of another package's bfloat16, or of raw bits, is used in place as
`reinterpret(BF16, array)`; or define `Steepest.dtype(::Type{TheirType}) = Steepest.dtype(BF16)`.
"""
primitive type BF16 <: AbstractFloat 16 end

function BF16(x::Float32)
    bits = reinterpret(UInt32, x)
    # A NaN stays one: its upper half with the quiet bit.
    isnan(x) && return reinterpret(BF16, (bits >> 16) % UInt16 | 0x0040)
    return reinterpret(BF16, ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) % UInt16)
end
# Rounded once: the Float32 in between is rounded to odd.
function BF16(x::Float64)
    narrow = Float32(x)
    if isfinite(narrow) && Float64(narrow) != x && iseven(reinterpret(UInt32, narrow))
        toward = abs(Float64(narrow)) < abs(x) ? 1 : -1
        narrow = reinterpret(Float32, (reinterpret(UInt32, narrow) + toward) % UInt32)
    end
    return BF16(narrow)
end
BF16(x::Float16) = BF16(Float32(x))
BF16(x::Integer) = BF16(Float64(x))
BF16(x::BF16) = x

Base.Float32(x::BF16) = reinterpret(Float32, UInt32(reinterpret(UInt16, x)) << 16)
Base.Float64(x::BF16) = Float64(Float32(x))
Base.Float16(x::BF16) = Float16(Float32(x))
Base.promote_rule(::Type{BF16}, ::Type{T}) where {T<:Union{Float16,Float32}} = Float32
Base.promote_rule(::Type{BF16}, ::Type{Float64}) = Float64
Base.promote_rule(::Type{BF16}, ::Type{<:Integer}) = Float32
Base.:(==)(x::BF16, y::BF16) = Float32(x) == Float32(y)
Base.isnan(x::BF16) = isnan(Float32(x))
Base.isfinite(x::BF16) = isfinite(Float32(x))
Base.zero(::Type{BF16}) = reinterpret(BF16, 0x0000)
Base.one(::Type{BF16}) = reinterpret(BF16, 0x3f80)
Base.show(io::IO, x::BF16) = print(io, "BF16(", Float32(x), ")")

"""
    Steepest.dtype(T)

The library's number of an element type: Float32, Float64, BF16, Float16. Add a method for another
type of the same bits.
"""
dtype(::Type{Float32}) = Int32(1)
dtype(::Type{Float64}) = Int32(2)
dtype(::Type{BF16}) = Int32(3)
dtype(::Type{Float16}) = Int32(4)
dtype(::Type{T}) where {T} =
    throw(ArgumentError("elements of type $T; Float32, Float64, Float16 and BF16 are possible"))
# Julia 1.11 has the type by itself.
isdefined(Core, :BFloat16) && @eval dtype(::Type{Core.BFloat16}) = Int32(3)
