# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_double, c_int32, c_void_p
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from . import _c
from ._arrays import NAMES, Array, View, matrix, same_shape, writable
from ._columns import Column
from ._numbers import DTYPES, choice, flags, integer, number

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

METHODS = {
    "auto": _c.MSIGN_AUTO,
    "newton_schulz": _c.MSIGN_NEWTON_SCHULZ,
    "gram_newton_schulz": _c.MSIGN_GRAM_NEWTON_SCHULZ,
    "rational": _c.MSIGN_RATIONAL,
    "halley": _c.MSIGN_HALLEY,
    "svd": _c.MSIGN_SVD,
    "accurate": _c.MSIGN_ACCURATE,
}
COEFFICIENTS = {
    "keller": _c.COEF_KELLER,
    "classic": _c.COEF_CLASSIC,
    "cubic": _c.COEF_CUBIC,
    "you": _c.COEF_YOU,
    "polar_express": _c.COEF_POLAR_EXPRESS,
}
NORMALIZATIONS = {
    "auto": _c.NORM_AUTO,
    "frobenius": _c.NORM_FROBENIUS,
    "schatten4": _c.NORM_SCHATTEN4,
    "bound": _c.NORM_BOUND,
}


@dataclass(frozen=True)
class MsignConfig:
    """How msign(X) is computed. l is lower_bound; singular values in [l, 1] of X divided by its
    norm are mapped to the method's band around 1 (see msign_band).

    method: "auto" (rational, three poles), or
        "newton_schulz"       X <- (aI + bA + cA^2) X, A = X X^T
        "gram_newton_schulz"  the same polynomial on the smaller side
        "rational"            Zolotarev's best rational function; three poles: 1 -+ 0.062
        "halley"              dynamically weighted Halley steps (QDWH)
        "svd"                 LAPACK's gesdd, of the numerical rank
        "accurate"            in fp64, to about 1e-7
    steps: iterations or poles. 0: the method's default, or one for each row of coefficients.
    coefficients: of the two Newton-Schulz methods: "keller", "classic", "cubic", "you",
        "polar_express", or a table of rows (a, b, c); the last row repeats.
    normalization: what X is divided by: "auto", "frobenius", "schatten4", "bound" (norm_bound).
    lower_bound: l of "rational" and "halley", in [1e-3, 1) ([1e-8, 1) in fp64). 0: 1e-3.
    norm_bound: at least the largest singular value of X.
    rank_tolerance: "svd": up to this share of the largest, singular values count as zero.
    compute_dtype: "float32", "float64", or "bfloat16" for products of bf16 with fp32 sums, where
        the CPU has them. None: float64 for float64 input, else float32.
    split_bf16: with "bfloat16": the small matrix as a sum of two, for wide spectra.
    restarts: "gram_newton_schulz": the steps before which X X^T is formed anew.
    consistent: the same bits on every instruction-set level.
    """

    method: str = "auto"
    steps: int = 0
    coefficients: str | ArrayLike = "polar_express"
    normalization: str = "auto"
    lower_bound: float = 0.0
    norm_bound: float = 0.0
    rank_tolerance: float = 0.0
    compute_dtype: str | None = None
    split_bf16: bool = False
    restarts: Sequence[int] | None = None
    consistent: bool = False


@dataclass(frozen=True)
class MsignStats:
    """How msign came to its result.

    method         the method used, never "auto"
    steps          iterations or poles used
    retries        factorisations that were repeated with a larger l
    rank           "svd": the numerical rank; 0 for a zero matrix; -1: not known
    norm           what x was divided by
    lower_bound    the l used
    orthogonality  |O O^T - I|_F / sqrt(min(rows, cols)); O^T O for a tall O
    status         0, or -5 (STEEPEST_E_NONFINITE) or -6 (_NOT_CONVERGED): out was not written
    """

    method: str
    steps: int
    retries: int
    rank: int
    norm: float
    lower_bound: float
    orthogonality: float
    status: int


