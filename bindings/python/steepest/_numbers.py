# SPDX-License-Identifier: Apache-2.0
"""Options as the C structs take them, with errors that name the option."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _c

DTYPES = {"float32": _c.F32, "float64": _c.F64, "float16": _c.F16, "bfloat16": _c.BF16}


def number(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {value!r}, not a number") from error


def integer(value: Any, name: str, bits: int = 64) -> int:
    """ctypes would cut off what does not fit."""
    try:
        result = operator.index(value)
    except TypeError as error:
        raise TypeError(f"{name} is {value!r}, not an integer") from error
    if result.bit_length() >= bits:
        raise ValueError(f"{name} is out of range ({result})")
    return result


def choice(value: Any, choices: Mapping[str, int], name: str) -> int:
    found = choices.get(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{name} is {value!r}: must be one of {', '.join(map(repr, choices))}")
    return found


def is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def each(value: Any, count: int, name: str) -> list[Any]:
    """One value per tensor: a single value stands for all."""
    if not is_list(value):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{name} has {len(value)} values for {count} tensors")
    return list(value)


def numbers(value: Any, count: int, name: str) -> float | list[float]:
    """One number for all, or a list of `count`."""
    if not is_list(value):
        return number(value, name)
    values = each(value, count, name)
    if set(map(type, values)) <= {float, int}:
        return list(map(float, values))
    return [number(one, name) for one in values]


def integers(value: Any, count: int, name: str, bits: int = 64) -> int | list[int]:
    if not is_list(value):
        return integer(value, name, bits)
    values = each(value, count, name)
    if set(map(type, values)) == {int}:
        integer(max(values), name, bits)
        integer(min(values), name, bits)
        return values
    return [integer(one, name, bits) for one in values]


def flags(*switches: tuple[bool, int]) -> int:
    """The flags whose switches are on."""
    return sum(flag for on, flag in switches if on)
