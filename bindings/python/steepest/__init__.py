# SPDX-License-Identifier: Apache-2.0
"""Optimizer-step kernels for CPUs: AdamW, Muon and the matrix sign, on arrays in place.

Every function takes NumPy arrays, CPU tensors of any library with DLPack (torch, JAX), and objects
with a buffer, and never copies them. Lists of arrays are done in one call. Other Python threads run
meanwhile.
"""

from ._adamw import adamw_step
from ._arrays import Array
from ._config import get_config, show_config, trim, version
from ._diagnostics import (
    GradNorm,
    SpectralBounds,
    adam_update_rms,
    adam_update_rms_second_order,
    grad_norm,
    rms,
    singular_entropy,
    singular_values,
    snr_from_momentum,
    snr_from_update_rms,
    spectral_norm,
    spectral_norm_bounds,
)
from ._errors import (
    DtypeError,
    InternalError,
    InvalidArgumentError,
    NonfiniteError,
    NotConvergedError,
    OutOfMemoryError,
    ShapeError,
    SteepestError,
    UnsupportedError,
)
from ._msign import MsignConfig, MsignStats, msign, msign_band, msign_coefficients
from ._muon import muon_step, scale_factor
from ._narrow import q8_decode, q8_encode
from ._schedule import (
    Schedule,
    schedule_at,
    schedule_bound,
    schedule_fill,
    schedule_optimal,
    schedule_refine,
)
from ._steps import StepStats

__version__ = version()

__all__ = [
    "Array",
    "DtypeError",
    "GradNorm",
    "InternalError",
    "InvalidArgumentError",
    "MsignConfig",
    "MsignStats",
    "NonfiniteError",
    "NotConvergedError",
    "OutOfMemoryError",
    "Schedule",
    "ShapeError",
    "SpectralBounds",
    "SteepestError",
    "StepStats",
    "UnsupportedError",
    "__version__",
    "adam_update_rms",
    "adam_update_rms_second_order",
    "adamw_step",
    "get_config",
    "grad_norm",
    "msign",
    "msign_band",
    "msign_coefficients",
    "muon_step",
    "q8_decode",
    "q8_encode",
    "rms",
    "scale_factor",
    "schedule_at",
    "schedule_bound",
    "schedule_fill",
    "schedule_optimal",
    "schedule_refine",
    "show_config",
    "singular_entropy",
    "singular_values",
    "snr_from_momentum",
    "snr_from_update_rms",
    "spectral_norm",
    "spectral_norm_bounds",
    "trim",
]
