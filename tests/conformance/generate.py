# SPDX-License-Identifier: Apache-2.0
"""Writes the *.json beside it (README.md describes them): the cases. formulas.py has the formulas,
formats.py the format; narrow.py and narrow_cases.py are for narrow storage. With --check nothing is
written: the cases are made anew and compared with the files, as compare.py says; the status is 1 if
one differs."""

import json
import pathlib
import sys

import numpy as np
from compare import differences
from formats import Stored, case, expect, output, text
from formulas import (
    adamw,
    mean_square_weight,
    msign,
    msign_tolerance,
    muon,
    rates,
    scale_factor,
    schedule_bound,
    schedule_optimal,
    schedule_refine,
    singular_entropy,
    update_rms_second_order,
)
from narrow_cases import master_cases, moment_cases, q8_cases

HERE = pathlib.Path(__file__).parent
ADAMW_INIT = {
    "lr": 1e-3,
    "beta1": 0.9,
    "beta2": 0.999,
    "eps": 1e-8,
    "weight_decay": 1e-2,
    "grad_scale": 1.0,
    "step": 1,
}


def results(values):
    return {name: expect(*pair) for name, pair in values.items()}


# ---- AdamW


def adamw_case(name, dtypes, *, count=19, flags=(), seed=0, zeros=(), **options):
    rng = np.random.default_rng([1, seed])
    dtypes = dtypes.split()
    dtypes = dtypes * 4 if len(dtypes) == 1 else dtypes
    # Gradients of all sizes, and moments as such gradients leave them.
    size = np.exp(rng.uniform(-6, 1, count))
    values = {
        "param": rng.standard_normal(count),
        "grad": size * rng.standard_normal(count),
        "exp_avg": 0.3 * size * rng.standard_normal(count),
        "exp_avg_sq": size**2 * rng.uniform(0.5, 1.5, count),
    }
    for values_of in values.values():
        values_of[list(zeros)] = 0
    arrays = {k: Stored(d, v) for (k, v), d in zip(values.items(), dtypes)}
    if "AMSGRAD" in flags:
        largest = values["exp_avg_sq"] * rng.uniform(0.5, 2, count)
        arrays["max_exp_avg_sq"] = Stored(dtypes[3], largest)
    computed = adamw(arrays, flags, **{**ADAMW_INIT, **options})
    arguments = {"count": count, **options}
    if flags:
        arguments["flags"] = list(flags)
    if "EMIT_DELTA" in flags:
        arrays["delta"] = output("F32")
        computed["param"] = (arrays["param"].exact, 0)
    computed["skipped"] = (0, 0)
    return case(name, "adamw_step", arguments, results(computed), arrays)


def skipped_case():
    rng = np.random.default_rng(9)
    arrays = {k: Stored("F32", rng.standard_normal(5)) for k in ("param", "grad", "exp_avg")}
    arrays["exp_avg_sq"] = Stored("F32", rng.uniform(0, 1, 5))
    arrays["grad"].data[3] = np.inf
    expected = {k: (arrays[k].exact, 0) for k in ("param", "exp_avg", "exp_avg_sq")}
    expected.update({"skipped": (1, 0), "stats.nonfinite": (1, 0), "stats.update_rms": (np.nan, 0)})
    arguments = {"count": 5, "flags": ["SKIP_NONFINITE"]}
    return case(
        "an infinite gradient is skipped", "adamw_step", arguments, results(expected), arrays
    )


def adamw_cases():
    late = {"step": 10, "lr": 3e-2, "weight_decay": 0.1}
    return [
        adamw_case("F32, first step", "F32", seed=1),
        adamw_case("F32", "F32", seed=2, **late),
        adamw_case("F64", "F64", seed=3, **late),
        adamw_case("BF16", "BF16", seed=4, **late),
        adamw_case("F16", "F16", seed=5, **late),
        adamw_case("BF16 param and grad, F32 moments", "BF16 BF16 F32 F32", seed=6, **late),
        adamw_case("F32, BF16 moments", "F32 F32 BF16 BF16", seed=7, **late),
        adamw_case("F16 param, BF16 grad", "F16 BF16 F32 F32", seed=8, **late),
        adamw_case("AMSGRAD", "F32", seed=9, flags=["AMSGRAD"], **late),
        adamw_case("AMSGRAD, F64", "F64", seed=10, flags=["AMSGRAD"], **late),
        adamw_case("MAXIMIZE", "F32", seed=11, flags=["MAXIMIZE"], **late),
        adamw_case("COUPLED_L2", "F32", seed=12, flags=["COUPLED_L2"], **late),
        adamw_case("CAUTIOUS_DECAY", "F32", seed=13, flags=["CAUTIOUS_DECAY"], **late),
        adamw_case("EMIT_DELTA", "F32", seed=14, flags=["EMIT_DELTA"], **late),
        adamw_case("grad_scale", "F32", seed=15, grad_scale=0.37, **late),
        adamw_case(
            "other betas and eps", "F32", seed=16, beta1=0.8, beta2=0.95, eps=1e-2, step=1000
        ),
        adamw_case("beta1 and eps zero", "F64", seed=17, beta1=0.0, eps=0.0, zeros=[4], step=3),
        adamw_case("one element", "F32", seed=18, count=1, **late),
        skipped_case(),
    ]