def c_config(config: MsignConfig, function: str) -> _c.MsignConfig:
    result = _c.new(_c.MsignConfig)
    result.flags = flags(
        (config.split_bf16, _c.MSIGN_SPLIT_BF16), (config.consistent, _c.FLAG_CONSISTENT)
    )
    result.method = choice(config.method, METHODS, f"{function}: method")
    result.steps = integer(config.steps, f"{function}: steps", 32)
    name = f"{function}: coefficients"
    if isinstance(config.coefficients, str):
        result.coefficients = choice(config.coefficients, COEFFICIENTS, name)
    else:
        table = np.array(config.coefficients, dtype=np.float64)
        if table.ndim != 2 or table.shape[1] != 3:
            raise ValueError(f"{name} has shape {table.shape}: must be rows of three")
        result.coefficients = _c.COEF_CUSTOM
        result.custom_coefficients = (c_double * table.size)(*table.flat)
        result.custom_count = len(table)
        result.steps = result.steps or len(table)
    result.normalization = choice(
        config.normalization, NORMALIZATIONS, f"{function}: normalization"
    )
    for field in ("lower_bound", "norm_bound", "rank_tolerance"):
        setattr(result, field, number(getattr(config, field), f"{function}: {field}"))
    if config.compute_dtype is not None:
        result.compute_dtype = choice(config.compute_dtype, DTYPES, f"{function}: compute_dtype")
    if config.restarts is not None:
        steps = [integer(step, f"{function}: restarts", 32) for step in config.restarts]
        # One more entry than is counted, since null stands for the default.
        result.restarts = (c_int32 * (len(steps) + 1))(*steps)
        result.restart_count = len(steps)
    return result


Out = TypeVar("Out")


@overload
def msign(
    x: Array,
    out: None = None,
    config: MsignConfig | None = None,
    *,
    stats: list[MsignStats] | None = None,
    threads: int | None = None,
    **options: Any,
) -> NDArray[Any]: ...


@overload
def msign(
    x: Sequence[Array],
    out: None = None,
    config: MsignConfig | None = None,
    *,
    stats: list[MsignStats] | None = None,
    threads: int | None = None,
    **options: Any,
) -> list[NDArray[Any]]: ...


@overload
def msign(
    x: Array | Sequence[Array],
    out: Out,
    config: MsignConfig | None = None,
    *,
    stats: list[MsignStats] | None = None,
    threads: int | None = None,
    **options: Any,
) -> Out: ...


def msign(
    x: Any,
    out: Any = None,
    config: MsignConfig | None = None,
    *,
    stats: list[MsignStats] | None = None,
    threads: int | None = None,
    **options: Any,
) -> Any:
    """The matrix sign (orthogonal polar factor): U V^T for x = U S V^T.

    x: a matrix (rows, cols), wide, tall or square, of float32, float64, float16 or bfloat16; or a
        list of matrices of one shape and type. The elements of a row are adjacent, the rows may be
        further apart.
    out: None: new arrays. Else of the shape and type of x; it may be x itself, and may not overlap
        it otherwise. It is returned.
    config, options: how it is computed: a MsignConfig, and fields of it by name, such as
        msign(x, method="svd").
    stats: a list, whose content becomes one MsignStats per matrix. They cost one more product.
    threads: None: STEEPEST_NUM_THREADS, or all cores. The result does not depend on it.

    A zero matrix gives zero. TypeError, ValueError, MemoryError: nothing was written.
    NonfiniteError, NotConvergedError: a matrix has a NaN or infinity, or its factorisation failed;
    its out was not written, those of the other matrices of a list were.
    """
    function = "msign"
    if options:
        config = replace(config or MsignConfig(), **options)
    given = Column(function, "x", x)
    xs = given.views()
    if out is None:
        new = [_empty_like(source) for source in xs]
        out = new if given.listed else new[0]
    results = Column(function, "out", out)
    if len(results) != len(xs) or results.listed != given.listed:
        raise ValueError(f"{function}: out must be a list as long as x, or an array if x is one")
    if not xs:
        return out

    outs = results.views()
    for one, other in zip(outs, xs):
        same_shape(writable(one), other)
    rows, cols, ldx = _common(xs)
    ldo = _common(outs)[2]
    if outs[0].dtype != xs[0].dtype:
        raise TypeError(f"{outs[0].name} is of {NAMES[outs[0].dtype]}, {xs[0].argument} is not")

    pointers = c_void_p * len(xs)
    table = None if stats is None else _c.new_array(_c.MsignStats, len(xs))
    status = _c.lib.steepest_msign_batched(
        _c.context(threads),
        None if config is None else ctypes.byref(c_config(config, function)),
        rows,
        cols,
        xs[0].dtype,
        pointers(*[one.address for one in xs]),
        ldx,
        pointers(*[one.address for one in outs]),
        ldo,
        len(xs),
        None,
        table,
    )
    written = status in (_c.OK, _c.E_NONFINITE, _c.E_NOT_CONVERGED)
    if stats is not None and table is not None and written:
        stats[:] = [_stats(struct) for struct in table]
    _c.check(status)
    return out


