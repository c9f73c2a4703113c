# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

from . import _c
from ._arrays import Array
from ._columns import columns
from ._narrow import attach_narrow, moment_dtypes
from ._numbers import flags, integer
from ._steps import Stats, StatsTable, attach, configs
from ._structs import Structs

Arrays = Union[Array, Sequence[Array]]
Numbers = Union[float, Sequence[float]]


def adamw_step(
    param: Arrays,
    grad: Arrays,
    exp_avg: Arrays,
    exp_avg_sq: Arrays,
    *,
    step: int | Sequence[int],
    lr: Numbers = 1e-3,
    beta1: Numbers = 0.9,
    beta2: Numbers = 0.999,
    eps: Numbers = 1e-8,
    weight_decay: Numbers = 1e-2,
    grad_scale: Numbers = 1.0,
    maximize: bool = False,
    coupled_l2: bool = False,
    cautious_decay: bool = False,
    skip_nonfinite: bool = False,
    consistent: bool = False,
    max_exp_avg_sq: Arrays | None = None,
    delta: Arrays | None = None,
    exp_avg_scales: Any = None,
    exp_avg_sq_scales: Any = None,
    residual: Any = None,
    param_copy: Any = None,
    stochastic_rounding: bool = False,
    seed: int = 0,
    random_stream: int | Sequence[int] | None = None,
    first_index: int | Sequence[int] = 0,
    stats: Stats = None,
    threads: int | None = None,
) -> bool:
    """One AdamW step in place, on one tensor or on a list of them. For each element:

        g  = grad_scale * grad
        m  = beta1 * m + (1 - beta1) * g            mh = m / (1 - beta1^step)
        v  = beta2 * v + (1 - beta2) * g^2          vh = v / (1 - beta2^step)
        u  = mh / (sqrt(vh) + eps)                  0 where the denominator is 0
        param = param - lr * (u + weight_decay * param)

    m is exp_avg and v is exp_avg_sq, both zeros before step 1. Source: Loshchilov & Hutter, arXiv
    1711.05101. Pass a whole model as lists: all tensors are done in one call.

    param, grad, exp_avg, exp_avg_sq: arrays, or lists of arrays of the same length. The arrays of
        one tensor have the same shape and the same strides, without gaps; grad is only read.
        Types: any mix of float32, bfloat16 and float16, computed in fp32; or all float64.
    step: the number of this step, from 1.
    step and the other numbers may be lists with a value per tensor: parameter groups.
    maximize: g = -grad_scale * grad.
    coupled_l2: g += weight_decay * param and no other decay: Adam with L2 regularisation.
    cautious_decay: decay only where u * param >= 0 (arXiv 2510.12402).
    skip_nonfinite: if a gradient has a NaN or infinity, nothing at all is updated.
    consistent: the same bits on every instruction-set level.
    max_exp_avg_sq: AMSGrad's largest v, of exp_avg_sq's type, zeros before step 1. Giving it
        switches AMSGrad on.
    delta: receives new - old param; param itself is then only read.
    stats: a list, whose content becomes one StepStats per tensor.
    threads: None: STEEPEST_NUM_THREADS, or all cores. The result does not depend on it.

    Narrow storage; in lists of arrays, None stands for a tensor without:

    exp_avg_scales, exp_avg_sq_scales: the moment is an array of uint8 codes, and these the scales
        of its blocks, as q8_encode gives them: float32 for "q8_dynamic", uint16 for
        "q8_companded". All zeros, codes and scales, before step 1.
    residual: what the parameter lacks to its master; zeros to begin with. Beside a bfloat16 param:
        int16 (param is the master rounded to nearest, both together exactly float32), uint16 (the
        lower half: param is the master rounded towards zero), int8 (of the int16 the upper half),
        or bfloat16 (Kahan's compensation: the master is their sum); beside float16: float16.
    param_copy: of bfloat16, float16 or float32; receives the new param, rounded to nearest.
    stochastic_rounding: of bfloat16 params and moments and of 8-bit moments. The random numbers are
        a function of seed, step, random_stream (None: the tensor's place in the list) and the
        element's index, counted from first_index.

    Returns False if skip_nonfinite skipped the step, else True.

    No array may overlap another that is written. TypeError: not an array, or of a wrong type;
    ValueError: shapes, strides, overlap, an option outside its range; MemoryError. Nothing is
    written then, and the message names the argument.
    """
    function = "adamw_step"
    given = {"param": param, "grad": grad, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
    if max_exp_avg_sq is not None:
        given["max_exp_avg_sq"] = max_exp_avg_sq
    if delta is not None:
        given["delta"] = delta
    arrays = columns(function, given, codes=("exp_avg", "exp_avg_sq"))
    params = arrays["param"]
    count = len(params)
    tensors = Structs(_c.AdamwTensor, count)
    records = tensors.records
    attach_narrow(params, records, residual, param_copy, random_stream, first_index)
    scales = {"exp_avg": exp_avg_scales, "exp_avg_sq": exp_avg_sq_scales}
    for argument, column in arrays.items():
        column.same_layout(params)
        if argument != "grad" and (argument != "param" or delta is None):
            column.writable()
        records[argument] = column.addresses
        if argument == "param":
            records["count"] = column.sizes()
        if argument in scales:
            dtypes = moment_dtypes(column, records, argument, scales[argument], count)
            records[f"{argument}_dtype"] = dtypes
        elif argument != "max_exp_avg_sq":
            records[f"{argument}_dtype"] = column.dtypes
        elif column.dtypes != arrays["exp_avg_sq"].dtypes:
            pairs = zip(column.dtypes, arrays["exp_avg_sq"].dtypes)
            wrong = next(i for i, (one, other) in enumerate(pairs) if one != other)
            raise TypeError(f"{column.label(wrong)} must have the type of exp_avg_sq")

    table, skipped = configs(
        function,
        _c.AdamwConfig,
        flags(
            (max_exp_avg_sq is not None, _c.ADAMW_AMSGRAD),
            (maximize, _c.ADAMW_MAXIMIZE),
            (coupled_l2, _c.ADAMW_COUPLED_L2),
            (cautious_decay, _c.ADAMW_CAUTIOUS_DECAY),
            (skip_nonfinite, _c.ADAMW_SKIP_NONFINITE),
            (delta is not None, _c.ADAMW_EMIT_DELTA),
            (stochastic_rounding, _c.ADAMW_STOCHASTIC_ROUNDING),
            (consistent, _c.FLAG_CONSISTENT),
        ),
        count,
        {
            "step": step,
            "lr": lr,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
            "weight_decay": weight_decay,
            "grad_scale": grad_scale,
        },
    )
    table.records["seed"] = integer(seed, f"{function}: seed")

    results = StatsTable(stats, count)
    results.finish(
        _c.lib.steepest_adamw_step(
            _c.context(threads), attach(table, tensors), tensors.array, count, results.structs
        )
    )
    return not skipped.value
