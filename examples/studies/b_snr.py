# SPDX-License-Identifier: Apache-2.0
"""The gradient's signal-to-noise ratio, estimated from the update's size and from that of the
momentum: against the true one on random gradients, with coordinates of equal and of different
scales; and along the training of the small GPT against a direct estimate from many micro-batches.
"""

from __future__ import annotations

from typing import Any

import common
import numpy as np
import steepest
import torch
from matplotlib import pyplot as plt
from tqdm import tqdm

SEED, N, STEPS, LAST = 0, 20_000, 200, 60
BETA1, BETA2 = 0.9, 0.95
TRAINING_STEPS, RATES, MICRO_BATCHES = 500, (2e-3, 2e-4), 128
CHECKPOINTS = (20, 40, 80, 150, 250, 350, 500)


def estimates(snrs: list[float], scales: np.ndarray, name: str) -> np.ndarray:
    """Both estimates, [which, snr], from the mean squares over the last steps."""
    rng = np.random.default_rng(SEED)
    # Scale s: mean and deviation are both s times as large; the ratio is the same everywhere.
    zeros = [np.zeros(N, np.float32) for _ in range(3 * len(snrs))]
    squares = np.zeros((3, len(snrs)))
    for step in tqdm(range(1, STEPS + 1), desc=name, unit="step"):
        noise = rng.standard_normal(N)
        grads = [(scales * (np.sqrt(snr) + noise)).astype(np.float32) for snr in snrs]
        stats: list[Any] = []
        steepest.adamw_step(
            zeros[0::3], grads, zeros[1::3], zeros[2::3], step=step, lr=0.0, eps=0.0,
            beta1=BETA1, beta2=BETA2, stats=stats,
        )  # fmt: skip
        if step > STEPS - LAST:
            found = [(s.update_rms**2, s.momentum_rms**2, s.grad_rms**2) for s in stats]
            squares += np.array(found).T / LAST
    u, m, g = np.sqrt(squares)
    return np.array(
        [
            [steepest.snr_from_update_rms(x, BETA1) for x in u],
            [steepest.snr_from_momentum(x, y, BETA1) for x, y in zip(m, g)],
        ]
    )


def unequal_ratios(name: str) -> list[tuple[float, float, float, float]]:
    """Half of the coordinates with a signal, half without, and noise `scale` times as large in the
    second half: (scale, what the momentum sees, from u, from m and g)."""
    rng = np.random.default_rng(SEED)
    rows = []
    for scale in tqdm(np.logspace(-1.5, 1.5, 9), desc=name):
        half = np.arange(N) < N // 2
        mean = np.where(half, 0.7, 0.0)
        deviation = np.where(half, 1.0, scale)
        zeros = [np.zeros(N, np.float32) for _ in range(3)]
        squares = np.zeros(3)
        for step in range(1, STEPS + 1):
            stats: list[Any] = []
            grad = (mean + deviation * rng.standard_normal(N)).astype(np.float32)
            steepest.adamw_step(
                *[zeros[0], grad, zeros[1], zeros[2]], step=step, lr=0.0, eps=0.0,
                beta1=BETA1, beta2=BETA2, stats=stats,
            )  # fmt: skip
            if step > STEPS - LAST:
                s = stats[0]
                squares += np.array([s.update_rms, s.momentum_rms, s.grad_rms]) ** 2 / LAST
        u, m, g = np.sqrt(squares)
        true = float(np.sum(mean**2) / np.sum(deviation**2))
        from_u, from_m = (
            steepest.snr_from_update_rms(u, BETA1),
            steepest.snr_from_momentum(m, g, BETA1),
        )
        rows.append((float(scale), true, from_u, from_m))
    return rows


