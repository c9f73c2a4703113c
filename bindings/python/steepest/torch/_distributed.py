# SPDX-License-Identifier: Apache-2.0
"""Muon on several ranks: each matrix is computed by one, its owner, which alone has its momentum.

Of replicated parameters (DistributedDataParallel) every rank has value and gradient, and the owner
broadcasts the result. Of sharded ones (FSDP2's DTensor) the owner gathers value and gradient, and
sends each rank its part of the result. The matrices go in rounds of limited size, so that one
round is sent while the next is computed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from .. import _c
from .._shares import muon_flops, owners
from .._structs import Structs
from ._dtensor import (
    box,
    check_storage,
    counts_here,
    is_dtensor,
    local,
    rows_of,
    sum_over_meshes,
    wrap,
)
from ._rounds import Item, ReplicatedRound, ShardedRound
from ._rows import DTYPES, Rows, is_dense, norm_of
from ._storage import dense
from ._team import Team, packed_size, step_error, unpack
from .muon import MuonRows, block_sizes, method_of

ROUND_BYTES = 32 << 20  # of parameters, of each owner


def cost(group: dict, name: str, param: Any) -> int:
    rows, cols = param.shape[0], math.prod(param.shape[1:])
    axis = group["block_axis"]
    blocks = block_sizes(group["blocks"], cols if axis else rows, name)
    return muon_flops(rows, cols, method_of(group), group["ns_steps"], blocks or (), axis)


def group_of(process_group: Any, items: list[Item]) -> Any:
    """The process group given, or that of the DTensors' mesh."""
    if process_group is not None:
        return process_group
    for _, name, param in items:
        if is_dtensor(param):
            mesh = param.device_mesh
            if mesh.ndim == 1:
                return mesh.get_group()
            raise ValueError(
                f"Muon: the mesh of {name} has {mesh.ndim} dimensions: give process_group=, a "
                "group of all its ranks"
            )
    raise AssertionError


