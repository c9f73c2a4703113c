# SPDX-License-Identifier: Apache-2.0
# Addresses of arrays. Whoever takes one keeps the array alive with GC.@preserve.

# Elements side by side in column-major order: what the element-wise functions take.
@inline contiguous(::Array) = true
function contiguous(array::AbstractArray)
    expected = 1
    for dimension in 1:ndims(array)
        size(array, dimension) == 1 && continue
        stride(array, dimension) == expected || return false
        expected *= size(array, dimension)
    end
    return true
end

@inline function address(name::String, array::AbstractArray, shape::Dims)
    size(array) == shape || wrong_size(name, size(array), shape)
    isempty(array) || contiguous(array) || not_contiguous(name)
    return data(array)
end

# The first element of a matrix, and the elements from one column to the next.
@inline function columns(name::String, matrix::AbstractMatrix, shape::Dims{2})
    size(matrix) == shape || wrong_size(name, size(matrix), shape)
    # One column more than a row's elements if there is only one: any stride is right then.
    m, n = shape
    (m <= 1 || stride(matrix, 1) == 1) || not_contiguous(name)
    return data(matrix), n <= 1 ? max(m, 1) : Int(stride(matrix, 2))
end

# Arrays whose memory is not the CPU's have no Ptr.
@inline data(array::AbstractArray) = convert(Address, pointer(array)::Ptr)

@noinline function wrong_size(name, size, shape)
    throw(DimensionMismatch("$name has size $size, must be $shape"))
end

@noinline function not_contiguous(name)
    throw(ArgumentError("$name: the elements of a column must lie side by side" *
                        " (and of an array for adamw!, its columns too); copy it first"))
end

@noinline function wrong_length(name, length, count)
    throw(DimensionMismatch("$name has $length arrays, must be $count"))
end
