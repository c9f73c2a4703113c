# SPDX-License-Identifier: Apache-2.0
"""What the studies share: options, output, processes, and the small GPT that some of them train."""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))
import steepest.torch
from gpt import GPT, draw, load_text

# One thread for each process: results do not depend on it, and small models gain nothing from more.
torch.set_num_threads(1)

WIDTH, LAYERS, HEADS, CONTEXT, BATCH = 64, 2, 4, 64, 16
BLOCKS = {"*.qkv.weight": 3}
mpl.rcParams.update({"axes.grid": True, "grid.alpha": 0.3, "font.size": 9, "legend.fontsize": 8})


# ---- output


def directory(description: str | None) -> Path:
    """Where a study writes, from its command line."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--directory", type=Path, default=Path(), help="where results are written")
    path: Path = parser.parse_args().directory
    path.mkdir(parents=True, exist_ok=True)
    return path


def save(figure: Figure, path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """path.png, in few colours so that it stays small, and path.csv."""
    png, table = path.with_suffix(".png"), path.with_suffix(".csv")
    figure.savefig(png, dpi=85)
    with Image.open(png) as image:
        colours = Image.Quantize.MAXCOVERAGE  # the others merge the colours of small markers
        image.convert("RGB").quantize(200, colours).save(png, optimize=True)
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in rows:
            writer.writerow([f"{x:.6g}" if isinstance(x, float) else x for x in row])
    print(f"{png} ({png.stat().st_size // 1024} KiB), {table}")


# ---- processes


def in_parallel(work: Callable[[Any], Any], jobs: Sequence[Any], name: str) -> list[Any]:
    """work(job) for each job, in as many processes as this one may use cores."""
    cores = len(os.sched_getaffinity(0))
    # Not forked: the library's and torch's threads do not survive that.
    with multiprocessing.get_context("spawn").Pool(min(cores, len(jobs))) as pool:
        return list(tqdm(pool.imap(work, jobs), total=len(jobs), desc=name, unit="run"))


# ---- the model


class Training:
    """A small GPT on the text of examples/python/gpt.py, a step at a time."""

    def __init__(self, seed: int, width: int = WIDTH, layers: int = LAYERS) -> None:
        self.text, self.held_out, symbols = load_text([])
        torch.manual_seed(seed)
        self.model = GPT(symbols, CONTEXT, width, layers, HEADS)
        self.generator = torch.Generator().manual_seed(seed)

    def gradient(self, generator: torch.Generator | None = None) -> float:
        """Leaves the gradient of a random batch in the parameters; its loss."""
        self.model.zero_grad()
        loss = self.model.loss(*draw(self.text, BATCH, CONTEXT, generator or self.generator))
        loss.backward()
        return loss.item()

    def held_out_loss(self) -> float:
        return self.model.held_out_loss(self.held_out, 64, CONTEXT)

    def hidden(self) -> dict[str, Tensor]:
        """The hidden matrices: what Muon takes."""
        return {
            name: param
            for name, param in self.model.named_parameters()
            if name.startswith("blocks") and param.ndim == 2
        }

    def groups(self) -> list[dict[str, Any]]:
        return steepest.torch.split_parameters(self.model, blocks=BLOCKS)


def adamw(training: Training, lr: float, **options: Any) -> steepest.torch.AdamW:
    params = training.model.named_parameters()
    return steepest.torch.AdamW(params, lr=lr, **{"betas": (0.9, 0.95), **options})


def muon(training: Training, lr: float, **options: Any) -> steepest.torch.MuonAdamW:
    groups = training.groups()
    return steepest.torch.MuonAdamW(groups, lr=lr, **{"betas": (0.9, 0.95), **options})
