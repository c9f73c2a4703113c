# SPDX-License-Identifier: Apache-2.0
"""The options of train_gpt.py that say how weights and optimizer state are stored."""

from __future__ import annotations

import argparse
from typing import Any

import torch

FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
STATES = (*FLOATS, "q8_dynamic", "q8_companded")
MASTERS = ("split", "split-low", "split8", "kahan", "f32")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "storage", "of Steepest's optimizers, as its README explains; --dtype is torch's as well"
    )
    group.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32",
                       help="of the model: parameters, gradients, activations")  # fmt: skip
    group.add_argument("--state-dtype", choices=STATES, nargs="+", metavar="TYPE",
                       help=f"of moments: one of {', '.join(STATES)}; or two, of the first and "
                       "AdamW's second moment")  # fmt: skip
    group.add_argument("--master", choices=MASTERS, help="more bits of bfloat16 parameters")
    group.add_argument("--rounding", choices=("nearest", "stochastic"), default="nearest",
                       help="of what is stored in bfloat16 or 8 bits")  # fmt: skip


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends the program where a combination makes no sense, or would change nothing."""
    states, master = options.state_dtype, options.master
    ours = [name for name in options.optimizer if not name.startswith("torch-")]
    narrow = states or master or options.rounding != "nearest"
    if narrow and not ours:
        parser.error("--state-dtype, --master and --rounding need --optimizer adamw or muon")
    if states and len(states) > 2:
        parser.error("--state-dtype takes one type or two")
    if master and options.dtype != "bfloat16":
        parser.error(f"--master {master} needs --dtype bfloat16")
    # Parameters are rounded by chance if they have no master or one of 8 more bits.
    rounded = {*(states or [options.dtype])} - {"float32", "float16"}
    if options.dtype == "bfloat16" and master in (None, "split8"):
        rounded.add("parameters")
    if options.rounding == "stochastic" and not rounded:
        parser.error("--rounding stochastic: nothing is stored in bfloat16 or 8 bits")


def arguments(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Of Steepest's optimizers."""
    states = [FLOATS.get(name, name) for name in options.state_dtype or [None]]
    return {
        "state_dtype": states[0] if len(states) == 1 else tuple(states),
        "master": options.master,
        "rounding": options.rounding,
        "seed": seed,
    }


def label(name: str, options: argparse.Namespace) -> str:
    """An optimizer's name and how it stores, where that is not the default."""
    parts = [name, *([options.dtype] if options.dtype != "float32" else [])]
    if not name.startswith("torch-"):
        parts += [f"master-{options.master}"] if options.master else []
        parts += options.state_dtype or []
        parts += [options.rounding] if options.rounding != "nearest" else []
    return "-".join(parts)