class Plan:
    """Who computes what, and the state that this implies."""

    def __init__(
        self,
        state: dict,
        process_group: Any,
        items: list[Item],
        first: bool,
        before: Plan | None,
    ) -> None:
        self.state = state
        self.first = first  # as without a plan: the others step if no matrix has failed
        self.items = items
        self.team = team = Team(group_of(process_group, items))
        costs = [cost(*item) for item in items]
        # A matrix stays with its owner, who has its momentum, when others are added.
        kept: dict = dict(zip((p for _, _, p in before.items), before.owner)) if before else {}
        self.owner = owners(costs, team.size, [kept.get(param) for _, _, param in items])
        self.boxes: dict[int, list] = {}  # of a sharded matrix: the part of each rank
        self.sources: dict[int, list[int]] = {}  # the ranks that send their parts to the owner
        for i, (_, name, param) in enumerate(items):
            if is_dtensor(param):
                self.locate(i, name, param)
        shapes = [(tuple(param.shape), str(param.dtype)) for _, _, param in items]
        self.structure = repr((shapes, self.owner)).encode()
        self.rounds = [
            kind(self, numbers)
            for kind, of in ((ReplicatedRound, self.plain()), (ShardedRound, list(self.boxes)))
            for numbers in self.divide(of)
        ]
        self.tables = [each.rows for each in self.rounds if each.rows]

    def plain(self) -> list[int]:
        return [i for i in range(len(self.items)) if i not in self.boxes]

    def locate(self, i: int, name: str, param: Any) -> None:
        ranks = param.device_mesh.mesh
        if sorted(ranks.flatten().tolist()) != sorted(self.team.ranks):
            raise ValueError(
                f"Muon: the mesh of {name} has other ranks than the process group "
                f"({sorted(self.team.ranks)})"
            )
        places = {int(ranks[tuple(at)]): at.tolist() for at in torch.ones_like(ranks).nonzero()}
        coordinates = [places[rank] for rank in self.team.ranks]
        self.boxes[i] = [box(param, at, name) for at in coordinates]
        copies = [k for k, p in enumerate(param.placements) if p.is_replicate()]
        home = coordinates[self.owner[i]]
        self.sources[i] = [
            rank for rank, at in enumerate(coordinates) if all(at[k] == home[k] for k in copies)
        ]

    def divide(self, numbers: list[int]) -> list[list[int]]:
        """Into rounds of at most ROUND_BYTES of each owner, or one matrix."""
        rounds: list[list[int]] = []
        used: dict[int, list[int]] = defaultdict(lambda: [0, 0])  # owner: round, bytes in it
        for i in numbers:
            param, at = self.items[i][2], used[self.owner[i]]
            size = param.numel() * param.element_size()
            if at[1] and at[1] + size > ROUND_BYTES:
                at[:] = [at[0] + 1, 0]
            at[1] += size
            while len(rounds) <= at[0]:
                rounds.append([])
            rounds[at[0]].append(i)
        return rounds

    # ---- the step

    def gather(self, tables: list[Rows]) -> bool:
        """As Rows.gather, for all matrices."""
        for each in self.rounds:
            each.prepare()
        for table in tables:  # whether they changed, before others wait
            table.write_configs(table.scale)
        for i in self.active():
            self.settle(i)
        return bool(self.active())

    def active(self) -> list[int]:
        return [i for i, item in enumerate(self.items) if item[2].grad is not None]

    def agree(self, error: Exception | None, skip: bool = False) -> bool:
        """Before the step, by all ranks. Returns whether any of them skips it."""
        code = Team.SKIP if skip else Team.OK
        active = bytes(item[2].grad is not None for item in self.items)
        return self.team.agree(code, error, [self.structure, active])

    def settle(self, i: int) -> None:
        """A matrix of another rank has a count of its steps here, and nothing else."""
        state = self.state[self.items[i][2]]
        if self.owner[i] != self.team.me:
            if "step" not in state:
                state["step"] = torch.tensor(MuonRows.unknown_steps if state else 0.0)
            for key in [key for key in state if key != "step"]:
                del state[key]

    def run(self, context: int, scale: float, stats: bool, tables: list[Rows]) -> None:
        """The step of the matrices, and of `tables`, which each rank does by itself."""
        error: Exception | None = None
        failed: list[int] = []
        if not self.first:
            error = self.run_others(context, stats, tables)
        sent: Any = None
        received = self.rounds[0].receive() if self.rounds else None
        for k, each in enumerate(self.rounds):
            following = self.rounds[k + 1].receive() if k + 1 < len(self.rounds) else None
            before = each.rows.steps.copy() if each.rows else []
            try:
                each.compute(received, context, scale, stats)
            except Exception as problem:
                if not step_error(problem):
                    raise
                error = self.joined(error, problem)
            if each.rows:
                active = self.active()
                done = each.rows.steps != before
                failed += [i for n, i in enumerate(each.mine) if i in active and not done[n]]
                each.rows.grads = []
            if sent:
                sent()
            sent, received = each.send(), following
        if sent:
            sent()
        increment_version([self.items[i][2] for i in self.active()])
        everywhere, any_error = self.team.check(error, failed)
        for i in self.active():
            if self.owner[i] != self.team.me and i not in everywhere:
                self.state[self.items[i][2]]["step"] += 1
        if any_error:
            self.team.raise_all(error)
        if self.first and (error := self.run_others(context, stats, tables)):
            raise error

    @staticmethod
    def run_others(context: int, stats: bool, tables: list[Rows]) -> Exception | None:
        try:
            for table in tables:
                table.run(context, stats)
                table.grads = []  # torch frees them with zero_grad()
        except Exception as error:
            if not step_error(error):
                raise
            return error
        return None

    @staticmethod
    def joined(first: Exception | None, second: Exception) -> Exception:
        if first is None:
            return second
        return type(first)(f"{first}; {second}")

    def scatter(self, values: dict[int, Tensor], targets: dict[int, Tensor]) -> Any:
        """Starts to send my whole matrices, by number, to the ranks' parts; returns what waits."""
        sends: list[list[Tensor]] = [[] for _ in self.team.ranks]
        into: list[list[Tensor]] = [[] for _ in self.team.ranks]
        for i, target in targets.items():
            into[self.owner[i]].append(target)
            if self.owner[i] == self.team.me:
                for rank, part in enumerate(self.boxes[i]):
                    sends[rank].append(values[i][part])
        sizes = [sum(packed_size(t.shape, t.dtype) for t in each) for each in into]
        finish = self.team.exchange(sends, sizes)

        def wait() -> None:
            for buffer, tensors in zip(finish(), into):
                unpack(buffer, tensors)

        return wait

    # ---- checkpoints

    def has(self, param: Any) -> bool:
        """Whether the state of a parameter is on this rank."""
        owners = [self.owner[i] for i, item in enumerate(self.items) if item[2] is param]
        return not owners or owners[0] == self.team.me

    def layout(self, i: int) -> tuple[dict, dict]:
        """What only its owner has of a matrix: {key: type, shape, strides}, the rest."""
        state: dict = self.state.get(self.items[i][2], {})
        tensors, rest = {}, {}
        for key, value in state.items():
            if not isinstance(value, Tensor):
                rest[key] = value
            elif key != "step" and (i not in self.boxes or value.shape == self.items[i][2].shape):
                value = dense(value)
                tensors[key] = value.dtype, tuple(value.shape), value.stride()
        return tensors, rest

    def whole_state(self, to: int | None) -> dict:
        """The state as a single process has it, on one rank or on all; DTensors where sharded."""
        whole: dict = defaultdict(dict)
        whole.update({param: dict(state) for param, state in self.state.items()})
        me, items = self.team.me, self.items
        mine = {i: self.layout(i) for i in range(len(items)) if self.owner[i] == me}
        for theirs in self.team.gather_objects(mine):
            for i, (tensors, rest) in theirs.items():
                param, owner = items[i][2], self.owner[i]
                if rest and (to is None or me in (to, owner)):
                    whole[param].update(rest)
                for key, (dtype, *layout) in tensors.items():
                    full = whole[param][key] if owner == me else None
                    if i in self.boxes:
                        part = torch.empty_like(local(param), dtype=dtype).contiguous()
                        self.scatter({} if full is None else {i: full}, {i: part})()
                        whole[param][key] = wrap(part, param)
                    elif to is None or me in (to, owner):
                        if full is None:
                            value = torch.empty_strided(*layout, dtype=dtype)
                        else:
                            value = dense(full)
                        self.copy(value, owner, to)
                        whole[param][key] = value
        return whole

    def copy(self, value: Tensor, owner: int, to: int | None) -> None:
        """Copies a state tensor of the owner to all ranks, or to one."""
        team, dist = self.team, torch.distributed
        # As it lies, since 8-bit blocks are in that order; as bytes, since gloo has no int16.
        raw = value.detach().as_strided((value.numel(),), (1,)).view(torch.uint8)
        if to is None:
            dist.broadcast(raw, team.ranks[owner], group=team.group)
        elif owner != to and team.me == owner:
            dist.send(raw, team.ranks[to], group=team.group)
        elif owner != to:
            dist.recv(raw, team.ranks[owner], group=team.group)

    def keep_own(self) -> None:
        """After a whole state was loaded: what the owners need, and nothing else."""
        for i, (_, _, param) in enumerate(self.items):
            state = self.state.get(param)
            if state is None:
                continue
            for key, value in state.items():
                if is_dtensor(value):
                    with torch.no_grad():
                        state[key] = value.full_tensor()
            self.settle(i)


