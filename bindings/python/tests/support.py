# SPDX-License-Identifier: Apache-2.0
import ml_dtypes
import numpy as np
from hypothesis import strategies as st

BF16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": BF16}
# Half an ulp at 1, and half the smallest denormal.
ROUNDING = {
    "float32": (2.0**-24, 2.0**-150),
    "float64": (2.0**-53, 0.0),
    "float16": (2.0**-11, 2.0**-25),
    "bfloat16": (2.0**-8, 2.0**-134),
}


def f64(array):
    return np.asarray(array).astype(np.float64)


def rounding(array, terms):
    """How far a stored result may be off: a few ulp of the arithmetic and the storage's half."""
    relative, absolute = ROUNDING[array.dtype.name]
    arithmetic = 4 * min(2 * relative, 2.0**-23)
    return (arithmetic + relative) * terms + absolute


def embed(values, dtype, *, axes=None, offset=0):
    """The values in a larger buffer, `offset` elements from its start, stored in the order of
    `axes`. The buffer has a margin, which no call may touch: see margins_untouched."""
    axes = axes or tuple(range(values.ndim))
    stored = values.transpose(axes)
    buffer = np.full(offset + values.size + 3, 7.0).astype(dtype)
    inside = buffer[offset : offset + values.size].reshape(stored.shape)
    array = inside.transpose(np.argsort(axes)) if values.ndim else inside
    array[...] = values
    return array


def margins_untouched(array, offset):
    buffer = array
    while buffer.base is not None:
        buffer = buffer.base
    margin = np.concatenate([buffer[:offset], buffer[offset + array.size :]])
    return bool(np.all(margin.astype(np.float64) == 7.0))


def strided(values, dtype, gap):
    """A matrix with `gap` elements between the rows."""
    rows, cols = values.shape
    array = np.full((rows, cols + gap), 7.0).astype(dtype)[:, :cols]
    array[...] = values
    return array


storage = st.sampled_from(["float32", "bfloat16", "float16"])
seeds = st.integers(0, 2**32 - 1)
