# SPDX-License-Identifier: Apache-2.0
"""Adam's update RMS: the library's AdamW on random gradients against the mean field and the
second-order form, over beta1, beta2, the signal-to-noise ratio and the step; heavy-tailed and
correlated gradients; and figures in circulation that are wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import common
import numpy as np
import steepest
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from tqdm import tqdm

SEED, N = 0, 10_000
Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


def normal(rng: np.random.Generator, step: int) -> NDArray[np.float64]:
    return rng.standard_normal(N)


def simulate(
    name: str,
    steps: int,
    last: int,
    betas: list[tuple[float, float]],
    draw: Draw = normal,
    snrs: list[float] | None = None,
) -> NDArray[np.float64]:
    """RMS of the updates of a list of tensors, [last steps, tensors]; they see the same noise."""
    rng = np.random.default_rng(SEED)
    snrs = snrs or [0.0] * len(betas)
    zeros = [np.zeros(N, np.float32) for _ in range(3 * len(betas))]
    param, m, v = zeros[0::3], zeros[1::3], zeros[2::3]
    beta1, beta2 = [b[0] for b in betas], [b[1] for b in betas]
    means = sorted(set(snrs))
    rms = []
    for step in tqdm(range(1, steps + 1), desc=name, unit="step"):
        noise = draw(rng, step)
        grads = {snr: (np.sqrt(snr) + noise).astype(np.float32) for snr in means}
        stats: list[Any] | None = [] if step > steps - last else None
        steepest.adamw_step(
            param,
            [grads[snr] for snr in snrs],
            m,
            v,
            step=step,
            lr=0.0,
            eps=0.0,
            beta1=beta1,
            beta2=beta2,
            stats=stats,
        )
        if stats is not None:
            rms.append([s.update_rms for s in stats])
    return np.array(rms)


def mean_square_root(rms: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(np.mean(rms**2, axis=0))


def correlated(rho: float) -> Draw:
    """A first-order autoregressive sequence in each coordinate."""
    state = np.zeros(N)

    def draw(rng: np.random.Generator, step: int) -> NDArray[np.float64]:
        fresh = rng.standard_normal(N)
        state[:] = fresh if step == 1 else rho * state + np.sqrt(1 - rho**2) * fresh
        return state

    return draw


def main() -> None:
    directory = common.directory(__doc__)
    rows: list[tuple[Any, ...]] = []
    figure, axes = plt.subplots(2, 3, figsize=(13, 7.6), layout="constrained")
    over_beta2, over_snr, over_t, over_tails, over_rho, wrong = axes.flat

    # ---- beta1 and beta2
    beta1s, beta2s = [0.5, 0.7, 0.9, 0.95], [0.5, 0.7, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999]
    betas = [(b1, b2) for b1 in beta1s for b2 in beta2s]
    measured = mean_square_root(simulate("beta1, beta2", 2500, 1000, betas))
    fine = 1 - np.logspace(np.log10(0.5), -3, 60)
    for i, b1 in enumerate(beta1s):
        colour = f"C{i}"
        got = measured[i * len(beta2s) : (i + 1) * len(beta2s)]
        over_beta2.plot(1 - np.array(beta2s), got, "o", color=colour, ms=4, label=f"β₁ = {b1}")
        over_beta2.axhline(steepest.adam_update_rms(b1), color=colour, ls="--", lw=0.9)
        second = [steepest.adam_update_rms_second_order(b1, b2) for b2 in fine]
        over_beta2.plot(1 - fine, second, color=colour, lw=1.2)
        for b2, x in zip(beta2s, got):
            theory = steepest.adam_update_rms(b1), steepest.adam_update_rms_second_order(b1, b2)
            rows.append(("steady", b1, b2, 0.0, 3.0, 0.0, 0, x, *theory))
    over_beta2.set(
        xscale="log",
        yscale="log",
        xlabel="1 − β₂",
        ylabel="RMS(u)",
        title="steady state, no signal",
    )
    over_beta2.legend(ncols=2)

    # ---- beta1 and SNR
    snrs = [0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
    pairs = [((b1, 0.95), snr) for b1 in beta1s for snr in snrs]
    got = simulate("SNR", 600, 300, [p[0] for p in pairs], snrs=[p[1] for p in pairs])
    measured = mean_square_root(got).reshape(len(beta1s), len(snrs))
    fine = np.append(0.003, np.logspace(-2.5, 1, 60))
    for i, b1 in enumerate(beta1s):
        colour = f"C{i}"
        shown = [max(snr, 0.003) for snr in snrs]
        over_snr.plot(shown, measured[i], "o", color=colour, ms=4, label=f"β₁ = {b1}")
        mean = [steepest.adam_update_rms(b1, r) for r in fine]
        second = [steepest.adam_update_rms_second_order(b1, 0.95, r) for r in fine]
        over_snr.plot(fine, mean, color=colour, ls="--", lw=0.9)
        over_snr.plot(fine, second, color=colour, lw=1.2)
        for snr, x in zip(snrs, measured[i]):
            theory = (
                steepest.adam_update_rms(b1, snr),
                steepest.adam_update_rms_second_order(b1, 0.95, snr),
            )
            rows.append(("snr", b1, 0.95, snr, 3.0, 0.0, 0, x, *theory))
    over_snr.set(
        xscale="log",
        xlabel="SNR ‖μ‖²/‖σ‖² (leftmost: 0)",
        title="steady state, β₂ = 0.95",
        ylabel="RMS(u)",
    )
    over_snr.legend()

    # ---- the step
    steps = np.arange(1, 201)
    got = simulate("step", 200, 200, [(0.9, 0.95)])[:, 0]
    mean = np.array([steepest.adam_update_rms(0.9, 0.0, int(t)) for t in steps])
    second = np.array(
        [steepest.adam_update_rms_second_order(0.9, 0.95, step=int(t)) for t in steps]
    )
    factor = np.sqrt((1 - 0.95**steps) / (1 - 0.9**steps))
    over_t.plot(steps, got, "o", ms=3, color="C0", label="AdamW of the library")
    over_t.plot(steps, mean, "C1--", label="mean field")
    over_t.plot(steps, second, "C2-", label="second order")
    over_t.plot(steps, mean[-1] * factor, "C3:", label="✗ 0.229 √((1−β₂ᵗ)/(1−β₁ᵗ))")
    over_t.set(xscale="log", xlabel="step t", title="β = (0.9, 0.95), no signal", ylabel="RMS(u)")
    over_t.legend()
    rows += [
        ("step", 0.9, 0.95, 0.0, 3.0, 0.0, int(t), a, b, c)
        for t, a, b, c in zip(steps, got, mean, second)
    ]

    # ---- heavy tails
    tails: list[tuple[str, float, Draw]] = [
        ("±1", 1.0, lambda rng, _: rng.choice([-1.0, 1.0], N)),
        ("uniform", 1.8, lambda rng, _: rng.uniform(-1, 1, N)),
        ("normal", 3.0, normal),
        ("t, ν = 10", 4.0, lambda rng, _: rng.standard_t(10, N)),
        ("t, ν = 6", 6.0, lambda rng, _: rng.standard_t(6, N)),
        ("Laplace", 6.0, lambda rng, _: rng.laplace(size=N)),
        ("t, ν = 5", 9.0, lambda rng, _: rng.standard_t(5, N)),
    ]
    kurtosis = np.linspace(1, 10, 50)
    second = [steepest.adam_update_rms_second_order(0.9, 0.95, kurtosis=k) for k in kurtosis]
    over_tails.plot(kurtosis, second, "C2-", label="second order")
    over_tails.axhline(steepest.adam_update_rms(0.9), color="C1", ls="--", label="mean field")
    claimed = 0.2294 * (1 + (kurtosis - 3) / 8)
    over_tails.plot(kurtosis, claimed, "C3:", label="✗ 0.229 (1 + (κ − 3)/8)")
    for name, k, draw in tails:
        x = float(mean_square_root(simulate(name, 500, 300, [(0.9, 0.95)], draw))[0])
        over_tails.plot(k, x, "C0o", ms=4)
        right = name.startswith("Laplace")
        over_tails.annotate(
            name, (k, x), xytext=(4, 4 if right else -11), textcoords="offset points", fontsize=8
        )
        theory = (
            steepest.adam_update_rms(0.9),
            steepest.adam_update_rms_second_order(0.9, 0.95, kurtosis=k),
        )
        rows.append((f"tails {name}", 0.9, 0.95, 0.0, k, 0.0, 0, x, *theory))
    over_tails.set(
        xlabel="kurtosis κ", ylim=(0.21, 0.25), title="β = (0.9, 0.95), no signal", ylabel="RMS(u)"
    )
    over_tails.legend()

    # ---- correlated gradients
    rhos = [-0.6, -0.3, 0.0, 0.1, 0.3, 0.6]
    alpha = 0.1 / 1.9
    fine = np.linspace(-0.7, 0.7, 60)
    over_rho.plot(fine, np.sqrt(alpha * (1 + 0.9 * fine) / (1 - 0.9 * fine)), "C1--")
    over_rho.plot([], [], "C1--", label="mean field, √(α (1 + β₁ρ)/(1 − β₁ρ))")
    over_rho.axhline(np.sqrt(alpha), color="grey", ls=":", label="independent gradients")
    for rho in rhos:
        got = simulate(f"correlation {rho}", 500, 300, [(0.9, 0.95)], correlated(rho))
        x = float(mean_square_root(got)[0])
        over_rho.plot(rho, x, "C0o", ms=4)
        theory = np.sqrt(alpha * (1 + 0.9 * rho) / (1 - 0.9 * rho))
        rows.append(("correlated", 0.9, 0.95, 0.0, 3.0, rho, 0, x, float(theory), float("nan")))
    over_rho.set(
        xlabel="correlation ρ of consecutive gradients",
        title="β = (0.9, 0.95): noise that looks like signal",
        ylabel="RMS(u)",
    )
    over_rho.legend()

    # ---- the source's own simulation, and wrong figures
    run = simulate("the source's simulation", 2000, 500, [(0.9, 0.95), (0.9, 0.5)])
    spread = run.std(axis=0)
    source = mean_square_root(run)
    rows.append(
        ("the source's run", 0.9, 0.95, 0.0, 3.0, 0.0, 2000, float(run[-1, 0]), *theory_of())
    )
    values = [
        ("source's run, step 2000", None, float(run[-1, 0])),
        ("β₂ = 0.5", 0.231, float(source[1])),
        ("formula, β₁ = 0.7", 0.408, steepest.adam_update_rms(0.7)),
        ("factor at t = 10", 1.03, float(factor[9])),
        ("spread of RMS, β₂ = 0.5", 0.052, float(spread[1])),
    ]
    wrong.axis("off")
    wrong.set_title("figures in circulation")
    cells = [[name, "–" if said is None else f"{said:.3f}", f"{x:.4f}"] for name, said, x in values]
    table = wrong.table(
        cells, colLabels=["quantity", "✗ said", "computed here"], loc="center", cellLoc="left"
    )
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    table.auto_set_column_width([0, 1, 2])
    table.scale(1, 1.6)
    rows += [(f"said: {name}", 0.9, 0, 0.0, 3.0, 0.0, 0, x, said, "") for name, said, x in values]

    figure.suptitle(
        f"Adam's update RMS: points AdamW on {N} coordinates (seed {SEED}), solid second order, "
        "dashed mean field"
    )
    columns = ("part", "beta1", "beta2", "snr", "kurtosis", "correlation", "step", "measured")
    common.save(
        figure, directory / "a_update_rms", (*columns, "mean_field_or_said", "second_order"), rows
    )


def theory_of() -> tuple[float, float]:
    return steepest.adam_update_rms(0.9), steepest.adam_update_rms_second_order(0.9, 0.95)


if __name__ == "__main__":
    main()
