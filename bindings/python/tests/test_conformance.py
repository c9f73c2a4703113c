# SPDX-License-Identifier: Apache-2.0
"""The vectors of tests/conformance (README.md there has the format), by the package's functions and
by direct C calls, which must give the same bits."""

import ctypes
import json
from ctypes import byref, c_double, c_int32, c_int64
from pathlib import Path

import numpy as np
import pytest
import steepest
from steepest import _c
from support import BF16, f64

DIRECTORY = Path(__file__).parents[3] / "tests/conformance"
CASES = [
    case
    for path in sorted(DIRECTORY.glob("*.json"))
    for case in json.loads(path.read_text())["cases"]
]
TYPES = {"F32": np.float32, "F64": np.float64, "BF16": BF16, "F16": np.float16}
INTEGERS = {"U8": np.uint8, "I8": np.int8, "U16": np.uint16, "I16": np.int16}
STATS = [name for name, *_ in _c.StepStats._fields_ if name not in ("struct_size", "reserved")]
ENUMS = ("kind", "decay_shape", "scale_mode", "momentum_kind", "mode", "method", "coefficients")


def number(x):
    return float(x) if isinstance(x, str) else x


def array(given, arguments):
    """As the case lays it out, with sevens in the gaps between rows."""
    kind = np.dtype({**TYPES, **INTEGERS}[given["dtype"]])
    rows, cols = arguments.get("rows", 1), arguments.get("cols", arguments.get("count"))
    if "count" in given:
        rows, cols = 1, given["count"]
    if cols is None:
        cols = len(given["values"])
    whole = np.full((rows, given.get("ld", cols)), 7).astype(kind)
    result = whole[:, :cols]
    if "values" in given:
        values = [number(x) for x in given["values"]]
        if given["dtype"] in ("BF16", "F16"):
            result[...] = np.uint16(values).view(kind).reshape(rows, cols)
        else:
            result[...] = np.reshape(values, (rows, cols))
    return result if "rows" in arguments and "count" not in given else result[0]


def arrays_of(case):
    return {k: array(v, case["arguments"]) for k, v in case.get("arrays", {}).items()}


def gaps_untouched(x):
    if x.ndim < 2 or x.base is None:
        return True
    return bool(np.all(f64(x.base)[:, x.shape[1] :] == 7))


def options_of(arguments, *without):
    """The case's arguments as the package spells them."""
    options = {k: v for k, v in arguments.items() if k not in (*without, "flags")}
    for name in ENUMS:
        if name in options:
            options[name] = options[name].lower()
    if "compute_dtype" in options:
        options["compute_dtype"] = np.dtype(TYPES[options["compute_dtype"]]).name
    if "msign" in options:
        options["msign"] = steepest.MsignConfig(**options_of(options["msign"]))
    for flag in arguments.get("flags", []):
        options[flag.lower()] = True
    return options


def codes(name, x):
    """Codes are uint8, also the signed ones."""
    return x.view(np.uint8) if x.dtype == np.int8 and name != "residual" else x


def run_step(case, arrays):
    arguments = case["arguments"]
    # The kinds of residuals and codes follow from the types of the arrays.
    given_by_arrays = ("residual_kind", "exp_avg_dtype", "exp_avg_sq_dtype", "momentum_dtype")
    options = options_of(arguments, "rows", "cols", "count", *given_by_arrays)
    for name in ("amsgrad", "emit_delta"):
        options.pop(name, None)
    if case["function"] == "muon_step":
        options["nesterov"] = "NESTEROV" in arguments.get("flags", ["NESTEROV"])
    else:
        options.setdefault("step", 1)
    given = {k.replace("momentum", "momentum_buffer"): codes(k, v) for k, v in arrays.items()}
    stats = []
    done = getattr(steepest, case["function"])(**given, **options, stats=stats)
    result = {f"stats.{name}": getattr(stats[0], name) for name in STATS}
    return {**result, "skipped": not done}


def run_msign(case, arrays):
    stats = []
    options = options_of(case["arguments"], "rows", "cols")
    steepest.msign(arrays["x"], arrays["out"], stats=stats, **options)
    return {"stats.rank": stats[0].rank}


