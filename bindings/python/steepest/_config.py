# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from ctypes import c_char_p

from . import _c


def version() -> str:
    number = _c.lib.steepest_version()
    return f"{number >> 16}.{number >> 8 & 255}.{number & 255}"


def get_config(threads: int | None = None) -> dict[str, str | int]:
    """The library's file and build, the instruction-set level, the threads, and the BLAS."""
    context = _c.context(threads)
    return {
        "library": _c.path,
        "build": _c.lib.steepest_build_info().decode(),
        "isa": _c.lib.steepest_isa_name(_c.lib.steepest_context_isa(context)).decode(),
        "threads": _c.lib.steepest_context_threads(context),
        "blas": _blas(),
    }


def _blas() -> str:
    try:
        describe = _c.lib.openblas_get_config
    except AttributeError:
        return "not known"
    describe.restype = c_char_p
    return str(describe().decode().strip())


def show_config() -> None:
    """Prints get_config()."""
    for key, value in get_config().items():
        print(f"{key + ':':9} {value}")


def trim() -> None:
    """Frees the scratch memory that no running call is using."""
    for context in list(_c.contexts.values()):
        _c.check(_c.lib.steepest_context_trim(context))
