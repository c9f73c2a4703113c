# SPDX-License-Identifier: Apache-2.0
"""DTensor parameters, as FSDP2 makes them: what this rank holds of them, and AdamW on that."""

from __future__ import annotations

import math
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from . import _storage as storage
from ._rows import Rows, Stale
from .adamw import AdamWRows

Box = tuple[slice, ...]  # a part of a tensor


def is_dtensor(value: Any) -> bool:
    if type(value) in (Tensor, nn.Parameter):
        return False
    module = sys.modules.get("torch.distributed.tensor")  # imported by whoever made a DTensor
    return module is not None and isinstance(value, module.DTensor)


def local(tensor: Any) -> Tensor:
    """The tensor itself, or what this rank holds of it, without a copy."""
    if not is_dtensor(tensor):
        return tensor
    with torch.no_grad():
        return tensor.to_local()


def wrap(part: Tensor, like: Any) -> Any:
    """A DTensor like another whose part on this rank is `part`."""
    kind: Any = sys.modules["torch.distributed.tensor"].DTensor
    options = {"run_check": False, "shape": like.shape, "stride": like.stride()}
    with torch.no_grad():
        return kind.from_local(part, like.device_mesh, like.placements, **options)


def chunk(size: int, parts: int, at: int) -> tuple[int, int]:
    """Begin and end of one of `parts` chunks as torch.chunk cuts them; the last may be empty."""
    each = -(-size // parts)
    return min(size, each * at), min(size, each * (at + 1))


def box(tensor: Any, coordinate: list[int], name: str) -> Box:
    """The part of a DTensor that the rank at these coordinates of its mesh holds."""
    bounds = [(0, size) for size in tensor.shape]
    for parts, placement, at in zip(tensor.device_mesh.shape, tensor.placements, coordinate):
        kind = type(placement).__name__
        if kind == "Shard":
            begin, end = bounds[placement.dim]
            first, last = chunk(end - begin, parts, at)
            bounds[placement.dim] = begin + first, begin + last
        elif kind != "Replicate":
            raise NotImplementedError(
                f"only the placements Shard and Replicate are supported, not {placement!r}: {name}"
            )
    return tuple(slice(begin, end) for begin, end in bounds)


def check_grad(param: Any, name: str) -> None:
    """A gradient must lie as its parameter does."""
    grad = param.grad
    if grad is None:
        return
    if not is_dtensor(grad) or grad.placements != param.placements:
        found = grad.placements if is_dtensor(grad) else "no DTensor"
        raise ValueError(f"the gradient's placements are {found}, not {param.placements}: {name}")


def sum_over_meshes(figures: dict[Any, list[float]]) -> list[float]:
    """Adds [a, b] of each mesh over its ranks; the same bits on each of them."""
    total = [0.0, 0.0]
    for mesh, mine in figures.items():
        for dim in range(mesh.ndim):
            group = mesh.get_group(dim)
            parts = [torch.zeros(2, dtype=torch.float64) for _ in range(mesh.size(dim))]
            torch.distributed.all_gather(parts, torch.tensor(mine, dtype=torch.float64), group)
            mine = [sum(float(part[k]) for part in parts) for k in (0, 1)]
        total = [total[0] + mine[0], total[1] + mine[1]]
    return total


def counts_here(tensor: Any) -> bool:
    """Whether this rank is the first that holds its part: others have copies of it."""
    places = zip(tensor.device_mesh.get_coordinate(), tensor.placements)
    return all(at == 0 for at, placement in places if placement.is_replicate())


def is_one_piece(tensor: Any) -> bool:
    """Whether each rank's part is one piece of the whole tensor's memory."""
    dims = [p.dim for p in tensor.placements if p.is_shard()]
    return tensor.is_contiguous() and all(math.prod(tensor.shape[:dim]) <= 1 for dim in dims)


def check_storage(
    group: dict, name: str, param: Any, kind: type[Rows], formats: dict | None = None
) -> None:
    """Refuses options, and a loaded state's formats, that parts of a tensor cannot have."""
    for key in kind.moments:
        if storage.has_q8(group, key, param):
            raise ValueError(
                f"state_dtype: 8 bits for {key} of a DTensor are not supported, since blocks of "
                f"elements with a scale do not end where parts do; torch.bfloat16 is: {name}"
            )
    master = group["master"] or (formats or {}).get("param")
    if master and param.dtype in storage.NARROW:
        raise ValueError(
            f"master {master!r} of a DTensor is not supported; float32 parameters with FSDP2's "
            f"MixedPrecisionPolicy need none: {name}"
        )
    stochastic = group["rounding"] == "stochastic"
    if stochastic and issubclass(kind, AdamWRows) and not is_one_piece(param):
        raise ValueError(
            f"rounding 'stochastic' in AdamW needs DTensors that are contiguous and sharded along "
            f"their first dimension, not {param.placements}: {name}"
        )


def check_parts(group: dict, kind: type[Rows], formats: dict | None = None) -> None:
    """`check_storage` of a group's DTensors."""
    if not group.keys() >= storage.OPTIONS.keys():  # while torch's constructor adds groups
        return
    names = group.get("param_names")
    for i, param in enumerate(group["params"]):
        if is_dtensor(param):
            check_storage(group, names[i] if names else f"params[{i}]", param, kind, formats)


class LocalAdamWRows(AdamWRows):
    """AdamW on what this rank holds of DTensor parameters. Their state is DTensors, too."""

    def __init__(self, state: dict, items: list[tuple[dict, str, Any]]) -> None:
        self.whole_state = state
        self.known: list[dict] = [{} for _ in items]  # the state as it was left in `whole_state`
        for _, name, param in items:
            if any(placement.is_partial() for placement in param.placements):
                raise NotImplementedError(f"AdamW does not support partial sums: {name}")
        whole = [param for _, _, param in items]
        parts = [nn.Parameter(local(p), requires_grad=False) for p in whole]
        super().__init__({}, [(*item[:2], part) for item, part in zip(items, parts)])
        self.whole = whole

    def configure(self, group: dict) -> dict[str, float]:
        if group["rounding"] == "stochastic":  # perhaps only since now
            for name, owner, param in zip(self.names, self.groups, self.whole):
                if owner is group:
                    check_storage(group, name, param, AdamWRows)
        return super().configure(group)

    def describe(self, i: int, buffer: Tensor) -> None:
        super().describe(i, buffer)
        whole = self.whole[i]
        if is_one_piece(whole):
            part = box(whole, whole.device_mesh.get_coordinate(), self.names[i])
            first = sum(at.start * step for at, step in zip(part, whole.stride()))
            self.tensors.columns["first_index"][i] = first

    def prepare(self, i: int) -> None:
        whole, part = self.whole[i], self.params[i]
        state = self.whole_state[whole]
        self.state[part] = {key: self.part_of(i, value) for key, value in state.items()}
        super().prepare(i)
        for key, value in self.states[i].items():
            old = state.get(key)
            if key not in self.fields:
                state[key] = value
            elif not is_dtensor(old) or local(old).data_ptr() != value.data_ptr():
                state[key] = wrap(value, whole)
        self.known[i] = dict(state)

    def part_of(self, i: int, value: Any) -> Any:
        """This rank's part of a state tensor, which may be whole, from a full checkpoint."""
        if is_dtensor(value):
            return local(value)
        whole = self.whole[i]
        if isinstance(value, Tensor) and value.ndim and value.shape == whole.shape:
            coordinate = whole.device_mesh.get_coordinate()
            return value[box(whole, coordinate, self.names[i])].clone()
        return value

    def gather(self) -> bool:
        for i, (whole, part) in enumerate(zip(self.whole, self.params)):
            check_grad(whole, self.names[i])
            now = local(whole)
            if now.shape != part.shape or now.dtype != part.dtype:
                raise Stale
            if now.data_ptr() != part.data_ptr():
                part.data = now
            part.grad = None if whole.grad is None else local(whole.grad)
            state = self.whole_state[whole] if self.known[i] else {}
            if any(state.get(key) is not value for key, value in self.known[i].items()):
                raise Stale
        return super().gather()

    def run(self, context: int, stats: bool) -> None:
        try:
            super().run(context, stats)
            increment_version([whole for whole in self.whole if whole.grad is not None])
        finally:
            for part in self.params:
                part.grad = None


def rows_of(kind: type[Rows], param: Any) -> type[Rows]:
    return LocalAdamWRows if kind is AdamWRows and is_dtensor(param) else kind
