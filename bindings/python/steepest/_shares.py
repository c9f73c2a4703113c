# SPDX-License-Identifier: Apache-2.0
"""Which of several processes computes which matrix of a Muon step. Needs nothing but Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def msign_flops(rows: int, cols: int, method: str = "auto", steps: int = 5) -> int:
    """Floating-point operations of msign that the method cannot do without.

    A multiply-add is two, symmetric products and inverses count once; n = min(rows, cols),
    m = max(rows, cols). "svd" and "accurate" are estimates.
    """
    n, m = sorted((rows, cols))
    products, inverses = {
        "auto": (3, 3),  # "rational" with three poles
        "rational": (3, 3),
        "halley": (3, 7),  # three steps
        "newton-schulz": (3 * steps, steps),
        "gram-newton-schulz": (3, 4 * steps - 3),
        "svd": (6, 20),
        "accurate": (12, 16),
    }[method]
    return products * m * n**2 + inverses * n**3


def muon_flops(
    rows: int,
    cols: int,
    method: str = "auto",
    steps: int = 5,
    blocks: Iterable[int] = (),
    block_axis: int = 0,
) -> int:
    """The same for a matrix that consists of blocks of these sizes along an axis."""
    parts = [(b, cols) if block_axis == 0 else (rows, b) for b in blocks] or [(rows, cols)]
    return sum(msign_flops(*part, method, steps) for part in parts)


def owners(costs: Sequence[int], ranks: int, kept: Sequence[int | None] | None = None) -> list[int]:
    """The rank of each matrix, by the rule of the longest processing time.

    In descending order of cost, equal ones in their own order, each goes to the rank with the least
    so far, of several such to the lowest. The busiest rank has at most 4/3 - 1/(3 ranks) of what
    the best division would give it (Graham 1969). kept: ranks that some have from before.
    """
    loads = [0] * ranks
    owner = list(kept or [None] * len(costs))
    for i, rank in enumerate(owner):
        if rank is not None:
            loads[rank] += costs[i]
    for i in sorted(range(len(costs)), key=lambda i: -costs[i]):
        if owner[i] is None:
            owner[i] = rank = loads.index(min(loads))
            loads[rank] += costs[i]
    return [rank for rank in owner if rank is not None]
