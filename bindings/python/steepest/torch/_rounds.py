# SPDX-License-Identifier: Apache-2.0
"""What a step of several ranks does with some of the matrices: receive, compute, send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ._dtensor import check_grad, local
from ._rows import Rows, Stale
from ._team import packed_size, unpack
from .muon import MuonRows

if TYPE_CHECKING:
    from ._distributed import Plan

Item = tuple[dict, str, Any]  # parameter group, name, parameter


class States(dict):
    """The state of the parameters that others stand for."""

    def __init__(self, state: dict, stands_for: dict) -> None:
        self.state, self.stands_for = state, stands_for

    def __missing__(self, key: Any) -> Any:
        value = self[key] = self.state[self.stands_for[key]]
        return value


class Round:
    """Some matrices of each owner, all of them replicated or all sharded."""

    def __init__(self, plan: Plan, numbers: list[int]) -> None:
        self.plan, self.team = plan, plan.team
        self.numbers = numbers
        self.mine = [i for i in numbers if plan.owner[i] == plan.team.me]
        self.rows: Rows | None = None

    def active(self, of: list[int]) -> list[int]:
        return [i for i in of if self.plan.items[i][2].grad is not None]

    def prepare(self) -> None:
        """Checks the gradients. Raises before anything is sent or written."""

    def receive(self) -> Any:
        """Starts to collect what this rank computes on; returns what waits."""

    def send(self) -> Any:
        """Starts to send the results; returns what waits."""

    def compute(self, waiting: Any, context: int, scale: float, stats: bool) -> None:
        if self.rows and self.rows.grads:
            self.rows.write_configs(scale)
            self.rows.run(context, stats)


class ReplicatedRound(Round):
    def __init__(self, plan: Plan, numbers: list[int]) -> None:
        super().__init__(plan, numbers)
        if self.mine:
            self.rows = MuonRows(plan.state, [plan.items[i] for i in self.mine])

    def prepare(self) -> None:
        if self.rows and self.rows.gather():
            self.rows.write_configs(self.rows.scale)  # whether they changed, before others wait

    def send(self) -> Any:
        finish = []
        for owner in range(self.team.size):
            theirs = [i for i in self.active(self.numbers) if self.plan.owner[i] == owner]
            if theirs:
                params = [self.plan.items[i][2].detach() for i in theirs]
                finish.append(self.team.broadcast(params, owner))

        def wait() -> None:
            for each in finish:
                each()

        return wait


class ShardedRound(Round):
    def __init__(self, plan: Plan, numbers: list[int]) -> None:
        super().__init__(plan, numbers)
        # For each matrix of mine a tensor that has memory only during the step.
        self.full: dict[int, nn.Parameter] = {}
        if self.mine:
            stands_for, rows = {}, []
            for i in self.mine:
                group, name, param = plan.items[i]
                empty = torch.empty(param.shape, dtype=param.dtype)
                full = self.full[i] = nn.Parameter(empty, requires_grad=False)
                stands_for[full] = param
                rows.append((group, name, full))
            self.rows = MuonRows(States(plan.state, stands_for), rows)
            self.rows.whole = [plan.items[i][2] for i in self.mine]
            self.release()

    def release(self) -> None:
        for full in self.full.values():
            full.grad = None
            full.data = full.data.new_empty(0)

    def prepare(self) -> None:
        for i in self.active(self.numbers):
            check_grad(self.plan.items[i][2], self.plan.items[i][1])
        if self.rows:
            self.rows.write_configs(self.rows.scale)
            if self.rows.selection and self.rows.moved(self.rows.selection):
                raise Stale

    def receive(self) -> Any:
        sends: list[list[Tensor]] = [[] for _ in self.team.ranks]
        sizes = [0 for _ in self.team.ranks]
        for i in self.active(self.numbers):
            param, owner = self.plan.items[i][2], self.plan.owner[i]
            if self.team.me in self.plan.sources[i]:
                sends[owner] += [local(param), local(param.grad)]
            if owner == self.team.me:
                for rank in self.plan.sources[i]:
                    shape = [part.stop - part.start for part in self.plan.boxes[i][rank]]
                    for tensor in (param, param.grad):
                        sizes[rank] += packed_size(shape, tensor.dtype)
        return self.team.exchange(sends, sizes)

    def compute(self, waiting: Any, context: int, scale: float, stats: bool) -> None:
        received = waiting()
        mine = self.active(self.mine)
        for i in mine:
            full, param = self.full[i], self.plan.items[i][2]
            full.data = torch.empty(param.shape, dtype=param.dtype)
            full.grad = torch.empty(param.shape, dtype=param.grad.dtype)
        for rank, buffer in enumerate(received):
            into = []
            for i in mine:
                if rank in self.plan.sources[i]:
                    part = self.plan.boxes[i][rank]
                    into += [self.full[i].detach()[part], self.full[i].grad[part]]  # type: ignore
            unpack(buffer, into)
        if self.rows:
            self.rows.gather()
        super().compute(None, context, scale, stats)

    def send(self) -> Any:
        numbers = self.active(self.numbers)
        values = {i: self.full[i].detach() for i in numbers if i in self.full}
        targets = {i: local(self.plan.items[i][2]) for i in numbers}
        wait = self.plan.scatter(values, targets)
        self.release()
        return wait
