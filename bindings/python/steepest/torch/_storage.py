# SPDX-License-Identifier: Apache-2.0
"""How state is stored: element types, 8-bit blocks, and masters of 16-bit parameters."""

from __future__ import annotations

from ctypes import byref, c_int64
from typing import Any

import torch
from torch import Tensor

from .. import _c

OPTIONS: dict[str, Any] = {"state_dtype": None, "master": None, "rounding": "nearest", "seed": 0}
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
Q8 = {"q8_dynamic": _c.Q8_DYNAMIC, "q8_companded": _c.Q8_COMPANDED}
BLOCKS = {"q8_dynamic": 256, "q8_companded": 32}  # elements with one scale
# Bits as they are: what is unsigned is int16 here too, since torch cannot pickle its uint16.
SCALE_DTYPES = {"q8_dynamic": torch.float32, "q8_companded": torch.int16}
# Smaller tensors keep float32 moments where 8 bits are asked for: they take little memory.
MIN_Q8 = 4096
PLACES = {"exp_avg": 0, "exp_avg_sq": 1, "max_exp_avg_sq": 1, "momentum_buffer": 0}
RESIDUALS = {  # kind in C, type of the array; None: that of the parameter
    "split": (_c.RESIDUAL_NEAREST16, torch.int16),
    "split-low": (_c.RESIDUAL_LOW16, torch.int16),
    "split8": (_c.RESIDUAL_NEAREST8, torch.int8),
    "kahan": (_c.RESIDUAL_KAHAN, None),
}
MASTERS = (*RESIDUALS, "f32")
NARROW = (torch.bfloat16, torch.float16)


def is_dense(tensor: Tensor) -> bool:
    """Whether its elements fill one piece of memory, in any order of the dimensions."""
    return tensor.is_contiguous() or torch.empty_like(tensor).stride() == tensor.stride()


def dense(tensor: Tensor) -> Tensor:
    return tensor if is_dense(tensor) else tensor.contiguous()


