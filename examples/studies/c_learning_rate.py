# SPDX-License-Identifier: Apache-2.0
"""From AdamW to Muon at the same learning rate: the loss over two decades of lr under AdamW and
under Muon with several scales of its update, with and without weight decay, for a network whose
layers have very different shapes.
"""

from __future__ import annotations

from typing import Any

import common
import numpy as np
import steepest
import torch
from matplotlib import pyplot as plt
from steepest.torch import ScheduleLR
from torch import Tensor, nn
from torch.nn import functional as F

CONTEXT, EMBEDDING, BATCH, STEPS = 12, 16, 128, 150
HIDDEN = (1024, 48, 512, 64, 64)  # 192 -> 1024 -> 48 -> 512 -> 64 -> 64
SEEDS = (0,)
RATES = [float(f"{x:.2g}") for x in np.logspace(-3.5, -1.5, 7)]
DECAYS = (0.0, 0.1)
PREDICTED = steepest.adam_update_rms(0.9)
METHODS: dict[str, dict[str, Any] | None] = {
    "AdamW": None,
    "Muon, MATCH_RMS 0.2": {"adjust_lr_fn": "match_rms_adamw", "scale_value": 0.2},
    "Muon, EXACT_RMS 0.2": {"adjust_lr_fn": "exact_rms", "scale_value": 0.2},
    f"Muon, MATCH_RMS {PREDICTED:.3f} (from β₁)": {
        "adjust_lr_fn": "match_rms_adamw",
        "scale_value": PREDICTED,
    },
    "Muon, unscaled": {"adjust_lr_fn": "none"},
}

STYLES = ("o-", "s-", "^--", "v:", "o-")


class Network(nn.Module):
    """The next character from the last twelve, by hidden layers of all shapes."""

    def __init__(self, symbols: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, EMBEDDING)
        sizes = (CONTEXT * EMBEDDING, *HIDDEN)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.head = nn.Linear(HIDDEN[-1], symbols)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embedding(x).flatten(1)
        for layer in self.layers:
            h = F.layer_norm(h, h.shape[1:])
            h = F.gelu(layer(h))
        return self.head(F.layer_norm(h, h.shape[1:]))


def train(job: tuple[str, float, float, int]) -> tuple[str, float, float, int, float, list[float]]:
    """The held-out loss at the end, and the mean update RMS of each hidden matrix."""
    method, lr, decay, seed = job
    text, held_out, symbols = common.load_text([])
    torch.manual_seed(seed)
    network = Network(symbols)
    options: dict[str, Any] = {"weight_decay": decay, "betas": (0.9, 0.95), "track_stats": True}
    scale = METHODS[method]
    optimizer: Any
    if scale is None:
        optimizer = steepest.torch.AdamW(network.named_parameters(), lr=lr, **options)
    else:
        groups = steepest.torch.split_parameters(network)
        optimizer = steepest.torch.MuonAdamW(groups, lr=lr, **scale, **options)
    scheduler = ScheduleLR(optimizer, STEPS, "linear", warmup_steps=STEPS // 20)
    generator = torch.Generator().manual_seed(seed)
    square = np.zeros(len(HIDDEN))
    for step in range(STEPS):
        start = torch.randint(len(text) - CONTEXT - 1, (BATCH, 1), generator=generator)
        window = text[start + torch.arange(CONTEXT + 1)]
        loss = F.cross_entropy(network(window[:, :-1]), window[:, -1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step >= STEPS // 2:
            stats = optimizer.stats()["params"]
            rms = [stats[f"layers.{i}.weight"]["update_rms"] for i in range(len(HIDDEN))]
            square += np.array(rms) ** 2 / (STEPS - STEPS // 2)
    windows = held_out.unfold(0, CONTEXT + 1, 1)
    with torch.no_grad():
        losses = [
            F.cross_entropy(network(w[:, :-1]), w[:, -1], reduction="sum").item()
            for w in windows.split(2048)
        ]
    held = sum(losses) / len(windows)
    return method, lr, decay, seed, held, np.sqrt(square).tolist()


def main() -> None:
    directory = common.directory(__doc__)
    jobs = [
        (method, lr, decay, seed)
        for decay in DECAYS
        for lr in RATES
        for method in METHODS
        for seed in SEEDS
    ]
    runs = common.in_parallel(train, jobs, "lr")
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.8), layout="constrained")
    for axis, decay in zip(axes, DECAYS):
        for i, method in enumerate(METHODS):
            means = [np.mean([r[4] for r in runs if r[:3] == (method, lr, decay)]) for lr in RATES]
            axis.plot(RATES, means, STYLES[i], color=f"C{i}", ms=7 - i, label=method)
        axis.set(
            xscale="log", xlabel="lr", ylabel="held-out loss, nats per character",
            title=f"after {STEPS} steps, weight decay {decay}", ylim=(None, 3.3),
        )  # fmt: skip
        axis.legend(fontsize=7.5)
    shapes = [f"{b}×{a}" for a, b in zip((CONTEXT * EMBEDDING, *HIDDEN), HIDDEN)]
    middle = RATES[len(RATES) // 2]
    for i, method in enumerate(METHODS):
        values = [r[5] for r in runs if r[:3] == (method, middle, 0.1)]
        axes[2].plot(
            shapes, np.mean(values, axis=0), STYLES[i], color=f"C{i}", ms=7 - i, label=method
        )
    axes[2].axhline(PREDICTED, color="grey", ls=":", lw=1)
    axes[2].set(
        yscale="log", xlabel="hidden matrix, fan_out×fan_in",
        ylabel="RMS of the update, second half of the run", title=f"lr {middle}",
    )  # fmt: skip
    axes[2].legend(fontsize=7.5)
    rows = [(method, lr, decay, seed, held, *rms) for method, lr, decay, seed, held, rms in runs]
    columns = ("method", "lr", "weight_decay", "seed", "held_out", *(f"rms {s}" for s in shapes))
    common.save(figure, directory / "c_learning_rate", columns, rows)


if __name__ == "__main__":
    main()
