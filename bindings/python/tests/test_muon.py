# SPDX-License-Identifier: Apache-2.0
import numpy as np
import numpy_reference as reference
import pytest
import steepest
from hypothesis import given
from hypothesis import strategies as st
from steepest import MsignConfig
from support import DTYPES, ROUNDING, f64, seeds, storage, strided

EXACT = MsignConfig(method="svd")
SCALES = ["match_rms", "exact_rms", "none", "sqrt_max1_out_in", "sqrt_out_in", "sqrt_max"]


@given(
    shapes=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=3),
    types=st.one_of(
        st.fixed_dictionaries(dict.fromkeys(["param", "grad", "momentum_buffer"], storage)),
        st.just(dict.fromkeys(["param", "grad", "momentum_buffer"], "float64")),
    ),
    gaps=st.lists(st.integers(0, 3), min_size=3, max_size=3),
    emit=st.booleans(),
    chosen=st.fixed_dictionaries(
        {
            "lr": st.floats(0, 0.1),
            "momentum": st.floats(0, 0.99),
            "weight_decay": st.floats(0, 0.5),
            "scale_value": st.floats(0, 1),
            "grad_scale": st.floats(0.1, 10),
            "nesterov": st.booleans(),
            "momentum_kind": st.sampled_from(["ema", "classic"]),
            "scale_mode": st.sampled_from(SCALES),
            "maximize": st.booleans(),
            "cautious_decay": st.booleans(),
        }
    ),
    seed=seeds,
)
def test_formula(shapes, types, gaps, emit, chosen, seed):
    rng = np.random.default_rng(seed)
    tensors = [
        {
            name: strided(rng.standard_normal(shape), DTYPES[types[name]], gap)
            for name, gap in zip(types, gaps)
        }
        for shape in shapes
    ]
    before = [{name: array.copy() for name, array in tensor.items()} for tensor in tensors]
    exact = types["param"] == "float64"
    if emit:
        for tensor, shape in zip(tensors, shapes):
            tensor["delta"] = strided(np.zeros(shape), "f8" if exact else "f4", 1)
    lists = {name: [tensor[name] for tensor in tensors] for name in tensors[0]}

    assert steepest.muon_step(**lists, **chosen, msign=EXACT)

    for tensor, old, shape in zip(tensors, before, shapes):
        param, momentum = reference.muon(**old, **chosen)
        scale = np.abs(momentum).max() + np.abs(f64(old["momentum_buffer"])).max()
        relative = ROUNDING[types["momentum_buffer"]][0] + (1e-15 if exact else 1e-6)
        assert np.abs(f64(tensor["momentum_buffer"]) - momentum).max() <= relative * scale + 1e-7
        # Rounding of a nearly singular u moves O by about its share of the smallest singular value.
        if np.linalg.cond(momentum) > 100:
            continue
        moved = np.abs(param - f64(old["param"]))
        allowed = (1e-12 if exact else 1e-4) * moved.max()
        if emit:
            expected = param - f64(old["param"])
            assert np.abs(tensor["delta"] - expected).max() <= allowed + 1e-7
            assert np.array_equal(f64(tensor["param"]), f64(old["param"]))
        else:
            allowed += ROUNDING[types["param"]][0] * (np.abs(param) + np.abs(f64(old["param"])))
            assert np.all(np.abs(f64(tensor["param"]) - param) <= allowed + 1e-7)
        assert np.array_equal(f64(tensor["grad"]), f64(old["grad"]))
        for array in tensor.values():
            assert np.all(f64(array.base)[:, shape[1] :] == 7)


@pytest.mark.parametrize("axis", [0, 1])
def test_blocks_and_fans(axis):
    rng = np.random.default_rng(8)
    states = [[rng.standard_normal((12, 12)) for _ in range(3)] for _ in range(2)]
    expected = [
        reference.muon(*states[0], blocks=[2, 7, 3], block_axis=axis, fan_out=5, fan_in=20)[0],
        reference.muon(*states[1])[0],
    ]
    lists = [list(arrays) for arrays in zip(*states)]
    steepest.muon_step(
        *lists,
        blocks=[[2, 7, 3], None],
        block_axis=[axis, 0],
        fan_out=[5, 0],
        fan_in=[20, 0],
        msign=EXACT,
    )
    for state, param in zip(states, expected):
        np.testing.assert_allclose(state[0], param, atol=1e-11)


