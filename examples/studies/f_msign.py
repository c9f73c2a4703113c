# SPDX-License-Identifier: Apache-2.0
"""Methods of the matrix sign on the momentum of a real run: error against time, what each method
makes of a singular value, and the spectra that it meets.
"""

from __future__ import annotations

import time
from typing import Any

import common
import numpy as np
import steepest
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from steepest import MsignConfig
from tqdm import tqdm

SEED, WIDTH, STEPS = 0, 256, (1, 20, 60)
LOWER = 1e-3  # the default l of the rational methods
METHODS: dict[str, tuple[MsignConfig, str, str]] = {
    f"Newton–Schulz {name} {steps}": (
        MsignConfig("newton_schulz", steps=steps, coefficients=name), colour, "o"
    )
    for name, steps, colour in (
        ("cubic", 5, "C7"), ("classic", 5, "C8"), ("keller", 5, "C3"), ("you", 5, "C1"),
        ("polar_express", 5, "C4"), ("polar_express", 8, "C6"),
    )
}  # fmt: skip
METHODS |= {
    "Gram Newton–Schulz polar_express 5": (
        MsignConfig("gram_newton_schulz", steps=5), "C4", "s"
    ),
    **{
        f"rational, {poles} poles": (MsignConfig("rational", steps=poles), colour, "^")
        for poles, colour in ((2, "C9"), (3, "C0"), (4, "C2"))
    },
    "Halley 3": (MsignConfig("halley", steps=3), "C5", "v"),
    "accurate": (MsignConfig("accurate"), "black", "D"),
    "SVD": (MsignConfig("svd"), "grey", "P"),
    "SVD in fp64, all of it": (
        MsignConfig("svd", compute_dtype="float64", rank_tolerance=1e-12), "grey", "X"
    ),
}  # fmt: skip


def momenta() -> dict[int, dict[str, NDArray[np.float32]]]:
    """The momentum of every hidden matrix, blocks of query, key and value apart, at some steps."""
    training = common.Training(SEED, width=WIDTH)
    optimizer = common.muon(training, 2e-3, weight_decay=0.1)
    found = {}
    for step in tqdm(range(1, max(STEPS) + 1), desc="GPT"):
        training.gradient()
        optimizer.step()
        if step in STEPS:
            matrices = {}
            for name, param in training.hidden().items():
                buffer = optimizer.state[param]["momentum_buffer"].numpy().copy()
                parts = np.split(buffer, 3) if "qkv" in name else [buffer]
                for part, suffix in zip(parts, [".q", ".k", ".v"] if len(parts) > 1 else [""]):
                    matrices[name.removeprefix("blocks.").removesuffix(".weight") + suffix] = part
            found[step] = matrices
    return found


def exact(x: NDArray[np.float32]) -> NDArray[np.float64]:
    u, _, vt = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    return u @ vt


def best_time(x: NDArray[np.float32], out: NDArray[np.float32], config: MsignConfig) -> float:
    """The fastest of many calls on one thread: what else the machine does only adds to it."""
    times, began = [], time.perf_counter()
    while len(times) < 9 or time.perf_counter() - began < 0.4:
        start = time.perf_counter()
        steepest.msign(x, out, config, threads=1)
        times.append(time.perf_counter() - start)
    return min(times)


