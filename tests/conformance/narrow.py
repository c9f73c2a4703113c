# SPDX-License-Identifier: Apache-2.0
"""Narrow storage by the rules of steepest.h ("narrow storage") and docs/decisions/0008, in integers
and float64. Values are numbers, and what they are rounded to are numbers too; codes and residuals
are integers. Every rounding is monotone, so that what an uncertain value may become lies between
what its ends become."""

import numpy as np

# ---- random numbers by counter


def scramble(x):
    x %= 1 << 64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % (1 << 64)
    x = (x ^ x >> 27) * 0x94D049BB133111EB % (1 << 64)
    return x ^ x >> 31


def random_bits(seed, step, stream, index):
    """The 16 bits of one element for the parameter, the first and the second moment."""
    golden, low32 = 0x9E3779B97F4A7C15, (1 << 32) - 1
    state = scramble(seed + golden)
    state = scramble(state + golden + step)
    state = scramble(state + golden + stream)
    inverted = scramble(~state)
    add = scramble(state + (index >> 32) * golden) & low32
    w = (index + add) & low32
    w = (w ^ w >> 16) * 0x21F0AAAD & low32
    w = (w ^ w >> 15 ^ inverted & low32) * 0x735A2D97 & low32
    w ^= w >> 15
    second = (w ^ inverted >> 32) * 0xC2B2AE35 & low32
    return {"param": w & 0xFFFF, "exp_avg": w >> 16, "exp_avg_sq": second >> 16}


def random_arrays(count, seed, step, stream, first_index):
    rows = [random_bits(seed, step, stream, first_index + i) for i in range(count)]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


# ---- 16 bits and residuals


def f32_bits(x):
    return np.asarray(x, np.float64).astype(np.float32).view(np.uint32).astype(np.int64)


def from_bits(bits):
    return np.asarray(bits).astype(np.uint32).view(np.float32).astype(np.float64)


def to_nearest(x, digits, least_exponent):
    """To so many binary digits, halves to even."""
    exponent = np.maximum(np.frexp(np.where(x == 0, 1, x))[1] - 1, least_exponent)
    quantum = np.ldexp(1.0, exponent - (digits - 1))
    return np.rint(x / quantum) * quantum


