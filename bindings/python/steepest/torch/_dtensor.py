# SPDX-License-Identifier: Apache-2.0
"""DTensor parameters, as FSDP2 makes them: what this rank holds of them, and AdamW on that."""

from __future__ import annotations

import math
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from . import _states as states
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


def has_whole_blocks(tensor: Any, name: str) -> bool:
    """Whether the ranks have parts of one size that consist of whole blocks of an 8-bit format."""
    shards = zip(tensor.device_mesh.shape, tensor.placements)
    parts = math.prod(size for size, placement in shards if placement.is_shard())
    of_blocks = tensor.numel() % (parts * storage.BLOCKS[name]) == 0
    return is_one_piece(tensor) and (parts == 1 or of_blocks)


def check_storage(
    group: dict, name: str, param: Any, kind: type[Rows], formats: dict | None = None
) -> None:
    """Refuses options, and a loaded state's formats, that parts of a tensor cannot have."""
    formats, adamw = formats or {}, issubclass(kind, AdamWRows)
    for key in kind.moments:
        wanted = storage.pick(group["state_dtype"], key)
        q8 = wanted if storage.has_q8(group, key, param) else None
        if q8 is None and wanted is None:  # as it is in the loaded state
            q8 = formats.get(key)
        if q8 is not None and not (adamw and has_whole_blocks(param, q8)):
            rule = f"whole blocks of {storage.BLOCKS[q8]} elements, as many on each rank"
            raise ValueError(
                f"state_dtype: 8 bits for {key} of a DTensor need {rule}; torch.bfloat16 does not, "
                f"nor parameters in a group with another state_dtype: {name}"
                if adamw
                else f"state_dtype: 8 bits for {key} of a DTensor are not supported in Muon; "
                f"torch.bfloat16 is: {name}"
            )
    master = group["master"] or formats.get("param")
    if master and param.dtype in storage.NARROW and not adamw:
        raise ValueError(
            f"master {master!r} of a DTensor is not supported in Muon; float32 parameters with "
            f"FSDP2's MixedPrecisionPolicy need none: {name}"
        )
    stochastic = group["rounding"] == "stochastic"
    if stochastic and adamw and not is_one_piece(param):
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


def wrap_state(key: str, part: Tensor, param: Any) -> Any:
    """A DTensor of this rank's part of a state tensor: of the parameter's shape, or scales."""
    if not key.endswith("_scales"):
        return wrap(part, param)
    tensor: Any = sys.modules["torch.distributed.tensor"]
    mesh, placements = param.device_mesh, param.placements
    along = [tensor.Shard(0) if placement.is_shard() else placement for placement in placements]
    return tensor.DTensor.from_local(part, mesh, along, run_check=False)  # equal parts


def converted(entry: dict, group: dict, param: Any) -> dict:
    """`states.converted`, of DTensors part by part; of whole tensors in the order of the parts."""
    result = states.converted({key: local(value) for key, value in entry.items()}, group, param)
    for key, name in result.get("format", {}).items():
        if key in storage.PLACES and not result[key].is_contiguous():
            codes, scales = result[key], result[f"{key}_scales"]
            values = storage.decode(name, key, storage.dense(codes), scales).contiguous()
            result[key], result[f"{key}_scales"] = storage.encode(name, key, values)
    for key, value in result.items():
        if is_dtensor(entry.get(key.removesuffix("_scales"))):
            result[key] = wrap_state(key, value, param)
    return result


def master_of(kind: str, param: Any, residual: Any) -> Any:
    return wrap(storage.join(kind, local(param), local(residual)), param)


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
        if is_one_piece(self.whole[i]):
            self.tensors.columns["first_index"][i] = self.first_index(i)

    def first_index(self, i: int) -> int:
        """The place of the part's first element, where the part is one piece."""
        whole = self.whole[i]
        part = box(whole, whole.device_mesh.get_coordinate(), self.names[i])
        return sum(at.start * step for at, step in zip(part, whole.stride()))

    def prepare(self, i: int) -> None:
        whole, part = self.whole[i], self.params[i]
        state = self.whole_state[whole]
        check_storage(self.groups[i], self.names[i], whole, AdamWRows, state.get("format"))
        self.state[part] = {key: self.part_of(i, key, value) for key, value in state.items()}
        super().prepare(i)
        for key in [key for key in state if key not in self.states[i]]:
            del state[key]  # another master's
        for key, value in self.states[i].items():
            old = state.get(key)
            if key not in states.KEYS - {"format"}:
                state[key] = value
            elif not is_dtensor(old) or local(old).data_ptr() != value.data_ptr():
                state[key] = wrap_state(key, value, whole)
        self.known[i] = dict(state)

    def place(self, i: int, key: str, field: str, buffer: Tensor) -> None:
        state, group = self.states[i], self.groups[i]
        # Whether it has 8 bits is a matter of the whole tensor's size.
        if key not in state and storage.has_q8(group, key, self.whole[i]):
            name = storage.pick(group["state_dtype"], key)
            state[key], state[f"{key}_scales"] = storage.new_q8(name, buffer)
            state["format"] = {**state.get("format", {}), key: name}
        super().place(i, key, field, buffer)

    def part_of(self, i: int, key: str, value: Any) -> Any:
        """This rank's part of a state tensor, which may be whole, from a full checkpoint."""
        if is_dtensor(value):
            return local(value)
        whole = self.whole[i]
        formats = self.whole_state[whole].get("format", {})
        if name := formats.get(key.removesuffix("_scales")) if key.endswith("_scales") else None:
            first = self.first_index(i) // storage.BLOCKS[name]
            return value[first:][: storage.scale_count(name, self.params[i].numel())].clone()
        if isinstance(value, Tensor) and value.ndim and value.shape == whole.shape:
            coordinate = whole.device_mesh.get_coordinate()
            return value[box(whole, coordinate, self.names[i])].clone()
        return value

    def gather(self) -> bool:
        self.versions.clear()  # a parameter that is written to says so of the DTensor only
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
