# SPDX-License-Identifier: Apache-2.0
# Compiles c_calls.c against the header of the repository and the libsteepest that is loaded, and
# loads it. Used by the tests and by bench/ffi/julia.jl.
module CCalls

using Libdl
import Steepest

const SOURCE = joinpath(@__DIR__, "c_calls.c")
const INCLUDE = joinpath(@__DIR__, "..", "..", "..", "..", "include")
const CC = get(ENV, "CC", "cc")

# Why it cannot be compiled here, or nothing.
function missing_part()
    Sys.which(CC) === nothing && return "no C compiler ($CC)"
    isfile(joinpath(INCLUDE, "steepest", "steepest.h")) || return "no steepest.h in $INCLUDE"
    return nothing
end

# The address of each function: CCalls.functions().c_adamw
function functions()
    steepest = dlpath(Steepest.candidates())
    library = joinpath(mktempdir(), "c_calls.so")
    run(`$CC -O2 -std=c11 -Wall -Wextra -Werror -shared -fPIC -I $INCLUDE
        $SOURCE $steepest -Wl,-rpath,$(dirname(steepest)) -o $library`)
    handle = dlopen(library)
    names = (:c_adamw, :c_grad_norm, :c_muon, :c_msign, :c_narrow, :c_executor, :c_allocator,
        :c_runs, :c_allocations)
    return NamedTuple{names}(dlsym.(Ref(handle), names))
end

end
