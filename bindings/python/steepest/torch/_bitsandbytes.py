# SPDX-License-Identifier: Apache-2.0
"""State dicts of bitsandbytes' AdamW, 8-bit or not, to and fro.

There a parameter's state is {step, state1, state2} and, with 8 bits, {qmap1, qmap2}: the 256 values
of the codes, and {absmax1, absmax2}: the scale of each block of 256 elements. Everything but step
may lie in a dictionary of its own. Those codes are "q8_dynamic".
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from . import _states as states
from . import _storage as storage

WRAPPER = "__bnb_optimizer_quant_state__"
KEYS = (("exp_avg", "state1", "qmap1", "absmax1"), ("exp_avg_sq", "state2", "qmap2", "absmax2"))
# Of other optimizers than Adam, which have no meaning here.
FOREIGN_OPTIONS = ("alpha", "t_alpha", "t_beta3")


@cache
def code_values(key: str) -> Tensor:
    """What the 256 codes of a moment stand for, at scale 1."""
    codes = torch.arange(256, dtype=torch.uint8)
    return storage.decode("q8_dynamic", key, codes, torch.ones(1))


def _unwrapped(entry: Any) -> Any:
    if isinstance(entry, dict) and isinstance(entry.get(WRAPPER), dict):
        entry = {**entry, **entry[WRAPPER]}
        del entry[WRAPPER]
    return entry


def translated(given: dict) -> dict:
    """The state dict, if it is bitsandbytes', as one of ours; any other as it is."""
    state = {number: _unwrapped(entry) for number, entry in given["state"].items()}
    theirs = {n for n, entry in state.items() if isinstance(entry, dict) and "state1" in entry}
    if not theirs:
        return given
    for number in theirs:
        state[number] = _entry(f"state_dict['state'][{number!r}]", state[number])
    groups = []
    for group in given["param_groups"]:
        if group.get("alpha"):
            raise ValueError("state_dict is of bitsandbytes' AdEMAMix (alpha is not 0), not AdamW")
        group = {key: value for key, value in group.items() if key not in FOREIGN_OPTIONS}
        entries = [state[number] for number in group["params"] if number in theirs]
        eight = any("format" in entry for entry in entries)
        if entries:
            group.setdefault("state_dtype", "q8_dynamic" if eight else torch.float32)
        groups.append(group)
    return {**given, "state": state, "param_groups": groups}


def _entry(where: str, entry: dict) -> dict:
    result = {"step": torch.tensor(float(entry.get("step", 0)))}
    formats = {}
    for key, values, qmap, absmax in KEYS:
        tensor = entry.get(values)
        if not isinstance(tensor, Tensor):
            states.refuse(where, f"{values} is missing: it is of another optimizer than AdamW")
        result[key] = tensor
        if tensor.dtype != torch.uint8:
            continue
        table, scales = entry.get(qmap), entry.get(absmax)
        if not isinstance(table, Tensor) or not isinstance(scales, Tensor):
            states.refuse(where, f"{values} has 8 bits, but {qmap} or {absmax} is missing")
        states.check_array(where, qmap, table)
        ours = code_values(key)
        if table.shape != ours.shape or not torch.allclose(table.cpu().float(), ours, atol=1e-6):
            states.refuse(where, f"{qmap} is not bitsandbytes' dynamic map")
        formats[key] = "q8_dynamic"
        result[f"{key}_scales"] = scales
    if formats:
        result["format"] = formats
    return result


def to_bitsandbytes(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """A state dict that bitsandbytes.optim.AdamW8bit's load_state_dict takes.

    optimizer: an `AdamW` of this package with any storage. Moments that are not "q8_dynamic" are
        encoded so, but those of tensors of less than 4096 elements are float32, as there. Masters
        have no place in it: the parameters go on from the bits that they show. DTensor parameters
        are a ValueError: load their full state dict into an optimizer of plain ones.
    """
    from ._dtensor import is_dtensor  # which imports this file

    params = [param for group in optimizer.param_groups for param in group["params"]]
    if any(map(is_dtensor, params)):
        raise ValueError("to_bitsandbytes: the optimizer has DTensor parameters")
    saved = optimizer.state_dict()
    state = {}
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    eight_bits = {**storage.OPTIONS, "state_dtype": "q8_dynamic"}
    for param, number in zip(params, numbers):
        entry = saved["state"].get(number)
        if not entry:
            continue
        if "exp_avg" not in entry or "max_exp_avg_sq" in entry:
            raise ValueError(
                f"to_bitsandbytes: the state of param {number} is not that of AdamW without AMSGrad"
            )
        moments = states.converted(entry, eight_bits, param)
        inner = {}
        for key, values, qmap, absmax in KEYS:
            # Blocks are there of the elements in row-major order, whatever the strides.
            inner[values], scales = _row_major(key, moments[key], moments.get(f"{key}_scales"))
            if scales is not None:
                inner[qmap], inner[absmax] = code_values(key).clone(), scales
        state[number] = {"step": int(entry["step"]), WRAPPER: inner}
    groups = []
    for group in saved["param_groups"]:
        kept = {key: group[key] for key in ("lr", "betas", "eps", "weight_decay", "params")}
        # A schedule's.
        kept.update({key: group[key] for key in ("initial_lr",) if key in group})
        groups.append({**kept, "alpha": 0.0, "t_alpha": None, "t_beta3": None})
    return {"state": state, "param_groups": groups}


def _row_major(key: str, values: Tensor, scales: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if values.is_contiguous():
        return values, scales
    if scales is None:
        return values.contiguous(), None
    return storage.encode(
        "q8_dynamic", key, storage.decode("q8_dynamic", key, values, scales).contiguous()
    )
