# SPDX-License-Identifier: Apache-2.0
"""The formulas of adamw_step, msign and muon_step in float64, without regard to speed."""

import numpy as np


def adamw(
    param,
    grad,
    exp_avg,
    exp_avg_sq,
    *,
    step,
    lr=1e-3,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    weight_decay=1e-2,
    grad_scale=1.0,
    maximize=False,
    coupled_l2=False,
    cautious_decay=False,
    max_exp_avg_sq=None,
):
    """The new param, exp_avg, exp_avg_sq and max_exp_avg_sq (or None), and u."""
    w, g, m, v = (np.asarray(x).astype(np.float64) for x in (param, grad, exp_avg, exp_avg_sq))
    g = (-grad_scale if maximize else grad_scale) * g
    if coupled_l2:
        g = g + weight_decay * w
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    largest = None
    if max_exp_avg_sq is not None:
        largest = np.maximum(np.asarray(max_exp_avg_sq).astype(np.float64), v)
    mh = m / (1 - beta1**step)
    vh = (v if largest is None else largest) / (1 - beta2**step)
    denominator = np.sqrt(vh) + eps
    u = np.divide(mh, denominator, out=np.zeros_like(mh), where=denominator != 0)
    decay = 0.0 if coupled_l2 else weight_decay * w
    if cautious_decay:
        decay = np.where(u * w >= 0, decay, 0.0)
    return w - lr * (u + decay), m, v, largest, u


def msign(x):
    u, s, vt = np.linalg.svd(np.asarray(x).astype(np.float64), full_matrices=False)
    rank = int(np.sum(s > 1e-6 * s.max(initial=0)))
    return u[:, :rank] @ vt[:rank]


def muon(
    param,
    grad,
    momentum_buffer,
    *,
    lr=1e-3,
    momentum=0.95,
    weight_decay=1e-2,
    scale_value=0.2,
    grad_scale=1.0,
    nesterov=True,
    momentum_kind="ema",
    scale_mode="match_rms",
    maximize=False,
    cautious_decay=False,
    fan_out=0,
    fan_in=0,
    blocks=None,
    block_axis=0,
):
    """The new param and momentum_buffer."""
    w, g, m = (np.asarray(x).astype(np.float64) for x in (param, grad, momentum_buffer))
    g = (-grad_scale if maximize else grad_scale) * g
    weight = 1.0 if momentum_kind == "classic" else 1 - momentum
    m = momentum * m + weight * g
    u = momentum * m + weight * g if nesterov else m
    cuts = np.cumsum(blocks)[:-1] if blocks else []
    signs, updates = [], []
    for block in np.split(u, cuts, axis=block_axis):
        o = msign(block)
        out, into = fan_out or block.shape[0], fan_in or block.shape[1]
        scale = {
            "match_rms": scale_value * np.sqrt(max(out, into)),
            "exact_rms": scale_value / np.sqrt(np.mean(o**2)),
            "none": 1.0,
            "sqrt_max1_out_in": np.sqrt(max(1, out / into)),
            "sqrt_out_in": np.sqrt(out / into),
            "sqrt_max": np.sqrt(max(out, into)),
        }[scale_mode]
        signs.append(o)
        updates.append(scale * o)
    sign = np.concatenate(signs, axis=block_axis)
    update = np.concatenate(updates, axis=block_axis)
    decay = weight_decay * w
    if cautious_decay:
        decay = np.where(sign * w >= 0, decay, 0.0)
    return w - lr * (update + decay), m
