# SPDX-License-Identifier: Apache-2.0
"""Trains a small GPT on real text, with torch's optimizers or with Steepest's.

    python train_gpt.py --optimizer adamw                      # writes adamw-0.csv and figure.png
    python train_gpt.py --optimizer muon --steps 1000 --resume # goes on where it was interrupted
    python train_gpt.py --optimizer torch-adamw adamw torch-muon muon --seeds 0 1 2
    python train_gpt.py --optimizer adamw --dtype bfloat16 --master split --state-dtype q8_companded
    python train_gpt.py --plot torch-adamw-*.csv muon-*.csv --output all.png

Several optimizers train side by side: in turn one step of each, on the same batch, so that
whatever else the machine does delays them alike. Their learning rate, decay and clipping are the
same. Characters of English text, by default the licences in /usr/share/common-licenses; every tenth
passage is held out. Needs torch, steepest, matplotlib and tqdm. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path

import storage
import torch
import training_figure
from gpt import GPT, draw, load_text
from torch import Tensor, nn
from tqdm import tqdm

OPTIMIZERS = ("torch-adamw", "adamw", "torch-muon", "muon")
EVALUATE_EVERY, SAVE_EVERY = 25, 100
MAX_GRAD_NORM = 1.0


def make_optimizers(name: str, model: GPT, lr: float, stored: dict) -> list[torch.optim.Optimizer]:
    """`stored`: the options of Steepest's optimizers that say how."""
    options = {"lr": lr, "weight_decay": 0.1}
    betas = (0.9, 0.95)
    if name == "torch-adamw":
        return [torch.optim.AdamW(model.parameters(), betas=betas, fused=True, **options)]

    import steepest.torch

    ours = {
        "betas": betas,
        "track_stats": True,
        "max_grad_norm": MAX_GRAD_NORM,
        **options,
        **stored,
    }
    if name == "adamw":
        return [steepest.torch.AdamW(model.named_parameters(), **ours)]
    if name == "muon":
        groups = steepest.torch.split_parameters(model, blocks={"*.qkv.weight": 3})
        return [steepest.torch.MuonAdamW(groups, **ours)]
    groups = steepest.torch.split_parameters(model)
    hidden = [p for group in groups if group["use_muon"] for p in group["params"]]
    rest = [p for group in groups if not group["use_muon"] for p in group["params"]]
    return [
        torch.optim.Muon(hidden, adjust_lr_fn="match_rms_adamw", **options),
        torch.optim.AdamW(rest, betas=betas, fused=True, **options),
    ]


