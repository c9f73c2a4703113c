# SPDX-License-Identifier: Apache-2.0
"""The formulas of steepest.h in float64, each with how far a result of the library may be off."""

import numpy as np
from formats import storage_error

NEWTON_SCHULZ = {
    "KELLER": [(3.4445, -4.7750, 2.0315)],
    "CLASSIC": [(15 / 8, -10 / 8, 3 / 8)],
    "CUBIC": [(1.5, -0.5, 0.0)],
    "YOU": [
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ],
}


def unit(dtype):
    """One ulp at 1 of the arithmetic for a storage type; for F64 twice that, for the oracle's."""
    return 2.0**-51 if dtype == "F64" else 2.0**-23


# ---- AdamW


def adamw(arrays, flags, **options):
    """{name: (values, tolerance)} of a step; tolerances as the header states them."""
    result = adamw_unrounded(arrays, flags, **options)
    for name in [name for name in result if not name.startswith("stats.")]:
        values, error = result[name]
        storage = arrays[name].dtype if name in arrays else "F32"
        result[name] = (values, error + storage_error(storage, np.abs(values) + error))
    return result


def adamw_unrounded(arrays, flags, lr, beta1, beta2, eps, weight_decay, grad_scale, step):
    """The same before results are rounded to their storage types. The arrays' `.error` is how far
    what the library has decoded may be from `.exact`."""
    w, grad, m0, v0 = (arrays[k].exact for k in ("param", "grad", "exp_avg", "exp_avg_sq"))
    m0_error, v0_error = arrays["exp_avg"].error, arrays["exp_avg_sq"].error
    one = unit(arrays["param"].dtype)
    g = (-grad_scale if "MAXIMIZE" in flags else grad_scale) * grad
    size = np.abs(g)
    if "COUPLED_L2" in flags:
        g = g + weight_decay * w
        size = size + weight_decay * np.abs(w)
    m = beta1 * m0 + (1 - beta1) * g
    v = beta2 * v0 + (1 - beta2) * g**2
    m_terms = beta1 * np.abs(m0) + (1 - beta1) * size
    m_error = 2 * one * m_terms + beta1 * m0_error
    v_error = 3 * one * v + 4 * one * (1 - beta2) * size * np.abs(g) + beta2 * v0_error
    largest = v
    if "AMSGRAD" in flags:
        largest = np.maximum(arrays["max_exp_avg_sq"].exact, v)
    mh, vh = m / (1 - beta1**step), largest / (1 - beta2**step)
    denominator = np.sqrt(vh) + eps
    safe = np.where(denominator == 0, 1, denominator)
    u = np.where(denominator == 0, 0, mh / safe)
    decay = np.where(
        ("CAUTIOUS_DECAY" in flags) & (u * w < 0) | ("COUPLED_L2" in flags), 0, weight_decay * w
    )
    delta = -lr * (u + decay)
    relative = np.where(largest == 0, 0, v_error / np.where(largest == 0, 1, largest))
    m_part = 4 * one * m_terms + beta1 * m0_error
    step_error = lr * (m_part / ((1 - beta1**step) * safe) + relative / 2 * np.abs(u))
    w_error = 2 * one * np.maximum(np.abs(w), np.abs(w + delta)) + step_error
    result = {
        "exp_avg": (m, m_error),
        "exp_avg_sq": (v, v_error),
    }
    if "EMIT_DELTA" in flags:
        result["delta"] = (delta, 2 * one * np.abs(lr * decay) + step_error)
    else:
        result["param"] = (w + delta, w_error)
    if "AMSGRAD" in flags:
        result["max_exp_avg_sq"] = (largest, v_error)
    result.update(adamw_stats(w, g, mh, u, beta1, step))
    return result


def mean_square_weight(beta1, step):
    """a of the header."""
    if step == 0:
        return (1 - beta1) / (1 + beta1)
    return (1 - beta1) * (1 + beta1**step) / ((1 + beta1) * (1 - beta1**step))


