# SPDX-License-Identifier: Apache-2.0

"""
    SteepestError(status, name, text)

An error of the library: `status` and `name` as in steepest.h (-1, "STEEPEST_E_INVALID_ARGUMENT"),
`text` the library's own, which names the argument, its value and the rule that it breaks, in C's
terms: `tensors[0]` is the first array, rows are columns. Nothing was written, except where the
function's documentation says otherwise.
"""
struct SteepestError <: Exception
    status::Int32
    name::String
    text::String
end

Base.showerror(io::IO, error::SteepestError) = print(io, error.name, ": ", error.text)

@inline check(status::Int32) = status == 0 ? nothing : fail(status)

@noinline function fail(status::Int32)
    name = unsafe_string(ccall(loaded(status_name_), Cstring, (Int32,), status))
    text = unsafe_string(ccall(loaded(last_error_), Cstring, ()))
    throw(SteepestError(status, name, text))
end

# code(names, :name, argument): the number that `names` gives to it.
@inline function code(names::NamedTuple, name::Symbol, argument::String)
    haskey(names, name) || unknown(keys(names), name, argument)
    return Int32(getfield(names, name))
end

@noinline function unknown(names, name, argument)
    throw(ArgumentError("$argument is :$name, must be one of :" * join(names, ", :")))
end
