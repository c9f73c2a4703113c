# SPDX-License-Identifier: Apache-2.0
import numpy as np
import numpy_reference as reference
import pytest
import steepest
from hypothesis import given
from hypothesis import strategies as st
from steepest import MsignConfig
from support import BF16, DTYPES, ROUNDING, f64, seeds, strided

TYPES = st.sampled_from(list(DTYPES))


def matrix(rng, rows, cols):
    """With singular values in [0.1, 1], where every method has its band."""
    n = min(rows, cols)
    u = np.linalg.qr(rng.standard_normal((rows, n)))[0]
    v = np.linalg.qr(rng.standard_normal((cols, n)))[0]
    return (u * rng.uniform(0.1, 1, n)) @ v.T


@given(
    rows=st.integers(1, 40),
    cols=st.integers(1, 40),
    count=st.integers(0, 3),
    dtype=TYPES,
    method=st.sampled_from(["accurate", "svd"]),
    gaps=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    in_place=st.booleans(),
    seed=seeds,
)
def test_polar_factor(rows, cols, count, dtype, method, gaps, scale, in_place, seed):
    rng = np.random.default_rng(seed)
    xs = [strided(scale * matrix(rng, rows, cols), DTYPES[dtype], gaps[0]) for _ in range(count)]
    copies = [x.copy() for x in xs]
    outs = xs if in_place else [strided(0 * f64(x), x.dtype, gaps[1]) for x in xs]
    assert steepest.msign(xs, outs, method=method) is outs
    computed = 1e-7 if method == "accurate" else 1e-12 if dtype == "float64" else 1e-5
    for out, x in zip(outs, copies):
        error = np.abs(f64(out) - reference.msign(x)).max()
        assert error <= computed + ROUNDING[dtype][0]
        assert np.all(f64(out.base)[:, cols:] == 7)
    if not in_place:
        assert all(np.array_equal(f64(x), f64(copy)) for x, copy in zip(xs, copies))


@pytest.mark.parametrize("shape", [(24, 64), (64, 24), (32, 32)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "rational", "steps": 4},
        {"method": "halley"},
        {"method": "svd"},
        {"method": "newton_schulz", "coefficients": "keller"},
        {"method": "newton_schulz", "coefficients": "cubic", "steps": 12},
        {"method": "gram_newton_schulz"},
        {"method": "gram_newton_schulz", "steps": 6, "restarts": [3]},
        {"method": "gram_newton_schulz", "steps": 6, "restarts": []},
        {"method": "newton_schulz", "coefficients": steepest.msign_coefficients(1e-2, 6)},
        {"method": "rational", "normalization": "bound", "norm_bound": 1.0},
        {"method": "rational", "compute_dtype": "float64", "lower_bound": 1e-6, "steps": 6},
    ],
)
def test_singular_values_end_in_the_band(shape, options):
    x = matrix(np.random.default_rng(5), *shape).astype(np.float32)
    stats = []
    out = steepest.msign(x, stats=stats, **options)
    low, high = steepest.msign_band(MsignConfig(**options), 0.1 / stats[0].norm)
    values = np.linalg.svd(f64(out), compute_uv=False)
    assert low - 1e-4 <= values.min()
    assert values.max() <= high + 1e-4
    # The same singular vectors: out x^T is symmetric and not negative.
    product = f64(out).T @ f64(x)
    assert np.abs(product - product.T).max() < 1e-4
    assert np.linalg.eigvalsh(product).min() > -1e-4
    assert stats[0].status == 0
    assert stats[0].method == options.get("method", "rational")
    if "steps" in options:
        assert stats[0].steps == options["steps"]
    defect = np.linalg.norm(values**2 - 1) / np.sqrt(min(shape))
    assert stats[0].orthogonality == pytest.approx(defect, abs=1e-4)


def test_a_table_of_coefficients_has_as_many_steps_as_rows():
    x = matrix(np.random.default_rng(6), 8, 8)
    stats = []
    table = steepest.msign_coefficients(1e-3, 7)
    assert table.shape == (7, 3)
    out = steepest.msign(x, method="newton_schulz", coefficients=table, stats=stats)
    assert stats[0].steps == 7
    norm = np.linalg.norm(x)
    expected = x / norm
    for a, b, c in table:
        gram = expected @ expected.T
        expected = a * expected + (b * gram + c * gram @ gram) @ expected
    np.testing.assert_allclose(out, expected, atol=1e-12)