# ---- msign


def matrix(rng, rows, cols, spectrum):
    u, _ = np.linalg.qr(rng.standard_normal((rows, rows)))
    v, _ = np.linalg.qr(rng.standard_normal((cols, cols)))
    n = len(spectrum)
    return (u[:, :n] * spectrum) @ v[:, :n].T


def spectrum(n, least):
    return np.geomspace(1, least, n)


def msign_case(
    name, rows, cols, dtype, *, seed, least=0.2, rank=None, scale=1.0, ld=None, ldo=None, **options
):
    rng = np.random.default_rng([2, seed])
    n = min(rows, cols) if rank is None else rank
    x = Stored(dtype, scale * matrix(rng, rows, cols, spectrum(n, least)), ld)
    method = dict(options)
    compute = method.pop("compute_dtype", None)
    o, found = msign(x.exact, **method)
    tolerance = msign_tolerance(x.exact, dtype, compute)
    if options.get("method") == "ACCURATE":  # iterated, not exact
        tolerance = 1e-6
    if dtype not in ("F32", "F64"):
        tolerance = np.full(o.shape, tolerance)
    expected = {"out": (o, tolerance)}
    if options.get("method") == "SVD":
        expected["stats.rank"] = (found, 0)
    arguments = {"rows": rows, "cols": cols, **options}
    arrays = {"x": x, "out": output(dtype, ldo)}
    return case(name, "msign", arguments, results(expected), arrays)


def msign_cases():
    ns = {"method": "NEWTON_SCHULZ"}
    return [
        msign_case("AUTO, wide", 5, 9, "F32", seed=1),
        msign_case("AUTO, tall, F64", 9, 5, "F64", seed=2),
        msign_case("RATIONAL, square", 6, 6, "F32", seed=3, method="RATIONAL"),
        msign_case("RATIONAL, four poles", 6, 7, "F64", seed=4, method="RATIONAL", steps=4),
        msign_case("RATIONAL, strided", 4, 6, "F32", seed=5, ld=9, ldo=7, method="RATIONAL"),
        msign_case("RATIONAL, 1e-30", 5, 4, "F32", seed=6, scale=1e-30, method="RATIONAL"),
        msign_case("RATIONAL, BF16", 6, 4, "BF16", seed=7, method="RATIONAL"),
        msign_case("RATIONAL, F16", 4, 6, "F16", seed=8, method="RATIONAL"),
        msign_case(
            "RATIONAL, F32 in F64", 5, 5, "F32", seed=9, method="RATIONAL", compute_dtype="F64"
        ),
        msign_case("NEWTON_SCHULZ, KELLER", 5, 8, "F32", seed=10, coefficients="KELLER", **ns),
        msign_case("NEWTON_SCHULZ, YOU, tall", 8, 5, "F64", seed=11, coefficients="YOU", **ns),
        msign_case(
            "NEWTON_SCHULZ, CLASSIC, 9 steps",
            6,
            6,
            "F32",
            seed=12,
            coefficients="CLASSIC",
            steps=9,
            **ns,
        ),
        msign_case(
            "NEWTON_SCHULZ, CUBIC, 12 steps",
            6,
            6,
            "F64",
            seed=13,
            coefficients="CUBIC",
            steps=12,
            **ns,
        ),
        msign_case(
            "GRAM_NEWTON_SCHULZ, YOU",
            5,
            9,
            "F32",
            seed=14,
            coefficients="YOU",
            method="GRAM_NEWTON_SCHULZ",
        ),
        msign_case("SVD", 6, 9, "F32", seed=15, least=1e-2, method="SVD"),
        msign_case("SVD, rank 3", 7, 5, "F64", seed=16, rank=3, method="SVD"),
        msign_case("SVD, F32, rank 2", 4, 6, "F32", seed=17, rank=2, method="SVD"),
        msign_case("ACCURATE", 6, 8, "F64", seed=18, least=1e-2, method="ACCURATE"),
        msign_case("a zero matrix", 3, 4, "F32", seed=19, scale=0.0, method="RATIONAL"),
    ]


