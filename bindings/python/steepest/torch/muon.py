# SPDX-License-Identifier: Apache-2.0
"""Muon in one library call per step."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, ClassVar

import torch
from torch import Tensor

from .. import _c
from . import _storage as storage
from ._optimizer import Optimizer
from ._rows import DTYPES, Rows

METHODS = {
    "auto": _c.MSIGN_AUTO,
    "newton-schulz": _c.MSIGN_NEWTON_SCHULZ,
    "gram-newton-schulz": _c.MSIGN_GRAM_NEWTON_SCHULZ,
    "rational": _c.MSIGN_RATIONAL,
    "halley": _c.MSIGN_HALLEY,
    "svd": _c.MSIGN_SVD,
    "accurate": _c.MSIGN_ACCURATE,
}
NEWTON_SCHULZ = ("newton-schulz", "gram-newton-schulz")
SCALES = {
    None: _c.SCALE_SQRT_MAX1_OUT_IN,
    "original": _c.SCALE_SQRT_MAX1_OUT_IN,
    "match_rms_adamw": _c.SCALE_MATCH_RMS,
    "exact_rms": _c.SCALE_EXACT_RMS,
    "sqrt_out_in": _c.SCALE_SQRT_OUT_IN,
    "sqrt_max": _c.SCALE_SQRT_MAX,
    "none": _c.SCALE_NONE,
}
KELLER = (3.4445, -4.7750, 2.0315)
NS_STEPS = 5

OURS = {
    "method": None,
    "compute_dtype": None,
    "scale_value": 0.2,
    "momentum_kind": "ema",
    "maximize": False,
    "cautious": False,
    "blocks": None,
    "block_axis": 0,
    "transposed": False,
    "flatten": False,
    **storage.OPTIONS,
}
_others = itemgetter(
    "weight_decay",
    "momentum",
    "nesterov",
    "ns_coefficients",
    "ns_steps",
    "adjust_lr_fn",
    "method",
    "compute_dtype",
    "scale_value",
    "momentum_kind",
    "maximize",
    "cautious",
    "rounding",
    "seed",
)
_structure = itemgetter("blocks", "block_axis", "transposed", "flatten")


def method_of(group: dict) -> str:
    """The group's method, or torch's iteration where its coefficients or steps were changed."""
    torchs = tuple(group["ns_coefficients"]) == KELLER and group["ns_steps"] == NS_STEPS
    return group["method"] or ("auto" if torchs else "newton-schulz")


def block_sizes(blocks: int | Sequence[int] | None, side: int, name: str) -> list[int] | None:
    """The sizes of the blocks along a side of the matrix; a number stands for equal blocks."""
    if blocks is None:
        return None
    if isinstance(blocks, int):
        if blocks < 1 or side % blocks:
            raise ValueError(
                f"Muon: {name} has {side} rows (or columns), not {blocks} equal blocks"
            )
        return [side // blocks] * blocks
    if any(size < 1 for size in blocks) or sum(blocks) != side:
        raise ValueError(f"Muon: blocks {list(blocks)} of {name} do not add up to {side}")
    return list(blocks)


class MuonRows(Rows):
    title = "Muon"
    tensor_kind = _c.MuonTensor
    config_kind = _c.MuonConfig
    fields: ClassVar = {"momentum_buffer": "momentum"}
    moments = ("momentum_buffer",)
    unknown_steps = 1000.0  # torch.optim.Muon counts none: for `stats` its momentum has settled

    def __init__(self, state: dict, items: list[tuple[dict, str, Tensor]]) -> None:
        super().__init__(state, items)
        self.msign: dict[tuple, _c.MsignConfig] = {}
        self.kept: list[Any] = []  # arrays to which the structs point

    def options(self, group: dict) -> tuple:
        return (float(group["lr"]), *_others(group), _structure(group))

    def structure(self, options: tuple) -> Any:
        return options[-1]

    def configure(self, group: dict) -> dict[str, float]:
        flags = _c.MUON_NESTEROV * bool(group["nesterov"])
        flags += _c.MUON_CAUTIOUS_DECAY * bool(group["cautious"])
        flags += _c.MUON_MAXIMIZE * bool(group["maximize"])
        flags += _c.MUON_STOCHASTIC_ROUNDING * (group["rounding"] == "stochastic")
        kinds = {"ema": _c.MOMENTUM_EMA, "classic": _c.MOMENTUM_CLASSIC}
        return {
            "flags": flags,
            "seed": group["seed"],
            "lr": float(group["lr"]),
            "momentum": group["momentum"],
            "weight_decay": group["weight_decay"],
            "scale_value": group["scale_value"],
            "momentum_kind": kinds[group["momentum_kind"]],
            "scale_mode": SCALES[group["adjust_lr_fn"]],
            "msign": ctypes.addressof(self.msign_config(group)),
        }

    def msign_config(self, group: dict) -> _c.MsignConfig:
        method, dtype = method_of(group), group["compute_dtype"]
        iteration = (tuple(group["ns_coefficients"]), group["ns_steps"])
        key = (method, dtype, iteration if method in NEWTON_SCHULZ else None)
        if key not in self.msign:
            config = self.msign[key] = _c.new(_c.MsignConfig)
            config.method = METHODS[method]
            config.compute_dtype = DTYPES[dtype] if dtype else 0
            if method in NEWTON_SCHULZ:
                coefficients, config.steps = iteration
                config.coefficients = _c.COEF_CUSTOM
                config.custom_count = 1
                config.custom_coefficients = (ctypes.c_double * 3)(*coefficients)
        return self.msign[key]

    def matrix(self, param: Tensor) -> tuple[int, int]:
        rows = param.size(0)
        return rows, param[0].numel() if rows else 0

    def fits(self, i: int) -> bool:
        # A row of the matrix may hold its elements in any order, since msign(X P) = msign(X) P for
        # a permutation P: a channels-last kernel needs no copy. Unless blocks are of columns.
        param = self.params[i]
        cols = self.matrix(param)[1]
        whole = self.groups[i]["blocks"] is None or self.groups[i]["block_axis"] == 0
        return param.is_contiguous() or (whole and super().fits(i) and param.stride(0) == cols)

    def describe(self, i: int, buffer: Tensor) -> None:
        group, name, columns = self.groups[i], self.names[i], self.tensors.columns
        rows, cols = self.matrix(buffer)
        axis = group["block_axis"]
        sizes = block_sizes(group["blocks"], cols if axis else rows, name)
        columns["rows"][i], columns["cols"][i] = rows, cols
        if sizes:
            array = (ctypes.c_int64 * len(sizes))(*sizes)
            self.kept.append(array)
            columns["blocks"][i] = ctypes.addressof(array)
            columns["block_count"][i] = len(sizes)
            columns["block_axis"][i] = axis
        if group["transposed"]:
            if sizes and len(set(sizes)) > 1:
                raise ValueError(f"Muon: transposed=True needs blocks of one size: {name}")
            block = sizes[0] if sizes else None
            columns["fan_in"][i] = block if block and axis == 0 else rows
            columns["fan_out"][i] = block if block and axis == 1 else cols

    def call(self, context: int, tensors: Any, count: int, stats: Any) -> int:
        # The statistics are always asked for: they name the matrices that were not finite.
        stats = self.selection.stats.array
        return _c.lib.steepest_muon_step(context, None, tensors, count, None, stats)

    def beta(self, group: dict) -> float:
        return float(group["momentum"])


def check_options(group: dict) -> None:
    """Refuses what Muon cannot do, with torch's messages where torch has them."""
    if isinstance(group["lr"], Tensor) and group["lr"].numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    if not 0.0 <= group["lr"]:
        raise ValueError(f"Learning rate should be >= 0 but is: {group['lr']}")
    if not 0.0 <= group["momentum"] < 1.0:
        raise ValueError(f"momentum should be >= 0 and < 1 but is: {group['momentum']}")
    if not 0.0 <= group["weight_decay"]:
        raise ValueError(f"weight decay should be >= 0 but is: {group['weight_decay']}")
    if group["adjust_lr_fn"] not in SCALES:
        raise ValueError(
            f"Adjust learning rate function {group['adjust_lr_fn']} is not supported: it must be "
            f"one of {list(SCALES)}"
        )
    if group["method"] is not None and group["method"] not in METHODS:
        raise ValueError(f"method {group['method']!r}: it must be one of {list(METHODS)}")
    if group["momentum_kind"] not in ("ema", "classic"):
        raise ValueError(f"momentum_kind {group['momentum_kind']!r}: it must be 'ema' or 'classic'")
    if len(group["ns_coefficients"]) != 3:
        raise ValueError("Coefficients must be a tuple of exactly 3 values")
    if not 1 <= group["ns_steps"] < 100:
        raise ValueError(f"ns_steps must be from 1 to 99: {group['ns_steps']}")
    if group["compute_dtype"] not in (None, torch.float32, torch.float64, torch.bfloat16):
        raise ValueError(f"compute_dtype {group['compute_dtype']}: float32, float64 or bfloat16")
    if group["block_axis"] not in (0, 1):
        raise ValueError(f"block_axis must be 0 or 1: {group['block_axis']}")
    names = group.get("param_names")
    for i, param in enumerate(group["params"]):
        if param.ndim != 2 and not (group["flatten"] and param.ndim > 2):
            name = names[i] if names else f"params[{i}]"
            raise ValueError(
                "Muon only supports 2D parameters whereas we found a parameter with size: "
                f"{param.size()} ({name}); flatten=True makes (out, in * kh * kw) of a kernel"
            )


