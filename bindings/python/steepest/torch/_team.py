# SPDX-License-Identifier: Apache-2.0
"""The ranks that share the matrices of a Muon step, and what they tell each other."""

from __future__ import annotations

import math
import zlib
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .._errors import BY_STATUS, SteepestError

ALIGNMENT = 8  # bytes, of the tensors in a packed buffer
LARGE = 1 << 18  # elements, from which on a tensor is broadcast by itself


def pack(tensors: list[Tensor]) -> Tensor:
    """Their elements as bytes, one tensor after the other."""
    parts = []
    for tensor in tensors:
        raw = tensor.detach().reshape(-1).contiguous().view(torch.uint8)
        parts += [raw, raw.new_zeros(-len(raw) % ALIGNMENT)]
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.uint8)


def packed_size(shape: Any, dtype: torch.dtype) -> int:
    return -(-math.prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT


def unpack(buffer: Tensor, into: list[Tensor]) -> None:
    """What `pack` made, into tensors of the same shapes and types."""
    at = 0
    for tensor in into:
        count = tensor.numel() * tensor.element_size()
        tensor.copy_(buffer[at : at + count].view(tensor.dtype).view(tensor.shape))
        at += -(-count // ALIGNMENT) * ALIGNMENT


class Team:
    """The ranks of a process group. Every method that communicates is called by all of them."""

    OK, ERROR, SKIP = 0, 1, 2

    def __init__(self, group: Any) -> None:
        self.group = group
        self.ranks = dist.get_process_group_ranks(group)  # the global rank of each
        self.me = dist.get_rank(group)
        self.size = len(self.ranks)

    def gather(self, numbers: list[float]) -> list[list[float]]:
        """The numbers of every rank, exactly: counts below 2^53, or double."""
        mine = torch.tensor(numbers, dtype=torch.float64)
        parts = [torch.empty_like(mine) for _ in self.ranks]
        dist.all_gather(parts, mine, self.group)
        return [part.tolist() for part in parts]

    def gather_objects(self, mine: Any) -> list[Any]:
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, mine, self.group)
        return found

    def agree(self, code: int, error: Exception | None, what: list[bytes]) -> bool:
        """Before a step: raises on all ranks if one has an error, or if the ranks' `what` differ.

        Returns whether any of them skips the step.
        """
        digest = zlib.crc32(b"|".join(what))
        found = self.gather([self.ERROR if error else code, digest])
        codes = [int(each[0]) for each in found]
        if self.ERROR in codes:
            self.raise_all(error)
        if self.SKIP not in codes and any(each[1] != found[0][1] for each in found):
            raise RuntimeError(
                "the ranks of the optimizer's process group differ in their parameters, or in "
                f"which of them have a gradient (digests {[int(each[1]) for each in found]}); "
                "nothing was updated"
            )
        return self.SKIP in codes

    def raise_all(self, mine: Exception | None) -> None:
        """Raises the errors of all ranks on each of them; called where at least one has one."""
        status = getattr(mine, "status", 0) if mine else 0
        texts = self.gather_objects(None if mine is None else (status, str(mine)))
        errors = [(rank, *each) for rank, each in enumerate(texts) if each]
        text = "; ".join(f"rank {rank}: {words}" for rank, _, words in errors)
        kind: type[Exception] = type(mine) if mine and not status else RuntimeError
        for _, code, _ in errors:
            kind = BY_STATUS.get(code, kind)
        raise kind(text) from mine

    def check(self, error: Exception | None, failed: list[int]) -> tuple[list[int], bool]:
        """After a step: the numbers of all matrices that failed; whether any rank has an error."""
        found = self.gather([1.0 if error else 0.0])
        if not any(each[0] for each in found):
            return [], False
        return [i for each in self.gather_objects(failed) for i in each], True

    def exchange(self, sends: list[list[Tensor]], sizes: list[int]) -> Any:
        """Starts to send a list of tensors to each rank, and to receive `sizes` bytes from each.

        Returns a function that waits and returns the received bytes of each rank.
        """
        out = torch.empty(sum(sizes), dtype=torch.uint8)
        packed = pack([tensor for each in sends for tensor in each])
        lengths = [sum(packed_size(t.shape, t.dtype) for t in each) for each in sends]
        work = dist.all_to_all_single(out, packed, sizes, lengths, group=self.group, async_op=True)

        def finish() -> tuple[Tensor, ...]:
            work.wait()
            return out.split(sizes)

        return finish

    def broadcast(self, tensors: list[Tensor], owner: int) -> Any:
        """Starts to copy the owner's tensors into those of the others; returns what waits.

        Large ones go as they lie, the small ones together.
        """
        src = self.ranks[owner]
        as_they_lie = [t.is_contiguous() and t.numel() >= LARGE for t in tensors]
        large = [t for t, as_it_lies in zip(tensors, as_they_lie) if as_it_lies]
        small = [t for t, as_it_lies in zip(tensors, as_they_lie) if not as_it_lies]
        works = [dist.broadcast(t, src, group=self.group, async_op=True) for t in large]
        flat = None
        if small:
            size = sum(packed_size(t.shape, t.dtype) for t in small)
            flat = pack(small) if owner == self.me else torch.empty(size, dtype=torch.uint8)
            works.append(dist.broadcast(flat, src, group=self.group, async_op=True))

        def finish() -> None:
            for work in works:
                work.wait()
            if flat is not None and owner != self.me:
                unpack(flat, small)

        return finish


def step_error(error: Exception) -> bool:
    """Whether the other ranks can be told of the error: not one of the communication itself."""
    return isinstance(error, (SteepestError, ValueError, TypeError, ArithmeticError))
