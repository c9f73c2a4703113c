# SPDX-License-Identifier: Apache-2.0
"""Arrays of any origin as an address, an element type, a shape and strides. Nothing is copied."""

from __future__ import annotations

import ctypes
import math
from ctypes import c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any, Protocol, Union

import numpy as np

from . import _c

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Buffer


class SupportsDLPack(Protocol):
    """A CPU tensor of another library, such as torch's."""

    def __dlpack__(self, *args: Any, **options: Any) -> Any: ...

    def __dlpack_device__(self) -> tuple[Any, Any]: ...


class SupportsArrayInterface(Protocol):
    @property
    def __array_interface__(self) -> dict[str, Any]: ...


Array = Union["NDArray[Any]", SupportsDLPack, SupportsArrayInterface, "Buffer"]

DTYPES = {
    np.dtype(np.float32): _c.F32,
    np.dtype(np.float64): _c.F64,
    np.dtype(np.float16): _c.F16,
}
# Types of arrays that hold bits, not numbers: codes, scales and residuals of narrow storage. The
# library has no constants for them.
U8, I8, U16, I16 = -1, -2, -3, -4
INTEGERS = {
    np.dtype(np.uint8): U8,
    np.dtype(np.int8): I8,
    np.dtype(np.uint16): U16,
    np.dtype(np.int16): I16,
}
NAMES = {
    _c.F32: "float32",
    _c.F64: "float64",
    _c.BF16: "bfloat16",
    _c.F16: "float16",
    U8: "uint8",
    I8: "int8",
    U16: "uint16",
    I16: "int16",
}


class View:
    """Where an array lies. `strides` is in elements; None: contiguous and row-major. `name` is
    "function: argument". Valid while `owner` lives."""

    __slots__ = ("address", "dtype", "name", "owner", "readonly", "shape", "strides")

    def __init__(
        self,
        name: str,
        owner: Any,
        address: int,
        dtype: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...] | None,
        readonly: bool,
    ) -> None:
        self.name = name
        self.owner = owner
        self.address = address
        self.dtype = dtype
        self.shape = shape
        self.strides = strides
        self.readonly = readonly

    @property
    def argument(self) -> str:
        return self.name.partition(": ")[2]


def view(array: Any, name: str, integers: bool = False) -> View:
    """The view of a NumPy array, a CPU tensor with DLPack, or an object with a buffer.
    integers: whether it may be one of bits."""
    if not isinstance(array, np.ndarray):
        if hasattr(array, "__dlpack__"):
            return _from_dlpack(array, name, integers)
        array = _from_buffer(array, name)
    dtype = DTYPES.get(array.dtype)
    if dtype is None and integers:
        dtype = INTEGERS.get(array.dtype)
    if dtype is None:
        dtype = _other_dtype(array.dtype, name)
    flags = array.flags
    strides = None if flags.c_contiguous else _element_strides(array, name)
    return View(name, array, array.ctypes.data, dtype, array.shape, strides, not flags.writeable)