def root_mean_square(x):
    return np.sqrt(np.mean(np.square(x)))


def adamw_stats(w, g, mh, u, beta1, step):
    result = {
        "stats.update_rms": root_mean_square(u),
        "stats.grad_rms": root_mean_square(g),
        "stats.momentum_rms": root_mean_square(mh),
        "stats.param_rms": root_mean_square(w),
    }
    result = {name: (value, 4e-6 * value) for name, value in result.items()}
    if step > 1 and beta1 > 0 and np.any(g):
        a = mean_square_weight(beta1, step)
        shares = {"stats.snr_update": root_mean_square(u) ** 2}
        shares["stats.snr_momentum"] = (root_mean_square(mh) / root_mean_square(g)) ** 2
        for name, q in shares.items():
            result[name] = ((q - a) / (1 - q), 2e-5 * q * (1 - a) / (1 - q) ** 2)
    result["stats.nonfinite"] = (0, 0)
    return result


# ---- msign


def agm(a, b):
    """The sequence of the arithmetic-geometric mean."""
    steps = [(a, b, np.sqrt(a * a - b * b))]
    while abs(steps[-1][2]) > 1e-16 * a and len(steps) < 40:
        a, b, c = (a + b) / 2, np.sqrt(a * b), (a - b) / 2
        steps.append((a, b, c))
    return steps


def zolotarev(l, poles):
    """x -> Z(x): the best approximation of sign(x) on [l, 1] of type (2 poles + 1, 2 poles)."""
    steps = agm(1.0, l)  # the complementary modulus of sqrt(1 - l^2)
    quarter = np.pi / (2 * steps[-1][0])
    c = []
    for i in range(1, 2 * poles + 1):  # descending Landen: Abramowitz and Stegun 16.4
        phi = 2 ** (len(steps) - 1) * steps[-1][0] * i * quarter / (2 * poles + 1)
        for a, _, difference in reversed(steps[1:]):
            phi = (phi + np.arcsin(difference / a * np.sin(phi))) / 2
        c.append(l * l * np.tan(phi) ** 2)
    shifts, zeros = np.array(c[0::2]), np.array(c[1::2])
    weights = [
        -np.prod(p - zeros) / np.prod(p - np.delete(shifts, j)) for j, p in enumerate(shifts)
    ]

    def unscaled(x):
        return x * (1 + sum(w / (x * x + p) for w, p in zip(weights, shifts)))

    scale = 2 / (unscaled(l) + unscaled(1.0))
    return lambda x: scale * unscaled(x)


def newton_schulz(coefficients, steps):
    rows = NEWTON_SCHULZ[coefficients]

    def f(x):
        for i in range(steps):
            a, b, c = rows[min(i, len(rows) - 1)]
            x = x * (a + x * x * (b + x * x * c))
        return x

    return f


def msign(x, method="AUTO", steps=0, coefficients="KELLER"):
    """O and its rank; x is divided by the norm that the method has by default."""
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    rank = int(np.sum(s > 1e-5 * s[0])) if s[0] > 0 else 0
    if method == "AUTO":  # a vector is divided by its norm
        method = "SVD" if min(x.shape) == 1 else "RATIONAL"
    if method in ("SVD", "ACCURATE"):
        return u[:, :rank] @ vt[:rank], rank
    if s[0] == 0:
        return np.zeros_like(x), rank
    if method == "NEWTON_SCHULZ":
        values = newton_schulz(coefficients, steps or 5)(s / np.sqrt(np.sum(s**2)))
    else:
        f = newton_schulz(coefficients, steps or 5)
        if method == "RATIONAL":
            f = zolotarev(1e-3, steps or 3)
        values = f(s / np.sum(s**4) ** 0.25)
    return (u * values) @ vt, rank