def test_out_is_new_and_of_the_type_of_x():
    for dtype in DTYPES.values():
        x = np.eye(3, 5).astype(dtype)
        out = steepest.msign(x)
        assert out.dtype == x.dtype
        assert out is not x
        outs = steepest.msign([x, x])
        assert [one.dtype for one in outs] == [x.dtype] * 2
    assert steepest.msign([]) == []
    assert steepest.msign(np.zeros((0, 4))).shape == (0, 4)
    assert np.all(steepest.msign(np.zeros((3, 4))) == 0)


def test_restarts():
    x = matrix(np.random.default_rng(14), 30, 60).astype(np.float32)
    chosen = {"method": "gram_newton_schulz", "steps": 6}
    default, none, other = (
        steepest.msign(x, **chosen, restarts=restarts) for restarts in (None, [], [2, 4])
    )
    assert np.array_equal(default, steepest.msign(x, **chosen, restarts=(3, 5)))
    assert not np.array_equal(default, none)
    assert not np.array_equal(default, other)
    with pytest.raises(ValueError, match="restarts"):
        steepest.msign(x, **chosen, restarts=[9])


def test_options_and_config_are_the_same():
    x = matrix(np.random.default_rng(7), 9, 20)
    config = MsignConfig(method="halley", steps=2, lower_bound=0.01)
    one = steepest.msign(x, config=config)
    assert np.array_equal(one, steepest.msign(x, method="halley", steps=2, lower_bound=0.01))
    changed = steepest.msign(x, None, MsignConfig("halley", 3), steps=2, lower_bound=0.01)
    assert np.array_equal(one, changed)
    assert not np.array_equal(one, steepest.msign(x, method="halley", steps=3, lower_bound=0.01))


def test_a_matrix_of_a_list_that_is_not_finite():
    xs = [np.eye(4) for _ in range(3)]
    xs[1][2, 2] = np.nan
    outs = [np.full((4, 4), 5.0) for _ in range(3)]
    stats = []
    with pytest.raises(steepest.NonfiniteError, match="1"):
        steepest.msign(xs, outs, stats=stats)
    assert [one.status for one in stats] == [0, -5, 0]
    assert np.all(outs[1] == 5)
    assert np.all(outs[2] != 5)


X = np.eye(4, 6, dtype=np.float32)
GAPS = [X[:, :5], X[:, :5].copy()]


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "x has strides", lambda: steepest.msign(X.T)),
        (ValueError, "x has shape (6,): must have two", lambda: steepest.msign(X[0])),
        (ValueError, "x[1] has shape", lambda: steepest.msign([X, X[:, :5].copy()])),
        (ValueError, "x[1] has rows of another stride", lambda: steepest.msign(GAPS)),
        (TypeError, "x[1] is of bfloat16", lambda: steepest.msign([X, X.astype(BF16)])),
        (TypeError, "out is of float64", lambda: steepest.msign(X, np.zeros((4, 6)))),
        (ValueError, "out has shape", lambda: steepest.msign(X, np.zeros((6, 4), "f4"))),
        (ValueError, "out must be a list", lambda: steepest.msign([X], np.zeros((4, 6), "f4"))),
        (ValueError, "overlaps", lambda: steepest.msign(X[:3], X[1:])),
        (ValueError, "method is 'best'", lambda: steepest.msign(X, method="best")),
        (TypeError, "speed", lambda: steepest.msign(X, speed=3)),
        (ValueError, "steps", lambda: steepest.msign(X, method="rational", steps=9)),
        (TypeError, "steps is 'all'", lambda: steepest.msign(X, steps="all")),
        (ValueError, "coefficients has shape", lambda: steepest.msign(X, coefficients=[1, 2, 3])),
        (ValueError, "norm_bound", lambda: steepest.msign(X, normalization="bound")),
        (ArithmeticError, "x", lambda: steepest.msign(X + np.float32("nan"))),
        (ValueError, "lower_bound", lambda: steepest.msign_band(None, 0.0)),
        (ValueError, "steps", lambda: steepest.msign_coefficients(0.1, 101)),
        (ValueError, "steps", lambda: steepest.msign_coefficients(0.1, -1)),
        (ValueError, "lower_bound", lambda: steepest.msign_coefficients(2, 5)),
    ],
)
def test_errors(error, message, call):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