def rate_at(step: int, steps: int, lr: float) -> float:
    """Warm-up over a twentieth of the steps, then linear decay to a tenth."""
    warm_up = max(1, steps // 20)
    return lr * min((step + 1) / warm_up, 1 - 0.9 * max(0, step - warm_up) / (steps - warm_up))


def figures(optimizer: torch.optim.Optimizer) -> tuple[float, float]:
    """The update RMS and the signal-to-noise ratio of the largest group, where they are known."""
    if not getattr(optimizer, "track_stats", False):
        return math.nan, math.nan
    sizes = [sum(p.numel() for p in group["params"]) for group in optimizer.param_groups]
    group = optimizer.stats()["groups"][sizes.index(max(sizes))]
    return group["update_rms"], group["snr_momentum"]


class Run:
    """One model and its optimizer: what a checkpoint holds."""

    def __init__(self, name: str, seed: int, symbols: int, options: argparse.Namespace) -> None:
        self.options = options
        self.name = f"{storage.label(name, options)}-{seed}"
        self.clips_itself = not name.startswith("torch-")  # max_grad_norm
        torch.manual_seed(seed)
        self.model = GPT(symbols, options.context, options.width, options.layers, options.heads)
        self.model.to(getattr(torch, options.dtype))
        self.params = list(self.model.parameters())
        stored = storage.arguments(options, seed)
        self.optimizers = make_optimizers(name, self.model, options.lr, stored)
        self.generator = torch.Generator().manual_seed(seed)  # of the batches
        self.seconds = self.optimizer_seconds = 0.0
        self.rows: list[list[float]] = []
        checkpoint = self.path("pt")
        if options.resume and checkpoint.exists():
            self.load(torch.load(checkpoint, weights_only=True))

    def path(self, ending: str) -> Path:
        return self.options.directory / f"{self.name}.{ending}"

    @property
    def step(self) -> int:
        return len(self.rows)

    def load(self, saved: dict) -> None:
        self.model.load_state_dict(saved["model"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"]):
            optimizer.load_state_dict(state)
        self.generator.set_state(saved["generator"])
        self.rows = saved["rows"]
        _, self.seconds, self.optimizer_seconds, *_ = self.rows[-1]

    def save(self) -> None:
        """The figures so far, and a checkpoint, which replaces the one before at once."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "generator": self.generator.get_state(),
            "rows": self.rows,
        }
        if self.options.resume:
            torch.save(state, self.path("new"))
            self.path("new").replace(self.path("pt"))
        with self.path("csv").open("w", newline="") as file:
            csv.writer(file).writerows([training_figure.COLUMNS, *self.rows])

    def advance(self, training: Tensor, held_out: Tensor) -> tuple[float, float]:
        """One step. Returns the training loss and, now and then, the held-out loss, or NaN."""
        options, model = self.options, self.model
        began = time.perf_counter()
        loss = model.loss(*draw(training, options.batch, options.context, self.generator))
        loss.backward()
        stepping = time.perf_counter()
        if not self.clips_itself:
            nn.utils.clip_grad_norm_(self.params, MAX_GRAD_NORM)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate_at(self.step, options.steps, options.lr)
            optimizer.step()
        now = time.perf_counter()
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        self.seconds += now - began
        self.optimizer_seconds += now - stepping
        held, step = math.nan, self.step + 1
        if step % EVALUATE_EVERY == 0 or step == options.steps:
            held = model.held_out_loss(held_out, options.batch, options.context)
        row = [step, self.seconds, self.optimizer_seconds, loss.item(), held]
        self.rows.append([*row, *figures(self.optimizers[0])])
        return loss.item(), held


def train(seed: int, options: argparse.Namespace) -> list[Path]:
    """Trains a model with each optimizer, from the same initial values."""
    training, held_out, symbols = load_text(options.text)
    runs = [Run(name, seed, symbols, options) for name in options.optimizer]
    count = sum(p.numel() for p in runs[0].params)
    print(f"{count / 1e6:.1f} M parameters, {len(training):,} characters, {symbols} symbols")
    last = min(options.steps, options.stop_at or options.steps)
    first = min(run.step for run in runs)
    latest = {}
    with tqdm(initial=first, total=options.steps, desc=f"seed {seed}", unit="step") as bar:
        for step in range(first, last):
            for run in runs:
                if run.step > step:  # its checkpoint is of a later step
                    continue
                _, held = run.advance(training, held_out)
                if not math.isnan(held):
                    latest[run.name] = f"{held:.3f}"
                if run.step % SAVE_EVERY == 0 or run.step == last:
                    run.save()
            bar.set_postfix(latest, refresh=False)
            bar.update()
    return [run.path("csv") for run in runs]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--optimizer", choices=OPTIMIZERS, nargs="+", default=["muon"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--stop-at", type=int, help="stop there for now; use with --resume")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--threads", type=int, help="of torch and of Steepest")
    parser.add_argument("--text", type=Path, nargs="+", default=[], help="text files")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="save checkpoints every 100 steps and at the end, and go on from those that are there",
    )
    parser.add_argument("--directory", type=Path, default=Path(), help="where results are written")
    parser.add_argument("--plot", type=Path, nargs="+", metavar="CSV", help="only draw these runs")
    parser.add_argument("--output", type=Path, help="the figure, DIRECTORY/figure.png if not given")
    storage.add_arguments(parser)
    options = parser.parse_args()
    storage.check(parser, options)
    if options.threads:
        torch.set_num_threads(options.threads)
    options.directory.mkdir(parents=True, exist_ok=True)
    by_seed = [] if options.plot else [train(seed, options) for seed in options.seeds]
    if options.stop_at and not options.plot:
        return
    paths = options.plot or [path for per_optimizer in zip(*by_seed) for path in per_optimizer]
    runs = training_figure.read(paths)
    training_figure.print_table(runs)
    training_figure.draw(runs, options.output or options.directory / "figure.png")


if __name__ == "__main__":
    main()
