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


def train(job: tuple[str, int]) -> tuple[str, int, float]:
    """The held-out loss at the end."""
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
    for step in range(STEPS + 1):
        with torch.no_grad():
            for name, param in model.items():
                param.copy_(stored[name])
        if step < STEPS:
            training.gradient()
            for name, param in model.items():
                stored[name].grad = param.grad.to(dtype)
            optimizer.step()
            scheduler.step()
    return mode, seed, training.held_out_loss()


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
    runs: list[tuple[str, int, float]],
    times: dict[str, tuple[float, float]],
) -> None:
    """The table and the figure."""
    final = {mode: np.array([r[2] for r in runs if r[0] == mode]) for mode in MODES}
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    for i, mode in enumerate(MODES):
        less = final[mode] - final["f32"]
        left.plot(less, [i] * len(SEEDS), "o", color=f"C{i}", alpha=0.6)
        left.plot(less.mean(), i, "|", color="k", ms=14)
        bytes_, speed = times[mode][1], times["f32"][0] / times[mode][0]
        right.plot(bytes_, speed, "o", color=f"C{i}", ms=8, label=mode)
    deviation = final["f32"].std(ddof=1)
    left.axvspan(-deviation, deviation, color="grey", alpha=0.2, zorder=0)
    left.set(
        xlabel="held-out loss at the end, less that of f32 with the same seed",
        yticks=range(len(MODES)), yticklabels=list(MODES),
        title="bar: mean; band: ± standard deviation of f32",
    )  # fmt: skip
    left.invert_yaxis()
    left.locator_params(axis="x", nbins=5)
    right.legend(loc="lower right")
    right.set(
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