def msign_tolerance(x, dtype, compute=None):
    """Of an element of O. The Gram matrix squares the condition; with well conditioned inputs an
    inverse or polynomial of it is right to some units of its precision times that."""
    s = np.linalg.svd(x, compute_uv=False)
    s = s[s > 1e-5 * s[0]] if s[0] > 0 else np.ones(1)
    arithmetic = 2.0**-52 if (compute or dtype) == "F64" else 2.0**-23
    return 16 * arithmetic * (s[0] / s[-1]) ** 2 + storage_error(dtype, 1.25)


# ---- Muon


def scale_factor(mode, value, fan_out, fan_in):
    return {
        "MATCH_RMS": value * np.sqrt(max(fan_out, fan_in)),
        "NONE": 1.0,
        "SQRT_MAX1_OUT_IN": np.sqrt(max(1.0, fan_out / fan_in)),
        "SQRT_OUT_IN": np.sqrt(fan_out / fan_in),
        "SQRT_MAX": np.sqrt(max(fan_out, fan_in)),
    }[mode]


def muon(arrays, rows, cols, options):
    """{name: (values, tolerance)} of a step with `options` as in a case's arguments."""
    result = muon_unrounded(arrays, rows, cols, options)
    for name in [name for name in result if not name.startswith("stats.")]:
        values, tolerance = result[name]
        storage = arrays[name].dtype if name in arrays else "F32"
        result[name] = (values, tolerance + storage_error(storage, np.abs(values) + tolerance))
    return result


def muon_unrounded(arrays, rows, cols, options):
    """The same before results are rounded to their storage types."""
    flags = options.get("flags", ["NESTEROV"])
    mu, lr = options.get("momentum", 0.95), options.get("lr", 1e-3)
    weight_decay = options.get("weight_decay", 1e-2)
    mode, value = options.get("scale_mode", "MATCH_RMS"), options.get("scale_value", 0.2)
    w, grad, m0 = (arrays[k].exact.reshape(rows, cols) for k in ("param", "grad", "momentum"))
    dtype = arrays["param"].dtype
    one = unit(dtype)
    g = (-1 if "MAXIMIZE" in flags else 1) * options.get("grad_scale", 1.0) * grad
    weight = 1.0 if options.get("momentum_kind") == "CLASSIC" else 1 - mu
    m = mu * m0 + weight * g
    terms = mu * np.abs(m0) + weight * np.abs(g)
    u = mu * m + weight * g if "NESTEROV" in flags else m
    axis = options.get("block_axis", 0)
    cuts = np.cumsum(options["blocks"])[:-1] if "blocks" in options else []
    method = options.get("msign", {})
    updates, signs, errors = [], [], []
    for block in np.split(u, cuts, axis=axis):
        o, _ = msign(block, **method)
        fans = options.get("fan_out") or block.shape[0], options.get("fan_in") or block.shape[1]
        scale = (
            value / root_mean_square(o) if mode == "EXACT_RMS" else scale_factor(mode, value, *fans)
        )
        signs.append(o)
        updates.append(scale * o)
        compute = "F64" if dtype == "F64" else "F32"
        errors.append(np.full(o.shape, 2 * scale * msign_tolerance(block, compute)))
    o, update, error = (np.concatenate(x, axis=axis) for x in (signs, updates, errors))
    decay = weight_decay * w
    if "CAUTIOUS_DECAY" in flags:
        decay = np.where(o * w >= 0, decay, 0)
    delta = -lr * (update + decay)
    m0_error = np.reshape(arrays["momentum"].error * np.ones(m0.size), m0.shape)
    result = {"momentum": (m, 2 * one * terms + mu * m0_error)}
    if "EMIT_DELTA" in flags:
        result["delta"] = (delta, lr * error + 4 * one * np.abs(lr * decay))
    else:
        size = np.maximum(np.abs(w), np.abs(w + delta))
        result["param"] = (w + delta, lr * error + 4 * one * size)
    result["stats.update_rms"] = (root_mean_square(update), np.max(error) + 4e-6)
    result["stats.grad_rms"] = (root_mean_square(g), 4e-6 * root_mean_square(g))
    result["stats.param_rms"] = (root_mean_square(w), 4e-6 * root_mean_square(w))
    return result