def _empty_like(source: View) -> NDArray[Any]:
    if not isinstance(source.owner, np.ndarray) and source.dtype == _c.BF16:
        try:
            import ml_dtypes
        except ImportError as error:
            raise TypeError(
                f"{source.name} is of bfloat16: a new array of it needs the package ml_dtypes"
            ) from error
        return np.empty(source.shape, ml_dtypes.bfloat16)
    if isinstance(source.owner, np.ndarray):
        return np.empty(source.shape, source.owner.dtype)
    return np.empty(source.shape, NAMES[source.dtype])


def _common(matrices: list[View]) -> tuple[int, int, int]:
    """Rows, columns and leading dimension, which must be those of all."""
    first = matrices[0]
    expected = matrix(first)
    for other in matrices[1:]:
        if matrix(same_shape(other, first)) != expected:
            raise ValueError(f"{other.name} has rows of another stride than {first.argument}")
        if other.dtype != first.dtype:
            raise TypeError(f"{other.name} is of {NAMES[other.dtype]}, {first.argument} is not")
    return expected


def _stats(struct: _c.MsignStats) -> MsignStats:
    return MsignStats(
        list(METHODS)[struct.method],
        struct.steps,
        struct.retries,
        struct.rank,
        struct.norm,
        struct.lower_bound,
        struct.orthogonality,
        struct.status,
    )


def msign_band(config: MsignConfig | None, lower_bound: float) -> tuple[float, float]:
    """The lowest and the highest value that msign with this config (None: the default) makes of
    singular values in [lower_bound, 1], 0 < lower_bound <= 1.

    Coefficients that lead below 0 or above 1.6 anywhere in (0, 1.001] are a ValueError.
    """
    low, high = c_double(), c_double()
    _c.check(
        _c.lib.steepest_msign_band(
            ctypes.byref(c_config(config or MsignConfig(), "msign_band")),
            number(lower_bound, "msign_band: lower_bound"),
            ctypes.byref(low),
            ctypes.byref(high),
        )
    )
    return low.value, high.value


def msign_coefficients(lower_bound: float, steps: int) -> NDArray[np.float64]:
    """The coefficients of Polar Express for singular values in [lower_bound, 1] and so many steps,
    as an array (steps, 3), which MsignConfig's `coefficients` takes.

    Each step minimises the largest |1 - p(s)| over the interval that those before it have left
    (Amsel et al., arXiv 2505.16932). steps <= 100, lower_bound in [1e-12, 1).
    """
    count = integer(steps, "msign_coefficients: steps")
    rows = np.empty((min(max(count, 0), 100), 3))
    _c.check(
        _c.lib.steepest_msign_coefficients(
            number(lower_bound, "msign_coefficients: lower_bound"), count, rows.ctypes.data
        )
    )
    return rows