def direct(training: common.Training, seed: int) -> dict[str, tuple[float, float]]:
    """Of each hidden matrix, the parameters standing still, from independent batches as large as
    those of the training: |mean|^2 / |deviation|^2, and what the momentum form makes of the same
    gradients one after the other."""
    generator = torch.Generator().manual_seed(1000 + seed)
    hidden = training.hidden()
    totals = {name: torch.zeros_like(p) for name, p in hidden.items()}
    averages = {name: torch.zeros_like(p) for name, p in hidden.items()}
    squares = dict.fromkeys(hidden, 0.0)
    recent = {name: np.zeros(2) for name in hidden}
    for k in range(1, MICRO_BATCHES + 1):
        training.gradient(generator)
        for name, p in hidden.items():
            square = p.grad.square().sum().item()
            totals[name] += p.grad
            squares[name] += square
            averages[name].lerp_(p.grad, 1 - BETA1)
            if k > MICRO_BATCHES // 2:
                recent[name] += averages[name].square().sum().item(), square
    result = {}
    for name, total in totals.items():
        k = MICRO_BATCHES
        of_mean = (total / k).square().sum().item()
        noise = (squares[name] / k - of_mean) * k / (k - 1)
        m, g = np.sqrt(recent[name])
        still = steepest.snr_from_momentum(m, g, BETA1) if m < g else np.nan
        result[name] = ((of_mean - noise / k) / noise, still)  # the first one unbiased
    return result


def follow(job: tuple[int, float]) -> list[tuple[float, int, str, float, float, float, float]]:
    """(lr, step, matrix, direct, standing still, from u, from m and g) along one run."""
    seed, lr = job
    training = common.Training(seed)
    optimizer = common.adamw(training, lr, weight_decay=0.1, track_stats=True)
    params = list(training.model.parameters())
    sizes = {name: p.numel() for name, p in training.hidden().items()}
    rows = []
    window: list[dict[str, Any]] = []
    for step in range(1, TRAINING_STEPS + 1):
        training.gradient()
        if step in CHECKPOINTS:
            own = [p.grad.clone() for p in params]
            true = direct(training, seed + step)
            for p, grad in zip(params, own):
                p.grad = grad
        optimizer.step()
        window.append(optimizer.stats()["params"])
        if step in CHECKPOINTS:
            for name, (value, still) in true.items():
                # The mean square over some steps: a single one is noisy.
                recent = [stats[name] for stats in window[-10:]]
                u = np.sqrt(np.mean([s["update_rms"] ** 2 for s in recent]))
                m = np.sqrt(np.mean([s["momentum_rms"] ** 2 for s in recent]))
                g = np.sqrt(np.mean([s["grad_norm"] ** 2 / sizes[name] for s in recent]))
                from_u = steepest.snr_from_update_rms(u, BETA1, step)
                # Gradients that shrink faster than the average forgets: it says nothing.
                from_m = steepest.snr_from_momentum(m, g, BETA1, step) if m < g else np.nan
                rows.append((lr, step, name, value, still, from_u, from_m))
    return rows