def run_q8(case, arrays):
    function, arguments = case["function"], case["arguments"]
    if function == "q8_scales":
        scales, size = c_int64(), c_int64()
        kind = getattr(_c, arguments["dtype"])
        call = _c.lib.steepest_q8_scales
        _c.check(call(kind, arguments["count"], byref(scales), byref(size)))
        return {"scales": scales.value, "scale_bytes": size.value}
    signed = bool(arguments["is_signed"])
    if function == "q8_decode":
        state = codes("codes", arrays["codes"]), arrays["scales"]
        return {"values": steepest.q8_decode(*state, signed=signed)}
    made = steepest.q8_encode(arrays["values"], arguments["dtype"].lower(), signed=signed)
    return {"codes": made[0].view(arrays["codes"].dtype), "scales": made[1]}


def run_value(case, arrays):
    """Functions of numbers, vectors and matrices."""
    function, arguments = case["function"], case["arguments"]
    options = options_of(arguments)
    call = getattr(steepest, function)
    if function in ("grad_norm", "rms"):
        result = call([arrays[name] for name in sorted(arrays)])
        if function == "rms":
            return {"rms": result}
        return {"norm": result.norm, "nonfinite": result.nonfinite}
    if function in ("singular_values", "spectral_norm"):
        return {next(iter(case["expected"])): call(arrays["x"])}
    if function == "singular_entropy":
        return {"entropy": call(np.array(arguments["values"]))}
    if function in ("schedule_fill", "schedule_at"):
        return {"lr": call(options.pop("kind"), options.pop("total_steps"), **options)}
    if function in ("schedule_bound", "schedule_optimal"):
        options["grad_norm"] = options.pop("grad_norms", options.get("grad_norm"))
    result = call(**options)
    if function == "schedule_optimal":
        return {"lr": result[0], "bound": result[1]}
    return {next(iter(case["expected"])): result}


def run(case, arrays):
    if case["function"].startswith("q8_"):
        return run_q8(case, arrays)
    steps = {"adamw_step": run_step, "muon_step": run_step, "msign": run_msign}
    return steps.get(case["function"], run_value)(case, arrays)


def agrees(got, expected):
    got = np.ravel(f64(got))
    values = np.array([number(x) for x in expected["values"]])
    tolerance = np.array(expected["tolerance"])
    assert got.shape == values.shape
    nan = np.isnan(values)
    assert np.array_equal(np.isnan(got), nan)
    off = np.abs(np.where(nan, 0, got) - np.where(nan, 0, values))
    assert np.all(off <= tolerance), f"off by {np.max(off - tolerance)} more than the tolerance"


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['function']}: {c['name']}")
def test_vector(case):
    arrays, before = arrays_of(case), arrays_of(case)
    results = {**arrays, **run(case, arrays)}
    for name, expected in case["expected"].items():
        if name not in results and name == "nonfinite":
            continue  # the package's rms() gives the RMS alone
        agrees(results[name], expected)
    for name, x in arrays.items():
        assert gaps_untouched(x), name
        if name in ("x", "grad"):
            assert x.tobytes() == before[name].tobytes()


# ---- the same bits as a C call


def set_fields(struct, arguments, prefixes):
    names = {field[0] for field in struct._fields_}
    for name, value in arguments.items():
        if name == "flags":
            struct.flags = sum(getattr(_c, f"{prefixes['flags']}_{flag}") for flag in value)
        elif name in names and name not in ("blocks", "msign"):
            prefix = prefixes.get(name)
            struct_value = value if prefix is None else getattr(_c, prefix + value)
            setattr(struct, name, struct_value)
    return struct


def set_arrays(tensor, given, arrays):
    for name, x in arrays.items():
        setattr(tensor, name, x.ctypes.data)
        if hasattr(tensor, f"{name}_dtype") and given[name]["dtype"] in TYPES:
            setattr(tensor, f"{name}_dtype", getattr(_c, given[name]["dtype"]))
        if hasattr(tensor, f"{name}_ld"):
            setattr(tensor, f"{name}_ld", given[name].get("ld", 0))


MSIGN = {
    "flags": "MSIGN",
    "method": "MSIGN_",
    "coefficients": "COEF_",
    "normalization": "NORM_",
    "compute_dtype": "",
}
MUON = {"flags": "MUON", "scale_mode": "SCALE_", "momentum_kind": "MOMENTUM_"}
TENSOR = {
    "residual_kind": "RESIDUAL_",
    "exp_avg_dtype": "",
    "exp_avg_sq_dtype": "",
    "momentum_dtype": "",
}


