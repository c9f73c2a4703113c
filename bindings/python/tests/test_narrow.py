# SPDX-License-Identifier: Apache-2.0
"""Narrow storage on arrays: what a step does to codes and residuals is what the step in float32
does to the numbers that they stand for."""

import numpy as np
import pytest
import steepest
from support import BF16

FORMATS = ["q8_dynamic", "q8_companded"]
BLOCKS = {"q8_dynamic": 256, "q8_companded": 32}


def values(count, signed=True, seed=0):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(count) * 10.0 ** rng.uniform(-5, 0, count)).astype(np.float32)
    return x if signed else x**2


def bits16(array):
    return array.view(np.uint16).astype(np.uint32)


def master_of(param, residual):
    """The float32 number that a bfloat16 parameter and its residual stand for."""
    high = bits16(param) << 16
    if residual.dtype == np.uint16:
        return (high | residual).view(np.float32)
    if residual.dtype == np.int16:
        return (high.view(np.int32) + residual).view(np.float32)
    if residual.dtype == np.int8:
        return (high.view(np.int32) + (residual.astype(np.int32) << 8)).view(np.float32)
    return param.astype(np.float32) + residual.astype(np.float32)


# ---- codes


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 255, 256, 257, 5000])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_codes_round_trip(name, signed, count):
    x = values(count, signed)
    codes, scales = steepest.q8_encode(x, name, signed=signed)
    assert codes.dtype == np.uint8 and codes.shape == x.shape
    assert scales.dtype == (np.float32 if name == "q8_dynamic" else np.uint16)
    assert len(scales) == -(-count // BLOCKS[name])
    back = steepest.q8_decode(codes, scales, signed=signed)
    largest = np.zeros_like(x)
    for start in range(0, count, BLOCKS[name]):
        block = slice(start, start + BLOCKS[name])
        largest[block] = np.abs(x[block]).max()
    assert np.all(np.abs(back - x) <= 0.04 * largest)
    if (
        name == "q8_dynamic" and not signed
    ):  # the signed map has no -1, companded scales are rounded
        again, same = steepest.q8_encode(back, name, signed=signed)
        assert np.array_equal(again, codes) and np.array_equal(same, scales)
    zeros = steepest.q8_decode(np.zeros_like(codes), np.zeros_like(scales), signed=signed)
    assert not zeros.any()


def test_codes_keep_shape_and_order():
    x = np.asfortranarray(values(600).reshape(20, 30))
    codes, scales = steepest.q8_encode(x, "q8_dynamic", signed=True)
    assert codes.shape == x.shape and codes.flags.f_contiguous
    flat, _ = steepest.q8_encode(x.T.copy().ravel(), "q8_dynamic", signed=True)
    assert np.array_equal(codes.T.ravel(), flat)
    assert steepest.q8_decode(codes, scales, signed=True).strides == x.strides


# ---- AdamW

STEP = {"step": 3, "lr": 1e-2, "beta2": 0.99, "weight_decay": 0.1}


@pytest.mark.parametrize("sq", [None, *FORMATS])
@pytest.mark.parametrize("avg", [None, *FORMATS])
def test_adamw_on_codes(avg, sq):
    shape = (70, 61)
    param, grad = values(4270, seed=1).reshape(shape), values(4270, seed=2).reshape(shape)
    given, arrays, expected = {}, {}, {"param": param.copy()}
    for key, name, signed in (("exp_avg", avg, True), ("exp_avg_sq", sq, False)):
        x = (grad * 0.5 if signed else grad**2).copy()
        if name:
            arrays[key], given[f"{key}_scales"] = steepest.q8_encode(x, name, signed=signed)
            x = steepest.q8_decode(arrays[key], given[f"{key}_scales"], signed=signed)
        else:
            arrays[key] = x.copy()
        expected[key] = x
    steepest.adamw_step(param, grad, **arrays, **given, **STEP)
    steepest.adamw_step(
        expected["param"], grad, expected["exp_avg"], expected["exp_avg_sq"], **STEP
    )
    np.testing.assert_allclose(param, expected["param"], rtol=1e-5, atol=1e-7)
    for key, name, signed in (("exp_avg", avg, True), ("exp_avg_sq", sq, False)):
        if not name:
            np.testing.assert_allclose(arrays[key], expected[key], rtol=1e-5)
            continue
        codes, scales = steepest.q8_encode(expected[key], name, signed=signed)
        # A code may be its neighbour where a value lies between two.
        apart = np.abs(codes.view(np.int8).astype(int) - arrays[key].view(np.int8))
        assert np.mean(np.minimum(apart, 256 - apart) > 0) < 0.002
        assert np.mean(scales != given[f"{key}_scales"]) < 0.01


RESIDUALS = [np.uint16, np.int16, np.int8, BF16]


@pytest.mark.parametrize("kind", RESIDUALS, ids=str)
def test_adamw_with_a_residual(kind):
    count = 3001
    param, grad = values(count, seed=1).astype(BF16), values(count, seed=2)
    residual = np.zeros(count, kind)
    master = param.astype(np.float32)
    state = [np.zeros(count, np.float32) for _ in range(4)]
    for step in range(1, 21):
        rates = {**STEP, "step": step, "lr": 1e-3}
        steepest.adamw_step(param, grad, *state[:2], residual=residual, **rates)
        steepest.adamw_step(master, grad, *state[2:], **rates)
    bound = 2.0**-14 if kind in (np.int8, BF16) else 1e-6
    error = np.abs(master_of(param, residual) - master)
    assert np.all(error <= bound * np.maximum(np.abs(master), 1e-3) * 20)
    assert np.mean(np.abs(param.astype(np.float32) - master)) > 10 * np.mean(error)
    if kind == np.int16:
        assert np.mean(param != master.astype(BF16)) < 0.01
    if kind == np.uint16:
        assert np.all(bits16(param) << 16 <= master_of(param, residual).view(np.uint32))


@pytest.mark.parametrize("dtype", [BF16, np.float16, np.float32], ids=str)
def test_a_copy_of_the_parameters(dtype):
    param, grad = values(1000), values(1000, seed=1)
    copied = np.zeros(1000, dtype)
    steepest.adamw_step(param, grad, *np.zeros((2, 1000), np.float32), param_copy=copied, **STEP)
    assert np.array_equal(copied, param.astype(dtype))


def test_stochastic_rounding():
    def run(param=None, **options):
        param = np.ones(40000, BF16) if param is None else param
        state = np.zeros((2, param.size), np.float32)
        grad = np.ones(param.size, BF16)
        options = {"step": 1, "lr": 1e-3, "weight_decay": 0.0, **options}
        steepest.adamw_step(param, grad, *state, stochastic_rounding=True, **options)
        return param

    first = run()
    moved = 1 - first.astype(np.float64)
    assert set(np.unique(moved)) == {0.0, 2.0**-8}
    assert abs(moved.mean() - 1e-3) < 5 * moved.std() / 200
    assert np.array_equal(first, run(threads=2))
    for other in ({"seed": 1}, {"random_stream": 1}, {"step": 2}, {"first_index": 1}):
        assert not np.array_equal(first, run(**other))
    part = run(np.ones(10000, BF16), first_index=30000)
    assert np.array_equal(part, first[30000:])


def test_lists_where_some_have_it():
    sizes = (5000, 40, 300)
    params = [values(n).astype(BF16) for n in sizes[:2]] + [values(sizes[2])]
    grads = [values(n, seed=1) for n in sizes]
    codes = np.zeros(5000, np.uint8)
    scales = np.zeros(-(-5000 // 32), np.uint16)
    averages = [codes, np.zeros(40, np.float32), np.zeros(300, np.float32)]
    squares = [np.zeros(n, np.float32) for n in sizes]
    residuals = [np.zeros(5000, np.int16), None, None]
    copies = [None, None, np.zeros(300, BF16)]
    options = {"step": [1, 2, 3], "lr": 0.1}
    steepest.adamw_step(
        params, grads, averages, squares,
        exp_avg_scales=[scales, None, None], residual=residuals, param_copy=copies, **options,
    )  # fmt: skip
    assert codes.any() and scales.any() and residuals[0].any()
    assert np.array_equal(copies[2], params[2].astype(BF16))


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    param, grad = torch.ones(5000, dtype=torch.bfloat16), torch.ones(5000)
    residual = torch.zeros(5000, dtype=torch.int16)
    codes, scales = torch.zeros(5000, dtype=torch.uint8), torch.zeros(20)
    steepest.adamw_step(
        param, grad, codes, torch.zeros(5000), step=1, exp_avg_scales=scales, residual=residual
    )
    assert residual.any() and scales.all()
    torch.testing.assert_close(
        torch.from_numpy(steepest.q8_decode(codes, scales, signed=True)), torch.full((5000,), 0.1)
    )


# ---- Muon


@pytest.mark.parametrize("name", FORMATS)
def test_muon_on_codes(name):
    param, grad = values(4800, seed=1).reshape(60, 80), values(4800, seed=2).reshape(60, 80)
    codes, scales = steepest.q8_encode(0.5 * grad, name, signed=True)
    momentum = steepest.q8_decode(codes, scales, signed=True)
    expected, copied = param.copy(), np.zeros(param.shape, BF16)
    steepest.muon_step(
        param, grad, codes, momentum_buffer_scales=scales, param_copy=copied, lr=0.01
    )
    steepest.muon_step(expected, grad, momentum, lr=0.01)
    np.testing.assert_allclose(param, expected, atol=1e-5)
    assert np.array_equal(copied, param.astype(BF16))
    wanted, _ = steepest.q8_encode(momentum, name, signed=True)
    assert np.mean(wanted != codes) < 0.002


@pytest.mark.parametrize("kind", RESIDUALS, ids=str)
def test_muon_with_a_residual(kind):
    """The rows of the parameter are further apart than they are long, and so those beside it."""
    wide, wide_residual = np.zeros((60, 96), BF16), np.zeros((60, 96), kind)
    param, residual = wide[:, :80], wide_residual[:, :80]
    param[...] = values(4800, seed=1).reshape(60, 80)
    grad = values(4800, seed=2).reshape(60, 80)
    master, momenta = param.astype(np.float32), np.zeros((2, 60, 80), np.float32)
    for _ in range(5):
        steepest.muon_step(param, grad, momenta[0], residual=residual, lr=1e-3)
        steepest.muon_step(master, grad, momenta[1], lr=1e-3)
    assert not wide[:, 80:].any() and not wide_residual[:, 80:].any()
    joined = master_of(np.ascontiguousarray(param), np.ascontiguousarray(residual))
    assert np.all(np.abs(joined - master) <= 1e-3 * np.abs(master) + 1e-5)
    assert np.abs(param.astype(np.float32) - master).mean() > 3 * np.abs(joined - master).mean()


# ---- refusals

CODES = np.zeros(5000, np.uint8)
FLOATS = np.zeros(5000, np.float32)


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ({"exp_avg": CODES}, ValueError, "exp_avg_scales is missing, but .*exp_avg has 8-bit code"),
        (
            {"exp_avg_scales": np.zeros(20, np.float32)},
            ValueError,
            "exp_avg_scales is given, but adamw_step: exp_avg is no array of codes",
        ),
        (
            {"exp_avg": CODES, "exp_avg_scales": np.zeros(20)},
            TypeError,
            r"exp_avg_scales is of float64: must be float32 \(q8_dynamic\) or uint16",
        ),
        (
            {"exp_avg": CODES, "exp_avg_scales": np.zeros(20, np.uint16)},
            ValueError,
            "exp_avg_scales has 20 elements: 5000 codes need 157",
        ),
        ({"exp_avg": CODES.view(np.int8)}, TypeError, "exp_avg is of int8: codes are uint8"),
        ({"grad": CODES}, TypeError, "grad is of dtype.*uint8"),
        ({"residual": CODES}, TypeError, "residual is of uint8: must be uint16, int16, int8, bflo"),
        ({"residual": np.zeros(5000, np.float16)}, TypeError, "residual must have the type of"),
        ({"residual": np.zeros(5000, np.int16)}, TypeError, "param_dtype is f32: residual_kind"),
        (
            {"residual": np.zeros(4999, np.int16)},
            ValueError,
            r"residual has shape \(4999,\), but p",
        ),
        ({"param_copy": np.zeros(5000, np.int16)}, TypeError, "param_copy is of int16: must be"),
        ({"param_copy": [None, None]}, ValueError, "param_copy has 2 arrays, but param 1"),
        ({"seed": 2**64}, ValueError, "seed is out of range"),
        ({"first_index": -1}, ValueError, "first_index is -1"),
    ],
)
def test_refusals(arrays, error, message):
    given = {
        "param": FLOATS + 1,
        "grad": FLOATS + 1,
        "exp_avg": FLOATS,
        "exp_avg_sq": FLOATS.copy(),
    }
    given.update(arrays)
    before = given["param"].copy()
    with pytest.raises(error, match=message):
        steepest.adamw_step(**given, step=1)
    assert np.array_equal(before, given["param"])


def test_refusals_of_codes():
    codes, scales = steepest.q8_encode(FLOATS, "q8_dynamic", signed=True)
    with pytest.raises(ValueError, match="q8_encode: format is 'q4': must be one of"):
        steepest.q8_encode(FLOATS, "q4", signed=True)
    with pytest.raises(TypeError, match="q8_encode: values is of float64: must be float32"):
        steepest.q8_encode(np.zeros(5), "q8_dynamic", signed=True)
    with pytest.raises(TypeError, match="q8_decode: codes is of float32: must be uint8"):
        steepest.q8_decode(FLOATS, scales, signed=True)
    with pytest.raises(ValueError, match="q8_decode: scales has 5 elements: 5000 codes need 20"):
        steepest.q8_decode(codes, scales[:5], signed=True)