def main() -> None:
    directory = common.directory(__doc__)
    rows: list[tuple[Any, ...]] = []
    figure, axes = plt.subplots(2, 2, figsize=(11.5, 8), layout="constrained")
    equal, scales, along, scatter = axes.flat

    snrs = [float(x) for x in np.logspace(-2.5, 1, 15)]
    rng = np.random.default_rng(SEED + 1)
    for style, name, scale in (
        ("-", "equal scales", np.ones(N)),
        ("--", "scales of all sizes", np.exp(0.75 * rng.standard_normal(N))),
    ):
        from_u, from_m = estimates(snrs, scale, name)
        equal.plot(snrs, from_u / snrs, "C0" + style, marker="o", ms=3, label=f"‖u‖, {name}")
        equal.plot(snrs, from_m / snrs, "C1" + style, marker="s", ms=3, label=f"‖m‖/‖g‖, {name}")
        rows += [(name, 0, r, "", float(a), float(b)) for r, a, b in zip(snrs, from_u, from_m)]
    said = {0.3: 0.02, 0.5: 0.21, 0.7: 0.95}
    text = ", ".join(
        f"{x}: {wrong} → {steepest.snr_from_update_rms(x):.3f}" for x, wrong in said.items()
    )
    equal.axhline(1, color="grey", lw=0.8)
    equal.set(
        xscale="log", ylim=(0.4, 1.3), xlabel="true SNR, the same in every coordinate",
        ylabel="estimate / true", title="random gradients, β = (0.9, 0.95)",
    )  # fmt: skip
    equal.legend(loc="lower right")
    equal.annotate(
        f"✗ SNR said of an RMS → by the formula\n{text}", (0.02, 0.9), fontsize=8,
        xycoords="axes fraction",
    )  # fmt: skip

    unequal = np.array(unequal_ratios("unequal"))
    scales.plot(unequal[:, 0], unequal[:, 1], "k-", label="Σ‖μ‖²/Σ‖σ‖²")
    scales.plot(unequal[:, 0], unequal[:, 3], "C1s", ms=4, label="from ‖m‖/‖g‖")
    scales.plot(unequal[:, 0], unequal[:, 2], "C0o", ms=4, label="from ‖u‖")
    # u has half of its square from either half, whatever their scales.
    half = (steepest.adam_update_rms(BETA1, 0.49) ** 2 + steepest.adam_update_rms(BETA1) ** 2) / 2
    scales.axhline(
        steepest.snr_from_update_rms(float(np.sqrt(half))), color="C0", lw=0.8, ls=":",
        label="mean field for ‖u‖",
    )  # fmt: skip
    scales.set(
        xscale="log", yscale="log", xlabel="σ of the coordinates without signal / σ of the others",
        ylabel="SNR", title="half of the coordinates with SNR 0.49, half with 0",
    )  # fmt: skip
    scales.legend()
    rows += [("half", scale, true, "", a, b) for scale, true, a, b in unequal.tolist()]

    seeds = (0, 1)
    runs = common.in_parallel(follow, [(seed, lr) for lr in RATES for seed in seeds], "GPT")
    found = [row for run in runs for row in run]
    names = list(dict.fromkeys(row[2] for row in found))
    for i, lr in enumerate(RATES):
        for step in CHECKPOINTS:
            here = np.array([row[3:] for row in found if row[:2] == (lr, step)])
            for k, (marker, label) in enumerate(
                (("o", "direct"), ("x", "still"), ("^", "from ‖u‖"), ("s", "from ‖m‖/‖g‖"))
            ):
                known = here[~np.isnan(here[:, k]), k]
                if k == 1 or len(known) == 0:
                    continue
                low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
                along.errorbar(
                    step * 1.03 ** (k - 2), middle,
                    [[middle - low], [high - middle]], fmt=marker, ms=4,
                    color=f"C{i}", mfc="white" if k == 0 else None,
                    label=f"{label}, lr {lr}" if step == CHECKPOINTS[-1] else None,
                )  # fmt: skip
        table = np.array([row[3:] for row in found if row[0] == lr])
        scatter.plot(
            table[:, 0], table[:, 1], "x", color=f"C{i}", ms=5,
            label=f"same batches, parameters still, lr {lr}",
        )  # fmt: skip
        scatter.plot(table[:, 0], table[:, 3], "s", color=f"C{i}", ms=3, label=f"training, lr {lr}")
    along.axhline(0, color="grey", lw=0.8)
    along.set(
        xlabel="step", ylabel="SNR of a batch's gradient", xscale="log",
        title=f"GPT, {len(names)} hidden matrices, {len(seeds)} seeds: median and quartiles",
    )  # fmt: skip
    along.set_yscale("symlog", linthresh=0.01)
    along.set_ylim(-0.1, 100)
    along.set_xticks(CHECKPOINTS, CHECKPOINTS)
    along.minorticks_off()
    along.legend(ncols=2, fontsize=7, loc="upper right")
    line = np.logspace(-1, 1, 10)
    scatter.plot(line, line, color="grey", lw=0.8)
    scatter.set(
        xlabel=f"direct, from {MICRO_BATCHES} batches", ylabel="from ‖m‖/‖g‖",
        title="GPT, every matrix at every checkpoint", xscale="log",
    )  # fmt: skip
    scatter.set_yscale("symlog", linthresh=0.01)
    scatter.set_ylim(-0.1, 300)
    scatter.legend(fontsize=7, loc="upper left")
    rows += [(f"gpt lr {lr} {name}", step, *values) for lr, step, name, *values in found]
    common.save(
        figure,
        directory / "b_snr",
        ("part", "step_or_scale", "true_or_direct", "still", "from_update", "from_momentum"),
        rows,
    )


if __name__ == "__main__":
    main()
