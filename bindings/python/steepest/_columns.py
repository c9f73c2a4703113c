# SPDX-License-Identifier: Apache-2.0
"""The arrays of one argument of a step, one for each tensor of the call.

Nearly always they are plain: NumPy arrays without gaps, row-major and writable. Those are read and
checked a list at a time; all others one by one, as views.
"""

from __future__ import annotations

import ctypes
from operator import attrgetter
from typing import Any

import numpy as np

from ._arrays import (
    DTYPES,
    INTEGERS,
    View,
    dense,
    matrix,
    same_layout,
    same_shape,
    size,
    view,
    writable,
)
from ._c import BF16

_shape = attrgetter("shape")
_dtype = attrgetter("dtype")
_size = attrgetter("size")
# Its from_buffer refuses what is not in one piece, row-major and writable. With addressof that is
# four times as fast as array.ctypes.data.
_Plain = ctypes.c_char * 0


class Column:
    """addresses, dtypes, shapes: a value per array, valid while the column lives."""

    def __init__(
        self, function: str, argument: str, arrays: Any, *, integers: bool = False
    ) -> None:
        self.integers = integers
        self.name = f"{function}: {argument}"
        self.listed = isinstance(arrays, (list, tuple))
        self.arrays = list(arrays) if self.listed else [arrays]
        self._views: list[View] | None = None
        self.plain = self._read_plain()
        if not self.plain:
            views = self.views()
            self.addresses = [one.address for one in views]
            self.dtypes = [one.dtype for one in views]
            self.shapes = [one.shape for one in views]

    def _read_plain(self) -> bool:
        arrays = self.arrays
        if not set(map(type, arrays)) <= {np.ndarray}:
            return False
        try:
            known = DTYPES | INTEGERS if self.integers else DTYPES
            found = {dtype: known[dtype] for dtype in set(map(_dtype, arrays))}
            if BF16 in found.values():  # NumPy exports no buffer of this type
                arrays = [a.view(np.uint16) if found[a.dtype] == BF16 else a for a in arrays]
            self.addresses = list(map(ctypes.addressof, map(_Plain.from_buffer, arrays)))
        except (TypeError, ValueError, KeyError):
            return False
        self.dtypes = list(found.values()) * len(arrays)
        if len(found) > 1:
            self.dtypes = [found[dtype] for dtype in map(_dtype, self.arrays)]
        self.shapes = list(map(_shape, arrays))
        return True

    def __len__(self) -> int:
        return len(self.arrays)

    def label(self, i: int) -> str:
        return f"{self.name}[{i}]" if self.listed else self.name

    def views(self) -> list[View]:
        if self._views is None:
            pairs = enumerate(self.arrays)
            self._views = [view(array, self.label(i), self.integers) for i, array in pairs]
        return self._views

    def count(self, i: int) -> int:
        return self.arrays[i].size if self.plain else size(self.views()[i])

    # ---- what a function can take

    def writable(self) -> None:
        if not self.plain:
            for one in self.views():
                writable(one)

    def sizes(self) -> list[int]:
        """Numbers of elements. Refuses gaps between them."""
        if self.plain:
            return list(map(_size, self.arrays))
        return [size(dense(one)) for one in self.views()]

    def same_layout(self, other: Column) -> None:
        """Refuses an array that is not laid out like the other column's."""
        if not (self.plain and other.plain and self.shapes == other.shapes):
            for one, wanted in zip(self.views(), other.views()):
                same_layout(one, wanted)

    def same_shape(self, other: Column) -> None:
        if self.shapes != other.shapes:
            for one, wanted in zip(self.views(), other.views()):
                same_shape(one, wanted)

    def matrices(self) -> list[tuple[int, ...]]:
        """Three rows: the numbers of rows and of columns, and the leading dimensions."""
        if self.plain and set(map(len, self.shapes)) == {2}:
            rows, cols = zip(*self.shapes)
            return [rows, cols, cols]
        return list(zip(*[matrix(one) for one in self.views()])) or [(), (), ()]


def columns(
    function: str, arguments: dict[str, Any], codes: tuple[str, ...] = ()
) -> dict[str, Column]:
    """A column for each argument, all of the length of the first; `codes` may be of 8 bits."""
    result: dict[str, Column] = {}
    for argument, arrays in arguments.items():
        column = Column(function, argument, arrays, integers=argument in codes)
        result[argument] = column
        name, first = next(iter(result.items()))
        if len(column) != len(first):
            raise ValueError(
                f"{function}: {argument} has {len(column)} arrays, but {name} has {len(first)}"
            )
    return result
