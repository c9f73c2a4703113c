# SPDX-License-Identifier: Apache-2.0

const ISA = (auto = 0, generic = 1, x86_avx2 = 2, x86_avx512 = 3, x86_avx512_bf16 = 4,
    arm64_neon = 16)

"""
    Context(; threads = 0, max_isa = :auto, consistent = false, openblas = false,
            executor = C_NULL, allocator = C_NULL)

Threads, instruction-set level and scratch memory. Every function takes `context = nothing`, a
process-wide default, or one of these. It may be used by several Julia threads at the same time.

* `threads`: 0: the cores that this process may use; 1: the calling thread only. Julia's own threads
  are not used. Results are the same bits for any number.
* `max_isa`: `:generic`, `:x86_avx2`, `:x86_avx512`, `:x86_avx512_bf16`, `:arm64_neon`: no more than
  that.
* `consistent`: the same bits on every instruction-set level.
* `openblas`: msign's products and inverses by OpenBLAS and LAPACK, for comparison.
* `executor`, `allocator`: the addresses of a `steepest_executor` and a `steepest_allocator` of
  steepest.h, which are copied. Their functions must be C's, not `@cfunction`s: an allocator is
  called from threads that Julia has not started, and a Julia task that waits inside an executor's
  function may go on in another thread, where the library's call must not return. To leave the
  threads to Julia, call from several Julia tasks with contexts of `threads = 1`.

The environment variables `STEEPEST_NUM_THREADS` and `STEEPEST_MAX_ISA` are read when a context is
made. See also `Steepest.level` and `Steepest.threads`.
"""
mutable struct Context
    handle::Address

    function Context(; threads::Integer = 0, max_isa::Symbol = :auto, consistent::Bool = false,
        openblas::Bool = false, executor::Ptr = C_NULL, allocator::Ptr = C_NULL)
        options = ContextOptions(sizeof(ContextOptions), bit(openblas, 0) | bit(consistent, 32),
            threads, code(ISA, max_isa, "max_isa"), executor, allocator)
        out = Ref{Address}(C_NULL)
        check(ccall(loaded(context_create_), Int32, (Ref{ContextOptions}, Ref{Address}),
            options, out))
        return finalizer(destroy, new(out[]))
    end
end

destroy(context::Context) = ccall(context_destroy_[], Cvoid, (Address,), context.handle)

const MaybeContext = Union{Nothing,Context}

@inline handle(::Nothing) = C_NULL
@inline handle(context::Context) = context.handle

"""
    Steepest.threads(context = nothing)

The number of threads that a call may use.
"""
function threads(context::MaybeContext = nothing)
    GC.@preserve context ccall(loaded(context_threads_), Int32, (Address,), handle(context))
end

"""
    Steepest.level(context = nothing)

The name of the instruction-set level in use, as a Symbol.
"""
function level(context::MaybeContext = nothing)
    number = GC.@preserve context ccall(loaded(context_isa_), Int32, (Address,), handle(context))
    return Symbol(unsafe_string(ccall(loaded(isa_name_), Cstring, (Int32,), number)))
end

"""
    Steepest.trim(context = nothing)

Frees the scratch memory that no running call is using.
"""
function trim(context::MaybeContext = nothing)
    check(GC.@preserve context ccall(loaded(context_trim_), Int32, (Address,), handle(context)))
end

const Memory = Union{Nothing,Vector{UInt8}}

# What a call takes for scratch memory of the caller's own, who keeps it alive; or null.
@inline workspace_of(::Nothing) = Ptr{WorkspaceView}(C_NULL)
workspace_of(memory::Vector{UInt8}) =
    Ref(WorkspaceView(sizeof(WorkspaceView), pointer(memory), length(memory)))
