# SPDX-License-Identifier: Apache-2.0
"""The cases of q8_dynamic.json, q8_companded.json, narrow_masters.json and narrow_moments.json:
8-bit codes, and steps on narrow storage."""

import numpy as np
from formats import Integers, Stored, Vector, bf16_bits, case, expect_short, output, storage_error
from formulas import adamw_unrounded, muon_unrounded
from narrow import (
    Q8,
    Codes,
    joined,
    random_arrays,
    stored_16,
    stored_q8,
    stored_split,
    to_nearest,
)

RESIDUAL_DTYPES = {"LOW16": "U16", "NEAREST16": "I16", "NEAREST8": "I8"}


def stored_scales(q8, stored):
    stored = np.asarray(stored)
    return Vector(Stored("F32", stored) if q8.dynamic else Integers("U16", stored))


# ---- 8-bit codes


def scales_case(dtype, count):
    q8 = Q8(dtype, True)
    blocks = q8.blocks(count)
    expected = {"scales": (blocks, 0), "scale_bytes": (blocks * (4 if q8.dynamic else 2), 0)}
    return case(
        f"{dtype}, {count}",
        "q8_scales",
        {"dtype": dtype, "count": count},
        {name: expect_short(*pair) for name, pair in expected.items()},
    )


def q8_arguments(q8, count):
    return {"dtype": q8.dtype, "is_signed": int(q8.signed), "count": count}


def name_of(q8, what):
    return f"{q8.dtype}, {'first' if q8.signed else 'second'} moments: {what}"


def decode_case(q8, what, codes, scales):
    state = Codes(q8, codes, scales)
    arrays = {
        "codes": Integers(q8.code_dtype, codes),
        "scales": stored_scales(q8, scales),
        "values": output("F32"),
    }
    error = state.error + storage_error("F32", state.exact)
    expected = {"values": expect_short(state.exact, np.where(np.isfinite(error), error, 0))}
    arguments = q8_arguments(q8, len(codes))
    return case(name_of(q8, f"decode {what}"), "q8_decode", arguments, expected, arrays)


def encode_case(q8, what, values):
    values = Stored("F32", values)
    with np.errstate(invalid="ignore"):
        codes, scales = stored_q8(q8, values.exact, np.zeros(len(values.exact)))
        # What the codes are is open where the scale is NaN.
        scale = q8.each(q8.scale_of(scales[0]), len(values.exact))
    codes = np.where(np.isnan(scale), 0, codes[0]), np.where(np.isnan(scale), 255, codes[1])
    scales = scales[0], np.where(np.isnan(scales[0].astype(float)), 0, scales[1])
    arrays = {
        "values": values,
        "codes": output(q8.code_dtype),
        "scales": output(q8.scale_dtype, count=len(scales[0])),
    }
    expected = {"codes": expect_short(*codes), "scales": expect_short(*scales)}
    arguments = q8_arguments(q8, len(values.exact))
    return case(name_of(q8, f"encode {what}"), "q8_encode", arguments, expected, arrays)