# ---- Muon


def muon_case(name, rows, cols, dtypes, *, seed, lds=(None, None, None), delta=None, **options):
    rng = np.random.default_rng([3, seed])
    dtypes = dtypes.split()
    dtypes = dtypes * 3 if len(dtypes) == 1 else dtypes
    weight = 1 - options.get("momentum", 0.95)
    if options.get("momentum_kind") == "CLASSIC":
        weight = 1
    # So that u is well conditioned, block by block as well as whole.
    axis = options.get("block_axis", 0)
    sizes = options.get("blocks", [(rows, cols)[axis]])
    shapes = [(s, cols) if axis == 0 else (rows, s) for s in sizes]
    whole = np.concatenate(
        [matrix(rng, r, c, spectrum(min(r, c), 0.3)) for r, c in shapes], axis=axis
    )
    values = {
        "param": rng.standard_normal((rows, cols)),
        "grad": whole + 0.02 * rng.standard_normal((rows, cols)),
        "momentum": weight * (whole + 0.02 * rng.standard_normal((rows, cols))),
    }
    arrays = {k: Stored(d, v, ld) for (k, v), d, ld in zip(values.items(), dtypes, lds)}
    if "MAXIMIZE" in options.get("flags", []):
        arrays["momentum"] = Stored(dtypes[2], -values["momentum"], lds[2])
    computed = muon(arrays, rows, cols, options)
    if delta is not None:
        arrays["delta"] = output(*delta)
        computed["param"] = (arrays["param"].exact, 0)
    computed["skipped"] = (0, 0)
    arguments = {"rows": rows, "cols": cols, **options}
    return case(name, "muon_step", arguments, results(computed), arrays)


def muon_cases():
    usual = {"lr": 0.02, "weight_decay": 0.1, "step": 5}
    svd = {"msign": {"method": "SVD"}}
    keller = {"msign": {"method": "NEWTON_SCHULZ", "coefficients": "KELLER"}}
    cases = [
        muon_case("F32", 5, 8, "F32", seed=1, **usual),
        muon_case("F64, tall", 8, 5, "F64", seed=2, **usual),
        muon_case("BF16 weights, F32 momentum", 5, 6, "BF16 BF16 F32", seed=3, **usual),
        muon_case("F16", 6, 5, "F16", seed=4, **usual),
        muon_case("CLASSIC", 4, 6, "F32", seed=5, momentum_kind="CLASSIC", **usual),
        muon_case("no Nesterov, SVD", 5, 5, "F32", seed=6, flags=[], **svd, **usual),
        muon_case(
            "MAXIMIZE, NEWTON_SCHULZ",
            4,
            7,
            "F32",
            seed=7,
            flags=["NESTEROV", "MAXIMIZE"],
            **keller,
            **usual,
        ),
        muon_case(
            "CAUTIOUS_DECAY", 5, 6, "F32", seed=8, flags=["NESTEROV", "CAUTIOUS_DECAY"], **usual
        ),
        muon_case(
            "EXACT_RMS", 4, 6, "F32", seed=9, scale_mode="EXACT_RMS", scale_value=0.3, **usual
        ),
        muon_case(
            "SQRT_OUT_IN with fans",
            4,
            6,
            "F64",
            seed=10,
            scale_mode="SQRT_OUT_IN",
            fan_out=6,
            fan_in=4,
            **usual,
        ),
        muon_case("blocks of rows", 7, 6, "F32", seed=11, blocks=[2, 4, 1], **usual),
        muon_case(
            "blocks of columns",
            4,
            9,
            "F32",
            seed=12,
            blocks=[4, 5],
            block_axis=1,
            scale_mode="SQRT_MAX1_OUT_IN",
            **usual,
        ),
        muon_case("strides", 4, 5, "F32", seed=13, lds=(7, 6, 9), **usual),
        muon_case(
            "EMIT_DELTA",
            4,
            5,
            "F32",
            seed=14,
            flags=["NESTEROV", "EMIT_DELTA"],
            delta=("F32", 6),
            **usual,
        ),
        muon_case("grad_scale", 4, 4, "F64", seed=15, grad_scale=0.25, momentum=0.8, **usual),
    ]
    for mode in ("MATCH_RMS", "NONE", "SQRT_MAX1_OUT_IN", "SQRT_OUT_IN", "SQRT_MAX"):
        for fans in ((768, 3072), (3072, 768)):
            s = scale_factor(mode, 0.2, *fans)
            cases.append(
                case(
                    f"scale {mode} {fans[0]} x {fans[1]}",
                    "scale_factor",
                    {"mode": mode, "value": 0.2, "fan_out": fans[0], "fan_in": fans[1]},
                    {"out": expect(s, 4e-16 * s)},
                )
            )
    return cases


