# SPDX-License-Identifier: Apache-2.0
"""Arrays of C structs whose fields are NumPy columns: a list is written in one assignment."""

from __future__ import annotations

import ctypes
from functools import cache, cached_property
from typing import Any

import numpy as np

from . import _c


@cache
def _layout(kind: type[ctypes.Structure]) -> np.dtype[Any]:
    codes = {ctypes.c_double: "f8", ctypes.c_int32: "i4", ctypes.c_uint64: "u8"}
    fields: Any = kind._fields_
    return np.dtype(
        {
            "names": [name for name, _ in fields],
            "formats": [codes.get(type_, "i8") for _, type_ in fields],
            "offsets": [getattr(kind, name).offset for name, _ in fields],
            "itemsize": ctypes.sizeof(kind),
        }
    )


@cache
def _initial(kind: type[ctypes.Structure]) -> bytes:
    return bytes(_c.new(kind))


class Structs:
    """`count` structs with their INIT values. array: as a C function takes them; columns: a NumPy
    array over each field, pointers as integers; records: the same as one structured array."""

    def __init__(self, kind: type[ctypes.Structure], count: int) -> None:
        self.array: Any = (kind * count).from_buffer_copy(_initial(kind) * count)
        self.records: Any = np.frombuffer(self.array, _layout(kind))  # type: ignore[call-overload]

    @cached_property
    def columns(self) -> dict[str, Any]:
        return {name: self.records[name] for name in self.records.dtype.names}

    @cached_property
    def addresses(self) -> Any:
        """Of each struct."""
        records = self.records
        return ctypes.addressof(self.array) + records.itemsize * np.arange(len(records))
