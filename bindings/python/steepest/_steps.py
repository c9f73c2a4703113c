# SPDX-License-Identifier: Apache-2.0
"""What the steps of AdamW and Muon have in common."""

from __future__ import annotations

import ctypes
from ctypes import c_int32
from dataclasses import dataclass, fields
from typing import Any, Optional

from . import _c
from ._numbers import integers, is_list, numbers
from ._structs import Structs


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
_FIGURES = [field.name for field in fields(StepStats)]


class StatsTable:
    """The C structs that a call fills, and the caller's list that they end up in."""

    def __init__(self, wanted: Stats, count: int) -> None:
        self.wanted = wanted
        self.table = None if wanted is None else Structs(_c.StepStats, count)
        self.structs = None if self.table is None else self.table.array

    def finish(self, status: int) -> None:
        """Hands out what a call has filled in, and raises its error."""
        written = status in (_c.OK, _c.E_NONFINITE, _c.E_NOT_CONVERGED)
        if self.wanted is not None and self.table is not None and written:
            figures = [self.table.records[name].tolist() for name in _FIGURES]
            self.wanted[:] = [StepStats(*row) for row in zip(*figures)]
        _c.check(status)


def attach(table: Structs, tensors: Structs) -> Any:
    """The config of the call; several go to one tensor each instead."""
    if len(table.array) > 1:
        tensors.columns["config"][:] = table.addresses
    return table.array if len(table.array) else None


def configs(
    function: str, kind: type[ctypes.Structure], flags: int, count: int, values: dict[str, Any]
) -> tuple[Structs, c_int32]:
    """One config, or one per tensor if any value is a list; and what `skipped` points to."""
    listed = any(map(is_list, values.values()))
    table = Structs(kind, count if listed else 1)
    skipped = c_int32()
    records = table.records
    records["flags"] = flags
    records["skipped"] = ctypes.addressof(skipped)
    for field, value in values.items():
        name = f"{function}: {field}"
        convert: Any = integers if field == "step" else numbers
        records[field] = convert(value, count, name)
    return table, skipped