def _element_strides(array: NDArray[Any], name: str) -> tuple[int, ...]:
    size = array.itemsize
    for stride in array.strides:
        if stride % size:
            raise ValueError(f"{name} has a stride of {stride} bytes, its elements have {size}")
    return tuple([stride // size for stride in array.strides])


def _other_dtype(dtype: np.dtype[Any], name: str) -> int:
    # ml_dtypes adds this type to NumPy.
    if dtype.name == "bfloat16" and dtype.itemsize == 2 and dtype.isnative:
        DTYPES[dtype] = _c.BF16
        return _c.BF16
    raise TypeError(f"{name} is of {dtype!r}: must be float32, float64, float16 or bfloat16")


def _from_buffer(array: Any, name: str) -> NDArray[Any]:
    if hasattr(array, "__array_interface__"):
        return np.asarray(array)
    try:
        return np.asarray(memoryview(array))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is a {type(array).__name__}, not an array") from error


# ---- DLPack, https://dmlc.github.io/dlpack/latest/c_api.html


class _DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", ctypes.POINTER(c_int64)),
        ("strides", ctypes.POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


class _DLManagedTensorVersioned(ctypes.Structure):
    _fields_ = [
        ("major", c_uint32),
        ("minor", c_uint32),
        ("manager_ctx", c_void_p),
        ("deleter", c_void_p),
        ("flags", c_uint64),
        ("tensor", _DLTensor),
    ]


_CPU = 1
_READ_ONLY = 1
_COPIED = 2
_DLPACK_DTYPES = {
    (2, 32, 1): _c.F32,
    (2, 64, 1): _c.F64,
    (2, 16, 1): _c.F16,
    (4, 16, 1): _c.BF16,
}
_DLPACK_INTEGERS = {(1, 8, 1): U8, (0, 8, 1): I8, (1, 16, 1): U16, (0, 16, 1): I16}

_capsule_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_capsule_is_valid.argtypes = [ctypes.py_object, ctypes.c_char_p]
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_capsule_pointer.restype = c_void_p


def _from_dlpack(array: Any, name: str, integers: bool) -> View:
    try:
        device = int(array.__dlpack_device__()[0])
        if device != _CPU:
            raise ValueError(f"it is on DLPack device type {device}, not in CPU memory")
        try:
            capsule = array.__dlpack__(max_version=(1, 0))
        except TypeError:  # a producer from before version 1
            capsule = array.__dlpack__()
    except Exception as error:
        raise TypeError(f"{name} cannot be read through DLPack: {error}") from error

    # The capsule is only looked into. It frees what it holds when the view is dropped.
    flags = 0
    if _capsule_is_valid(capsule, b"dltensor_versioned"):
        pointer = _capsule_pointer(capsule, b"dltensor_versioned")
        managed = _DLManagedTensorVersioned.from_address(pointer)
        if managed.major != 1:
            raise TypeError(f"{name} comes with DLPack version {managed.major}, not 1")
        flags = managed.flags
        tensor = managed.tensor
    else:
        tensor = _DLTensor.from_address(_capsule_pointer(capsule, b"dltensor"))
    if flags & _COPIED:
        raise TypeError(f"{name} would be copied by its DLPack export")
    kind = (tensor.code, tensor.bits, tensor.lanes)
    dtype = _DLPACK_DTYPES.get(kind)
    if dtype is None and integers:
        dtype = _DLPACK_INTEGERS.get(kind)
    if dtype is None:
        raise TypeError(
            f"{name} is of DLPack type {kind}: must be float32, float64, float16 or bfloat16"
        )
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None
    if strides is not None and _is_contiguous(shape, strides):
        strides = None
    address = (tensor.data or 0) + tensor.byte_offset
    return View(name, capsule, address, dtype, shape, strides, bool(flags & _READ_ONLY))


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    step = 1
    for length, stride in zip(reversed(shape), reversed(strides)):
        if length > 1 and stride != step:
            return 0 in shape
        step *= length
    return True


# ---- what a function can take


def writable(array: View) -> View:
    if array.readonly:
        raise ValueError(f"{array.name} is read-only")
    return array


def dense(array: View) -> View:
    """Refuses an array with gaps between its elements; their order does not matter."""
    if array.strides is None:
        return array
    step = 1
    for stride, length in sorted((s, n) for s, n in zip(array.strides, array.shape) if n > 1):
        if stride != step:
            raise ValueError(
                f"{array.name} is not contiguous (shape {array.shape}, strides in elements "
                f"{array.strides})"
            )
        step *= length
    return array


def same_shape(array: View, other: View) -> View:
    if array.shape != other.shape:
        raise ValueError(
            f"{array.name} has shape {array.shape}, but {other.argument} has {other.shape}"
        )
    return array


def same_layout(array: View, other: View) -> View:
    """Refuses an array whose elements do not lie in the same order as the other's."""
    if same_shape(array, other).strides == other.strides:
        return array
    if array.strides is not None and other.strides is not None:
        pairs = zip(array.strides, other.strides, array.shape)
        if all(one == wanted for one, wanted, length in pairs if length > 1):
            return array
    raise ValueError(
        f"{array.name} has strides in elements {_describe(array)}, "
        f"but {other.argument} {_describe(other)}"
    )


def _describe(array: View) -> str:
    return "row-major" if array.strides is None else str(array.strides)


def matrix(array: View) -> tuple[int, int, int]:
    """Rows, columns and leading dimension of an array of two dimensions with rows in one piece."""
    if len(array.shape) != 2:
        raise ValueError(f"{array.name} has shape {array.shape}: must have two dimensions")
    rows, cols = array.shape
    if array.strides is None:
        return rows, cols, cols
    ld, step = array.strides
    if rows == 1:
        ld = cols
    if (step != 1 and cols > 1) or ld < cols:
        raise ValueError(
            f"{array.name} has strides in elements {array.strides}: the elements of a row must be "
            f"adjacent, and rows at least {cols} apart"
        )
    return rows, cols, ld


def size(array: View) -> int:
    return math.prod(array.shape)
