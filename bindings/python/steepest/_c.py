# SPDX-License-Identifier: Apache-2.0
"""The C interface in ctypes: constants, structs and functions of steepest.h under their C names.

Constants lose the prefix STEEPEST_, structs become CamelCase (steepest_adamw_config: AdamwConfig),
functions are attributes of `lib`. ctypes.CDLL releases the GIL during each call. Pointers to array
data are plain addresses; whoever stores one keeps the array alive.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import (
    POINTER,
    c_char_p,
    c_double,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from pathlib import Path
from typing import Any, TypeVar

from ._errors import BY_STATUS, SteepestError

# ---- constants

ABI_VERSION = 1

OK = 0
E_INVALID_ARGUMENT = -1
E_SHAPE = -2
E_DTYPE = -3
E_OUT_OF_MEMORY = -4
E_NONFINITE = -5
E_NOT_CONVERGED = -6
E_UNSUPPORTED = -7
E_INTERNAL = -8

F32 = 1
F64 = 2
BF16 = 3
F16 = 4
Q8_DYNAMIC = 5
Q8_COMPANDED = 6

RESIDUAL_NONE = 0
RESIDUAL_LOW16 = 1
RESIDUAL_NEAREST16 = 2
RESIDUAL_NEAREST8 = 3
RESIDUAL_KAHAN = 4

ISA_AUTO = 0
ISA_GENERIC = 1
ISA_X86_AVX2 = 2
ISA_X86_AVX512 = 3
ISA_X86_AVX512_BF16 = 4
ISA_ARM64_NEON = 16

FLAG_CONSISTENT = 1 << 32

CONTEXT_OPENBLAS = 1 << 0

ADAMW_CHUNK = 16384
ADAMW_AMSGRAD = 1 << 0
ADAMW_MAXIMIZE = 1 << 1
ADAMW_COUPLED_L2 = 1 << 2
ADAMW_CAUTIOUS_DECAY = 1 << 3
ADAMW_SKIP_NONFINITE = 1 << 4
ADAMW_EMIT_DELTA = 1 << 5
ADAMW_STOCHASTIC_ROUNDING = 1 << 6

MSIGN_AUTO = 0
MSIGN_NEWTON_SCHULZ = 1
MSIGN_GRAM_NEWTON_SCHULZ = 2
MSIGN_RATIONAL = 3
MSIGN_HALLEY = 4
MSIGN_SVD = 5
MSIGN_ACCURATE = 6

COEF_KELLER = 1
COEF_CLASSIC = 2
COEF_CUBIC = 3
COEF_YOU = 4
COEF_POLAR_EXPRESS = 5
COEF_CUSTOM = 6

NORM_AUTO = 0
NORM_FROBENIUS = 1
NORM_SCHATTEN4 = 2
NORM_BOUND = 3

MSIGN_SPLIT_BF16 = 1 << 0

MOMENTUM_EMA = 0
MOMENTUM_CLASSIC = 1

SCALE_MATCH_RMS = 0
SCALE_EXACT_RMS = 1
SCALE_NONE = 2
SCALE_SQRT_MAX1_OUT_IN = 3
SCALE_SQRT_OUT_IN = 4
SCALE_SQRT_MAX = 5

MUON_NESTEROV = 1 << 0
MUON_CAUTIOUS_DECAY = 1 << 1
MUON_SKIP_NONFINITE = 1 << 2
MUON_EMIT_DELTA = 1 << 3
MUON_MAXIMIZE = 1 << 4
MUON_STOCHASTIC_ROUNDING = 1 << 5

SCHEDULE_CONSTANT = 0
SCHEDULE_LINEAR = 1
SCHEDULE_COSINE = 2
SCHEDULE_INVERSE_SQRT = 3
SCHEDULE_INVERSE = 4
SCHEDULE_WARMUP_STABLE_DECAY = 5

DECAY_LINEAR = 0
DECAY_COSINE = 1
DECAY_ONE_MINUS_SQRT = 2

REFINE_SGD = 0
REFINE_ADAM = 1

# ---- structs


class ContextOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("flags", c_uint64),
        ("num_threads", c_int32),
        ("max_isa", c_int32),
        ("executor", c_void_p),
        ("allocator", c_void_p),
    ]


class StepStats(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("status", c_int32),
        ("reserved", c_int32),
        ("update_rms", c_double),
        ("grad_rms", c_double),
        ("momentum_rms", c_double),
        ("param_rms", c_double),
        ("snr_update", c_double),
        ("snr_momentum", c_double),
        ("nonfinite", c_int64),
    ]


class AdamwConfig(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("flags", c_uint64),
        ("lr", c_double),
        ("beta1", c_double),
        ("beta2", c_double),
        ("eps", c_double),
        ("weight_decay", c_double),
        ("grad_scale", c_double),
        ("step", c_int64),
        ("seed", c_uint64),
        ("skipped", POINTER(c_int32)),
    ]


class AdamwTensor(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("count", c_int64),
        ("param", c_void_p),
        ("grad", c_void_p),
        ("exp_avg", c_void_p),
        ("exp_avg_sq", c_void_p),
        ("param_dtype", c_int32),
        ("grad_dtype", c_int32),
        ("exp_avg_dtype", c_int32),
        ("exp_avg_sq_dtype", c_int32),
        ("config", POINTER(AdamwConfig)),
        ("max_exp_avg_sq", c_void_p),
        ("delta", c_void_p),
        ("delta_dtype", c_int32),
        ("reserved", c_int32),
        ("residual", c_void_p),
        ("param_copy", c_void_p),
        ("exp_avg_scales", c_void_p),
        ("exp_avg_sq_scales", c_void_p),
        ("residual_kind", c_int32),
        ("param_copy_dtype", c_int32),
        ("random_stream", c_uint64),
        ("first_index", c_int64),
    ]


class Vector(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("count", c_int64),
        ("data", c_void_p),
        ("dtype", c_int32),
        ("reserved", c_int32),
    ]


class Workspace(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("data", c_void_p), ("bytes", c_size_t)]


class MsignConfig(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("flags", c_uint64),
        ("method", c_int32),
        ("steps", c_int32),
        ("coefficients", c_int32),
        ("normalization", c_int32),
        ("custom_coefficients", POINTER(c_double)),
        ("lower_bound", c_double),
        ("norm_bound", c_double),
        ("rank_tolerance", c_double),
        ("compute_dtype", c_int32),
        ("reserved", c_int32),
        ("custom_count", c_int64),
        ("restarts", POINTER(c_int32)),
        ("restart_count", c_int64),
    ]


class MsignStats(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("status", c_int32),
        ("method", c_int32),
        ("steps", c_int32),
        ("retries", c_int32),
        ("rank", c_int64),
        ("norm", c_double),
        ("lower_bound", c_double),
        ("orthogonality", c_double),
    ]


class MuonConfig(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("flags", c_uint64),
        ("lr", c_double),
        ("momentum", c_double),
        ("weight_decay", c_double),
        ("scale_value", c_double),
        ("grad_scale", c_double),
        ("step", c_int64),
        ("seed", c_uint64),
        ("momentum_kind", c_int32),
        ("scale_mode", c_int32),
        ("msign", POINTER(MsignConfig)),
        ("skipped", POINTER(c_int32)),
    ]


class MuonTensor(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("rows", c_int64),
        ("cols", c_int64),
        ("param_ld", c_int64),
        ("grad_ld", c_int64),
        ("momentum_ld", c_int64),
        ("delta_ld", c_int64),
        ("fan_out", c_int64),
        ("fan_in", c_int64),
        ("param", c_void_p),
        ("grad", c_void_p),
        ("momentum", c_void_p),
        ("delta", c_void_p),
        ("param_dtype", c_int32),
        ("grad_dtype", c_int32),
        ("momentum_dtype", c_int32),
        ("delta_dtype", c_int32),
        ("blocks", POINTER(c_int64)),
        ("block_count", c_int64),
        ("block_axis", c_int32),
        ("reserved", c_int32),
        ("config", POINTER(MuonConfig)),
        ("residual", c_void_p),
        ("param_copy", c_void_p),
        ("momentum_scales", c_void_p),
        ("param_copy_ld", c_int64),
        ("residual_kind", c_int32),
        ("param_copy_dtype", c_int32),
        ("random_stream", c_uint64),
        ("first_index", c_int64),
    ]


class Schedule(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("kind", c_int32),
        ("decay_shape", c_int32),
        ("lr", c_double),
        ("final_ratio", c_double),
        ("warmup_steps", c_int64),
        ("decay_steps", c_int64),
    ]


# The C name of each struct, which is also the beginning of its init function's name.
STRUCTS: dict[type[ctypes.Structure], str] = {
    ContextOptions: "steepest_context_options",
    StepStats: "steepest_step_stats",
    AdamwConfig: "steepest_adamw_config",
    AdamwTensor: "steepest_adamw_tensor",
    Vector: "steepest_vector",
    Workspace: "steepest_workspace",
    MsignConfig: "steepest_msign_config",
    MsignStats: "steepest_msign_stats",
    MuonConfig: "steepest_muon_config",
    MuonTensor: "steepest_muon_tensor",
    Schedule: "steepest_schedule",
}

# ---- the library


def _path() -> str:
    chosen = os.environ.get("STEEPEST_LIBRARY")
    if chosen:
        return chosen
    name = f"libsteepest.so.{ABI_VERSION}"
    bundled = Path(__file__).with_name(name)
    if bundled.exists():
        return str(bundled)
    raise ImportError(
        f"steepest: {bundled} is missing. Install the package (pip install .), or set the "
        f"environment variable STEEPEST_LIBRARY to the path of a {name}."
    )


def _load(path: str) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(path)
        library.steepest_abi_version.restype = c_uint32
        abi: int = library.steepest_abi_version()
    except (OSError, AttributeError) as error:
        raise ImportError(f"steepest: cannot load {path}: {error}") from error
    if abi != ABI_VERSION:
        raise ImportError(f"steepest: {path} has ABI version {abi}, not {ABI_VERSION}")
    return library


_ADAMW = POINTER(AdamwConfig)
_MSIGN = POINTER(MsignConfig)
_MUON = POINTER(MuonConfig)
_DOUBLE = POINTER(c_double)
_INT64 = POINTER(c_int64)
_SIZE = POINTER(c_size_t)
_SPACE = POINTER(Workspace)
_MATRIX = [c_int64, c_int64, c_int32, c_void_p, c_int64]

_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "version": (c_uint32, []),
    "abi_version": (c_uint32, []),
    "build_info": (c_char_p, []),
    "status_name": (c_char_p, [c_int32]),
    "last_error": (c_char_p, []),
    "executor_init": (c_int32, [c_void_p, c_size_t]),
    "allocator_init": (c_int32, [c_void_p, c_size_t]),
    "context_create": (c_int32, [POINTER(ContextOptions), POINTER(c_void_p)]),
    "context_destroy": (None, [c_void_p]),
    "context_trim": (c_int32, [c_void_p]),
    "context_isa": (c_int32, [c_void_p]),
    "context_threads": (c_int32, [c_void_p]),
    "isa_name": (c_char_p, [c_int32]),
    "adamw_begin": (
        c_int32,
        [c_void_p, _ADAMW, POINTER(AdamwTensor), c_int64, POINTER(c_void_p)],
    ),
    "adamw_chunk": (c_int32, [c_void_p, c_int64, c_int64, c_int64]),
    "adamw_end": (c_int32, [c_void_p, POINTER(StepStats)]),
    "adamw_step": (c_int32, [c_void_p, _ADAMW, POINTER(AdamwTensor), c_int64, POINTER(StepStats)]),
    "q8_scales": (c_int32, [c_int32, c_int64, _INT64, _INT64]),
    "q8_encode": (c_int32, [c_void_p, c_int32, c_int32, c_int64] + [c_void_p] * 3),
    "q8_decode": (c_int32, [c_void_p, c_int32, c_int32, c_int64] + [c_void_p] * 3),
    "grad_norm": (c_int32, [c_void_p, POINTER(Vector), c_int64, _DOUBLE, _INT64]),
    "msign": (
        c_int32,
        [c_void_p, _MSIGN, *_MATRIX, c_void_p, c_int64, _SPACE, POINTER(MsignStats)],
    ),
    "msign_batched": (
        c_int32,
        [c_void_p, _MSIGN, c_int64, c_int64, c_int32, POINTER(c_void_p), c_int64]
        + [POINTER(c_void_p), c_int64, c_int64, _SPACE, POINTER(MsignStats)],
    ),
    "msign_workspace_size": (
        c_int32,
        [c_void_p, _MSIGN, c_int64, c_int64, c_int32, c_int64, _SIZE],
    ),
    "msign_band": (c_int32, [_MSIGN, c_double, _DOUBLE, _DOUBLE]),
    "msign_coefficients": (c_int32, [c_double, c_int64, c_void_p]),
    "muon_step": (
        c_int32,
        [c_void_p, _MUON, POINTER(MuonTensor), c_int64, _SPACE, POINTER(StepStats)],
    ),
    "muon_workspace_size": (c_int32, [c_void_p, _MUON, POINTER(MuonTensor), c_int64, _SIZE]),
    "scale_factor": (c_int32, [c_int32, c_double, c_int64, c_int64, _DOUBLE]),
    "adam_update_rms": (c_int32, [c_double, c_double, c_int64, _DOUBLE]),
    "snr_from_update_rms": (c_int32, [c_double, c_double, c_int64, _DOUBLE]),
    "snr_from_momentum": (c_int32, [c_double, c_double, c_double, c_int64, _DOUBLE]),
    "singular_values": (c_int32, [c_void_p, *_MATRIX, c_void_p]),
    "singular_entropy": (c_int32, [c_void_p, c_int64, _DOUBLE]),
    "adam_update_rms_second_order": (c_int32, [c_double] * 4 + [c_int64, _DOUBLE]),
    "rms": (c_int32, [c_void_p, POINTER(Vector), c_int64, _DOUBLE, _INT64]),
    "spectral_norm": (c_int32, [c_void_p, *_MATRIX, _DOUBLE]),
    "spectral_norm_bounds": (c_int32, [c_void_p, *_MATRIX, c_double, _DOUBLE, _DOUBLE]),
    "schedule_fill": (c_int32, [POINTER(Schedule), c_int64, c_void_p]),
    "schedule_at": (c_int32, [POINTER(Schedule), c_int64, c_int64, _DOUBLE]),
    "schedule_bound": (c_int32, [c_void_p, c_int64, c_double, c_double, c_void_p, _DOUBLE]),
    "schedule_refine": (c_int32, [c_void_p, c_int64, c_int32, c_double, c_double, c_void_p]),
    "schedule_optimal": (c_int32, [c_int64, c_double, c_double, c_void_p, c_void_p, _DOUBLE]),
}


def _declare(library: ctypes.CDLL) -> None:
    functions = {f"steepest_{name}": types for name, types in _FUNCTIONS.items()}
    functions.update({f"{name}_init": (c_int32, [c_void_p, c_size_t]) for name in STRUCTS.values()})
    for name, (restype, argtypes) in functions.items():
        function = getattr(library, name)
        function.restype = restype
        function.argtypes = argtypes


path = _path()
lib = _load(path)
_declare(lib)

# ---- errors


def check(status: int) -> None:
    """Raises the exception of a failed call, with the library's text."""
    if status != OK:
        text = lib.steepest_last_error().decode("utf-8", "replace")
        raise BY_STATUS.get(status, SteepestError)(text)


