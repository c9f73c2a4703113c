# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules and their convergence bound. docs/theory.md has the formulas."""

from __future__ import annotations

import ctypes
from ctypes import c_double
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _c
from ._numbers import choice, integer, number

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

KINDS = {
    "constant": _c.SCHEDULE_CONSTANT,
    "linear": _c.SCHEDULE_LINEAR,
    "cosine": _c.SCHEDULE_COSINE,
    "inverse_sqrt": _c.SCHEDULE_INVERSE_SQRT,
    "inverse": _c.SCHEDULE_INVERSE,
    "warmup_stable_decay": _c.SCHEDULE_WARMUP_STABLE_DECAY,
}
DECAYS = {
    "linear": _c.DECAY_LINEAR,
    "cosine": _c.DECAY_COSINE,
    "one_minus_sqrt": _c.DECAY_ONE_MINUS_SQRT,
}
REFINEMENTS = {"sgd": _c.REFINE_SGD, "adam": _c.REFINE_ADAM}


@dataclass(frozen=True)
class Schedule:
    """A learning rate for each step t = 1 .. T.

    kind: "constant", "linear", "cosine" (both fall from lr to final_ratio * lr, which they would
        reach at step T + 1), "inverse_sqrt", "inverse" (lr at the end of warm-up, then as 1/sqrt(t)
        or 1/t), or "warmup_stable_decay" (lr, and over the last decay_steps decay_shape).
    lr: the peak.
    final_ratio: in [0, 1]; 0 for the kinds without an end.
    warmup_steps: the rate rises as lr t / warmup_steps, for every kind.
    decay_steps: of "warmup_stable_decay"; 0: a fifth of all.
    decay_shape: "linear", "cosine" or "one_minus_sqrt".
    """

    kind: str = "linear"
    lr: float = 1e-3
    final_ratio: float = 0.0
    warmup_steps: int = 0
    decay_steps: int = 0
    decay_shape: str = "linear"


def c_schedule(schedule: Schedule | str, options: dict[str, Any], function: str) -> _c.Schedule:
    """What a function was given: a Schedule or a kind, and fields of it by name."""
    if isinstance(schedule, str):
        schedule = Schedule(schedule)
    if options:
        schedule = replace(schedule, **options)
    result = _c.new(_c.Schedule)
    result.kind = choice(schedule.kind, KINDS, f"{function}: kind")
    result.decay_shape = choice(schedule.decay_shape, DECAYS, f"{function}: decay_shape")
    for field in ("lr", "final_ratio"):
        setattr(result, field, number(getattr(schedule, field), f"{function}: {field}"))
    for field in ("warmup_steps", "decay_steps"):
        setattr(result, field, integer(getattr(schedule, field), f"{function}: {field}"))
    return result


def _rates(count: int, function: str) -> NDArray[np.float64]:
    """An array for so many rates; for a number that is refused anyway, of one."""
    return np.empty(max(1, integer(count, f"{function}: total_steps")))


def schedule_fill(
    schedule: Schedule | str, total_steps: int, **options: Any
) -> NDArray[np.float64]:
    """All rates, the first one being that of step 1.

    schedule, options: a Schedule, or its kind, and fields by name:
    schedule_fill("cosine", 1000, lr=3e-4, warmup_steps=50).
    """
    function = "schedule_fill"
    struct = c_schedule(schedule, options, function)
    lr = _rates(total_steps, function)
    _c.check(_c.lib.steepest_schedule_fill(ctypes.byref(struct), total_steps, lr.ctypes.data))
    return lr


def schedule_at(schedule: Schedule | str, total_steps: int, step: int, **options: Any) -> float:
    """The rate of one step, 1 <= step <= total_steps; arguments as in schedule_fill."""
    function = "schedule_at"
    struct = c_schedule(schedule, options, function)
    lr = c_double()
    _c.check(
        _c.lib.steepest_schedule_at(
            ctypes.byref(struct),
            integer(total_steps, f"{function}: total_steps"),
            integer(step, f"{function}: step"),
            ctypes.byref(lr),
        )
    )
    return lr.value


