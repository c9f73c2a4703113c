# SPDX-License-Identifier: Apache-2.0
"""Trains a small GPT on real text, with torch's optimizers or with Steepest's.

    python train_gpt.py --optimizer adamw                      # writes adamw-0.csv and adamw-0.png
    python train_gpt.py --optimizer muon --seed 1 --steps 300
    python train_gpt.py --optimizer muon --checkpoint run.pt --resume
    python train_gpt.py --plot torch-adamw-0.csv adamw-0.csv muon-0.csv --output all.png

Characters of English text, by default the licences in /usr/share/common-licenses; every tenth
passage is held out. Needs torch, steepest, matplotlib and tqdm. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

LICENCES = Path("/usr/share/common-licenses")
OPTIMIZERS = ("torch-adamw", "adamw", "torch-muon", "muon")
COLUMNS = ("step", "seconds", "optimizer_seconds", "loss", "held_out", "update_rms", "snr")
EVALUATE_EVERY = 25


# ---- text


def read_text(files: list[Path]) -> str:
    """The files' text without paragraphs that occurred before: licences repeat each other."""
    files = files or sorted(f for f in LICENCES.glob("*") if f.is_file() and not f.is_symlink())
    if not files:
        raise SystemExit(f"no text in {LICENCES} on this machine: name text files with --text")
    seen: dict[str, None] = {}
    for file in files:
        lines = [" ".join(line.split()) for line in file.read_text(errors="replace").splitlines()]
        for paragraph in "\n".join(lines).split("\n\n"):
            seen.setdefault(paragraph.strip("\n"))
    text = "\n\n".join(seen)
    if len(text) < 20_000:
        raise SystemExit(f"the text is too short: {len(text)} characters")
    return text