def around_every_number(q8, scale):
    """Values at and between the numbers, near the middle on both sides, a whole block at a time;
    each block has its scale as its largest."""
    shifts = np.resize([0, 0.25, -0.25, 0.49, -0.49, 0.499, -0.499], len(q8.places))
    places = np.interp(np.arange(len(q8.places)) + shifts, np.arange(len(q8.places)), q8.places)
    if q8.dynamic:
        return np.append(scale * places[1:-1], [scale, 0.0])
    places = places[np.abs(places) < q8.last - 0.6]
    rows = -(-len(places) // (q8.block - 1))
    values = []
    for i, row in enumerate(np.array_split(places, rows)):
        unit = scale * 1.75**i
        x = row / (254 - np.abs(row)) * unit if q8.signed else (row / 255 * unit) ** 2
        row_largest = unit if q8.signed else unit**2
        values += [*x, *np.zeros(q8.block - 1 - len(x)), row_largest]
    return np.array(values)


def extremes(q8):
    """Short blocks, each a case: (what, values)."""
    sign = np.array([-1.0 if q8.signed else 1.0, 1.0, 1.0, 0.0])
    square = (lambda x: x) if q8.signed or q8.dynamic else np.square
    large, least = (3e38, 1.2e-38) if q8.dynamic else (2.0**20, 2.0**-39)
    found = [
        ("zeros", np.zeros(5)),
        ("one", np.array([square(0.7)])),
        ("large", square(large * np.array([1, 0.29, 0.01, 1e-6])) * sign),
        ("small", square(least * np.array([1, 0.29, 0.01, 0.24])) * sign),
        ("below the least scale", square(least / 4 * np.array([1, 0.29, 0.01, 0.24])) * sign),
        ("the largest is negative" if q8.signed else "far below the largest",
         square(np.array([2, 0.97, 1e-4, 1e-7])) * sign),
        ("NaN", np.array([1.0, np.nan, 0.5])),
        ("infinity", np.array([1.0, np.inf, 0.5])),
    ]  # fmt: skip
    if not q8.dynamic:
        found.append(
            ("above the largest scale", square(2.0**24 * np.array([3, 0.9, 0.2])) * sign[:3])
        )
    return found


def q8_cases(dtype):
    cases = [scales_case(dtype, count) for count in (0, 1, 32, 256, 257, 1000001)]
    for signed in (True, False):
        q8 = Q8(dtype, signed)
        codes = np.arange(q8.first, q8.last + 1)
        blocks = q8.blocks(len(codes))
        scales = [0.3125] if q8.dynamic else [1, 65534, 40 * 1024 + 1, *range(35000, 40000, 1000)]
        cases.append(decode_case(q8, "every code", codes, scales[:blocks]))
        some, odd = codes[::50], np.nan if q8.dynamic else 65535
        cases.append(decode_case(q8, "a scale of zero", some, [0]))
        cases.append(decode_case(q8, "a scale that is no number", some, [odd]))
        cases.append(encode_case(q8, "every code", around_every_number(q8, 0.4375)))
        cases += [encode_case(q8, what, values) for what, values in extremes(q8)]
    return cases


# ---- steps


class Master:
    """A parameter and its residual: `.exact` is both together."""

    error = 0.0

    def __init__(self, rng, kind, dtype, count, exact):
        self.kind, self.dtype = kind, dtype
        self.param = Stored(dtype, rng.standard_normal(count))
        if kind == "KAHAN":
            half_ulp = np.ldexp(1.0, np.frexp(self.param.exact)[1] - (9 if dtype == "BF16" else 12))
            # For exact sums not far below.
            part = rng.uniform(0.1, 1, count) * rng.choice([-1, 1], count)
            self.residual = Stored(dtype, to_nearest(half_ulp * part, 6, -100))
            residual = self.residual.exact
        else:
            low, high = {"LOW16": (0, 65536), "NEAREST16": (-32768, 32768)}.get(kind, (-128, 128))
            residual = rng.integers(low, high, count)
            if exact and kind != "NEAREST8":  # 0.75 of it is a float too
                residual = residual // 4 * 4
            if exact:  # 0.75 of these two is half way between two BF16
                self.param.data[:2] = bf16_bits([174 / 128, -174 / 128])
                self.param.exact[:2] = [174 / 128, -174 / 128]
                residual[:2] = 0
            self.residual = Integers(RESIDUAL_DTYPES[kind], residual)
        self.exact = joined(kind, self.param.exact, residual)


def codes_of(rng, q8, count, scale):
    """Any codes, with scales around that number."""
    codes = rng.integers(q8.first, q8.last + 1, count)
    sizes = scale * rng.uniform(0.5, 2, q8.blocks(count))
    return Codes(q8, codes, sizes.astype(np.float32) if q8.dynamic else q8.stored_scale(sizes))


def moment(rng, dtype, signed, count, plain):
    if not dtype.startswith("Q8"):
        return Stored(dtype, plain)
    return codes_of(rng, Q8(dtype, signed), count, 0.4)


def narrow_arrays(values, master, param_copy):
    """The arrays of a case for {name: what the formulas take}."""
    arrays = {}
    for name, value in values.items():
        if isinstance(value, Master):
            arrays.update({name: value.param, "residual": value.residual})
        elif isinstance(value, Codes):
            arrays[name] = Integers(value.dtype, value.codes)
            arrays[f"{name}_scales"] = stored_scales(value.q8, value.scales)
        else:
            arrays[name] = value
    if param_copy:
        arrays["param_copy"] = output(param_copy)
    return arrays


def narrow_results(values, computed, param_copy, random, slack=0.0):
    """What the results of the formulas become where they are stored; without the statistics and F32
    moments, which adamw.json has."""
    found = {}
    wanted = ("param", "momentum", "exp_avg", "exp_avg_sq", "skipped")
    wanted += ("stats.param_rms", "stats.update_rms")
    computed = {k: pair for k, pair in computed.items() if k in wanted}
    if param_copy:
        found["param_copy"] = stored_16(param_copy, *computed["param"])
    for name, (value, error) in computed.items():
        bits = random.get("exp_avg" if name == "momentum" else name)
        kept = values.get(name)
        if kept is None:
            found[name] = (value, error)
        elif isinstance(kept, Master):
            if kept.kind != "NEAREST8":
                bits = None
            pairs = stored_split(kept.kind, kept.dtype, value, error, bits)
            found["param"], found["residual"] = pairs
        elif isinstance(kept, Codes):
            near = slack if kept.q8.signed else 0.0
            pairs = stored_q8(kept.q8, np.ravel(value), np.ravel(error), bits, near)
            found[name], found[f"{name}_scales"] = pairs
        elif kept.dtype == "F32" and name == "param":
            found[name] = (value, error + storage_error("F32", np.abs(value) + error))
        elif kept.dtype != "F32":
            found[name] = stored_16(kept.dtype, value, error, bits)
    return {name: expect_short(*pair) for name, pair in found.items()}


def adamw_narrow(
    name, *, seed, param="BF16", residual=None, param_copy=None, moments="F32 F32", count=19,
    random=None, exact=None, **options,
):  # fmt: skip
    """`random`: seed, random_stream and first_index, for stochastic rounding. `exact`: arithmetic
    without rounding errors, so that all bits are certain: only "decay", or only "moments" move."""
    rng = np.random.default_rng([6, seed])
    options = {"lr": 3e-2, "weight_decay": 0.1, "step": 10, **options}
    grad = "F32" if param == "F32" else "BF16"
    first, second = moments.split()
    size = np.exp(rng.uniform(-2, 0, count))
    plain = {
        "grad": size * rng.standard_normal(count),
        "exp_avg": 0.3 * size * rng.standard_normal(count),
        "exp_avg_sq": size**2 * rng.uniform(0.5, 1.5, count),
    }
    if exact == "decay":
        options.update(lr=1.0, weight_decay=0.25)
        plain = {k: 0 * x for k, x in plain.items()}
    elif exact == "moments":
        options.update(lr=0.0, beta1=0.75, beta2=0.75)
        plain["grad"] *= 0
    if residual:
        master = Master(rng, residual, param, count, exact)
    else:
        master = Stored(param, rng.standard_normal(count))
    values = {
        "param": master,
        "grad": Stored(grad, plain["grad"]),
        "exp_avg": moment(rng, first, True, count, plain["exp_avg"]),
        "exp_avg_sq": moment(rng, second, False, count, plain["exp_avg_sq"]),
    }
    init = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "grad_scale": 1.0}
    computed = adamw_unrounded(values, (), **{**init, **options})
    if exact:
        computed = {k: (computed[k][0], 0.0) for k in ("param", "exp_avg", "exp_avg_sq")}
        computed["param"] = (np.float64(np.float32(computed["param"][0])), 0.0)
    elif first != "F32":  # 6 ulp instead of 4, and for 8 bits in another order
        computed = {k: (x, e if k.startswith("stats") else 2 * e) for k, (x, e) in computed.items()}
    computed["skipped"] = (0, 0)
    arguments = {"count": count, **options}
    if residual:
        arguments["residual_kind"] = residual
    for key, dtype in (("exp_avg", first), ("exp_avg_sq", second)):
        if dtype.startswith("Q8"):
            arguments[f"{key}_dtype"] = dtype
    bits = {}
    if random:
        arguments.update(flags=["STOCHASTIC_ROUNDING"], **random)
        bits = random_arrays(count, random["seed"], options["step"], random["random_stream"],
                             random["first_index"])  # fmt: skip
    # Both moments companded: first moments are encoded by an approximate quotient.
    slack = 0.01 if first == second == "Q8_COMPANDED" else 0.0
    return case(
        name,
        "adamw_step",
        arguments,
        narrow_results(values, computed, param_copy, bits, slack),
        narrow_arrays(values, master, param_copy),
    )