def _doubles(values: Any, name: str) -> NDArray[np.float64]:
    try:
        array = np.ascontiguousarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is not an array of numbers") from error
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}: must have one dimension")
    return array


def _norms(
    grad_norm: float | ArrayLike, steps: int, function: str
) -> tuple[float, NDArray[np.float64] | None]:
    if np.ndim(grad_norm) == 0:
        return number(grad_norm, f"{function}: grad_norm"), None
    norms = _doubles(grad_norm, f"{function}: grad_norm")
    if len(norms) != steps:
        raise ValueError(f"{function}: grad_norm has {len(norms)} values for {steps} steps")
    return 0.0, norms


def _address(array: NDArray[np.float64] | None) -> int | None:
    return None if array is None else array.ctypes.data


def schedule_bound(
    lr: ArrayLike, distance: float = 1.0, grad_norm: float | ArrayLike = 1.0
) -> float:
    """What a schedule guarantees for SGD on a convex loss, at the last of its T points:

        E L(theta_T) - L* <= D^2 / (2 S_1) + 1/2 sum_t G_t^2 lr_t^2 / S_min(t+1, T)

    with S_t = lr_t + .. + lr_T, D = distance to a minimiser at the start, G = grad_norm, a number
    or one for each step. lr: any array of numbers that are not negative; the last must be positive
    (for N updates give N + 1 points: the last rate moves nothing). Lists and other types are
    copied.
    """
    function = "schedule_bound"
    rates = _doubles(lr, f"{function}: lr")
    norm, norms = _norms(grad_norm, len(rates), function)
    bound = c_double()
    _c.check(
        _c.lib.steepest_schedule_bound(
            rates.ctypes.data,
            len(rates),
            number(distance, f"{function}: distance"),
            norm,
            _address(norms),
            ctypes.byref(bound),
        )
    )
    return bound.value


def schedule_optimal(
    total_steps: int, distance: float = 1.0, grad_norm: float | ArrayLike = 1.0
) -> tuple[NDArray[np.float64], float]:
    """The schedule with the least schedule_bound, and that bound; all arguments positive."""
    function = "schedule_optimal"
    lr = _rates(total_steps, function)
    norm, norms = _norms(grad_norm, total_steps, function)
    bound = c_double()
    _c.check(
        _c.lib.steepest_schedule_optimal(
            total_steps,
            number(distance, f"{function}: distance"),
            norm,
            _address(norms),
            lr.ctypes.data,
            ctypes.byref(bound),
        )
    )
    return lr, bound.value


def schedule_refine(
    grad_norms: ArrayLike, kind: str = "adam", *, smoothing: float = 0.1, distance: float = 0.0
) -> NDArray[np.float64]:
    """A schedule for the next run from the gradient norms of one (arXiv 2310.07831):
    lr_t proportional to w_t sum_{p > t} w_p, the largest being 1 and the last 0.

    kind: "sgd" (w = 1 / norm^2 of Euclidean norms) or "adam" (w = 1 / norm of l1 norms).
    smoothing: of a running median over 2 floor(smoothing T / 2) + 1 steps; 0: none.
    distance: for "sgd", the distance to a minimiser: the absolute scale. 0: the largest is 1.
    """
    function = "schedule_refine"
    norms = _doubles(grad_norms, f"{function}: grad_norms")
    lr = np.empty_like(norms)
    _c.check(
        _c.lib.steepest_schedule_refine(
            norms.ctypes.data,
            len(norms),
            choice(kind, REFINEMENTS, f"{function}: kind"),
            number(smoothing, f"{function}: smoothing"),
            number(distance, f"{function}: distance"),
            lr.ctypes.data,
        )
    )
    return lr
