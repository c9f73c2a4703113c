# SPDX-License-Identifier: Apache-2.0
"""What Muon and AdamW make of weights: weight decay bounds the spectral norm, the singular entropy
of Muon's weights is higher, and weights trained with one are continued with the other.
"""

from __future__ import annotations

from typing import Any

import common
import numpy as np
import steepest
from matplotlib import pyplot as plt
from steepest.torch import ScheduleLR

LR, SEEDS = 2e-3, (0, 1)
GROWTH_LR, GROWTH_STEPS, DECAYS = 1e-2, 400, (0.0, 0.5, 1.5, 5.0)
FIRST, SECOND, SECOND_LR = 400, 300, 1e-3
MAKERS = {"AdamW": common.adamw, "Muon": common.muon}


def norms(training: common.Training) -> dict[str, float]:
    """Upper bounds of the spectral norm of every hidden matrix, within 0.1 %."""
    return {
        name: steepest.spectral_norm_bounds(param.detach(), 1e-3).upper
        for name, param in training.hidden().items()
        if "qkv" not in name  # a block each of query, key and value
    }


def grow(job: tuple[str, float]) -> tuple[str, float, list[float], list[float]]:
    """Norms of blocks.1.up at each 10th step, at a constant lr, and Muon's bound at each. That the
    bound holds for every matrix under Muon is checked."""
    optimizer_name, decay = job
    training = common.Training(0)
    optimizer = MAKERS[optimizer_name](training, GROWTH_LR, weight_decay=decay)
    start = norms(training)
    shown, bound = [], []
    for step in range(GROWTH_STEPS + 1):
        if step % 10 == 0:
            now = norms(training)
            shown.append(now["blocks.1.up.weight"])
            for name, norm in now.items():
                # |O|_2 <= 1.0625 with the default msign; scale 0.2 sqrt(max side).
                reach = 1.0625 * 0.2 * np.sqrt(max(training.hidden()[name].shape))
                kept = (1 - GROWTH_LR * decay) ** step
                limit = max(start[name], reach / decay) if decay else np.inf
                tight = kept * start[name] + (
                    reach / decay * (1 - kept) if decay else GROWTH_LR * step * reach
                )
                if name == "blocks.1.up.weight":
                    bound.append(float(min(limit, tight)))
                if optimizer_name == "Muon" and norm > 1.001 * min(limit, tight):
                    raise AssertionError(f"{name} at step {step}: {norm} > {min(limit, tight)}")
        training.gradient()
        optimizer.step()
    return optimizer_name, decay, shown, bound


def entropies(training: common.Training) -> float:
    return float(
        np.mean(
            [
                steepest.singular_entropy(steepest.singular_values(part.detach()))
                for name, param in training.hidden().items()
                for part in (param.chunk(3) if "qkv" in name else [param])
            ]
        )
    )


def relay(job: tuple[str, int]) -> list[tuple[str, str, int, int, float, float]]:
    """(first, second, seed, step, held-out loss, entropy): one run, and what each optimizer makes
    of its weights."""
    first, seed = job
    rows = []

    def train(
        training: common.Training, name: str, lr: float, steps: int, warm_up: int, second: str
    ) -> None:
        optimizer = MAKERS[name](training, lr, weight_decay=0.1)
        scheduler = ScheduleLR(optimizer, steps, "linear", warmup_steps=warm_up)
        for step in range(steps + 1):
            if step % 20 == 0:
                rows.append(
                    (first, second, seed, step, training.held_out_loss(), entropies(training))
                )
            if step < steps:
                training.gradient()
                optimizer.step()
                scheduler.step()

    training = common.Training(seed)
    train(training, first, LR, FIRST, 20, "")
    trained = {name: value.clone() for name, value in training.model.state_dict().items()}
    batches = training.generator.get_state()
    for second in MAKERS:
        training.model.load_state_dict(trained)
        training.generator.set_state(batches)  # the same batches for both
        train(training, second, SECOND_LR, SECOND, 20, second)
    return rows


def main() -> None:
    directory = common.directory(__doc__)
    rows: list[tuple[Any, ...]] = []
    figure, axes = plt.subplots(2, 2, figsize=(11.5, 8), layout="constrained")
    growth, adam, entropy, continued = axes.flat

    jobs = [(name, decay) for name in MAKERS for decay in DECAYS]
    steps = np.arange(0, GROWTH_STEPS + 1, 10)
    for name, decay, shown, bound in common.in_parallel(grow, jobs, "growth"):
        axis = growth if name == "Muon" else adam
        colour = f"C{DECAYS.index(decay)}"
        label = f"λ = {decay}"
        if name == "Muon":
            axis.plot(steps, bound, ":", color=colour, lw=1.4)
        axis.plot(steps, shown, color=colour, label=label)
        rows += [(f"growth {name}", decay, 0, int(t), x, b) for t, x, b in zip(steps, shown, bound)]
    growth.plot([], [], "k:", label="bound for each λ")
    for axis, title in ((growth, "Muon"), (adam, "AdamW")):
        axis.set(
            xlabel="step", ylabel="‖W‖₂ of blocks.1.up", yscale="log",
            title=f"{title}, constant lr {GROWTH_LR}, weight decay λ",
        )  # fmt: skip
        axis.legend(fontsize=7.5)

    runs = common.in_parallel(relay, [(name, seed) for name in MAKERS for seed in SEEDS], "relay")
    found = [row for run in runs for row in run]
    rows += [(f"{a} then {b}", LR, seed, step, x, h) for a, b, seed, step, x, h in found]

    def mean(first: str, second: str, column: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        here = [r for r in found if r[0] == first and r[1] == second]
        at = sorted({r[3] for r in here})
        each = np.array([[r[column] for r in here if r[3] == step] for step in at])
        return np.array(at), each.mean(axis=1), each[-1]

    for i, first in enumerate(MAKERS):
        at, values, _ = mean(first, "", 5)
        entropy.plot(at, values, color=f"C{i}", label=first)
        for second, style in zip(MAKERS, ("--", ":")):
            at, values, _ = mean(first, second, 5)
            entropy.plot(at + FIRST, values, style, color=f"C{i}", label=f"{first}, then {second}")
            at, values, last = mean(first, second, 4)
            label = f"{first}, then {second}: {last.mean():.4f} ({last.min():.4f}–{last.max():.4f})"
            continued.plot(at, values, style, color=f"C{i}", label=label)
    entropy.set(
        xlabel="step", ylabel="mean over the hidden matrices", title="singular entropy of weights"
    )
    entropy.legend()
    continued.set(
        xlabel="step of the second run", ylabel="held-out loss, nats per character",
        title=f"{FIRST} steps at lr {LR}, then {SECOND} at {SECOND_LR}; {len(SEEDS)} seeds",
    )  # fmt: skip
    continued.legend()
    figure.suptitle(
        f"weights of a GPT (width {common.WIDTH}, {common.LAYERS} layers), AdamW and Muon"
    )
    columns = ("part", "weight_decay_or_lr", "seed", "step", "norm_or_loss", "bound_or_entropy")
    common.save(figure, directory / "d_weights", columns, rows)


if __name__ == "__main__":
    main()
