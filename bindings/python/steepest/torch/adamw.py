# SPDX-License-Identifier: Apache-2.0
"""AdamW in one library call per step."""

from __future__ import annotations

from operator import itemgetter
from typing import Any, ClassVar

import torch
from torch import Tensor

from .. import _c
from . import _storage as storage
from ._optimizer import Optimizer
from ._rows import Rows

_others = itemgetter("eps", "weight_decay", "maximize", "cautious", "rounding", "seed", "amsgrad")


class AdamWRows(Rows):
    title = "AdamW"
    tensor_kind = _c.AdamwTensor
    config_kind = _c.AdamwConfig
    has_snr_update = True
    moments = ("exp_avg", "exp_avg_sq")
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
        lr, beta1, beta2, eps, weight_decay, maximize, cautious, rounding, seed, amsgrad = (
            self.options(group)
        )
        flags = _c.ADAMW_MAXIMIZE * bool(maximize) + _c.ADAMW_AMSGRAD * bool(amsgrad)
        flags += _c.ADAMW_STOCHASTIC_ROUNDING * (rounding == "stochastic")
        return {
            "flags": flags + _c.ADAMW_CAUTIOUS_DECAY * bool(cautious),
            "seed": seed,
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

    state_dtype: how moments are stored: torch.float32, torch.bfloat16, torch.float16, "q8_dynamic"
        (8 bits with a scale for 256 elements, as bitsandbytes has it), "q8_companded" (8 bits with
        a scale for 32), a pair of these for (exp_avg, exp_avg_sq), or a dictionary. None: of the
        parameter's type. torch.float32 keeps moments exact for bfloat16 parameters (in bfloat16
        with rounding to nearest, exp_avg_sq does not decay at beta2 0.999). With 8 bits, tensors
        of less than 4096 elements have float32 moments.
    master: what keeps the bits of 16-bit parameters beyond their own, so that small updates are not
        lost; parameters of other types are as without. "split": 16 bits beside a bfloat16
        parameter, together exactly float32, the parameter rounded to nearest. "split-low": the
        same, the parameter rounded towards zero. "split8": 8 bits. "kahan": of the parameter's
        type. "f32": a float32 copy, which the step also rounds into the parameter. `master(param)`
        returns the float32 value.
    rounding: "nearest", or "stochastic" for bfloat16 and 8-bit moments, and for bfloat16 parameters
        without master or with "split8". The random numbers depend on `seed`, the step, the
        parameter's place in the optimizer and the element alone.
    With DTensor parameters all of this has a single process's bits. A ValueError are 8 bits where
        the ranks' parts are not of one size and whole blocks of 256 elements ("q8_companded": 32),
        and stochastic rounding where they are not contiguous or sharded along another dimension
        than the first.
    cautious: decay only where the update and the parameter have the same sign (arXiv 2510.12402).
    max_grad_norm, skip_nonfinite, track_stats: see `Optimizer`.

    State: step, exp_avg, exp_avg_sq, max_exp_avg_sq; with 8 bits exp_avg_scales and
    exp_avg_sq_scales beside uint8 codes; residual (or master, for "f32"); and where there is one of
    these `format`, such as {"exp_avg": "q8_dynamic", "param": "split"}.

    load_state_dict takes states of torch.optim.AdamW, of this class with any storage, and of
    bitsandbytes' AdamW, 8-bit or not. state_dtype and master stay what they are here, and states
    are converted; where they are None, those of the dictionary are taken, and an uninterrupted run
    and a resumed one have the same bits. `to_bitsandbytes` goes the other way.
    """

    _extra: ClassVar = {**storage.OPTIONS, "cautious": False}
    _kinds: ClassVar = (AdamWRows,)

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
        state_dtype: Any = None,
        master: str | None = None,
        rounding: str = "nearest",
        seed: int = 0,
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
        self._extend(
            state_dtype=state_dtype, master=master, rounding=rounding, seed=seed, cautious=cautious
        )
        self._set_up(max_grad_norm, skip_nonfinite, track_stats)

    def _check_group(self, group: dict) -> None:
        super()._check_group(group)
        if group.keys() >= storage.OPTIONS.keys():  # not yet while torch's constructor adds groups
            storage.check_options(group, AdamWRows.moments)

    def _rows_for(self, group: dict) -> type[Rows]:
        return AdamWRows
