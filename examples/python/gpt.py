# SPDX-License-Identifier: Apache-2.0
"""The text and the model of train_gpt.py."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LICENCES = Path("/usr/share/common-licenses")


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


def load_text(files: list[Path]) -> tuple[Tensor, Tensor, int]:
    """Training and held-out text as numbers of characters, and how many characters there are."""
    text = read_text(files)
    symbols = {symbol: number for number, symbol in enumerate(sorted(set(text)))}
    numbers = torch.tensor([symbols[symbol] for symbol in text])
    passages = numbers.split(1000)
    training = torch.cat([p for i, p in enumerate(passages) if i % 10 != 9])
    return training, torch.cat(passages[9::10]), len(symbols)


def draw(
    text: Tensor, batch: int, context: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random passages of `context` characters, and the characters that follow each of them."""
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

    def forward(self, x: Tensor) -> Tensor:
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

    def forward(self, symbols: Tensor) -> Tensor:
        x = self.token(symbols) + self.position.weight[: symbols.shape[1]]
        return self.lm_head(self.norm(self.blocks(x)))

    def loss(self, symbols: Tensor, following: Tensor) -> Tensor:
        return F.cross_entropy(self(symbols).flatten(0, 1), following.flatten())

    def held_out_loss(self, text: Tensor, batch: int, context: int) -> float:
        """The mean loss over a text, cut into windows of `context` characters."""
        count = (len(text) - 1) // context
        windows = text[: count * context].view(count, context)
        following = text[1 : count * context + 1].view(count, context)
        with torch.no_grad():
            pairs = zip(windows.split(batch), following.split(batch))
            return sum(self.loss(x, y).item() * len(x) for x, y in pairs) / count