def same_order(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape, of which one is dense, store their elements alike."""
    strides = zip(a.shape, a.stride(), b.stride())
    return all(left == right for size, left, right in strides if size > 1)


def is_signed(key: str) -> bool:
    return not key.endswith("_sq")


# ---- options


def pick(option: Any, key: str) -> Any:
    """What `state_dtype` says of one moment."""
    if isinstance(option, dict):
        return option.get("exp_avg_sq" if key == "max_exp_avg_sq" else key)
    return option[PLACES[key]] if isinstance(option, (tuple, list)) else option


def check_options(group: dict, keys: tuple[str, ...]) -> None:
    """Refuses values of the storage options that make no sense for moments of these names."""
    option = group["state_dtype"]
    if isinstance(option, dict):
        if unknown := option.keys() - set(keys):
            raise ValueError(f"state_dtype has {min(unknown)!r}: the moments are {list(keys)}")
    elif isinstance(option, (tuple, list)) and (len(option) != 2 or "exp_avg" not in keys):
        raise ValueError(
            f"state_dtype is {option!r}: must be one type, or for AdamW a pair (exp_avg, "
            "exp_avg_sq)"
        )
    for key in keys:
        dtype = pick(option, key)
        if dtype is not None and dtype not in FLOATS and dtype not in Q8:
            raise ValueError(
                f"state_dtype is {dtype!r}: must be a floating-point torch.dtype or one of "
                f"{list(Q8)}"
            )
    if group["master"] is not None and group["master"] not in MASTERS:
        raise ValueError(f"master is {group['master']!r}: must be None or one of {list(MASTERS)}")
    if group["rounding"] not in ("nearest", "stochastic"):
        raise ValueError(f"rounding is {group['rounding']!r}: must be 'nearest' or 'stochastic'")
    seed = group["seed"]
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed is {seed!r}: must be an integer in [0, 2**63)")
    if group.get("amsgrad") and "exp_avg_sq" in keys and pick(option, "exp_avg_sq") in Q8:
        raise ValueError("amsgrad=True: exp_avg_sq cannot have 8 bits")


def has_q8(group: dict, key: str, param: Tensor) -> bool:
    """Whether a new moment of `param` gets 8 bits."""
    return pick(group["state_dtype"], key) in Q8 and param.numel() >= MIN_Q8


def moment_format(group: dict, key: str, param: Tensor) -> Any:
    """The torch.dtype or the name of the 8-bit format that a new moment of `param` gets."""
    wanted = pick(group["state_dtype"], key)
    if wanted is None:
        return param.dtype
    if wanted in Q8 and not has_q8(group, key, param):
        return torch.float32
    if param.dtype == torch.float64 and wanted != torch.float64:
        raise TypeError(f"state_dtype {wanted}: a float64 parameter has float64 moments")
    return wanted


def master_kind(group: dict, param: Tensor) -> str | None:
    """The master that `param` gets; only 16-bit parameters have one."""
    kind = group["master"] if param.dtype in NARROW else None
    if kind and kind.startswith("split") and param.dtype != torch.bfloat16:
        raise TypeError(f"master {kind!r} needs bfloat16 parameters; for float16: 'kahan' or 'f32'")
    return kind


# ---- 8 bits


def scale_count(name: str, count: int) -> int:
    scales, size = c_int64(), c_int64()
    _c.check(_c.lib.steepest_q8_scales(Q8[name], count, byref(scales), byref(size)))
    return scales.value


def new_q8(name: str, like: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and scales that stand for zeros."""
    codes = torch.zeros_like(like, dtype=torch.uint8, requires_grad=False)
    return codes, torch.zeros(scale_count(name, like.numel()), dtype=SCALE_DTYPES[name])


def encode(name: str, key: str, values: Tensor) -> tuple[Tensor, Tensor]:
    """Codes in the order in which `values` lie in memory, which has no gaps, and their scales."""
    codes, scales = new_q8(name, values)
    values = values.float()
    pointers = values.data_ptr(), codes.data_ptr(), scales.data_ptr()
    context, count = _c.context(torch.get_num_threads()), values.numel()
    _c.check(_c.lib.steepest_q8_encode(context, Q8[name], is_signed(key), count, *pointers))
    return codes, scales


def decode(name: str, key: str, codes: Tensor, scales: Tensor) -> Tensor:
    values = torch.empty_like(codes, dtype=torch.float32)
    pointers = codes.data_ptr(), scales.data_ptr(), values.data_ptr()
    context, count = _c.context(torch.get_num_threads()), codes.numel()
    _c.check(_c.lib.steepest_q8_decode(context, Q8[name], is_signed(key), count, *pointers))
    return values


# ---- masters


def join(kind: str, param: Tensor, residual: Tensor) -> Tensor:
    """The float32 master of a parameter as it stands."""
    if kind == "f32":
        return residual.detach().clone()
    if kind == "kahan":
        return param.detach().float() + residual.float()
    bits = param.detach().view(torch.int16).to(torch.int32) << 16
    low = residual.to(torch.int32)
    if kind == "split-low":
        return (bits | (low & 0xFFFF)).view(torch.float32)
    return (bits + (low << 8 if kind == "split8" else low)).view(torch.float32)


def split(kind: str, master: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Of a float32 master the parameter, of type `dtype`, and the residual."""
    if kind == "f32":
        return master.to(dtype), master
    if kind == "kahan":
        param = master.to(dtype)
        return param, (master - param.float()).to(dtype)
    bits = master.view(torch.int32)
    if kind == "split8":
        bits = (bits + 0x80) & ~0xFF
    high = (bits if kind == "split-low" else bits + 0x8000) >> 16
    low = bits - (high << 16)
    finite = master.isfinite()
    param = torch.where(finite, high.to(torch.int16).view(dtype), master.to(dtype))
    low = torch.where(finite, low >> 8 if kind == "split8" else low, 0)
    return param, low.to(RESIDUALS[kind][1])


def master_key(kind: str) -> str:
    return "master" if kind == "f32" else "residual"


def reconcile(param: Tensor, master: Tensor) -> None:
    """Where the parameter is not the master rounded, somebody else wrote it: that counts."""
    changed = param != master.to(param.dtype)
    master[changed] = param[changed].to(master.dtype)
