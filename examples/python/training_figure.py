# SPDX-License-Identifier: Apache-2.0
"""Tables and the figure of the runs of train_gpt.py, from the CSV files that it writes.

Runs that differ only in their seed are one line: the mean, in a band from the least to the largest.
"""

from __future__ import annotations

import csv
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np

COLUMNS = ("step", "seconds", "optimizer_seconds", "loss", "held_out", "update_rms", "snr")


@dataclass
class Runs:
    """Those of one optimizer. columns: a row per seed, a column per step."""

    name: str
    columns: dict[str, np.ndarray]

    def milliseconds(self, column: str) -> float:
        """The median time of a step: pauses of the machine do not count."""
        return float(np.median(np.diff(self.columns[column], prepend=0.0))) * 1e3

    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps at which the held-out loss was measured, and the losses: a row per seed."""
        measured = ~np.isnan(self.columns["held_out"]).any(axis=0)
        return self.columns["step"][0, measured], self.columns["held_out"][:, measured]

    def steps_to(self, loss: float) -> float:
        """Where the mean held-out loss first falls below a value, between measurements a line."""
        steps, losses = self.held_out()
        mean = losses.mean(axis=0)
        below = np.flatnonzero(mean <= loss)
        if not len(below):
            return np.nan
        i = below[0]
        if i == 0:
            return float(steps[0])
        share = (mean[i - 1] - loss) / (mean[i - 1] - mean[i])
        return float(steps[i - 1] + share * (steps[i] - steps[i - 1]))


def read(paths: list[Path]) -> list[Runs]:
    found: dict[str, list[np.ndarray]] = {}
    for path in paths:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        table = np.array([[float(row[column]) for column in COLUMNS] for row in rows])
        found.setdefault(path.stem.rpartition("-")[0], []).append(table)
    result = []
    for name, tables in found.items():
        length = min(map(len, tables))
        stack = np.stack([table[:length] for table in tables])
        result.append(Runs(name, {c: stack[:, :, k] for k, c in enumerate(COLUMNS)}))
    return result


def print_table(runs: list[Runs]) -> None:
    """Held-out losses at the end, and how soon each optimizer has the first one's."""
    target = float(runs[0].held_out()[1][:, -1].mean())
    print(
        f"| optimizer | held-out loss, mean | of each seed | steps to {target:.3f} | ms per step "
        "| of which optimizer |\n|---|---|---|---|---|---|"
    )
    for each in runs:
        last = each.held_out()[1][:, -1]
        seeds = " ".join(f"{loss:.3f}" for loss in last)
        steps = each.steps_to(target)
        reached = "not reached" if np.isnan(steps) else f"{steps:.0f}"
        print(
            f"| {each.name} | {statistics.fmean(last):.3f} | {seeds} | {reached} "
            f"| {each.milliseconds('seconds'):.0f} "
            f"| {each.milliseconds('optimizer_seconds'):.1f} |"
        )


def draw(runs: list[Runs], output: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(10, 6.4), layout="constrained")
    labels = {"update_rms": "update RMS", "snr": "signal-to-noise ratio of the gradient"}
    for k, each in enumerate(runs):
        style = {"color": f"C{k}", "linewidth": 1.3, "linestyle": ("-", "--")[k % 2]}

        def band(axis, x, y, each=each, style=style):
            axis.plot(x, y.mean(axis=0), label=each.name, **style)
            if len(y) > 1:
                low, high = y.min(axis=0), y.max(axis=0)
                axis.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)

        steps, losses = each.held_out()
        band(axes[0, 0], steps, losses)
        band(axes[0, 1], steps * each.milliseconds("seconds") / 1e3, losses)
        for axis, column in zip(axes[1], labels):
            values = each.columns[column]
            if not np.isnan(values).all():
                known = ~np.isnan(values).any(axis=0)
                band(axis, each.columns["step"][0, known], values[:, known])
    final = runs[0].held_out()[1][:, -1].mean()
    for axis, x in zip(axes[0], ("step", "seconds (steps times the median time of a step)")):
        axis.axhline(final, color="grey", linewidth=0.8, linestyle=":")
        axis.set(xlabel=x, ylabel="held-out loss, nats per character")
        axis.legend()
    for axis, label in zip(axes[1], labels.values()):
        axis.set(xlabel="step", ylabel=label)
    axes[1, 0].axhline(0.2, color="grey", linewidth=0.8, linestyle=":")
    axes[1, 1].set_yscale("symlog", linthresh=0.01)
    figure.savefig(output, dpi=90, metadata={"Software": None})
    print(output)
