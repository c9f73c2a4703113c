# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import steepest
from hypothesis import given
from hypothesis import strategies as st
from support import DTYPES, embed, f64, seeds, strided


@given(
    shapes=st.lists(st.lists(st.integers(0, 6), max_size=3), max_size=4),
    dtypes=st.lists(st.sampled_from(list(DTYPES)), min_size=4, max_size=4),
    offset=st.integers(0, 3),
    seed=seeds,
)
def test_grad_norm(shapes, dtypes, offset, seed):
    rng = np.random.default_rng(seed)
    grads = [
        embed(rng.standard_normal(shape), DTYPES[dtype], offset=offset)
        for shape, dtype in zip(shapes, dtypes)
    ]
    norm, nonfinite = steepest.grad_norm(grads)
    expected = np.sqrt(sum(np.sum(f64(grad) ** 2) for grad in grads))
    assert norm == pytest.approx(expected, rel=1e-12)
    assert nonfinite == 0


def test_grad_norm_of_large_small_and_no_numbers():
    assert steepest.grad_norm(np.full(4, 1e300)).norm == pytest.approx(2e300)
    assert steepest.grad_norm(np.full(4, 1e-300)).norm == pytest.approx(2e-300)
    norm, nonfinite = steepest.grad_norm([np.ones(3), np.array([np.inf, np.nan, 1])])
    assert np.isnan(norm)
    assert nonfinite == 2
    with pytest.raises(ValueError, match=r"grads\[1\] is not contiguous"):
        steepest.grad_norm([np.ones(3), np.ones(6)[::2]])


def slope(beta, step):
    if step == 0:
        return (1 - beta) / (1 + beta)
    return (1 - beta) * (1 + beta**step) / ((1 + beta) * (1 - beta**step))


@given(beta=st.floats(0.0, 0.99), snr=st.floats(0, 10), step=st.sampled_from([0, 2, 5, 100, 10**6]))
def test_snr(beta, snr, step):
    a = slope(beta, step)
    rms = steepest.adam_update_rms(beta, snr, step)
    assert rms == pytest.approx(np.sqrt((snr + a) / (snr + 1)), rel=1e-9)
    if rms < 0.999:
        assert steepest.snr_from_update_rms(rms, beta, step) == pytest.approx(snr, abs=1e-6)
        assert steepest.snr_from_momentum(3 * rms, 3, beta, step) == pytest.approx(snr, abs=1e-6)


def test_snr_errors():
    assert np.isnan(steepest.snr_from_update_rms(0.5, 0.9, 1))
    with pytest.raises(ValueError, match="beta1"):
        steepest.adam_update_rms(1.0)
    with pytest.raises(ValueError, match="rms"):
        steepest.snr_from_update_rms(1.0)
    with pytest.raises(TypeError, match="grad_rms"):
        steepest.snr_from_momentum(0.1, None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (1, 4), (0, 3)])
def test_singular_values(dtype, shape):
    x = strided(np.random.default_rng(12).standard_normal(shape), DTYPES[dtype], 2)
    values = steepest.singular_values(x)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, np.linalg.svd(f64(x), compute_uv=False), rtol=1e-12)


def test_singular_entropy():
    assert steepest.singular_entropy(np.ones(7)) == pytest.approx(1)
    assert steepest.singular_entropy(np.array([3.0, 0, 0])) == 0
    values = np.array([3.0, 2, 1])
    p = values**2 / np.sum(values**2)
    expected = -np.sum(p * np.log(p)) / np.log(3)
    assert steepest.singular_entropy(values) == pytest.approx(expected)
    with pytest.raises(ValueError, match="values"):
        steepest.singular_entropy(np.array([1.0, -1]))
    with pytest.raises(TypeError, match="values"):
        steepest.singular_entropy(np.ones(3, np.float32))


def test_config(capsys):
    config = steepest.get_config()
    assert config["isa"] in ("generic", "x86_avx2", "x86_avx512", "x86_avx512_bf16", "arm64_neon")
    assert config["threads"] >= 1
    assert steepest.__version__ in config["build"]
    assert "OpenBLAS" in config["blas"]
    steepest.show_config()
    assert config["build"] in capsys.readouterr().out
    steepest.trim()


def test_second_order():
    # The published steady value for normal gradients, and what heavy tails do to it.
    assert steepest.adam_update_rms_second_order(0.9, 0.95) == pytest.approx(0.2258, abs=5e-5)
    assert steepest.adam_update_rms_second_order(0.9, 0.95, kurtosis=6) == pytest.approx(
        0.2203, abs=5e-5
    )
    assert steepest.adam_update_rms_second_order(0.9, 0.95, step=1) == 1
    for options, name in [({"beta2": 1.0}, "beta2"), ({"kurtosis": 0.5}, "kurtosis")]:
        with pytest.raises(ValueError, match=name):
            steepest.adam_update_rms_second_order(**options)


@given(shapes=st.lists(st.integers(0, 40), max_size=4), seed=seeds)
def test_rms(shapes, seed):
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    values = np.concatenate([np.zeros(0), *arrays])
    expected = np.sqrt(np.mean(values**2)) if values.size else 0
    assert steepest.rms(arrays) == pytest.approx(expected, rel=1e-6)
    if arrays:
        assert steepest.rms(arrays[0]) == steepest.rms(arrays[:1])
    with pytest.raises(ValueError, match="not contiguous"):
        steepest.rms(np.ones(6)[::2])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (1, 4), (0, 3), (60, 90)])
def test_spectral_norm(dtype, shape):
    x = strided(np.random.default_rng(13).standard_normal(shape), DTYPES[dtype], 2)
    expected = np.linalg.norm(f64(x), 2) if x.size else 0
    assert steepest.spectral_norm(x) == pytest.approx(expected, rel=1e-13)
    for tolerance in (0.1, 0.001):
        lower, upper = steepest.spectral_norm_bounds(x, tolerance)
        assert lower <= expected * (1 + 1e-15)
        assert expected <= upper * (1 + 1e-15)
        assert upper <= (1 + tolerance) * lower
    with pytest.raises(ValueError, match="tolerance"):
        steepest.spectral_norm_bounds(x, 2)
