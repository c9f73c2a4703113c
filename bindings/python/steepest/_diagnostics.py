# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_double, c_int64
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _c
from ._arrays import Array, dense, matrix, size, view
from ._columns import Column
from ._numbers import integer, number
from ._structs import Structs

if TYPE_CHECKING:
    from numpy.typing import NDArray


class GradNorm(NamedTuple):
    """norm: of all elements together; nonfinite: how many of them are NaN or infinite."""

    norm: float
    nonfinite: int


def grad_norm(grads: Array | Sequence[Array], *, threads: int | None = None) -> GradNorm:
    """The Euclidean norm sqrt(sum x^2) over all elements of an array or of a list of arrays.

    It is summed in fp64, without overflow or underflow; with non-finite elements it is NaN or
    infinite. To clip: grad_scale = min(1, max_norm / norm), passed to the step. grads: any shapes,
    without gaps, of float32, float64, float16 or bfloat16 in any mix.
    """
    return GradNorm(*_of_vectors(_c.lib.steepest_grad_norm, "grad_norm", "grads", grads, threads))


def _of_vectors(
    call: Any, function: str, name: str, arrays: Array | Sequence[Array], threads: int | None
) -> tuple[float, int]:
    """A number made of all elements of some arrays, and how many of them are not finite."""
    column = Column(function, name, arrays)
    vectors = Structs(_c.Vector, len(column))
    vectors.records["count"] = column.sizes()
    vectors.records["data"] = column.addresses
    vectors.records["dtype"] = column.dtypes
    result, nonfinite = c_double(), c_int64()
    _c.check(
        call(
            _c.context(threads),
            vectors.array,
            len(column),
            ctypes.byref(result),
            ctypes.byref(nonfinite),
        )
    )
    return result.value, nonfinite.value


def _double(call: Any, *arguments: Any) -> float:
    """What a function of the library writes behind its arguments."""
    result = c_double()
    _c.check(call(*arguments, ctypes.byref(result)))
    return result.value


def adam_update_rms(beta1: float = 0.9, snr: float = 0.0, step: int = 0) -> float:
    """The update RMS of Adam that mean-field theory predicts: sqrt((snr + a) / (snr + 1)) with

        a = (1 - beta1) (1 + beta1^t) / ((1 + beta1) (1 - beta1^t))      at step t

    or t -> infinity for step = 0. beta1 in [0, 1), snr >= 0. 0.2294 at beta1 = 0.9, snr = 0.
    Source: https://kexue.fm/archives/11267.
    """
    function = "adam_update_rms"
    return _double(
        _c.lib.steepest_adam_update_rms,
        number(beta1, f"{function}: beta1"),
        number(snr, f"{function}: snr"),
        integer(step, f"{function}: step"),
    )


def adam_update_rms_second_order(
    beta1: float = 0.9,
    beta2: float = 0.999,
    snr: float = 0.0,
    kurtosis: float = 3.0,
    step: int = 0,
) -> float:
    """The same to second order in 1 - beta2, for gradients of that kurtosis (3: normal).

    docs/theory.md derives it. For normal gradients and beta2 >= 0.9 within 0.5 % of the exact value
    at snr = 0; heavy tails lower the RMS. A kurtosis for which the expansion is not positive is a
    ValueError.
    """
    function = "adam_update_rms_second_order"
    return _double(
        _c.lib.steepest_adam_update_rms_second_order,
        number(beta1, f"{function}: beta1"),
        number(beta2, f"{function}: beta2"),
        number(snr, f"{function}: snr"),
        number(kurtosis, f"{function}: kurtosis"),
        integer(step, f"{function}: step"),
    )


def snr_from_update_rms(update_rms: float, beta1: float = 0.9, step: int = 0) -> float:
    """The signal-to-noise ratio that belongs to an update RMS in [0, 1): (rms^2 - a) / (1 - rms^2),
    a as in adam_update_rms. Slightly negative near zero; NaN at step 1.
    """
    function = "snr_from_update_rms"
    return _double(
        _c.lib.steepest_snr_from_update_rms,
        number(update_rms, f"{function}: update_rms"),
        number(beta1, f"{function}: beta1"),
        integer(step, f"{function}: step"),
    )


