# SPDX-License-Identifier: Apache-2.0
"""Narrow storage in the steps on arrays, and 8-bit codes. The types of arrays say what they hold:
uint8 moments are codes, their format follows from the type of their scales; the kind of a residual
follows from its own."""

from __future__ import annotations

import ctypes
from ctypes import c_int64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _c
from ._arrays import I8, I16, NAMES, U8, U16, Array, View, dense, same_layout, size, view, writable
from ._columns import Column
from ._numbers import choice, integers

FORMATS = {"q8_dynamic": _c.Q8_DYNAMIC, "q8_companded": _c.Q8_COMPANDED}
SCALE_DTYPES = {"q8_dynamic": np.float32, "q8_companded": np.uint16}
# int16 as well, since torch has little for uint16.
_FORMAT_OF_SCALES = {_c.F32: _c.Q8_DYNAMIC, U16: _c.Q8_COMPANDED, I16: _c.Q8_COMPANDED}
_RESIDUALS = {
    U16: _c.RESIDUAL_LOW16,
    I16: _c.RESIDUAL_NEAREST16,
    I8: _c.RESIDUAL_NEAREST8,
    _c.BF16: _c.RESIDUAL_KAHAN,
    _c.F16: _c.RESIDUAL_KAHAN,
}


def scale_count(format: int, count: int) -> int:
    scales, size = c_int64(), c_int64()
    function = _c.lib.steepest_q8_scales
    _c.check(function(format, count, ctypes.byref(scales), ctypes.byref(size)))
    return scales.value


# ---- arguments of a step


class Extra:
    """An argument that only some tensors of the call have: rows and their arrays."""

    def __init__(self, function: str, argument: str, given: Any, count: int) -> None:
        listed = isinstance(given, (list, tuple))
        values = list(given) if listed else [given] if given is not None else [None] * count
        if len(values) != count:
            raise ValueError(f"{function}: {argument} has {len(values)} arrays, but param {count}")
        self.name = f"{function}: {argument}"
        self.rows = [i for i, value in enumerate(values) if value is not None]
        self.labels = [f"{self.name}[{i}]" if listed else self.name for i in range(count)]
        self.views = {i: view(values[i], self.labels[i], integers=True) for i in self.rows}

    def write(self, records: Any, field: str) -> None:
        for i, one in self.views.items():
            records[field][i] = writable(one).address


def moment_dtypes(column: Column, records: Any, field: str, scales: Any, count: int) -> list[int]:
    """The C types of one moment of each tensor; writes the addresses of the scales."""
    function, argument = column.name.split(": ")
    extra = Extra(function, f"{argument}_scales", scales, count)
    dtypes = list(column.dtypes)
    for i, dtype in enumerate(dtypes):
        one = extra.views.get(i)
        if dtype not in (U8, U16, I16, I8):
            if one is not None:
                raise ValueError(f"{one.name} is given, but {column.label(i)} is no array of codes")
            continue
        if dtype != U8:
            raise TypeError(f"{column.label(i)} is of {NAMES[dtype]}: codes are uint8")
        if one is None:
            raise ValueError(f"{extra.labels[i]} is missing, but {column.label(i)} has 8-bit codes")
        dtypes[i] = _format_of(one)
        _check_scales(one, dtypes[i], column.count(i))
    extra.write(records, f"{field}_scales")
    return dtypes


def _format_of(scales: View) -> int:
    found = _FORMAT_OF_SCALES.get(scales.dtype)
    if found is None:
        raise TypeError(
            f"{scales.name} is of {NAMES[scales.dtype]}: must be float32 (q8_dynamic) or uint16 "
            "(q8_companded)"
        )
    return found


def _check_scales(scales: View, format: int, count: int) -> None:
    wanted = scale_count(format, count)
    if size(dense(scales)) != wanted:
        raise ValueError(f"{scales.name} has {size(scales)} elements: {count} codes need {wanted}")