class Muon(Optimizer):
    """`torch.optim.Muon` with all matrices updated in one library call.

    Options, defaults, parameter groups, `momentum_buffer` and checkpoints are torch's (the state
    also has `step`, for the statistics). `eps` makes no difference: the library's normalisation
    needs none. Beyond torch, also per parameter group:

    method: how msign is computed: "auto" (the default: three poles of Zolotarev's rational
        function, on a CPU faster than Newton-Schulz and closer to U V^T), "newton-schulz" (torch's
        iteration with ns_coefficients and ns_steps; also taken if one of these is not the default
        and `method` is None), "gram-newton-schulz", "rational", "halley", "svd", "accurate".
    compute_dtype: torch.float32 (the default; torch.float64 for float64 parameters) or
        torch.bfloat16, faster where the CPU has AVX512_BF16.
    adjust_lr_fn: beside torch's "original" and "match_rms_adamw": "exact_rms" (update RMS exactly
        `scale_value`), "sqrt_out_in", "sqrt_max", "none".
    scale_value: the update RMS of "match_rms_adamw" and "exact_rms".
    momentum_kind: "ema" as in torch, or "classic": m = mu m + g.
    maximize, cautious, state_dtype (of the momentum), master, rounding, seed: as in `AdamW`.
    blocks: a number of equal blocks, or their sizes, that the rows of each matrix in the group (the
        columns with block_axis=1) consist of, each orthogonalised by itself: 3 for fused
        query-key-value, 2 for gate and up.
    transposed: the weight is stored as in x @ W, (in, out); matters for the scale only.
    flatten: take kernels of convolutions, as (out, in * kh * kw).
    max_grad_norm, skip_nonfinite, track_stats: see `Optimizer`.

    process_group: the ranks that share the work, as those of DistributedDataParallel: each matrix
        is computed by one, which alone has its momentum, and sent to the others. Of DTensors on a
        mesh of one dimension (FSDP2) it is the mesh's group, and needs not be given. Every rank
        must then call step(), state_dict() and load_state_dict(). With process_group every storage
        has the bits of a single process; with DTensors 8 bits and a master are a ValueError, and
        stochastic rounding works with any placements.
    """

    _extra: ClassVar = OURS
    _kinds: ClassVar = (MuonRows,)

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = KELLER,
        eps: float = 1e-7,
        ns_steps: int = NS_STEPS,
        adjust_lr_fn: str | None = None,
        *,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        track_stats: bool = False,
        process_group: Any = None,
        **ours: Any,
    ) -> None:
        if unknown := ours.keys() - OURS.keys():
            raise TypeError(f"Muon has no option {min(unknown)!r}")
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
            **OURS,
            **ours,
        }
        check_options({**defaults, "params": []})
        super().__init__(params, defaults)
        self._set_up(max_grad_norm, skip_nonfinite, track_stats)
        self.process_group = process_group

    def _check_group(self, group: dict) -> None:
        check_options(group)
        storage.check_options(group, MuonRows.moments)

    def _rows_for(self, group: dict) -> type[Rows]:
        return MuonRows