def c_step(case, arrays):
    arguments = case["arguments"]
    if case["function"] == "adamw_step":
        config = set_fields(_c.new(_c.AdamwConfig), arguments, {"flags": "ADAMW"})
        tensor = _c.new(_c.AdamwTensor)
        extra = ()
    else:
        config = set_fields(_c.new(_c.MuonConfig), arguments, MUON)
        tensor = _c.new(_c.MuonTensor)
        extra = (None,)
        if "msign" in arguments:
            msign = set_fields(_c.new(_c.MsignConfig), arguments["msign"], MSIGN)
            config.msign = ctypes.pointer(msign)
        if "blocks" in arguments:
            sizes = arguments["blocks"]
            tensor.blocks = (c_int64 * len(sizes))(*sizes)
            tensor.block_count = len(sizes)
    of_config = ("flags", "momentum")
    set_fields(tensor, {k: v for k, v in arguments.items() if k not in of_config}, TENSOR)
    set_arrays(tensor, case["arrays"], arrays)
    skipped = c_int32()
    config.skipped = ctypes.pointer(skipped)
    stats = _c.new(_c.StepStats)
    call = getattr(_c.lib, f"steepest_{case['function']}")
    _c.check(call(_c.context(None), byref(config), byref(tensor), 1, *extra, byref(stats)))
    return {f"stats.{name}": getattr(stats, name) for name in STATS} | {"skipped": skipped.value}


def c_msign(case, arrays):
    arguments, given = case["arguments"], case["arrays"]
    config = set_fields(_c.new(_c.MsignConfig), arguments, MSIGN)
    rows, cols = arguments["rows"], arguments["cols"]
    x, out = arrays["x"].ctypes.data, arrays["out"].ctypes.data
    lds = [given[name].get("ld", 0) for name in ("x", "out")]
    kind = getattr(_c, given["x"]["dtype"])
    stats = _c.new(_c.MsignStats)
    _c.check(
        _c.lib.steepest_msign(
            _c.context(None), byref(config), rows, cols, kind, x, lds[0], out, lds[1], None,
            byref(stats),
        )
    )  # fmt: skip
    return {"stats.rank": stats.rank}


def c_q8(case, arrays):
    arguments = case["arguments"]
    kind, signed = getattr(_c, arguments["dtype"]), arguments["is_signed"]
    call = getattr(_c.lib, f"steepest_{case['function']}")
    order = ("values", "codes", "scales") if "encode" in case["function"] else (
        "codes", "scales", "values")  # fmt: skip
    pointers = [arrays[name].ctypes.data for name in order]
    _c.check(call(_c.context(None), kind, signed, arguments["count"], *pointers))
    return {}


def c_schedule(case, arrays):
    arguments = case["arguments"]
    kinds = {"kind": "SCHEDULE_", "decay_shape": "DECAY_"}
    schedule = set_fields(_c.new(_c.Schedule), arguments, kinds)
    lr = np.empty(arguments["total_steps"])
    _c.check(
        _c.lib.steepest_schedule_fill(byref(schedule), arguments["total_steps"], lr.ctypes.data)
    )
    at = c_double()
    step = arguments.get("step", 1)
    _c.check(
        _c.lib.steepest_schedule_at(byref(schedule), arguments["total_steps"], step, byref(at))
    )
    return {"lr": at.value if "step" in arguments else lr}


C_CALLS = {
    "adamw_step": c_step,
    "muon_step": c_step,
    "msign": c_msign,
    "q8_encode": c_q8,
    "q8_decode": c_q8,
    "schedule_fill": c_schedule,
    "schedule_at": c_schedule,
}


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case["function"] in C_CALLS],
    ids=lambda c: f"{c['function']}: {c['name']}",
)
def test_same_bits_as_a_c_call(case):
    ours, theirs = arrays_of(case), arrays_of(case)
    ours = {**ours, **run(case, ours)}
    theirs = {**theirs, **C_CALLS[case["function"]](case, theirs)}
    assert ours.keys() == theirs.keys()
    for name, x in ours.items():
        y = theirs[name]
        if isinstance(x, np.ndarray):
            assert x.tobytes() == y.tobytes(), name
        else:
            assert x == y or np.isnan(x) and np.isnan(y), name
