# SPDX-License-Identifier: Apache-2.0
"""AdamW in one library call per step."""

from __future__ import annotations

from operator import itemgetter
from typing import Any, ClassVar

import torch
from torch import Tensor

from .. import _c
from ._optimizer import Optimizer
from ._rows import Rows

_others = itemgetter("eps", "weight_decay", "maximize", "cautious", "amsgrad")


class AdamWRows(Rows):
    title = "AdamW"
    tensor_kind = _c.AdamwTensor
    config_kind = _c.AdamwConfig
    has_snr_update = True
    fields: ClassVar = {
        "exp_avg": "exp_avg",
        "exp_avg_sq": "exp_avg_sq",
        "max_exp_avg_sq": "max_exp_avg_sq",
    }

    def uses(self, key: str, group: dict) -> bool:
        return key != "max_exp_avg_sq" or group["amsgrad"]

    def options(self, group: dict) -> tuple:
        beta1, beta2 = group["betas"]
        return (float(group["lr"]), float(beta1), float(beta2), *_others(group))

    def structure(self, options: tuple) -> Any:
        return options[-1]  # amsgrad

    def configure(self, group: dict) -> dict[str, float]:
        lr, beta1, beta2, eps, weight_decay, maximize, cautious, amsgrad = self.options(group)
        flags = _c.ADAMW_MAXIMIZE * bool(maximize) + _c.ADAMW_AMSGRAD * bool(amsgrad)
        return {
            "flags": flags + _c.ADAMW_CAUTIOUS_DECAY * bool(cautious),
            "lr": lr,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
            "weight_decay": weight_decay,
        }

    def describe(self, i: int, buffer: Tensor) -> None:
        self.tensors.columns["count"][i] = buffer.numel()

    def call(self, context: int, tensors: Any, count: int, stats: Any) -> int:
        return _c.lib.steepest_adamw_step(context, None, tensors, count, stats)

    def beta(self, group: dict) -> float:
        return float(group["betas"][0])


class AdamW(Optimizer, torch.optim.AdamW):
    """`torch.optim.AdamW` with all parameters updated in one library call.

    Options, defaults, parameter groups, state and checkpoints are torch's. `foreach` and `fused`
    are accepted and make no difference; `capturable` and `differentiable` are refused. Moments are
    of the parameter's type, as in torch. Beyond torch:

    state_dtype: the type of new moments and of those loaded from a checkpoint; torch.float32 keeps
        them exact for bfloat16 parameters (in bfloat16, exp_avg_sq does not decay at beta2 0.999).
    cautious: decay only where the update and the parameter have the same sign (arXiv 2510.12402).
    max_grad_norm, skip_nonfinite, track_stats: see `Optimizer`.
    """

    _extra: ClassVar = {"state_dtype": None, "cautious": False}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: torch.dtype | None = None,
        cautious: bool = False,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        track_stats: bool = False,
    ) -> None:
        torch.optim.AdamW.__init__(
            self,
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )
        self._extend(state_dtype=state_dtype, cautious=cautious)
        self._set_up(max_grad_norm, skip_nonfinite, track_stats)

    def _rows_for(self, group: dict) -> type[Rows]:
        return AdamWRows
