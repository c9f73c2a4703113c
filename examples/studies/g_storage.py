# SPDX-License-Identifier: Apache-2.0
"""Narrow state and masters against float32: the loss of a small GPT, memory and time.

The weights of each mode are stored as it says, and computed with in float32: only storage differs.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
import steepest.torch
import torch
from matplotlib import pyplot as plt
from steepest.torch import ScheduleLR

STEPS, LR = 300, 3e-3
SEEDS = (0, 1, 2)
EVALUATE_EVERY = 100
BF16 = torch.bfloat16
# Of the timing: elements, rounds in turn, threads.
COUNT, ROUNDS = 2**24, 15
THREADS = len(os.sched_getaffinity(0))

# name: type of the weights, options of AdamW
MODES: dict[str, tuple[torch.dtype, dict[str, Any]]] = {
    "f32": (torch.float32, {}),
    "bf16, nearest": (BF16, {}),
    "bf16, stochastic": (BF16, {"rounding": "stochastic"}),
    "split master, f32 moments": (BF16, {"master": "split", "state_dtype": torch.float32}),
    "f32, q8_dynamic": (torch.float32, {"state_dtype": "q8_dynamic"}),
    "f32, q8_companded": (torch.float32, {"state_dtype": "q8_companded"}),
    "split master, q8_companded": (BF16, {"master": "split", "state_dtype": "q8_companded"}),
}


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    return sum(
        value.nbytes
        for state in optimizer.state.values()
        for key, value in state.items()
        if isinstance(value, torch.Tensor) and key != "step"
    )


def train(job: tuple[str, int]) -> tuple[str, int, list[float], float]:
    """The held-out loss along the run, and bytes per parameter of weights and state."""
    mode, seed = job
    dtype, options = MODES[mode]
    training = common.Training(seed)
    model = dict(training.model.named_parameters())
    stored = {name: torch.nn.Parameter(p.detach().to(dtype)) for name, p in model.items()}
    optimizer = steepest.torch.AdamW(
        stored.items(), lr=LR, betas=(0.9, 0.95), weight_decay=0.1, max_grad_norm=1.0,
        seed=seed, **options,
    )  # fmt: skip
    scheduler = ScheduleLR(optimizer, STEPS, "linear", warmup_steps=STEPS // 20)
    losses = []
    for step in range(STEPS + 1):
        with torch.no_grad():
            for name, param in model.items():
                param.copy_(stored[name])
        if step % EVALUATE_EVERY == 0:
            losses.append(training.held_out_loss())
        if step == STEPS:
            break
        training.gradient()
        for name, param in model.items():
            stored[name].grad = param.grad.to(dtype)
        optimizer.step()
        scheduler.step()
    count = sum(p.numel() for p in stored.values())
    weights = sum(p.nbytes for p in stored.values())
    return mode, seed, losses, (weights + state_bytes(optimizer)) / count


def step_times() -> dict[str, tuple[float, float]]:
    """Of each mode: milliseconds of a step of COUNT elements, the fastest of ROUNDS steps that are
    taken in turn, and bytes per element."""
    values, gradient = torch.randn(2, COUNT, generator=torch.Generator().manual_seed(0))
    optimizers = {}
    for mode, (dtype, options) in MODES.items():
        param = torch.nn.Parameter(values.to(dtype, copy=True))
        param.grad = gradient.to(dtype)
        optimizers[mode] = steepest.torch.AdamW([param], **options)
    torch.set_num_threads(THREADS)
    best = dict.fromkeys(MODES, float("inf"))
    for _ in range(ROUNDS):
        for mode, optimizer in optimizers.items():
            began = time.perf_counter()
            optimizer.step()
            best[mode] = min(best[mode], 1e3 * (time.perf_counter() - began))
    torch.set_num_threads(1)
    sizes = {
        mode: (state_bytes(o) + o.param_groups[0]["params"][0].nbytes) / COUNT
        for mode, o in optimizers.items()
    }
    return {mode: (best[mode], sizes[mode]) for mode in MODES}


def report(
    directory: Path,
    runs: list[tuple[str, int, list[float], float]],
    times: dict[str, tuple[float, float]],
) -> None:
    """The table and the figure."""
    curves = {mode: np.array([r[2] for r in runs if r[0] == mode]) for mode in MODES}
    final = {mode: curve[:, -1] for mode, curve in curves.items()}

    figure, axes = plt.subplots(1, 3, figsize=(14, 4.6), layout="constrained")
    steps = np.arange(0, STEPS + 1, EVALUATE_EVERY)
    for i, (mode, curve) in enumerate(curves.items()):
        axes[0].plot(steps, curve.mean(axis=0), color=f"C{i}", label=mode)
        axes[1].plot(final[mode] - final["f32"], [i] * len(SEEDS), "o", color=f"C{i}", alpha=0.6)
        axes[1].plot((final[mode] - final["f32"]).mean(), i, "|", color="k", ms=14)
        axes[2].plot(times[mode][1], times["f32"][0] / times[mode][0], "o", color=f"C{i}", ms=8)
    axes[0].set(
        xlabel="step", ylabel="held-out loss, nats per character",
        title=f"mean of {len(SEEDS)} seeds", ylim=(None, 3.5),
    )  # fmt: skip
    axes[0].legend()
    deviation = final["f32"].std(ddof=1)
    axes[1].axvspan(-deviation, deviation, color="grey", alpha=0.2, label="f32 among seeds")
    axes[1].set(
        xlabel="held-out loss at the end, less that of f32 with the same seed",
        yticks=range(len(MODES)), yticklabels=list(MODES),
        title="bar: mean; band: ± standard deviation of f32",
    )  # fmt: skip
    axes[1].invert_yaxis()
    axes[1].locator_params(axis="x", nbins=5)
    axes[2].set(
        xlabel="bytes per parameter, weights and state", ylabel="speed of a step, f32 = 1",
        title=f"{COUNT // 2**20} Mi parameters, {THREADS} threads", ylim=(0, None), xlim=(0, None),
    )  # fmt: skip
    rows = []
    print("| mode | held-out loss, mean | each seed | less f32 | bytes | ms per step |")
    print("|---|---|---|---|---|---|")
    for mode, losses in final.items():
        (ms, size), less = times[mode], (losses - final["f32"]).mean()
        each = " ".join(f"{loss:.4f}" for loss in losses)
        print(f"| {mode} | {losses.mean():.4f} | {each} | {less:+.4f} | {size:.2f} | {ms:.1f} |")
        rows += [(mode, s, float(x), size, ms) for s, x in zip(SEEDS, losses)]
    columns = ("mode", "seed", "held_out", "bytes_per_parameter", "step_ms")
    common.save(figure, directory / "g_storage", columns, rows)


def main() -> None:
    directory = common.directory(__doc__)
    times = step_times()
    jobs = [(mode, seed) for seed in SEEDS for mode in MODES]
    report(directory, common.in_parallel(train, jobs, "storage"), times)


if __name__ == "__main__":
    main()
