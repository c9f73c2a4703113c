# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules: the bound of each family over T; the last iterate's loss of SGD on a
convex problem whose D and G are known, against the bound; and a schedule refined from gradient
norms against linear decay, on the small GPT.
"""

from __future__ import annotations

from typing import Any

import common
import numpy as np
import steepest
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from steepest.torch import ArrayLR
from tqdm import tqdm

Rates = NDArray[np.float64]
FAMILIES = {
    "constant": ("constant", {}),
    "1/√t": ("inverse_sqrt", {}),
    "1/t": ("inverse", {}),
    "cosine": ("cosine", {}),
    "warm-up–stable–decay": ("warmup_stable_decay", {}),
    "linear": ("linear", {}),
}
DIMENSION, SEEDS = 20, 400
STEPS, LR, GPT_SEEDS = 600, 2e-3, (0, 1, 2)


def best_scale(lr: Rates) -> tuple[Rates, float]:
    """The multiple with the least bound a / c + b c at D = G = 1, and that bound."""
    a, b = steepest.schedule_bound(lr, 1, 0), steepest.schedule_bound(lr, 0, 1)
    return lr * np.sqrt(a / b), 2 * np.sqrt(a * b)


def scaled(T: int) -> dict[str, tuple[Rates, float]]:
    made = {
        name: best_scale(steepest.schedule_fill(kind, T, lr=1.0, **options))
        for name, (kind, options) in FAMILIES.items()
    }
    made["best of all"] = steepest.schedule_optimal(T)
    return made


# ---- SGD on L = G p |theta|_1 / sqrt(d), |theta_1| = D = 1


def last_loss(lr: Rates, bias: float, seed: int) -> tuple[float, float]:
    """Mean of L(theta_T) over SEEDS runs and its standard error. Each coordinate's gradient is
    +-G / sqrt(d), of mean p sign(theta): |g| = G always. p is `bias`."""
    rng = np.random.default_rng(seed)
    theta = np.full((SEEDS, DIMENSION), 1 / np.sqrt(DIMENSION))
    for rate in lr[:-1]:
        along = np.where(rng.random(theta.shape) < (1 + bias) / 2, 1.0, -1.0)
        theta -= rate / np.sqrt(DIMENSION) * along * np.where(theta >= 0, 1.0, -1.0)
    loss = bias * np.abs(theta).sum(axis=1) / np.sqrt(DIMENSION)
    return float(loss.mean()), float(loss.std() / np.sqrt(SEEDS))


# ---- the GPT


def train(job: tuple[str, int, list[float]]) -> tuple[str, int, list[float], list[float]]:
    """Held-out losses every 20 steps, and the gradient's l1 norm at each step."""
    name, seed, factors = job
    training = common.Training(seed)
    optimizer = common.adamw(training, LR, weight_decay=0.1, max_grad_norm=1.0)
    scheduler = ArrayLR(optimizer, factors)
    params = list(training.model.parameters())
    held, norms = [], []
    for step in range(STEPS):
        training.gradient()
        norms.append(sum(p.grad.abs().sum().item() for p in params))
        optimizer.step()
        scheduler.step()
        if (step + 1) % 20 == 0:
            held.append(training.held_out_loss())
    return name, seed, held, norms


