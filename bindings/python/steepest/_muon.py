# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_double, c_int64
from typing import Any

from . import _c
from ._adamw import Arrays, Numbers
from ._columns import columns
from ._msign import MsignConfig, c_config
from ._narrow import attach_narrow, moment_dtypes
from ._numbers import choice, each, flags, integer, integers, is_list, number
from ._steps import Stats, StatsTable, attach, configs
from ._structs import Structs

MOMENTUM_KINDS = {"ema": _c.MOMENTUM_EMA, "classic": _c.MOMENTUM_CLASSIC}
SCALE_MODES = {
    "match_rms": _c.SCALE_MATCH_RMS,
    "exact_rms": _c.SCALE_EXACT_RMS,
    "none": _c.SCALE_NONE,
    "sqrt_max1_out_in": _c.SCALE_SQRT_MAX1_OUT_IN,
    "sqrt_out_in": _c.SCALE_SQRT_OUT_IN,
    "sqrt_max": _c.SCALE_SQRT_MAX,
}


def muon_step(
    param: Arrays,
    grad: Arrays,
    momentum_buffer: Arrays,
    *,
    step: int | Sequence[int] = 1,
    lr: Numbers = 1e-3,
    momentum: Numbers = 0.95,
    weight_decay: Numbers = 1e-2,
    scale_value: Numbers = 0.2,
    grad_scale: Numbers = 1.0,
    nesterov: bool = True,
    momentum_kind: str = "ema",
    scale_mode: str = "match_rms",
    msign: MsignConfig | None = None,
    maximize: bool = False,
    cautious_decay: bool = False,
    skip_nonfinite: bool = False,
    consistent: bool = False,
    fan_out: int | Sequence[int] = 0,
    fan_in: int | Sequence[int] = 0,
    blocks: Any = None,
    block_axis: int | Sequence[int] = 0,
    delta: Arrays | None = None,
    momentum_buffer_scales: Any = None,
    residual: Any = None,
    param_copy: Any = None,
    stochastic_rounding: bool = False,
    seed: int = 0,
    random_stream: int | Sequence[int] | None = None,
    first_index: int | Sequence[int] = 0,
    stats: Stats = None,
    threads: int | None = None,
) -> bool:
    """One Muon step in place, on one matrix or on a list of them:

        g = grad_scale * grad
        m = mu m + (1 - mu) g                        "classic": mu m + g
        u = mu m + (1 - mu) g                        "classic": mu m + g; without nesterov: m
        O = msign(u)                                 per block, where there are blocks
        param = param - lr * (s O + weight_decay * param)

    mu is momentum and m is momentum_buffer, zeros before step 1. For hidden weight matrices;
    embeddings, the output head, norms and biases belong to AdamW. With the default scale both take
    the same lr and weight decay. Source: https://kellerjordan.github.io/posts/muon.

    param, grad, momentum_buffer: matrices (rows, cols), or lists of matrices. The elements of a row
        are adjacent, the rows may be further apart. grad is only read. Types: any mix of float32,
        bfloat16 and float16, computed in fp32; or all float64.
    step: the number of this step, which only the statistics need.
    step and the other numbers may be lists with a value per matrix.
    momentum_kind: "ema" (torch.optim.Muon), or "classic".
    scale_mode: s, see scale_factor; "exact_rms": scale_value / RMS(O).
    msign: how O is computed.
    maximize: g = -grad_scale * grad.
    cautious_decay: decay only where O * param >= 0 (arXiv 2510.12402).
    skip_nonfinite: if a gradient has a NaN or infinity, nothing at all is updated.
    consistent: the same bits on every instruction-set level.
    fan_out, fan_in: 0: rows and cols, with blocks those of the block. Set both for a weight that is
        stored as in x W, or a reshaped convolution; a list has a value per matrix.
    blocks: None, or the sizes of the blocks that the matrix consists of, as for fused
        query-key-value weights; for a list of matrices a list of these.
    block_axis: 0: blocks of rows; 1: of columns.
    delta: receives new - old param; param itself is then only read.
    momentum_buffer_scales, residual, param_copy, stochastic_rounding, seed, random_stream,
        first_index: narrow storage, as in adamw_step; 8-bit codes are of a matrix without gaps.
    stats: a list, whose content becomes one StepStats per matrix.
    threads: None: STEEPEST_NUM_THREADS, or all cores. The result does not depend on it.

    Returns False if skip_nonfinite skipped the step, else True.

    No array may overlap another that is written. TypeError, ValueError, MemoryError: nothing was
    written, and the message names the argument. NonfiniteError, NotConvergedError: the u of a
    matrix has a NaN or infinity, or its msign failed; that matrix and its momentum are as before,
    the others are done, and `stats` tells which.
    """
    function = "muon_step"
    given = {"param": param, "grad": grad, "momentum_buffer": momentum_buffer}
    if delta is not None:
        given["delta"] = delta
    arrays = columns(function, given, codes=("momentum_buffer",))
    params = arrays["param"]
    count = len(params)
    tensors = Structs(_c.MuonTensor, count)
    records = tensors.records
    attach_narrow(params, records, residual, param_copy, random_stream, first_index)
    records["param_copy_ld"] = params.matrices()[2]
    for argument, column in arrays.items():
        field = "momentum" if argument == "momentum_buffer" else argument
        column.same_shape(params)
        sizes = column.matrices()
        if argument != "grad" and (argument != "param" or delta is None):
            column.writable()
        records["rows"], records["cols"], records[f"{field}_ld"] = sizes
        records[field] = column.addresses
        if field == "momentum":
            scales = momentum_buffer_scales
            records["momentum_dtype"] = moment_dtypes(column, records, field, scales, count)
        else:
            records[f"{field}_dtype"] = column.dtypes

    numbers = (("fan_out", fan_out, 64), ("fan_in", fan_in, 64), ("block_axis", block_axis, 32))
    for field, values, bits in numbers:
        name = f"{function}: {field}"
        records[field] = integers(values, count, name, bits)
    kept = []  # the block sizes to which the structs point
    if blocks is not None:
        name = f"{function}: blocks"
        blocks = blocks if params.listed else [blocks]
        for i, parts in enumerate(each(blocks, count, name)):
            if parts is not None:
                kept.append(_block_sizes(parts, name))
                records["blocks"][i] = ctypes.addressof(kept[-1])
                records["block_count"][i] = len(kept[-1])

    table, skipped = configs(
        function,
        _c.MuonConfig,
        flags(
            (nesterov, _c.MUON_NESTEROV),
            (maximize, _c.MUON_MAXIMIZE),
            (cautious_decay, _c.MUON_CAUTIOUS_DECAY),
            (skip_nonfinite, _c.MUON_SKIP_NONFINITE),
            (delta is not None, _c.MUON_EMIT_DELTA),
            (stochastic_rounding, _c.MUON_STOCHASTIC_ROUNDING),
            (consistent, _c.FLAG_CONSISTENT),
        ),
        count,
        {
            "step": step,
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "scale_value": scale_value,
            "grad_scale": grad_scale,
        },
    )
    table.records["seed"] = integer(seed, f"{function}: seed")
    kind = choice(momentum_kind, MOMENTUM_KINDS, f"{function}: momentum_kind")
    table.records["momentum_kind"] = kind
    table.records["scale_mode"] = choice(scale_mode, SCALE_MODES, f"{function}: scale_mode")
    method = None if msign is None else c_config(msign, function)
    if method is not None:
        table.records["msign"] = ctypes.addressof(method)

    results = StatsTable(stats, count)
    results.finish(
        _c.lib.steepest_muon_step(
            _c.context(threads),
            attach(table, tensors),
            tensors.array,
            count,
            None,
            results.structs,
        )
    )
    return not skipped.value


