# SPDX-License-Identifier: Apache-2.0
"""The tables of distributed.md: bytes, operations and time of an optimizer step on many ranks.

    python docs/distributed.py                          # prints them
    python docs/distributed.py --write                  # puts them into distributed.md
    python docs/distributed.py --network 3e9 --flops 1e12

It counts; it measures nothing. The rates of a rank's machine are arguments. Needs Python alone.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "bindings" / "python" / "steepest"))
from _shares import muon_flops, owners

RANKS = (1, 2, 8, 32, 128, 512, 1024)
WORD = 4  # bytes: parameters, gradients and state are float32
ALIGNMENT = 8  # bytes, of tensors that are sent together
ADAMW_TRAFFIC = 28  # bytes of memory per parameter: four read, three written
ADAMW_FLOPS = 14  # operations per parameter, roughly
MARKS = ("<!-- tables -->\n", "<!-- end of the tables -->\n")


@dataclass
class Entry:
    """A parameter: its rows and columns, and whether Muon or AdamW updates it."""

    rows: int
    cols: int
    muon: bool
    blocks: tuple[int, ...] = ()
    block_axis: int = 0

    def flops(self) -> int:
        return muon_flops(self.rows, self.cols, blocks=self.blocks, block_axis=self.block_axis)


def gpt(layers: int, width: int, vocabulary: int, context: int) -> list[Entry]:
    """As GPT-2: fused query-key-value, an MLP of 4 times the width, a tied head."""
    layer = [
        Entry(3 * width, width, True, (width,) * 3),
        Entry(width, width, True),
        Entry(4 * width, width, True),
        Entry(width, 4 * width, True),
        Entry(13 * width, 1, False),  # biases and norms
    ]
    ends = [Entry(vocabulary, width, False), Entry(context, width, False)]
    return ends + layer * layers + [Entry(2 * width, 1, False)]


def llama(layers: int, width: int, inner: int, vocabulary: int, kv: int) -> list[Entry]:
    """As Llama 2: separate projections, gate and up and down, an untied head."""
    layer = [
        Entry(width, width, True),
        Entry(kv, width, True),
        Entry(kv, width, True),
        Entry(width, width, True),
        Entry(inner, width, True),
        Entry(inner, width, True),
        Entry(width, inner, True),
        Entry(2 * width, 1, False),
    ]
    ends = [Entry(vocabulary, width, False)] * 2
    return ends + layer * layers + [Entry(width, 1, False)]


MODELS = {
    "GPT-2 124M": gpt(12, 768, 50257, 1024),
    "GPT-2 355M": gpt(24, 1024, 50257, 1024),
    "GPT 1.3B": gpt(24, 2048, 50257, 2048),
    "Llama 7B": llama(32, 4096, 11008, 32000, 4096),
    "Llama 13B": llama(40, 5120, 13824, 32000, 5120),
    "Llama 70B": llama(80, 8192, 28672, 32000, 1024),
}


def entries_of(optimizer: Any) -> list[Entry]:
    """Of a steepest.torch optimizer, to compare with what it does."""
    found = []
    for group in optimizer.param_groups:
        for p in group["params"]:
            rows, muon = (p.shape[0] if p.ndim else 1), group.get("use_muon", False)
            cols = p.numel() // max(1, rows)
            blocks = group["blocks"] if muon else None
            sizes = (rows // blocks,) * blocks if isinstance(blocks, int) else tuple(blocks or ())
            found.append(Entry(rows, cols, muon, sizes))
    return found


def padded(count: int) -> int:
    return -(-count * WORD // ALIGNMENT) * ALIGNMENT


def shard(rows: int, ranks: int, rank: int) -> int:
    """How many of the rows torch.chunk gives to a rank."""
    each = -(-rows // ranks)
    return max(0, min(rows, each * (rank + 1)) - each * rank)


def children(place: int, ranks: int) -> int:
    """To how many a rank passes a broadcast on, in a binomial tree whose root is at place 0."""
    steps = [1 << k for k in range(ranks.bit_length())]
    return sum(step > place and place + step < ranks for step in steps)


def per_rank(entries: list[Entry], ranks: int, how: str) -> list[dict[str, int]]:
    """For every rank: bytes of parameters, gradients, state; of the step sent and received (beside
    what the passes send); scratch; operations; elements that AdamW updates.

    how: "adamw-ddp", "adamw-fsdp", "muon-ddp", "muon-fsdp".
    """
    kinds = ("params", "grads", "state", "sent", "received", "scratch", "flops", "adamw")
    found = [dict.fromkeys(kinds, 0) for _ in range(ranks)]
    hidden = [e for e in entries if e.muon and how.startswith("muon")]
    others = [e for e in entries if not (e.muon and how.startswith("muon"))]
    sharded = how.endswith("fsdp")
    # Shards of equal shapes are equal: each shape is looked at once.
    shapes: dict[tuple[int, int], list[int]] = {}
    for e in entries:
        shapes.setdefault((e.rows, e.cols), [0, 0])[0] += 1
    for e in hidden:
        shapes[e.rows, e.cols][1] += 1
    for (rows, cols), (count, by_muon) in shapes.items():
        for rank, mine in enumerate(found):
            part = (shard(rows, ranks, rank) if sharded else rows) * cols
            mine["params"] += count * part * WORD
            mine["grads"] += count * part * WORD
            mine["adamw"] += (count - by_muon) * part
            mine["state"] += 2 * (count - by_muon) * part * WORD
            mine["flops"] += ADAMW_FLOPS * (count - by_muon) * part
    assert len(hidden) + len(others) == len(entries)
    share = owners([e.flops() for e in hidden], ranks)
    parts: dict[tuple[int, int], list[int]] = {}
    broadcast = [0] * ranks  # bytes that each rank has for all others
    for e, owner in zip(hidden, share):
        size, mine = e.rows * e.cols, found[owner]
        mine["state"] += size * WORD
        mine["flops"] += e.flops()
        if not sharded:
            broadcast[owner] += padded(size)
            continue
        sizes = parts.get((e.rows, e.cols))
        if sizes is None:
            sizes = [padded(shard(e.rows, ranks, r) * e.cols) for r in range(ranks)]
            parts[e.rows, e.cols] = sizes
        elsewhere = sum(sizes) - sizes[owner]
        mine["sent"] += elsewhere - 2 * sizes[owner]
        mine["received"] += 2 * elsewhere - sizes[owner]
        mine["scratch"] = max(mine["scratch"], 2 * size * WORD)
    for e in hidden:
        if sizes := parts.get(
            (e.rows, e.cols)
        ):  # what each rank sends of all matrices; of its own it was taken back above
            for rank, mine in enumerate(found):
                mine["sent"] += 2 * sizes[rank]
                mine["received"] += sizes[rank]
    fans = [children(place, ranks) for place in range(ranks)]
    for owner, size in enumerate(broadcast):
        if size:
            for rank, mine in enumerate(found):
                mine["sent"] += size * fans[rank - owner]
                mine["received"] += size * (rank != owner)
    return found


# ---- tables


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def amount(value: float, units: str = "B") -> str:
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{units}"
    return f"{value:.3g} {units}"


def duration(seconds: float) -> str:
    if seconds >= 100:
        return f"{seconds:,.0f} s"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def seconds(mine: dict[str, int], rates: argparse.Namespace) -> float:
    """One after the other; where communication hides behind computation it is less."""
    matrices = mine["flops"] - ADAMW_FLOPS * mine["adamw"]
    computing = matrices / (rates.flops * rates.share)
    return computing + ADAMW_TRAFFIC * mine["adamw"] / rates.memory + sending(mine, rates)


def sending(mine: dict[str, int], rates: argparse.Namespace) -> float:
    return max(mine["sent"], mine["received"]) / rates.network


def most(found: list[dict[str, int]], key: str) -> int:
    return max(each[key] for each in found)


def overview() -> str:
    rows = []
    for name, entries in MODELS.items():
        hidden = [e for e in entries if e.muon]
        size = sum(e.rows * e.cols for e in entries)
        flops = [e.flops() for e in hidden]
        rows.append(
            [
                name,
                f"{size / 1e9:.3g} G",
                str(len(hidden)),
                f"{100 * sum(e.rows * e.cols for e in hidden) / size:.0f} %",
                amount(sum(flops), "flop"),
                f"{sum(flops) // max(flops)}",
            ]
        )
    head = ["model", "parameters", "matrices for Muon", "their share of the parameters"]
    return table([*head, "operations of a Muon step", "ranks of use at most"], rows)


def model_table(name: str, rates: argparse.Namespace) -> str:
    rows = []
    for ranks in RANKS:
        row = [str(ranks)]
        for how in ("adamw-ddp", "adamw-fsdp", "muon-ddp", "muon-fsdp"):
            found = per_rank(MODELS[name], ranks, how)
            time = max(seconds(mine, rates) for mine in found)
            held = max(mine["state"] + mine["grads"] for mine in found)
            row.append(amount(held))
            if how.startswith("muon"):
                flops = [mine["flops"] for mine in found]
                row.append(amount(max(max(mine["sent"], mine["received"]) for mine in found)))
                row.append(amount(max(flops), "flop"))
                if how == "muon-ddp":
                    row.append(f"{100 * sum(flops) / ranks / max(flops):.0f} %")
            row.append(duration(time))
        rows.append(row)
    head = ["ranks", "AdamW, DDP: held", "time", "AdamW, FSDP2: held", "time"]
    head += ["Muon, DDP: held", "moved", "operations", "balance", "time"]
    head += ["Muon, FSDP2: held", "moved", "operations", "time"]
    return f"### {name}\n\n" + table(head, rows)


def worth(rates: argparse.Namespace) -> str:
    """Tokens of a global step from which on the CPU's step takes at most a tenth of the passes."""
    rows = []
    for name, entries in MODELS.items():
        size = sum(e.rows * e.cols for e in entries)
        row = [name]
        for faster in (1, 30, 300):
            for how in ("adamw-fsdp", "muon-fsdp"):
                alone = seconds(per_rank(entries, 1, how)[0], rates)
                tokens = alone * faster * rates.flops * rates.share / (0.1 * 6 * size)
                row.append(f"{tokens:,.0f}" if tokens < 1e4 else amount(tokens, "").strip())
        rows.append(row)
    head = ["model"]
    for faster in ("the same machine", "30 times as fast", "300 times as fast"):
        head += [f"AdamW, passes on {faster}", "Muon"]
    return table(head, rows)


def tables(rates: argparse.Namespace) -> str:
    said = (
        f"Rates of a rank: {amount(rates.flops, 'flop/s')} at its peak in float32, of which msign "
        f"reaches {100 * rates.share:.0f} %; memory {amount(rates.memory, 'B/s')}; network "
        f"{amount(rates.network, 'B/s')} each way.\n"
    )
    parts = [said, overview(), *(model_table(name, rates) for name in MODELS)]
    return "\n".join([*parts, "### From how many tokens on\n", worth(rates)])


def rates(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flops", type=float, default=3e12, help="peak operations/s of a rank")
    parser.add_argument("--share", type=float, default=0.75, help="of it that msign reaches")
    parser.add_argument("--memory", type=float, default=2e11, help="bytes/s")
    parser.add_argument("--network", type=float, default=12.5e9, help="bytes/s, each way")
    parser.add_argument("--write", action="store_true", help="into distributed.md")
    return parser.parse_args(arguments)


def main() -> None:
    options = rates()
    text = tables(options)
    if not options.write:
        print(text)
        return
    path = HERE / "distributed.md"
    before, rest = path.read_text().split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    path.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