def main() -> None:
    directory = common.directory(__doc__)
    rows: list[tuple[Any, ...]] = []
    figure, axes = plt.subplots(2, 2, figsize=(11.5, 8), layout="constrained")
    over_t, simulated, rates, losses = axes.flat

    # ---- bounds
    horizons = np.unique(np.logspace(0.5, 6, 23).astype(int))
    bounds: dict[str, list[float]] = {}
    for T in tqdm(horizons, desc="bounds"):
        for name, (_, value) in scaled(int(T)).items():
            bounds.setdefault(name, []).append(value)
            rows.append(("bound", name, int(T), value, ""))
    for i, (name, values) in enumerate(bounds.items()):
        style = {"color": "black", "ls": "--"} if name == "best of all" else {"color": f"C{i}"}
        over_t.plot(horizons, np.array(values) * np.sqrt(horizons), label=name, **style)
    over_t.axhline(2 * np.sqrt(2), color="grey", ls=":", lw=1)
    over_t.annotate("2√2: the closed form for linear decay", (40, 2.87), fontsize=8, color="grey")
    over_t.set(
        xscale="log", yscale="log", ylim=(1.7, 12), xlabel="T", ylabel="bound · √T / (D G)",
        title="bound of the last iterate's loss, each family at its best scale",
    )  # fmt: skip
    over_t.set_yticks([2, 3, 4, 6, 8, 12], labels=["2", "3", "4", "6", "8", "12"])
    over_t.minorticks_off()
    over_t.legend()

    # ---- SGD
    horizons = np.array([10, 30, 100, 300, 1000, 3000])
    for T in tqdm(horizons, desc="SGD"):
        for i, (name, (lr, value)) in enumerate(scaled(int(T)).items()):
            colour = "black" if name == "best of all" else f"C{i}"
            place = T * 1.05 ** (i - 3)
            simulated.plot(place, value * np.sqrt(T), "_", color=colour, ms=9)
            for bias, marker in ((0.3, "x"), (2 / np.sqrt(T), "o")):
                loss, error = last_loss(lr, bias, seed=int(T))
                rows.append((f"sgd p={bias:.3g}", name, int(T), value, loss))
                label = name if T == horizons[0] and marker == "o" else None
                simulated.errorbar(
                    place, loss * np.sqrt(T), 2 * error * np.sqrt(T), fmt=marker, ms=4,
                    color=colour, label=label,
                )  # fmt: skip
    simulated.set(
        xscale="log", yscale="log", ylim=(2e-3, 15), xlabel="T", ylabel="loss · √T / (D G)",
        title=f"SGD on G p ‖θ‖₁/√d, d = {DIMENSION}, {SEEDS} seeds\n"
        "○ p = 2/√T, × p = 0.3; bars: the bound",
    )  # fmt: skip
    simulated.legend(loc="lower left", ncols=2)

    # ---- the GPT: norms of runs with linear decay, and the schedules that they give
    warm_up = STEPS // 20
    linear = steepest.schedule_fill("linear", STEPS, lr=1.0, warmup_steps=warm_up)
    runs = common.in_parallel(
        train, [("linear", seed, linear.tolist()) for seed in GPT_SEEDS], "GPT, linear"
    )
    norms = np.median([run[3] for run in runs], axis=0)
    # One point more than updates: the last one would be 0.
    refined = steepest.schedule_refine(np.append(norms, norms[-1]), "adam")[:-1]
    others = {"refined": refined, "constant": np.minimum(1, np.arange(1, STEPS + 1) / warm_up)}
    jobs = [(name, seed, lr.tolist()) for name, lr in others.items() for seed in GPT_SEEDS]
    runs += common.in_parallel(train, jobs, "GPT, others")
    rates.plot(linear, label="linear with warm-up")
    rates.plot(refined, label="refined from its gradient norms")
    rates.plot(others["constant"], label="constant with warm-up")
    rates.plot(norms / norms.max(), color="grey", lw=0.6, label="‖g‖₁ (median of seeds, scaled)")
    rates.set(xlabel="step", ylabel="factor", title="schedules for the GPT")
    rates.legend()
    steps = np.arange(20, STEPS + 1, 20)
    for i, name in enumerate(("linear", "refined", "constant")):
        held = np.array([run[2] for run in runs if run[0] == name])
        for run in held:
            losses.plot(steps, run, color=f"C{i}", alpha=0.25, lw=0.8)
        final = f"{held[:, -1].mean():.4f} ± {held[:, -1].std(ddof=1):.4f}"
        losses.plot(steps, held.mean(axis=0), color=f"C{i}", label=f"{name}: {final}")
        rows += [
            ("gpt", name, int(step), "", float(x)) for run in held for step, x in zip(steps, run)
        ]
    rows += [("gpt norm l1", "linear", t + 1, "", float(x)) for t, x in enumerate(norms)]
    rows += [("gpt rate", "refined", t + 1, "", float(x)) for t, x in enumerate(refined)]
    losses.set(
        xlabel="step", ylabel="held-out loss, nats per character", ylim=(None, 2.8),
        title=f"GPT, AdamW, peak lr {LR}, {len(GPT_SEEDS)} seeds: mean, and each (faint)",
    )  # fmt: skip
    losses.legend()
    common.save(
        figure, directory / "e_schedules", ("part", "schedule", "T_or_step", "bound", "loss"), rows
    )


if __name__ == "__main__":
    main()