def snr_from_momentum(
    momentum_rms: float, grad_rms: float, beta: float = 0.9, step: int = 0
) -> float:
    """The signal-to-noise ratio from the RMS of the gradient and of its bias-corrected exponential
    average: (q - a) / (1 - q), q = (momentum_rms / grad_rms)^2 < 1, a as in adam_update_rms. For
    Muon as well as Adam. Slightly negative near zero; NaN at step 1.
    """
    function = "snr_from_momentum"
    return _double(
        _c.lib.steepest_snr_from_momentum,
        number(momentum_rms, f"{function}: momentum_rms"),
        number(grad_rms, f"{function}: grad_rms"),
        number(beta, f"{function}: beta"),
        integer(step, f"{function}: step"),
    )


def singular_values(x: Array, *, threads: int | None = None) -> NDArray[np.float64]:
    """All min(rows, cols) singular values of a matrix, falling, computed in fp64 (LAPACK's gesdd).

    x: as in msign. NonfiniteError: it has a NaN or infinity.
    """
    source = view(x, "singular_values: x")
    rows, cols, ld = matrix(source)
    values = np.empty(min(rows, cols))
    _c.check(
        _c.lib.steepest_singular_values(
            _c.context(threads), rows, cols, source.dtype, source.address, ld, values.ctypes.data
        )
    )
    return values


def singular_entropy(values: Array) -> float:
    """The singular entropy -(1 / log n) sum p_i log p_i, p_i = s_i^2 / sum s^2, of n singular
    values: 1 if all are equal, 0 if only one is not zero. Weights trained with Muon have a higher
    one than AdamW's. values: float64, contiguous, finite, not negative.
    """
    name = "singular_entropy: values"
    source = dense(view(values, name))
    if source.dtype != _c.F64:
        raise TypeError(f"{name} must be of float64")
    return _double(_c.lib.steepest_singular_entropy, source.address, size(source))


def rms(x: Array | Sequence[Array], *, threads: int | None = None) -> float:
    """sqrt(mean x^2) over all elements of an array or of a list of arrays, as grad_norm sums them.

    0 without elements, NaN with elements that are not finite.
    """
    return _of_vectors(_c.lib.steepest_rms, "rms", "x", x, threads)[0]


def spectral_norm(x: Array, *, threads: int | None = None) -> float:
    """The largest singular value of a matrix, exactly, as singular_values computes it."""
    source = view(x, "spectral_norm: x")
    rows, cols, ld = matrix(source)
    return _double(
        _c.lib.steepest_spectral_norm,
        _c.context(threads),
        rows,
        cols,
        source.dtype,
        source.address,
        ld,
    )


class SpectralBounds(NamedTuple):
    """lower <= the largest singular value <= upper; lower is the estimate to use."""

    lower: float
    upper: float


def spectral_norm_bounds(
    x: Array, tolerance: float = 0.01, *, threads: int | None = None
) -> SpectralBounds:
    """Proven bounds of the largest singular value, upper <= (1 + tolerance) lower, without a
    decomposition: Lanczos' method finds the lower one, a Cholesky factorisation proves the upper.

    x: as in msign. tolerance: from 1e-6 to 1. NonfiniteError: x has a NaN or infinity.
    """
    source = view(x, "spectral_norm_bounds: x")
    rows, cols, ld = matrix(source)
    lower, upper = c_double(), c_double()
    _c.check(
        _c.lib.steepest_spectral_norm_bounds(
            _c.context(threads),
            rows,
            cols,
            source.dtype,
            source.address,
            ld,
            number(tolerance, "spectral_norm_bounds: tolerance"),
            ctypes.byref(lower),
            ctypes.byref(upper),
        )
    )
    return SpectralBounds(lower.value, upper.value)