def attach_narrow(
    params: Column,
    records: Any,
    residual: Any,
    param_copy: Any,
    random_stream: Any,
    first_index: Any,
) -> None:
    """What both steps have beside the moments. A param_copy's layout is left to the caller."""
    function, count = params.name.split(": ")[0], len(params)
    extra = Extra(function, "residual", residual, count)
    for i, one in extra.views.items():
        kind = _RESIDUALS.get(one.dtype)
        if kind is None:
            raise TypeError(
                f"{one.name} is of {NAMES[one.dtype]}: must be uint16, int16, int8, bfloat16 or "
                "float16"
            )
        if kind == _c.RESIDUAL_KAHAN and one.dtype != params.dtypes[i]:
            raise TypeError(f"{one.name} must have the type of {params.label(i)}")
        same_layout(one, params.views()[i])
        records["residual_kind"][i] = kind
    extra.write(records, "residual")

    extra = Extra(function, "param_copy", param_copy, count)
    for i, one in extra.views.items():
        if one.dtype not in (_c.BF16, _c.F16, _c.F32):
            raise TypeError(
                f"{one.name} is of {NAMES[one.dtype]}: must be bfloat16, float16 or float32"
            )
        same_layout(one, params.views()[i])
        records["param_copy_dtype"][i] = one.dtype
    extra.write(records, "param_copy")

    streams = range(count) if random_stream is None else random_stream
    if not isinstance(streams, range):
        streams = integers(streams, count, f"{function}: random_stream")
    records["random_stream"] = list(streams) if isinstance(streams, range) else streams
    records["first_index"] = integers(first_index, count, f"{function}: first_index")


# ---- codes


def q8_encode(
    values: Array, format: str, *, signed: bool, threads: int | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The 8-bit codes and the scales of an array, each rounded to the nearest.

    values: of float32, any shape, without gaps.
    format: "q8_dynamic": blocks of 256 elements, float32 scales, the codes of bitsandbytes' 8-bit
        optimizers; "q8_companded": blocks of 32 elements, 16-bit scales of a format of their own.
    signed: True for first moments, False for second moments, which are not negative.

    Returns codes, uint8, of the shape and memory order of values, and scales, float32 or uint16.
    """
    function = "q8_encode"
    kind = choice(format, FORMATS, f"{function}: format")
    source = dense(view(values, f"{function}: values"))
    if source.dtype != _c.F32:
        raise TypeError(f"{source.name} is of {NAMES[source.dtype]}: must be float32")
    codes = _like(source, np.uint8)
    scales = np.empty(scale_count(kind, size(source)), SCALE_DTYPES[format])
    context, count = _c.context(threads), size(source)
    pointers = source.address, codes.ctypes.data, scales.ctypes.data
    _c.check(_c.lib.steepest_q8_encode(context, kind, bool(signed), count, *pointers))
    return codes, scales


def q8_decode(
    codes: Array, scales: Array, *, signed: bool, threads: int | None = None
) -> NDArray[Any]:
    """The float32 values of 8-bit codes.

    codes: of uint8, without gaps. scales: of float32 (q8_dynamic) or uint16 (q8_companded), as many
    as q8_encode gives. signed: as it was there.
    """
    function = "q8_decode"
    source = dense(view(codes, f"{function}: codes", integers=True))
    if source.dtype != U8:
        raise TypeError(f"{source.name} is of {NAMES[source.dtype]}: must be uint8")
    blocks = view(scales, f"{function}: scales", integers=True)
    kind = _format_of(blocks)
    count = size(source)
    _check_scales(blocks, kind, count)
    values = _like(source, np.float32)
    pointers = source.address, blocks.address, values.ctypes.data
    context = _c.context(threads)
    _c.check(_c.lib.steepest_q8_decode(context, kind, bool(signed), count, *pointers))
    return values


def _like(source: View, dtype: Any) -> NDArray[Any]:
    """A new array whose elements lie in memory as those of the source."""
    strides = source.strides
    if strides is None:
        return np.empty(source.shape, dtype)
    order = np.argsort([-stride for stride in strides], kind="stable")
    stored = np.empty([source.shape[axis] for axis in order], dtype)
    return stored.transpose(np.argsort(order))