def test_blocks_of_a_single_matrix():
    rng = np.random.default_rng(9)
    state = [rng.standard_normal((6, 4)) for _ in range(3)]
    expected = reference.muon(*state, blocks=[2, 4])[0]
    steepest.muon_step(*state, blocks=[2, 4], msign=EXACT)
    np.testing.assert_allclose(state[0], expected, atol=1e-11)


def test_values_per_matrix():
    rng = np.random.default_rng(10)
    states = [[rng.standard_normal((5, 6)) for _ in range(3)] for _ in range(2)]
    expected = [reference.muon(*s, lr=lr)[0] for s, lr in zip(states, (0.1, 0.3))]
    lists = [list(arrays) for arrays in zip(*states)]
    steepest.muon_step(*lists, lr=(0.1, 0.3), msign=EXACT)
    for state, param in zip(states, expected):
        np.testing.assert_allclose(state[0], param, atol=1e-11)


def test_the_default_has_the_update_rms_of_adam():
    rng = np.random.default_rng(11)
    param, grad, momentum = (rng.standard_normal((40, 90)).astype("f4") for _ in range(3))
    stats = []
    steepest.muon_step(param, grad, momentum, step=7, stats=stats)
    assert stats[0].update_rms == pytest.approx(0.2, rel=0.06)
    assert np.isnan(stats[0].snr_update)


def test_a_matrix_that_is_not_finite_is_left_alone():
    states = [[np.eye(4) for _ in range(3)] for _ in range(3)]
    states[1][1][0, 3] = np.inf
    lists = [list(arrays) for arrays in zip(*states)]
    stats = []
    assert not steepest.muon_step(*lists, skip_nonfinite=True, stats=stats)
    assert np.array_equal(states[0][0], np.eye(4))
    with pytest.raises(steepest.NonfiniteError):
        steepest.muon_step(*lists, stats=stats)
    assert [one.status for one in stats] == [0, -5, 0]
    assert np.array_equal(states[1][0], np.eye(4))
    assert np.array_equal(states[1][2], np.eye(4))
    assert not np.array_equal(states[2][0], np.eye(4))


@pytest.mark.parametrize(
    "mode", ["match_rms", "none", "sqrt_max1_out_in", "sqrt_out_in", "sqrt_max"]
)
def test_scale_factor(mode):
    expected = {
        "match_rms": 0.3 * np.sqrt(50),
        "none": 1,
        "sqrt_max1_out_in": np.sqrt(5),
        "sqrt_out_in": np.sqrt(5),
        "sqrt_max": np.sqrt(50),
    }
    assert steepest.scale_factor(mode, 0.3, 50, 10) == pytest.approx(expected[mode])


def square():
    return [np.ones((4, 4), np.float32) for _ in range(3)]


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "grad has shape", lambda: steepest.muon_step(np.ones((2, 3)), *square()[:2])),
        (ValueError, "must have two", lambda: steepest.muon_step(*[np.ones(3)] * 3)),
        (ValueError, "param has strides", lambda: steepest.muon_step(*[np.ones((3, 4)).T] * 3)),
        (ValueError, "momentum is", lambda: steepest.muon_step(*square(), momentum=1)),
        (
            ValueError,
            "scale_mode is 'big'",
            lambda: steepest.muon_step(*square(), scale_mode="big"),
        ),
        (ValueError, "momentum_kind", lambda: steepest.muon_step(*square(), momentum_kind=0)),
        (ValueError, "blocks", lambda: steepest.muon_step(*square(), blocks=[1, 2])),
        (TypeError, "blocks", lambda: steepest.muon_step(*[[x] for x in square()], blocks=[2])),
        (ValueError, "block_axis", lambda: steepest.muon_step(*square(), blocks=[4], block_axis=2)),
        (ValueError, "fan_out", lambda: steepest.muon_step(*square(), fan_out=-1)),
        (ValueError, "block_axis is out", lambda: steepest.muon_step(*square(), block_axis=2**32)),
        (ValueError, "method", lambda: steepest.muon_step(*square(), msign=MsignConfig("x"))),
        (TypeError, "momentum_buffer", lambda: steepest.muon_step(*square()[:2], 3)),
        (ValueError, "EXACT_RMS", lambda: steepest.scale_factor("exact_rms", 1, 2, 3)),
        (ValueError, "fan_in", lambda: steepest.scale_factor("none", 1, 2, 0)),
    ],
)
def test_errors(error, message, call):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
