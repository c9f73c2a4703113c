# SPDX-License-Identifier: Apache-2.0
"""Storage types as NumPy arrays of bits and back, and the JSON of a case."""

import json

import numpy as np

# Of the storage types: digits of precision, half of the smallest denormal.
DIGITS = {"F32": 24, "F64": 53, "BF16": 8, "F16": 11}
HALF_DENORMAL = {"F32": 2.0**-150, "F64": 0.0, "BF16": 2.0**-134, "F16": 2.0**-25}


def bf16_bits(values):
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def bits_to_f64(dtype, bits):
    bits = np.asarray(bits)
    if dtype == "BF16":
        return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return bits.astype(np.uint16).view(np.float16).astype(np.float64)


class Stored:
    """An input array: values rounded to their storage type; `.exact` is what is stored, `.error`
    how far the library may be from that when it reads it."""

    error = 0.0

    def __init__(self, dtype, values, ld=None):
        values = np.asarray(values, np.float64)
        self.dtype, self.ld = dtype, ld
        if dtype == "BF16":
            self.data = bf16_bits(values)
            self.exact = bits_to_f64(dtype, self.data)
        elif dtype == "F16":
            self.data = values.astype(np.float16).view(np.uint16)
            self.exact = bits_to_f64(dtype, self.data)
        else:
            self.data = values.astype(np.float32 if dtype == "F32" else np.float64)
            self.exact = self.data.astype(np.float64)

    def json(self):
        values = [number(x) for x in self.data.ravel().tolist()]
        if self.dtype == "F32":  # the shortest decimal that is this float
            values = [
                number(float(str(np.float32(x)))) if np.isfinite(x) else number(float(x))
                for x in self.data.ravel()
            ]
            assert np.array_equal(
                np.float32([x if not isinstance(x, str) else float(x) for x in values]),
                self.data.ravel(),
                equal_nan=True,
            )
        result = {"dtype": self.dtype, "values": values}
        if self.ld is not None:
            result["ld"] = self.ld
        return result


class Integers:
    """An array of codes, residuals or scales: U8, I8, U16 or I16."""

    def __init__(self, dtype, values):
        self.dtype, self.data = dtype, np.asarray(values)

    def json(self):
        return {"dtype": self.dtype, "values": [int(x) for x in self.data.ravel()]}


class Vector:
    """An array with a length of its own, whatever the size of the tensor: scales."""

    def __init__(self, array):
        self.array = array

    def json(self):
        return {**self.array.json(), "count": len(self.array.data)}


def output(dtype, ld=None, count=None):
    given = {"dtype": dtype, "ld": ld, "count": count}
    return {name: value for name, value in given.items() if value is not None}


def storage_error(dtype, values):
    """Half an ulp of what a stored value can be off."""
    return 2.0 ** -DIGITS[dtype] * np.abs(values) + HALF_DENORMAL[dtype]


def number(x):
    if isinstance(x, (int, np.integer)):
        return int(x)
    x = float(x)
    if np.isnan(x):
        return "nan"
    if np.isinf(x):
        return "inf" if x > 0 else "-inf"
    return x


def expect(values, tolerance):
    values = np.atleast_1d(np.asarray(values, np.float64)).ravel()
    tolerance = np.atleast_1d(np.asarray(tolerance, np.float64)).ravel()
    assert tolerance.size in (1, values.size) and np.all(np.isfinite(tolerance))
    # Three digits are enough of a tolerance; rounded up.
    rounded = [float(f"{1.005 * t:.2e}") if t else 0.0 for t in tolerance]
    return {"values": [number(x) for x in values], "tolerance": rounded}


def expect_short(values, tolerance):
    """Where a tolerance is not 0, with no more digits than it needs; one tolerance if all agree."""
    result = expect(values, tolerance)
    tolerance = np.broadcast_to(result["tolerance"], len(result["values"]))

    def short(x, tolerance):
        if isinstance(x, str):
            return x
        if tolerance:
            x = float(f"{x:.12g}")
        return int(x) if abs(x) < 2**31 and x == int(x) else x

    result["values"] = [short(x, t) for x, t in zip(result["values"], tolerance)]
    if len(set(result["tolerance"])) == 1:
        result["tolerance"] = result["tolerance"][:1]
    return result


def case(name, function, arguments, expected, arrays=None):
    result = {"name": name, "function": function, "arguments": arguments}
    if arrays:
        result["arrays"] = {k: v if isinstance(v, dict) else v.json() for k, v in arrays.items()}
    result["expected"] = expected
    return result


def text(cases):
    """Of a file."""
    names = [c["name"] for c in cases]
    assert len(set(names)) == len(names)
    lines = ",\n".join(json.dumps(c, separators=(",", ":"), allow_nan=False) for c in cases)
    return '{"format":"steepest-conformance","version":1,"cases":[\n' + lines + "\n]}\n"