def to_16(dtype, x, random=None):
    if dtype == "F16":
        return to_nearest(x, 11, -14)
    if random is None:
        return to_nearest(x, 8, -126)
    return from_bits((f32_bits(x) + random) // 65536 * 65536)


def joined(kind, param, residual):
    """The master, a float."""
    if kind == "KAHAN":
        return (param.astype(np.float32) + residual.astype(np.float32)).astype(np.float64)
    scale = 256 if kind == "NEAREST8" else 1
    return from_bits(f32_bits(param) + residual * scale)


def split(kind, dtype, master, random=None):
    """(param, residual)."""
    if kind == "KAHAN":
        master = np.asarray(master, np.float64).astype(np.float32).astype(np.float64)
        param = to_16(dtype, master)
        return param, to_16(dtype, master - param)
    bits = f32_bits(master)
    if kind == "LOW16":
        return from_bits(bits // 65536 * 65536), bits % 65536
    if kind == "NEAREST8":
        up = 127 + bits // 256 % 2 if random is None else random // 256
        bits = (bits + up) // 256 * 256
    high = (bits + 32768) // 65536 * 65536
    return from_bits(high), (bits - high) // (256 if kind == "NEAREST8" else 1)


# ---- 8-bit blocks


def dynamic_numbers(signed):
    """The dynamic tree: seven decades of evenly spaced numbers, 0 and 1."""
    numbers = [0.0, 1.0]
    for i in range(7):
        count = 2**i if signed else 2 ** (i + 1)
        for f in range(count):
            x = 10.0 ** (i - 6) * (0.1 + 0.9 * (f + 0.5) / count)
            numbers += [x, -x] if signed else [x]
    return np.sort(numbers)


class Q8:
    """One of the four maps. Codes are 0..255, of a companded first moment -127..127."""

    def __init__(self, dtype, signed):
        self.dtype, self.signed = dtype, signed
        self.dynamic = dtype == "Q8_DYNAMIC"
        self.block = 256 if self.dynamic else 32
        self.code_dtype = "I8" if signed and not self.dynamic else "U8"
        self.scale_dtype = "F32" if self.dynamic else "U16"
        self.first = -127 if self.code_dtype == "I8" else 0
        self.last = 127 if self.code_dtype == "I8" else 255
        q = np.arange(self.first, self.last + 1.0)
        # What a code stands for at scale 1, and where it is among values to be rounded to nearest.
        if self.dynamic:
            self.numbers = self.places = dynamic_numbers(signed)
        elif signed:
            self.numbers, self.places = q / (254 - np.abs(q)), q
        else:
            self.numbers, self.places = (q / 255) ** 2, q
        # A second moment that is not 0 does not become 0.
        self.never_zero = not self.dynamic and not signed

    def blocks(self, count):
        return -(-count // self.block)

    def each(self, scales, count):
        """The scale of every element."""
        return np.repeat(scales, self.block)[:count]

    # -- scales: what is stored (a float, or an integer), and the number

    def scale_of(self, stored):
        if self.dynamic:
            return np.asarray(stored, np.float64)
        stored = np.asarray(stored)
        x = np.ldexp(1 + stored % 1024 / 1024, stored // 1024 - 40)
        return np.where(stored == 0, 0, np.where(stored == 65535, np.nan, x))

    def stored_scale(self, largest, up=False):
        """For a largest magnitude; the 16-bit ones to nearest, or up."""
        if self.dynamic:
            x = np.asarray(largest, np.float64).astype(np.float32).astype(np.float64)
            return np.where(np.isfinite(x), np.where(x < 2.0**-126, 0, x), np.nan)
        x = np.asarray(largest, np.float64)
        finite = np.where(np.isfinite(x), x, 1.0)
        root = finite if self.signed else np.sqrt(finite)
        exponent = np.frexp(np.where(root == 0, 1, root))[1] - 1
        fraction = np.ldexp(root, 10 - exponent)  # 1024 to 2047
        whole = (np.ceil if up else np.rint)(fraction).astype(np.int64)
        code = (exponent + 40) * 1024 + whole - 1024
        code = np.clip(np.where(root == 0, 0, code), 0, 65534)
        return np.where(np.isfinite(x), code, 65535)

    # -- codes

    def decode(self, codes, scales):
        """Values, from the scale of every element."""
        unit = scales if self.dynamic or self.signed else scales**2
        # With a scale of 0 or NaN all codes are that.
        return np.where(scales == 0, 0, self.numbers[codes - self.first] * unit)

    def place(self, value, scales):
        """Of values, scaled, in the space where they are rounded to nearest."""
        if self.dynamic:
            return value / scales
        if not self.signed:
            return 255 * np.sqrt(np.maximum(value, 0)) / scales
        return 254 * value / (scales + np.abs(value))

    def nearest(self, value, scales):
        x = self.place(value, np.where(scales == 0, 1, scales))
        return self.nearest_to_place(x, value, scales)

    def nearest_to_place(self, x, value, scales):
        codes = np.searchsorted((self.places[1:] + self.places[:-1]) / 2, x) + self.first
        if self.never_zero:
            codes = np.where(value > 0, np.maximum(codes, 1), codes)
        return np.where(scales == 0, self.zero(), codes)

    def zero(self):
        return 127 if self.dynamic and self.signed else 0

    def stochastic(self, value, scales, random):
        """Away from zero if the place between the two neighbours is above u."""
        negative = value < 0
        size = np.where(negative, -self.numbers[::-1][:, None], self.numbers[:, None])
        x = np.abs(value) / (scales if self.dynamic or self.signed else scales**2)
        # Of every element's sign: numbers rise; `below` is the last that is at most x.
        below = np.sum(size <= x, axis=0) - 1
        last = len(self.numbers) - 1
        above = np.minimum(below + 1, last)
        every = np.arange(len(x))
        low, high = size[below, every], size[above, every]
        gap = np.where(high > low, high - low, 1)
        up = (x - low) / gap > (random + 0.5) / 65536
        if self.never_zero:
            up |= (low == 0) & (x > 0)
        index = np.where(up, above, below)
        return np.where(negative, last - index, index) + self.first


class Codes:
    """Codes with their scales as arrays of a case; `.exact` are the values, `.error` is how far the
    library's arithmetic may be from them."""

    def __init__(self, q8, codes, stored_scales):
        self.q8, self.codes, self.scales = q8, np.asarray(codes), np.asarray(stored_scales)
        self.dtype = q8.code_dtype
        scales = q8.each(q8.scale_of(self.scales), len(self.codes))
        self.exact = q8.decode(self.codes, scales)
        self.error = (3 if q8.signed or q8.dynamic else 5) * 2.0**-23 * np.abs(self.exact)


# ---- what becomes of an uncertain value


def between(center, *ends):
    """(value, tolerance) of what may be any of them."""
    off = [np.abs(np.asarray(end, np.float64) - center) for end in ends]
    return center, np.max(off, axis=0)


def stored_16(dtype, value, error, random=None):
    ends = [value - error, value + error]
    return between(to_16(dtype, value, random), *(to_16(dtype, x, random) for x in ends))


def stored_split(kind, dtype, value, error, random=None):
    """Of param and residual. No element may be so near to the border of two params that its
    residual is anything."""
    center = split(kind, dtype, value, random)
    ends = [split(kind, dtype, x, random) for x in (value - error, value + error)]
    pairs = [between(center[i], *(end[i] for end in ends)) for i in (0, 1)]
    assert np.all(pairs[0][1] == 0), "take another seed"
    return pairs


def stored_q8(q8, value, error, random=None, slack=0.0):
    """Of codes and stored scales. `slack`: in codes, of nearest codes or of places between them."""
    low, high = value - error, value + error
    if not q8.signed:
        low = np.maximum(low, 0)
    count, blocks = len(value), q8.blocks(len(value))

    def largest(x):
        padded = np.zeros(blocks * q8.block)
        padded[:count] = x
        return np.max(padded.reshape(blocks, q8.block), axis=1)

    size = np.abs(value)
    stored = [
        q8.stored_scale(largest(x), random is not None)
        for x in (size, np.maximum(size - error, 0), size + error)
    ]
    scales = [q8.each(q8.scale_of(x), count) for x in stored]
    codes = []
    rounding = 2.0**-21  # of the quotient
    for x in (value, low, high):
        for scale in scales:
            for factor in (1, 1 - rounding, 1 + rounding):
                y = x * factor
                if random is None:
                    safe = np.where(scale == 0, 1, scale)
                    place = q8.place(y, safe)
                    codes += [
                        q8.nearest_to_place(place + s, value, scale) for s in (0, -slack, slack)
                    ]
                else:
                    shifts = (0, -65536 * slack, 65536 * slack)
                    codes += [q8.stochastic(y, scale, random + s) for s in shifts]
    return between(codes[0], *codes[1:]), between(*stored)
