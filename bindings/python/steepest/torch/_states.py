# SPDX-License-Identifier: Apache-2.0
"""The dictionary that is a parameter's state: checked, converted, and as the library needs it.

What a tensor cannot say itself stands in its entry "format": {"exp_avg": "q8_dynamic"} where
exp_avg holds codes and exp_avg_scales their scales, {"param": "split"} where the parameter has a
master.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

from . import _storage as storage

# The entries that this file knows.
KEYS = {
    *storage.PLACES,
    *(f"{key}_scales" for key in storage.PLACES),
    "residual",
    "master",
    "format",
}


def refuse(where: str, what: str) -> NoReturn:
    raise ValueError(f"{where}: {what}")


def check_state(where: str, entry: dict, shape: torch.Size, dtype: torch.dtype) -> None:
    """Refuses a state whose tensors are not what its format says."""
    _check_step(where, entry)
    formats = entry.get("format", {})
    if not isinstance(formats, dict):
        refuse(where, f"its format is {formats!r}, not a dictionary")
    for key, name in formats.items():
        known = storage.MASTERS if key == "param" else storage.Q8 if key in storage.PLACES else ()
        if not isinstance(name, str) or name not in known:
            refuse(where, f"its format says {key}: {name!r}, which this version does not know")
    for key in [*storage.PLACES, *("residual", "master")]:
        value = entry.get(key)
        if key not in entry and key not in formats:
            continue
        if not isinstance(value, Tensor):
            refuse(where, f"{key} is {'missing' if value is None else f'no tensor, but {value!r}'}")
        check_array(where, key, value)
        if value.shape != shape:
            refuse(where, f"{key} has the shape {tuple(value.shape)}, not {tuple(shape)}")
        if key in formats:
            _check_q8(where, key, formats[key], value, entry.get(f"{key}_scales"))
        elif key in storage.PLACES and not value.is_floating_point():
            refuse(where, f"{key} is of type {value.dtype}, and no format says what that means")
    if kind := formats.get("param"):
        key = storage.master_key(kind)
        wanted = torch.float32 if kind == "f32" else storage.RESIDUALS[kind][1] or dtype
        if dtype not in storage.NARROW:
            refuse(
                where, f"it has a master ({kind!r}) of a 16-bit parameter, but this one is {dtype}"
            )
        if key not in entry:
            refuse(where, f"{key} is missing, though the format says {kind!r}")
        if entry[key].dtype != wanted:
            refuse(where, f"{key} is of type {entry[key].dtype}, not {wanted}")


def check_array(where: str, key: str, value: Tensor) -> None:
    if value.is_meta or value.layout != torch.strided:
        refuse(where, f"{key} is on {value.device} with layout {value.layout}, not an array")


def _check_step(where: str, entry: dict) -> None:
    step = entry.get("step")
    if "step" not in entry:
        if "exp_avg" in entry:
            refuse(where, "step is missing")
        return
    if isinstance(step, Tensor):
        if step.numel() != 1 or step.is_complex() or step.is_meta or step.layout != torch.strided:
            refuse(where, f"step is {step!r}, not one number")
    elif not isinstance(step, (int, float)):
        refuse(where, f"step is {step!r}, not a number")
    if not 0 <= float(step) < 2**63:
        refuse(where, f"step is {float(step)}, not a count of steps")


def _check_q8(where: str, key: str, name: str, codes: Tensor, scales: Any) -> None:
    wanted = storage.scale_count(name, codes.numel()), storage.SCALE_DTYPES[name]
    if codes.dtype != torch.uint8:
        refuse(where, f"{key} is of type {codes.dtype}, but {name} has torch.uint8")
    if not isinstance(scales, Tensor):
        refuse(where, f"{key}_scales is missing, though {key} is {name}")
    check_array(where, f"{key}_scales", scales)
    if (scales.numel(), scales.dtype) != wanted:
        refuse(
            where,
            f"{key}_scales has {scales.numel()} elements of {scales.dtype}, but "
            f"{codes.numel()} elements of {name} have {wanted[0]} of {wanted[1]}",
        )


def converted(entry: dict, group: dict, param: Tensor) -> dict:
    """Copies of the state's tensors, the moments as the group's options have them for `param`."""
    result = {}
    formats = dict(entry.get("format", {}))
    for key in [key for key in storage.PLACES if key in entry]:
        value, have = entry[key].detach().to("cpu"), formats.pop(key, None)
        scales = entry[f"{key}_scales"].to("cpu") if have else None
        # Without the option a plain moment gets the parameter's type, as in torch.
        want = storage.moment_format(group, key, param)
        if have == want:
            result[key], result[f"{key}_scales"] = value.clone(), scales.clone()
        else:
            value = (
                storage.decode(have, key, storage.dense(value), scales)
                if have
                else storage.dense(value)
            )
            if want in storage.Q8:
                result[key], result[f"{key}_scales"] = storage.encode(want, key, value)
            else:
                result[key] = value.to(want, copy=True)
        if want in storage.Q8:
            formats[key] = want
    for key in ("residual", "master"):
        if key in entry:
            result[key] = entry[key].detach().to("cpu", copy=True)
    if formats:
        result["format"] = formats
    return result


# ---- before a step


def settle_moment(state: dict, group: dict, key: str, buffer: Tensor) -> str | None:
    """Makes one moment new, reorders or converts it, so that it goes with `buffer`, the memory that
    is updated. Returns the name of its 8-bit format, if it has one."""
    formats, value = state.get("format", {}), state.get(key)
    name = formats.get(key)
    if name is None and value is not None:
        state[key] = _plain(state, key, value, buffer)
    elif name is None:
        wanted = storage.moment_format(group, key, buffer)
        if wanted not in storage.Q8:
            state[key] = torch.zeros_like(buffer, dtype=wanted)
            return None
        name = wanted
        state[key], state[f"{key}_scales"] = storage.new_q8(name, buffer)
        state["format"] = {**formats, key: name}
    elif not value.is_cpu or not storage.same_order(value, buffer):
        scales = state[f"{key}_scales"].cpu()
        values = storage.decode(name, key, storage.dense(value.cpu()), scales)
        values = torch.empty_like(buffer, dtype=torch.float32).copy_(values)
        state[key], state[f"{key}_scales"] = storage.encode(name, key, values)
    return name


def _plain(state: dict, key: str, value: Tensor, buffer: Tensor) -> Tensor:
    dtype = value.dtype
    if key == "max_exp_avg_sq":  # of the type of what it is the maximum of
        dtype = state["exp_avg_sq"].dtype
    elif torch.float64 in (dtype, buffer.dtype) or dtype not in storage.FLOATS:
        dtype = buffer.dtype  # F64 goes with F64 alone
    if value.is_cpu and value.dtype == dtype and storage.same_order(value, buffer):
        return value
    return torch.empty_like(buffer, dtype=dtype).copy_(value.detach())


def settle_master(state: dict, group: dict, param: Tensor, buffer: Tensor) -> str | None:
    """The same for what a 16-bit parameter has beyond its own bits. Returns the master's kind."""
    formats = state.get("format", {})
    have = formats.get("param")
    kind = storage.master_kind(group, buffer) or have
    if not kind:
        return None
    param, key = param.detach(), storage.master_key(kind)
    if have is None:
        state["format"] = {**formats, "param": kind}
        dtype = torch.float32 if kind == "f32" else storage.RESIDUALS[kind][1] or buffer.dtype
        state[key] = torch.zeros_like(buffer, dtype=dtype)
        if kind == "f32":
            state[key].copy_(param)
    elif have != kind:
        state["format"] = {**formats, "param": kind}
        if have == "f32":
            storage.reconcile(param, state["master"])
        master = storage.join(have, param, state.pop(storage.master_key(have)))
        values, rest = storage.split(kind, master, param.dtype)
        param.copy_(values)
        state[key] = torch.empty_like(buffer, dtype=rest.dtype).copy_(rest)
    elif not state[key].is_cpu or not storage.same_order(state[key], buffer):
        state[key] = torch.empty_like(buffer, dtype=state[key].dtype).copy_(state[key])
    return kind
