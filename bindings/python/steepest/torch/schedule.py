# SPDX-License-Identifier: Apache-2.0
"""Schedules as torch's learning-rate schedulers, for any optimizer of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler

from .._schedule import Schedule, schedule_at


class _Multiples(LRScheduler):
    """Multiplies each group's initial lr. Optimizer step t = 1, 2, .. runs with factor(t): the
    scheduler's own count, last_epoch, is 0 then, and after the last step the last factor stays."""

    total_steps: int

    def _factor(self, step: int) -> float:
        raise NotImplementedError

    def get_lr(self) -> list[float]:
        step = min(self.last_epoch + 1, self.total_steps)
        factor = self._factor(step)
        return [base * factor for base in self.base_lrs]


class ScheduleLR(_Multiples):
    """The learning rates of a Schedule, times each parameter group's own lr.

        scheduler = ScheduleLR(optimizer, 1000, "cosine", warmup_steps=50, final_ratio=0.1)
        for batch in batches:
            ...
            optimizer.step()
            scheduler.step()

    optimizer: any of torch's or Steepest's; the lr of its groups is the peak.
    total_steps: how many optimizer steps there will be.
    schedule, options: a steepest.Schedule or its kind, and fields of it by name; its own lr is not
        used.
    last_epoch: steps done before, if the scheduler is made anew in the middle of a run; better is
        load_state_dict.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        total_steps: int,
        schedule: Schedule | str = "linear",
        *,
        last_epoch: int = -1,
        **options: Any,
    ) -> None:
        if "lr" in options:
            raise TypeError("ScheduleLR: the peak is the lr of the optimizer's groups")
        if isinstance(schedule, str):
            schedule = Schedule(schedule)
        self.total_steps = total_steps
        self.schedule = replace(schedule, **options, lr=1.0)
        schedule_at(self.schedule, total_steps, 1)  # an error now, not at the first step
        super().__init__(optimizer, last_epoch)

    def _factor(self, step: int) -> float:
        return schedule_at(self.schedule, self.total_steps, step)

    def state_dict(self) -> dict[str, Any]:
        # Plain values, so that torch.load(weights_only=True) takes it.
        return {**super().state_dict(), "schedule": asdict(self.schedule)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "schedule": Schedule(**state_dict["schedule"])})


class ArrayLR(_Multiples):
    """Any array of factors, such as those of schedule_refine or schedule_optimal (divided by their
    largest), times each group's lr. factors[0] belongs to the first optimizer step."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        factors: Sequence[float] | np.ndarray,
        *,
        last_epoch: int = -1,
    ) -> None:
        array = np.array(factors, dtype=np.float64)
        if array.ndim != 1 or len(array) == 0:
            raise ValueError(f"ArrayLR: factors has shape {array.shape}: must be a list of numbers")
        if not (np.isfinite(array).all() and (array >= 0).all()):
            raise ValueError("ArrayLR: factors must be finite and not negative")
        self.factors = array.tolist()
        self.total_steps = len(self.factors)
        super().__init__(optimizer, last_epoch)

    def _factor(self, step: int) -> float:
        return self.factors[step - 1]