def muon_narrow(name, *, seed, param="F32", residual=None, param_copy=None, momentum, **options):
    rows, cols = 6, 9
    rng = np.random.default_rng([7, seed])
    options = {"lr": 0.02, "weight_decay": 0.1, "step": 5, **options}
    if residual:
        master = Master(rng, residual, param, rows * cols, None)
    else:
        master = Stored(param, rng.standard_normal((rows, cols)))
    state = moment(rng, momentum, True, rows * cols, 0.05 * rng.standard_normal(rows * cols))
    u, _ = np.linalg.qr(rng.standard_normal((rows, rows)))
    v, _ = np.linalg.qr(rng.standard_normal((cols, cols)))
    values = {
        "param": master,
        # So large that it decides how well u is conditioned.
        "grad": Stored("F32", 200 * (u * np.geomspace(1, 0.5, rows)) @ v[:, :rows].T),
        "momentum": state,
    }
    computed = muon_unrounded(values, rows, cols, options)
    computed = {k: (np.ravel(x), np.ravel(e)) for k, (x, e) in computed.items()}
    computed["skipped"] = (0, 0)
    arguments = {"rows": rows, "cols": cols, **options}
    if residual:
        arguments["residual_kind"] = residual
    if momentum.startswith("Q8"):
        arguments["momentum_dtype"] = momentum
    return case(
        name,
        "muon_step",
        arguments,
        narrow_results(values, computed, param_copy, {}),
        narrow_arrays(values, master, param_copy),
    )