# ---- schedules


def schedule_cases():
    cases = []
    kinds = [
        {"kind": "CONSTANT", "warmup_steps": 3},
        {"kind": "LINEAR", "lr": 3e-4},
        {"kind": "COSINE", "lr": 0.1, "final_ratio": 0.1, "warmup_steps": 4},
        {"kind": "INVERSE_SQRT", "lr": 1.0, "warmup_steps": 4},
        {"kind": "INVERSE", "lr": 1.0},
        {"kind": "WARMUP_STABLE_DECAY", "lr": 2.0, "warmup_steps": 2, "decay_steps": 5},
        {"kind": "WARMUP_STABLE_DECAY", "decay_shape": "COSINE", "final_ratio": 0.05},
        {"kind": "WARMUP_STABLE_DECAY", "decay_shape": "ONE_MINUS_SQRT", "decay_steps": 7},
    ]
    for i, options in enumerate(kinds):
        lr = rates(total_steps=15, **options)
        name = f"{options['kind']} {i}"
        arguments = {**options, "total_steps": 15}
        expected = {"lr": expect(lr, 4e-15 * lr + 1e-17)}
        cases.append(case(f"fill {name}", "schedule_fill", arguments, expected))
        at = {"lr": expect(lr[12], 4e-15 * lr[12])}
        cases.append(case(f"at {name}", "schedule_at", {**arguments, "step": 13}, at))
    rng = np.random.default_rng(4)
    lr, norms = rng.uniform(0.01, 1, 24), rng.uniform(0.5, 2, 24)
    bound = schedule_bound(lr, 1.5, np.full(24, 0.7))
    arguments = {"lr": lr.tolist(), "distance": 1.5, "grad_norm": 0.7}
    cases.append(
        case("bound", "schedule_bound", arguments, {"bound": expect(bound, 1e-14 * bound)})
    )
    bound = schedule_bound(lr, 1.5, norms)
    arguments = {"lr": lr.tolist(), "distance": 1.5, "grad_norms": norms.tolist()}
    cases.append(
        case("bound, norms", "schedule_bound", arguments, {"bound": expect(bound, 1e-14 * bound)})
    )
    for name, given in (("", {"grad_norm": 1.0}), (", norms", {"grad_norms": norms.tolist()})):
        steps = 24 if name else 10
        lr, bound = schedule_optimal(1.0, np.array(given.get("grad_norms", [1.0] * steps)))
        expected = {"lr": expect(lr, 1e-13 * lr), "bound": expect(bound, 1e-13 * bound)}
        arguments = {"total_steps": steps, "distance": 1.0, **given}
        cases.append(case(f"optimal{name}", "schedule_optimal", arguments, expected))
    norms = np.exp(rng.standard_normal(30))
    for kind, smoothing, distance in (("SGD", 0.1, 0.0), ("ADAM", 0.2, 0.0), ("SGD", 0.0, 2.0)):
        lr = schedule_refine(norms, kind, smoothing, distance)
        arguments = {"grad_norms": norms.tolist(), "kind": kind, "smoothing": smoothing}
        arguments["distance"] = distance
        name = f"refine {kind} {smoothing} {distance}"
        # The oracle's tails are differences: absolute.
        expected = {"lr": expect(lr, 1e-13 * lr + 1e-14 * np.max(lr))}
        cases.append(case(name, "schedule_refine", arguments, expected))
    return cases


# ---- diagnostics


