# SPDX-License-Identifier: Apache-2.0
"""The exceptions that stand for the library's status codes.

Each is a SteepestError and also the built-in exception of its kind, so that either can be caught.
The text is the library's own and names the argument.
"""


class SteepestError(RuntimeError):
    """A call failed. `status` is the C status, such as -1 for STEEPEST_E_INVALID_ARGUMENT."""

    status = 0


class InvalidArgumentError(SteepestError, ValueError):
    """A value outside its rule, or arrays that overlap."""

    status = -1


class ShapeError(SteepestError, ValueError):
    """Sizes that do not fit together, too small a stride."""

    status = -2


class DtypeError(SteepestError, TypeError, ValueError):
    """An element type that the library does not know, or a mix of them without a kernel."""

    status = -3


class OutOfMemoryError(SteepestError, MemoryError):
    """The library could not obtain memory. Nothing was written."""

    status = -4


class NonfiniteError(SteepestError, ArithmeticError):
    """NaN or infinity where the method has no answer."""

    status = -5


class NotConvergedError(SteepestError, ArithmeticError):
    """A factorisation failed, or a bound that the caller gave was too small."""

    status = -6


class UnsupportedError(SteepestError, NotImplementedError):
    """Known to a newer library only, or not possible on this CPU."""

    status = -7


class InternalError(SteepestError):
    """A defect in the library."""

    status = -8


BY_STATUS: dict[int, type[SteepestError]] = {
    error.status: error
    for error in (
        InvalidArgumentError,
        ShapeError,
        DtypeError,
        OutOfMemoryError,
        NonfiniteError,
        NotConvergedError,
        UnsupportedError,
        InternalError,
    )
}