# ---- schedules


def rates(
    kind, total_steps, lr=1e-3, final_ratio=0.0, warmup_steps=0, decay_steps=0, decay_shape="LINEAR"
):
    t, warm = np.arange(1.0, total_steps + 1), warmup_steps

    def end(y):
        return y + final_ratio * (1 - y)

    shapes = {
        "LINEAR": lambda x: 1 - x,
        "COSINE": lambda x: (1 + np.cos(np.pi * x)) / 2,
        "ONE_MINUS_SQRT": lambda x: 1 - np.sqrt(np.maximum(x, 0)),
    }
    if kind in ("LINEAR", "COSINE"):
        y = end(shapes[kind]((t - warm) / (total_steps - warm + 1)))
    elif kind == "INVERSE_SQRT":
        y = np.sqrt(max(warm, 1) / t)
    elif kind == "INVERSE":
        y = max(warm, 1) / t
    elif kind == "WARMUP_STABLE_DECAY":
        d = decay_steps or min(total_steps // 5, total_steps - warm)
        x = (t - (total_steps - d)) / (d + 1)
        y = np.where(x <= 0, 1, end(shapes[decay_shape](x)))
    else:
        y = np.ones(total_steps)
    return lr * np.where(t < warm, t / max(warm, 1), y)


def schedule_bound(lr, distance, grad_norms):
    tails = np.cumsum(lr[::-1])[::-1]
    after = np.append(tails[1:], lr[-1])
    return distance**2 / (2 * tails[0]) + np.sum(grad_norms**2 * lr**2 / after) / 2


def schedule_optimal(distance, grad_norms):
    squares = grad_norms**2
    c = np.empty_like(squares)
    c[-1] = squares[-1] / 2
    for t in range(len(c) - 2, -1, -1):
        c[t] = squares[t] * (np.sqrt(1 + 2 * c[t + 1] / squares[t]) - 1)
    tails = np.empty(len(c) + 1)
    tails[0], tails[-1] = distance / np.sqrt(2 * c[0]), 0
    for t in range(len(c) - 1):
        tails[t + 1] = tails[t] / np.sqrt(1 + 2 * c[t + 1] / squares[t])
    return tails[:-1] - tails[1:], distance * np.sqrt(2 * c[0])


def schedule_refine(grad_norms, kind, smoothing, distance=0.0):
    steps, half = len(grad_norms), int(smoothing * len(grad_norms) / 2)
    padded = grad_norms
    if half:
        padded = np.pad(np.pad(grad_norms, (half, 0), "edge"), (0, half), "reflect")
    smooth = np.array([np.median(padded[i : i + 2 * half + 1]) for i in range(steps)])
    w = smooth**-2 if kind == "SGD" else 1 / smooth
    lr = w * (np.sum(w) - np.cumsum(w))
    lr[-1] = 0
    return lr * distance / np.sum(w) ** 1.5 if distance > 0 else lr / np.max(lr)


# ---- diagnostics


def update_rms_second_order(beta1, beta2, snr, kurtosis, step):
    i = np.arange(step if step else 20000)
    a = (1 - beta1) * beta1**i / (1 - beta1**step if step else 1)
    b = (1 - beta2) * beta2**i / (1 - beta2**step if step else 1)
    r = snr
    first = np.sum(a * a)
    square = (r + first) / (r + 1) * (1 + np.sum(b * b) * (4 * r + kurtosis - 1) / (r + 1) ** 2)
    square -= (4 * r * np.sum(a * b) + (kurtosis - 1) * np.sum(a * a * b)) / (r + 1) ** 2
    return np.sqrt(square)


def singular_entropy(s):
    if len(s) <= 1 or not np.any(s):
        return 0.0
    p = s**2 / np.sum(s**2)
    p = p[p > 0]
    return -np.sum(p * np.log(p)) / np.log(len(s))