def diagnostics_cases():
    cases = []

    def scalar(function, arguments, result, value, tolerance=None):
        tolerance = 1e-13 * max(abs(value), 1e-3) if tolerance is None else tolerance
        if np.isnan(value):
            tolerance = 0
        name = function + "".join(f" {k}={v}" for k, v in arguments.items() if k != "values")
        cases.append(case(name, function, arguments, {result: expect(value, tolerance)}))

    for beta1, snr, step in ((0.9, 0.0, 0), (0.9, 0.25, 10), (0.95, 4.0, 100), (0.0, 1.0, 1)):
        a = mean_square_weight(beta1, step)
        arguments = {"beta1": beta1, "snr": snr, "step": step}
        scalar("adam_update_rms", arguments, "rms", np.sqrt((snr + a) / (snr + 1)))
    for beta1, beta2, snr, kurtosis, step in (
        (0.9, 0.95, 0.0, 3.0, 0),
        (0.9, 0.95, 0.0, 6.0, 0),
        (0.9, 0.999, 0.5, 3.0, 50),
    ):
        arguments = {"beta1": beta1, "beta2": beta2, "snr": snr, "kurtosis": kurtosis, "step": step}
        value = update_rms_second_order(beta1, beta2, snr, kurtosis, step)
        scalar("adam_update_rms_second_order", arguments, "rms", value, 1e-12)
    for rms, beta1, step in ((0.3, 0.9, 0), (0.5, 0.9, 20), (0.2, 0.9, 0), (0.7, 0.9, 1)):
        a = mean_square_weight(beta1, step)
        value = np.nan if step == 1 else (rms**2 - a) / (1 - rms**2)
        arguments = {"update_rms": rms, "beta1": beta1, "step": step}
        scalar("snr_from_update_rms", arguments, "snr", value)
    for m, g, beta, step in ((0.1, 0.3, 0.9, 0), (0.02, 0.05, 0.95, 7)):
        a, q = mean_square_weight(beta, step), (m / g) ** 2
        arguments = {"momentum_rms": m, "grad_rms": g, "beta": beta, "step": step}
        scalar("snr_from_momentum", arguments, "snr", (q - a) / (1 - q))
    for values in ([1.0, 1.0, 1.0], [3.0, 0.0, 0.0], [4.0, 2.0, 1.0, 0.5], [2.0]):
        arguments = {"values": values}
        scalar("singular_entropy", arguments, "entropy", singular_entropy(np.array(values)), 1e-14)
        cases[-1]["name"] += f" of {len(values)}: {values[-1]}"
    rng = np.random.default_rng(5)
    for rows, cols, dtype, ld in ((4, 6, "F32", None), (6, 4, "F64", 5), (3, 3, "BF16", None)):
        x = Stored(dtype, rng.standard_normal((rows, cols)), ld)
        s = np.linalg.svd(x.exact, compute_uv=False)
        arguments = {"rows": rows, "cols": cols}
        for function, result, value in (
            ("singular_values", "values", s),
            ("spectral_norm", "norm", s[0]),
        ):
            expected = {result: expect(value, 1e-14 * s[0])}
            cases.append(
                case(f"{function} {dtype} {rows} x {cols}", function, arguments, expected, {"x": x})
            )
    vectors = {
        "vector0": Stored("F32", rng.standard_normal(7)),
        "vector1": Stored("BF16", rng.standard_normal(5)),
        "vector2": Stored("F64", 1e200 * rng.standard_normal(3)),
    }
    for name in ("finite", "a NaN"):
        if name != "finite":
            vectors["vector0"].data[2] = np.nan
        every = np.concatenate([v.exact for v in vectors.values()])
        size = 1e200 * np.linalg.norm(every / 1e200)
        found = (0, 0)
        if name != "finite":
            size, found = np.nan, (1, 0)
        tolerance = 0 if np.isnan(size) else 1e-14 * size
        for function, result, value in (
            ("grad_norm", "norm", size),
            ("rms", "rms", size / np.sqrt(len(every))),
        ):
            expected = results({result: (value, tolerance), "nonfinite": found})
            cases.append(case(f"{function}, {name}", function, {}, expected, vectors))
    return cases


FILES = {
    "adamw.json": adamw_cases,
    "msign.json": msign_cases,
    "muon.json": muon_cases,
    "schedule.json": schedule_cases,
    "diagnostics.json": diagnostics_cases,
    "q8_dynamic.json": lambda: q8_cases("Q8_DYNAMIC"),
    "q8_companded.json": lambda: q8_cases("Q8_COMPANDED"),
    "narrow_masters.json": master_cases,
    "narrow_moments.json": moment_cases,
}


def main(arguments):
    if arguments not in ([], ["--check"]):
        sys.exit("usage: generate.py [--check]")
    status = 0
    for name, cases in FILES.items():
        path, made = HERE / name, text(cases())
        if not arguments:
            path.write_text(made, "ascii")
            continue
        kept = path.read_text("ascii")
        lines = differences(json.loads(kept)["cases"], json.loads(made)["cases"])
        for line in lines:
            print(f"{name}: {line}")
        print(f"{name}: {len(lines)} differences{', the same bytes' if kept == made else ''}")
        status |= bool(lines)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
