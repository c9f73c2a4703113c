# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import steepest
from hypothesis import given
from hypothesis import strategies as st
from steepest._schedule import KINDS


def bound(lr, distance, norms):
    """The formula, with plain sums."""
    tails = np.cumsum(lr[::-1])[::-1]
    after = np.append(tails[1:], lr[-1])
    return distance**2 / (2 * tails[0]) + 0.5 * np.sum(norms**2 * lr**2 / after)


def test_rates():
    t = np.arange(1, 11)
    np.testing.assert_allclose(
        steepest.schedule_fill("linear", 10, lr=3.0), 3 * (1 - t / 11), rtol=1e-14
    )
    np.testing.assert_allclose(
        steepest.schedule_fill("cosine", 10, lr=3.0, final_ratio=0.1),
        3 * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * t / 11))),
    )
    np.testing.assert_allclose(
        steepest.schedule_fill("inverse_sqrt", 10, lr=1.0, warmup_steps=4),
        np.where(t < 4, t / 4, np.sqrt(4 / t)),
    )
    np.testing.assert_allclose(steepest.schedule_fill("inverse", 10, lr=1.0), 1 / t)
    wsd = steepest.Schedule("warmup_stable_decay", lr=1.0, warmup_steps=2, decay_steps=3)
    np.testing.assert_allclose(
        steepest.schedule_fill(wsd, 10), [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    )
    np.testing.assert_allclose(
        steepest.schedule_fill(wsd, 10, decay_shape="one_minus_sqrt")[7:],
        1 - np.sqrt([0.25, 0.5, 0.75]),
    )


@given(kind=st.sampled_from(list(KINDS)), steps=st.integers(1, 50), warmup=st.integers(0, 50))
def test_at_is_fill(kind, steps, warmup):
    schedule = steepest.Schedule(kind, lr=0.3, warmup_steps=min(warmup, steps))
    lr = steepest.schedule_fill(schedule, steps)
    assert [steepest.schedule_at(schedule, steps, t) for t in range(1, steps + 1)] == lr.tolist()


@given(seed=st.integers(0, 1000), steps=st.integers(1, 60))
def test_bound(seed, steps):
    rng = np.random.default_rng(seed)
    lr, norms = rng.uniform(0.01, 1, steps), rng.uniform(0, 2, steps)
    assert steepest.schedule_bound(lr, 1.5, norms) == pytest.approx(bound(lr, 1.5, norms))
    assert steepest.schedule_bound(lr.tolist(), 1.5, 2) == pytest.approx(bound(lr, 1.5, 2))
    assert steepest.schedule_bound(lr[::-1], 0, norms.tolist()) == pytest.approx(
        bound(lr[::-1], 0, norms)
    )


@pytest.mark.parametrize(("steps", "least"), [(10, 0.57801), (100, 0.20011), (1000, 0.06332)])
def test_optimal(steps, least):
    lr, value = steepest.schedule_optimal(steps)
    assert value == pytest.approx(least, abs=6e-6)
    assert steepest.schedule_bound(lr) == pytest.approx(value, rel=1e-12)
    norms = np.random.default_rng(1).uniform(0.5, 2, steps)
    lr, value = steepest.schedule_optimal(steps, 3, norms)
    assert steepest.schedule_bound(lr, 3, norms) == pytest.approx(value, rel=1e-12)
    for _ in range(20):
        other = lr * np.exp(0.1 * np.random.default_rng(2).standard_normal(steps))
        assert steepest.schedule_bound(other, 3, norms) > value


@pytest.mark.parametrize("steps", [1, 5, 19, 60, 133])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_refine_is_as_the_authors_do_it(steps, kind):
    """Against numpy's padding: the first value before, mirrored without the last one after."""
    norms = np.exp(np.random.default_rng(steps).standard_normal(steps))
    half = int(0.1 * steps / 2)
    padded = np.pad(np.pad(norms, (half, 0), "edge"), (0, half), "reflect") if half else norms
    smooth = np.array([np.median(padded[i : i + 2 * half + 1]) for i in range(steps)])
    w = smooth**-2 if kind == "sgd" else 1 / smooth
    later = np.append(np.cumsum(w[::-1])[::-1][1:], 0)
    raw = w * later
    got = steepest.schedule_refine(norms, kind)
    np.testing.assert_allclose(got, raw / raw.max() if steps > 1 else raw, rtol=1e-12)
    if kind == "sgd":
        scaled = steepest.schedule_refine(norms, kind, distance=2.0)
        np.testing.assert_allclose(scaled, 2 * raw / w.sum() ** 1.5, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: steepest.schedule_fill("linear", 0), ValueError, "total_steps is 0"),
        (lambda: steepest.schedule_fill("linear", 2.5), TypeError, "total_steps"),
        (lambda: steepest.schedule_fill("exponential", 3), ValueError, "kind is 'exponential'"),
        (lambda: steepest.schedule_fill("linear", 3, lr=-1), ValueError, "lr is -1"),
        (lambda: steepest.schedule_fill("linear", 3, lr="a"), TypeError, "lr is 'a'"),
        (lambda: steepest.schedule_fill("linear", 3, warmup_steps=4), ValueError, "warmup_steps"),
        (lambda: steepest.schedule_fill("constant", 3, final_ratio=0.1), ValueError, "final_ratio"),
        (lambda: steepest.schedule_fill("linear", 3, colour=1), TypeError, "colour"),
        (lambda: steepest.schedule_at("linear", 3, 4), ValueError, "step is 4"),
        (lambda: steepest.schedule_bound([]), ValueError, "total_steps is 0"),
        (lambda: steepest.schedule_bound([1, 0.5, 0]), ValueError, "may not end in zeros"),
        (lambda: steepest.schedule_bound([1, np.nan, 1]), ValueError, r"lr\[1\]"),
        (lambda: steepest.schedule_bound([[1.0]]), ValueError, "shape"),
        (lambda: steepest.schedule_bound(["a"]), TypeError, "lr"),
        (lambda: steepest.schedule_bound([1, 1], 1, [1, 2, 3]), ValueError, "3 values for 2"),
        (lambda: steepest.schedule_bound([1, 1], 1, [1, -2]), ValueError, r"grad_norms\[1\]"),
        (lambda: steepest.schedule_bound([1, 1], -1), ValueError, "distance"),
        (lambda: steepest.schedule_optimal(0), ValueError, "total_steps"),
        (lambda: steepest.schedule_optimal(3, 0), ValueError, "distance"),
        (lambda: steepest.schedule_optimal(2, 1, [1, 0]), ValueError, r"grad_norms\[1\]"),
        (lambda: steepest.schedule_refine([1, 0, 1]), ValueError, r"grad_norms\[1\]"),
        (lambda: steepest.schedule_refine([1, 1], "muon"), ValueError, "kind"),
        (lambda: steepest.schedule_refine([1, 1], "adam", distance=1), ValueError, "distance"),
        (lambda: steepest.schedule_refine([1, 1], smoothing=2), ValueError, "smoothing"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()