def _block_sizes(sizes: Any, name: str) -> ctypes.Array[c_int64]:
    if not is_list(sizes):
        raise TypeError(f"{name} must be a list of sizes; for a list of matrices a list of these")
    numbers = [integer(size, name) for size in sizes]
    return (c_int64 * len(numbers))(*numbers)


def scale_factor(mode: str, value: float, fan_out: int, fan_in: int) -> float:
    """The s of Muon's update s O, for a weight with fan_out rows and fan_in columns (y = W x).

        "match_rms"         value sqrt(max(out, in)): RMS(s O) = value. With 0.2, Adam's usual
                            update RMS, AdamW's lr and weight decay carry over (Moonlight, arXiv
                            2502.16982; torch "match_rms_adamw")
        "none"              1
        "sqrt_max1_out_in"  sqrt(max(1, out / in)): Keller Jordan; torch "original"
        "sqrt_out_in"       sqrt(out / in): the spectral condition, muP
        "sqrt_max"          sqrt(max(out, in))

    "exact_rms" depends on O: ValueError.
    """
    function = "scale_factor"
    result = c_double()
    _c.check(
        _c.lib.steepest_scale_factor(
            choice(mode, SCALE_MODES, f"{function}: mode"),
            number(value, f"{function}: value"),
            integer(fan_out, f"{function}: fan_out"),
            integer(fan_in, f"{function}: fan_in"),
            ctypes.byref(result),
        )
    )
    return result.value