BY_CHANCE = {"seed": 1234567890123456, "random_stream": 7, "first_index": 0}
LATE = {**BY_CHANCE, "random_stream": 8, "first_index": 2**32 - 9}  # the upper half changes
Q8S = {"dynamic": "Q8_DYNAMIC Q8_DYNAMIC", "companded": "Q8_COMPANDED Q8_COMPANDED"}


def master_cases():
    cases = []
    for i, kind in enumerate(("LOW16", "NEAREST16", "NEAREST8", "KAHAN")):
        cases.append(adamw_narrow(kind, residual=kind, seed=10 + i))
        cases.append(adamw_narrow(f"{kind}, exact", residual=kind, seed=20 + i, exact="decay"))
    by_chance = {"residual": "NEAREST8", "random": BY_CHANCE}
    return cases + [
        adamw_narrow("NEAREST8 by chance", residual="NEAREST8", random=LATE, seed=30),
        adamw_narrow("NEAREST8 by chance, exact", exact="decay", seed=31, **by_chance),
        adamw_narrow("KAHAN, F16", param="F16", residual="KAHAN", seed=32),
        adamw_narrow("KAHAN, BF16 moments", residual="KAHAN", moments="BF16 BF16", seed=33),
        adamw_narrow("F32, BF16 copy", param="F32", param_copy="BF16", seed=34),
        adamw_narrow("F32, F16 copy", param="F32", param_copy="F16", seed=35),
        adamw_narrow("LOW16, Q8_COMPANDED", residual="LOW16", moments=Q8S["companded"], seed=36),
        adamw_narrow(
            "NEAREST16, Q8_DYNAMIC", residual="NEAREST16", moments=Q8S["dynamic"], seed=37
        ),
        adamw_narrow(
            "LOW16, Q8_COMPANDED, F32", residual="LOW16", moments="Q8_COMPANDED F32", seed=38
        ),
        muon_narrow("Muon, BF16 copy", momentum="F32", param_copy="BF16", seed=1),
        muon_narrow(
            "Muon, NEAREST16", param="BF16", residual="NEAREST16", momentum="Q8_COMPANDED", seed=2
        ),
        muon_narrow("Muon, KAHAN", param="BF16", residual="KAHAN", momentum="BF16", seed=3),
    ]


def moment_cases():
    dynamic, companded, bf16 = Q8S["dynamic"], Q8S["companded"], "BF16 BF16"
    return [
        adamw_narrow("BF16 by chance, exact", random=BY_CHANCE, exact="decay", count=64, seed=50),
        adamw_narrow("BF16 by chance, late, exact", random=LATE, exact="decay", seed=51),
        adamw_narrow(
            "BF16 moments by chance, exact", random=LATE, exact="moments", moments=bf16, count=40,
            seed=52,
        ),
        adamw_narrow("BF16 by chance", random=BY_CHANCE, moments=bf16, seed=53),
        adamw_narrow("BF16 by chance, F32 moments", random=LATE, seed=54),
        adamw_narrow("Q8_DYNAMIC", moments=dynamic, count=260, seed=55),
        adamw_narrow("Q8_DYNAMIC by chance", moments=dynamic, count=100, random=LATE, seed=56),
        adamw_narrow("Q8_COMPANDED", moments=companded, count=70, seed=57),
        adamw_narrow("Q8_COMPANDED, F32", param="F32", moments=companded, count=33, seed=58),
        adamw_narrow("Q8_COMPANDED by chance", moments=companded, count=70, random=LATE, seed=59),
        adamw_narrow("Q8_COMPANDED, Q8_DYNAMIC", moments="Q8_COMPANDED Q8_DYNAMIC", seed=60),
        adamw_narrow(
            "Q8_DYNAMIC, Q8_COMPANDED by chance", moments="Q8_DYNAMIC Q8_COMPANDED",
            random=BY_CHANCE, seed=61,
        ),
        muon_narrow("Muon, Q8_DYNAMIC", momentum="Q8_DYNAMIC", seed=4),
        muon_narrow(
            "Muon, Q8_COMPANDED, CLASSIC", momentum="Q8_COMPANDED", momentum_kind="CLASSIC", seed=5
        ),
    ]  # fmt: skip