# ---- what the optimizers call


def make_tables(
    optimizer: Any, items: dict[type[Rows], list[Item]]
) -> tuple[list[Rows], Plan | None, bool]:
    """The rows of each kind, a plan for the matrices that ranks share, whether there is either."""
    tables, plan, parted = [], None, False
    for kind, of in items.items():
        sharded = any(is_dtensor(item[2]) for item in of)
        parted = parted or sharded
        for group, name, param in of if sharded else ():
            if is_dtensor(param):
                check_storage(group, name, param, kind)
        if kind is MuonRows and (sharded or optimizer.process_group is not None):
            plan = Plan(optimizer.state, optimizer.process_group, of, not tables, optimizer._plan)
            continue
        kinds: dict[type[Rows], list[Item]] = defaultdict(list)
        for item in of:
            kinds[rows_of(kind, item[2])].append(item)
        tables += [kind(optimizer.state, rows) for kind, rows in kinds.items()]
    return tables, plan, parted or plan is not None


def measure(context: int, items: list[Item], plan: Plan | None) -> tuple[float, int]:
    """Norm and non-finite elements of all gradients, the same on every rank."""
    whole = []
    parts: dict[Any, list[Tensor]] = defaultdict(list)
    for _, _, param in items:
        if param.grad is None:
            continue
        if not is_dtensor(param):
            whole.append(param.grad)
        else:
            parts[param.device_mesh].extend([local(param.grad)] if counts_here(param) else [])
    norm, nonfinite = _norm(context, whole)
    if plan:  # the gradients should be the same on all ranks; if not, they still agree
        found = plan.team.gather([norm, nonfinite])
        norm, nonfinite = found[0][0], int(max(each[1] for each in found))
    if parts:
        figures = {}
        for mesh, grads in parts.items():
            part, count = _norm(context, grads)
            figures[mesh] = [part**2, float(count)]
        square, count = sum_over_meshes(figures)
        norm, nonfinite = (norm**2 + square) ** 0.5, nonfinite + int(count)
    return norm, nonfinite


def _norm(context: int, grads: list[Tensor]) -> tuple[float, int]:
    dense = [grad if is_dense(grad) else grad.contiguous() for grad in grads]
    vectors = Structs(_c.Vector, len(dense))
    vectors.columns["data"][:] = [grad.data_ptr() for grad in dense]
    vectors.columns["dtype"][:] = [DTYPES[grad.dtype] for grad in dense]
    vectors.columns["count"][:] = [grad.numel() for grad in dense]
    return norm_of(context, vectors)
