# SPDX-License-Identifier: Apache-2.0
# Finding libsteepest and its functions.

const ABI_VERSION = 1
const UUID = Base.UUID("098e15bf-b03b-4ed4-8ae7-79b356ef1969")

# One place per C function for its address, filled by `load`: a call costs one load more than a
# call to a fixed address, and the library's path need not be known when this package is compiled.
const ADDRESSES = Dict{Symbol,Ref{Ptr{Cvoid}}}()

# @declare a b c: constants A_, B_, C_ with the addresses of steepest_a, steepest_b, steepest_c.
macro declare(names...)
    block = Expr(:block)
    for name in names
        constant = Symbol(name, :_)
        push!(block.args, :(const $constant = Ref{Ptr{Cvoid}}(C_NULL)))
        push!(block.args, :(ADDRESSES[$(QuoteNode(name))] = $constant))
    end
    return esc(block)
end

@declare version build_info status_name last_error isa_name
@declare context_create context_destroy context_trim context_isa context_threads
@declare adamw_step grad_norm rms
@declare msign_batched msign_workspace_size msign_band msign_coefficients
@declare muon_step muon_workspace_size scale_factor
@declare adam_update_rms adam_update_rms_second_order snr_from_update_rms snr_from_momentum
@declare q8_scales q8_encode q8_decode
@declare singular_values singular_entropy spectral_norm spectral_norm_bounds
@declare schedule_fill schedule_at schedule_bound schedule_optimal schedule_refine
@declare context_options_init step_stats_init adamw_config_init adamw_tensor_init vector_init
@declare msign_config_init msign_stats_init muon_config_init muon_tensor_init schedule_init
@declare workspace_init

const load_failure = Ref("Steepest.load has not been called")

@inline function loaded(address::Ref{Ptr{Cvoid}})
    pointer = address[]
    pointer == C_NULL && not_loaded()
    return pointer
end

@noinline not_loaded() = error("libsteepest is not loaded: ", load_failure[])

"""
    Steepest.candidates()

Where libsteepest is looked for, in this order: the environment variable `STEEPEST_LIBRARY`; the
preference `library` of this package (Julia 1.6 and later: `[Steepest] library = "/path"` in
LocalPreferences.toml beside the active Project.toml); `libsteepest.so.1` as the system's loader
finds it. The first two are the path of a file. What is named is used or fails; nothing else is
tried in its place.
"""
function candidates()
    path = get(ENV, "STEEPEST_LIBRARY", "")
    isempty(path) || return path
    path = preference("library")
    path === nothing || return path
    return "libsteepest.so.$ABI_VERSION"
end

function preference(name)
    isdefined(Base, :get_preferences) || return nothing
    value = get(Base.get_preferences(UUID), name, nothing)
    return value isa String && !isempty(value) ? value : nothing
end

"""
    Steepest.load(path = Steepest.candidates())

Loads libsteepest. Done when the package is loaded; only of use after that has failed, which shows
in an error of the first call. Throws an `ErrorException`.
"""
function load(path::AbstractString = candidates())
    handle = dlopen(path, RTLD_NOW | RTLD_LOCAL)
    abi = dlsym(handle, :steepest_abi_version; throw_error = false)
    abi === nothing && error("$path is not libsteepest")
    number = ccall(abi, UInt32, ())
    number == ABI_VERSION ||
        error("$path has version $number of the binary interface, needed is $ABI_VERSION")
    # All or none.
    found = Dict(name => dlsym(handle, Symbol(:steepest_, name)) for name in keys(ADDRESSES))
    for (name, address) in found
        ADDRESSES[name][] = address
    end
    return nothing
end

function __init__()
    try
        load()
    catch failure
        load_failure[] = sprint(showerror, failure)
    end
    return nothing
end

"""
    Steepest.build_info()

One line about the library that is loaded: release, compiler, instruction-set levels, libraries.
"""
build_info() = unsafe_string(ccall(loaded(build_info_), Cstring, ()))

"""
    Steepest.version()

The release of the library that is loaded.
"""
function version()
    number = ccall(loaded(version_), UInt32, ())
    return VersionNumber(number >> 16, number >> 8 & 0xff, number & 0xff)
end