def curve(config: MsignConfig, s: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the method makes of singular values in (0, 1]: of a diagonal matrix in fp64."""
    if config.method in ("newton_schulz", "gram_newton_schulz", "rational", "halley"):
        options: dict[str, Any] = {"normalization": "bound", "norm_bound": 1.0}
        return np.diag(steepest.msign(np.diag(s), None, config, **options))
    return np.ones_like(s)


def main() -> None:
    directory = common.directory(__doc__)
    rows: list[tuple[Any, ...]] = []
    figure, axes = plt.subplots(2, 2, figsize=(12, 8.6), layout="constrained")
    speed, bands, spectra, below = axes.flat
    found = momenta()

    # ---- error against time, at the last step
    shown = {n: x for n, x in found[max(STEPS)].items() if n.startswith("1.")}
    exacts: list[str] = []
    for name, (config, colour, marker) in tqdm(METHODS.items(), desc="methods"):
        errors, times = [], []
        for matrix, x in shown.items():
            reference = exact(x)
            out = np.empty_like(x)
            times.append(best_time(x, out, config))
            errors.append(float(np.linalg.norm(out - reference) / np.linalg.norm(reference)))
            rows.append(("time", name, matrix, f"{x.shape[0]}x{x.shape[1]}", times[-1], errors[-1]))
        geometric = float(np.exp(np.mean(np.log(errors))))
        total = sum(times) * 1e3
        if geometric < 0.01:
            exacts.append(f"{name}: {total:.0f} ms, error {geometric:.0e}")
        else:
            speed.plot(total, geometric, marker, color=colour, ms=7, label=name)
    speed.annotate("off the axis\n" + "\n".join(exacts), (0.03, 0.04), xycoords="axes fraction")
    speed.set(
        xscale="log", yscale="log", xlabel="ms for the matrices of one layer, one thread",
        ylabel="‖O − UVᵀ‖ / ‖UVᵀ‖", ylim=(0.05, 4),
        title=f"momentum at step {max(STEPS)}, width {WIDTH}: geometric mean of errors",
    )  # fmt: skip
    speed.set_yticks([0.05, 0.1, 0.2, 0.5, 1], labels=["0.05", "0.1", "0.2", "0.5", "1"])
    speed.minorticks_off()
    speed.legend(fontsize=7, ncols=2, loc="upper left")

    # ---- bands
    s = np.logspace(-4, 0, 500)
    for name, (config, colour, marker) in METHODS.items():
        if config.method in ("svd", "accurate", "gram_newton_schulz"):
            continue
        values = curve(config, s)
        style = "-" if marker == "o" else "--"
        bands.plot(
            s, values, style, color=colour, lw=1.2, label=name.replace("Newton–Schulz", "NS")
        )
        rows += [("band", name, "", "", float(a), float(b)) for a, b in zip(s[::16], values[::16])]
    bands.axvline(LOWER, color="grey", ls=":", lw=1)
    bands.axhline(1, color="grey", lw=0.8)
    bands.set(
        xscale="log", ylim=(0, 1.45), xlabel="singular value / norm", ylabel="becomes",
        title="f(σ) of each method (fp64); dotted: l = 0.001",
    )  # fmt: skip
    bands.legend(loc="lower right", fontsize=7)

    # ---- spectra
    for i, step in enumerate(STEPS):
        curves = []
        for name, x in found[step].items():
            values = steepest.singular_values(x)
            values /= values[0]
            curves.append(np.interp(np.linspace(0, 1, 200), np.linspace(0, 1, len(values)), values))
            share = float(np.mean(values < LOWER))
            entropy = steepest.singular_entropy(values)
            rows.append(("spectrum", f"step {step}", name, "", share, entropy))
            below.plot(
                list(found[step]).index(name) + 0.2 * (i - 1), 100 * share, "o",
                color=f"C{i}", ms=4,
                label=f"step {step}" if name == next(iter(found[step])) else None,
            )  # fmt: skip
        low, middle, high = np.quantile(curves, [0, 0.5, 1], axis=0)
        place = np.linspace(0, 1, 200)
        spectra.plot(place, middle, color=f"C{i}", label=f"step {step}")
        spectra.fill_between(place, np.maximum(low, 1e-9), high, color=f"C{i}", alpha=0.15)
    spectra.axhline(LOWER, color="grey", ls=":", lw=1)
    spectra.set(
        yscale="log", ylim=(1e-7, 1.5), xlabel="index / number of singular values",
        ylabel="σ / σ_max", title="momentum: median over the matrices, and their range",
    )  # fmt: skip
    spectra.legend()
    names = list(found[STEPS[0]])
    below.set_xticks(range(len(names)), names, rotation=60, fontsize=8)
    below.set(ylabel="% of singular values", title="below l = 0.001 of the largest")
    below.legend()
    figure.suptitle(f"msign on a GPT's momentum (seed {SEED}, width {WIDTH}, 2 layers)")
    columns = ("part", "method_or_step", "matrix", "shape", "x", "y")
    common.save(figure, directory / "f_msign", columns, rows)


if __name__ == "__main__":
    main()