# ---- initialised structs

S = TypeVar("S", bound=ctypes.Structure)


def new(kind: type[S]) -> S:
    """A struct with its INIT values."""
    struct = kind()
    init = getattr(lib, f"{STRUCTS[kind]}_init")
    check(init(ctypes.byref(struct), ctypes.sizeof(struct)))
    return struct


def new_array(kind: type[S], count: int) -> ctypes.Array[S]:
    """`count` structs with their INIT values, one after the other."""
    return (kind * count).from_buffer_copy(bytes(new(kind)) * count)


# ---- contexts

contexts: dict[int, int] = {}


def context(threads: int | None = None) -> int:
    """The address of the context for that many threads, made at first use and never destroyed.

    None or 0: the library's default, STEEPEST_NUM_THREADS or the cores that this process may use.
    Contexts may be shared by threads, so there is one per number. A forked child makes its own:
    in those of its parent everything would run on the calling thread.
    """
    found = contexts.get(threads or 0)
    return found if found is not None else _make_context(threads or 0)


def _make_context(threads: int) -> int:
    options = new(ContextOptions)
    options.num_threads = threads
    if options.num_threads != threads:
        raise ValueError(f"threads is out of range ({threads})")
    made = c_void_p()
    check(lib.steepest_context_create(ctypes.byref(options), ctypes.byref(made)))
    assert made.value is not None
    # Of several threads that come here at once, one wins. No lock, which fork could leave locked.
    kept = contexts.setdefault(threads, made.value)
    if kept != made.value:
        lib.steepest_context_destroy(made)
    return kept


# The parent's contexts are dropped, not destroyed: who has the address may go on using it.
os.register_at_fork(after_in_child=contexts.clear)
