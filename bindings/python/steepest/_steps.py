# SPDX-License-Identifier: Apache-2.0
"""What the steps of AdamW and Muon have in common."""

from __future__ import annotations

import ctypes
from ctypes import c_int32
from dataclasses import dataclass
from typing import Any, Optional, TypeVar

from . import _c
from ._arrays import View, as_list, view
from ._numbers import each, integer, is_list, number


@dataclass(frozen=True)
class StepStats:
    """What one step did to one tensor. RMS(x) is sqrt(mean(x^2)).

    update_rms    RMS of the update, without lr and decay: about 0.2 in healthy training
    grad_rms      RMS of the gradient that enters the moments
    momentum_rms  RMS of the momentum after bias correction
    param_rms     RMS of the parameters before the step
    snr_update    the gradient's signal-to-noise ratio, estimated from update_rms (NaN for Muon)
    snr_momentum  the same, estimated from momentum_rms and grad_rms
    nonfinite     elements of the gradient that are NaN or infinite
    status        0, or -5 (STEEPEST_E_NONFINITE) or -6 (_NOT_CONVERGED): the tensor was left as it
                  was

    Source of the estimates: https://kexue.fm/archives/11267. They are NaN at step 1.
    """

    update_rms: float
    grad_rms: float
    momentum_rms: float
    param_rms: float
    snr_update: float
    snr_momentum: float
    nonfinite: int
    status: int


Stats = Optional[list[StepStats]]
Config = TypeVar("Config", _c.AdamwConfig, _c.MuonConfig)


class StatsTable:
    """The C structs that a call fills, and the caller's list that they end up in."""

    def __init__(self, wanted: Stats, count: int) -> None:
        self.wanted = wanted
        self.structs = None if wanted is None else _c.new_array(_c.StepStats, count)

    def finish(self, status: int) -> None:
        """Hands out what a call has filled in, and raises its error."""
        written = status in (_c.OK, _c.E_NONFINITE, _c.E_NOT_CONVERGED)
        if self.wanted is not None and self.structs is not None and written:
            self.wanted[:] = [_stats(struct) for struct in self.structs]
        _c.check(status)


def _stats(struct: _c.StepStats) -> StepStats:
    return StepStats(
        struct.update_rms,
        struct.grad_rms,
        struct.momentum_rms,
        struct.param_rms,
        struct.snr_update,
        struct.snr_momentum,
        struct.nonfinite,
        struct.status,
    )


def views(function: str, arguments: dict[str, Any]) -> dict[str, list[View]]:
    """The views of all array arguments: a list each, all as long as the first."""
    result: dict[str, list[View]] = {}
    count, first = -1, ""
    for argument, arrays in arguments.items():
        array_list, names = as_list(arrays, argument, function)
        if count < 0:
            count, first = len(array_list), argument
        elif len(array_list) != count:
            raise ValueError(
                f"{function}: {argument} has {len(array_list)} arrays, but {first} has {count}"
            )
        result[argument] = [view(array, name) for array, name in zip(array_list, names)]
    return result


def attach(table: ctypes.Array[Any], tensors: ctypes.Array[Any]) -> Any:
    """The config of the call; several go to one tensor each instead."""
    if len(table) > 1:
        for tensor, config in zip(tensors, table):
            tensor.config = ctypes.pointer(config)
    return table if len(table) else None


def configs(
    function: str, kind: type[Config], flags: int, count: int, values: dict[str, Any]
) -> tuple[ctypes.Array[Config], c_int32]:
    """One config, or one per tensor if any value is a list; and what `skipped` points to."""
    listed = any(is_list(value) for value in values.values())
    table = _c.new_array(kind, count if listed else 1)
    skipped = c_int32()
    for config in table:
        config.flags = flags
        config.skipped = ctypes.pointer(skipped)
    for field, value in values.items():
        name = f"{function}: {field}"
        convert = integer if field == "step" else number
        for config, one in zip(table, each(value, len(table), name)):
            setattr(config, field, convert(one, name))
    return table, skipped