def load_text(files: list[Path]) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Training and held-out text as numbers of characters, and how many characters there are."""
    text = read_text(files)
    symbols = {symbol: number for number, symbol in enumerate(sorted(set(text)))}
    numbers = torch.tensor([symbols[symbol] for symbol in text])
    passages = numbers.split(1000)
    training = torch.cat([p for i, p in enumerate(passages) if i % 10 != 9])
    return training, torch.cat(passages[9::10]), len(symbols)


def draw(text: torch.Tensor, batch: int, context: int, generator: torch.Generator):
    starts = torch.randint(len(text) - context, (batch, 1), generator=generator)
    windows = text[starts + torch.arange(context + 1)]
    return windows[:, :-1], windows[:, 1:]


# ---- model


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    def __init__(self, symbols: int, context: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.token = nn.Embedding(symbols, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, symbols, bias=False)
        for name, param in self.named_parameters():
            if param.ndim == 2:
                deep = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(param, std=0.02 / math.sqrt(2 * layers) if deep else 0.02)

    def forward(self, symbols: torch.Tensor) -> torch.Tensor:
        x = self.token(symbols) + self.position.weight[: symbols.shape[1]]
        return self.lm_head(self.norm(self.blocks(x)))

    def loss(self, symbols: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self(symbols).flatten(0, 1), following.flatten())


# ---- optimizers: the same learning rate, decay and clipping for all


def make_optimizers(name: str, model: GPT, lr: float) -> list[torch.optim.Optimizer]:
    import steepest.torch

    options = {"lr": lr, "weight_decay": 0.1}
    betas = (0.9, 0.95)
    blocks = {"*.qkv.weight": 3}
    if name == "torch-adamw":
        return [torch.optim.AdamW(model.parameters(), betas=betas, fused=True, **options)]
    if name == "adamw":
        params = model.named_parameters()
        return [steepest.torch.AdamW(params, betas=betas, track_stats=True, **options)]
    groups = steepest.torch.split_parameters(model, blocks=blocks if name == "muon" else None)
    if name == "muon":
        return [steepest.torch.MuonAdamW(groups, betas=betas, track_stats=True, **options)]
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


# ---- training


@dataclass
class Progress:
    step: int = 0
    seconds: float = 0.0
    optimizer_seconds: float = 0.0


def held_out_loss(model: GPT, text: torch.Tensor, batch: int, context: int) -> float:
    generator = torch.Generator().manual_seed(0)  # the same windows each time
    with torch.no_grad():
        losses = [model.loss(*draw(text, batch, context, generator)).item() for _ in range(8)]
    return sum(losses) / len(losses)


def train(options: argparse.Namespace) -> Path:
    training, held_out, symbols = load_text(options.text)
    torch.manual_seed(options.seed)
    model = GPT(symbols, options.context, options.width, options.layers, options.heads)
    optimizers = make_optimizers(options.optimizer, model, options.lr)
    generator = torch.Generator().manual_seed(options.seed)
    progress, rows = Progress(), []
    if options.resume and options.checkpoint.exists():
        saved = torch.load(options.checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        for optimizer, state in zip(optimizers, saved["optimizers"]):
            optimizer.load_state_dict(state)
        generator.set_state(saved["generator"])
        progress, rows = Progress(**saved["progress"]), saved["rows"]

    def save() -> None:
        if options.checkpoint:
            state = {
                "model": model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "generator": generator.get_state(),
                "progress": vars(progress),
                "rows": rows,
            }
            torch.save(state, options.checkpoint)

    count = sum(p.numel() for p in model.parameters())
    print(f"{count / 1e6:.1f} M parameters, {len(training):,} characters, {symbols} symbols")
    params = list(model.parameters())
    last = min(options.steps, options.stop_at or options.steps)
    bar = tqdm(initial=progress.step, total=options.steps, desc=options.optimizer, unit="step")
    while progress.step < last:
        began = time.perf_counter()
        inputs, targets = draw(training, options.batch, options.context, generator)
        loss = model.loss(inputs, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        stepping = time.perf_counter()
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate_at(progress.step, options.steps, options.lr)
            optimizer.step()
        now = time.perf_counter()
        for optimizer in optimizers:
            optimizer.zero_grad()
        progress.step += 1
        progress.seconds += now - began
        progress.optimizer_seconds += now - stepping
        held = math.nan
        if progress.step % EVALUATE_EVERY == 0 or progress.step == last:
            held = held_out_loss(model, held_out, options.batch, options.context)
            bar.set_postfix(loss=f"{loss.item():.3f}", held_out=f"{held:.3f}")
        rows.append([*vars(progress).values(), loss.item(), held, *figures(optimizers[0])])
        bar.update()
        if progress.step % 100 == 0:
            save()
    bar.close()
    save()
    path = options.directory / f"{options.optimizer}-{options.seed}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    print(
        f"held-out loss {rows[-1][4]:.4f} after {progress.step} steps, {progress.seconds:.1f} s, "
        f"of which {progress.optimizer_seconds:.1f} s in the optimizer; {path}"
    )
    return path


# ---- figure


def plot(paths: list[Path], output: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 7), layout="constrained")
    for path in paths:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = {name: [float(row[name]) for row in rows] for name in COLUMNS}
        for axis, x in ((axes[0, 0], "step"), (axes[0, 1], "seconds")):
            shown = [i for i, held in enumerate(columns["held_out"]) if not math.isnan(held)]
            held = [columns["held_out"][i] for i in shown]
            (line,) = axis.plot([columns[x][i] for i in shown], held, label=path.stem)
            axis.plot(columns[x], columns["loss"], color=line.get_color(), alpha=0.15)
            axis.set(xlabel=x, ylabel="loss, nats per character (faint: training)")
            axis.legend()
        for axis, y in ((axes[1, 0], "update_rms"), (axes[1, 1], "snr")):
            if any(not math.isnan(value) for value in columns[y]):
                axis.plot(columns["step"], columns[y], label=path.stem, color=line.get_color())
            axis.set(xlabel="step", ylabel=y)
    axes[1, 1].set_yscale("symlog", linthresh=0.01)
    axes[1, 0].axhline(0.2, color="grey", linewidth=0.8, linestyle=":")
    figure.savefig(output, dpi=120)
    print(output)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="muon")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--stop-at", type=int, help="stop there, the schedule being for --steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--threads", type=int, help="of torch and of Steepest")
    parser.add_argument("--text", type=Path, nargs="+", default=[], help="text files")
    parser.add_argument("--checkpoint", type=Path, help="saved every 100 steps and at the end")
    parser.add_argument("--resume", action="store_true", help="go on from --checkpoint")
    parser.add_argument("--directory", type=Path, default=Path(), help="where results are written")
    parser.add_argument("--plot", type=Path, nargs="+", metavar="CSV", help="only draw these runs")
    parser.add_argument("--output", type=Path, help="the figure's file (PNG)")
    options = parser.parse_args()
    if options.resume and not options.checkpoint:
        parser.error("--resume needs --checkpoint")
    if options.threads:
        torch.set_num_threads(options.threads)
    paths = options.plot or [train(options)]
    plot(paths, options.output or paths[-1].with_suffix(".png"))


if __name__ == "__main__":
    main()
