# SPDX-License-Identifier: Apache-2.0
import numpy as np
import numpy_reference as reference
import pytest
import steepest
from hypothesis import given
from hypothesis import strategies as st
from support import BF16, DTYPES, embed, f64, margins_untouched, rounding, seeds, storage

options = st.fixed_dictionaries(
    {
        "step": st.integers(1, 10000),
        "lr": st.floats(0, 0.1),
        "beta1": st.floats(0, 0.99),
        "beta2": st.floats(0, 0.999),
        "eps": st.sampled_from([0.0, 1e-8, 1e-3]),
        "weight_decay": st.floats(0, 0.5),
        "grad_scale": st.floats(0.1, 10),
        "maximize": st.booleans(),
    },
    optional={"coupled_l2": st.just(True), "cautious_decay": st.just(True)},
).filter(lambda chosen: len(chosen) < 10)


def new_state(rng, shape):
    return {
        "param": rng.standard_normal(shape),
        "grad": rng.standard_normal(shape),
        "exp_avg": rng.standard_normal(shape),
        "exp_avg_sq": rng.uniform(0.1, 2, shape),
    }


def close(array, expected, terms):
    return np.all(np.abs(f64(array) - expected) <= rounding(array, terms))


def check(arrays, before, chosen, delta=None):
    """Compares the arrays after a step with the formula on their values before it. What is added
    up may cancel, so errors are measured against the sizes of the terms."""
    param, m, v, largest, u = reference.adamw(**before, **chosen)
    w, old_m, old_v = (np.abs(f64(before[name])) for name in ("param", "exp_avg", "exp_avg_sq"))
    beta1, beta2, step = chosen["beta1"], chosen["beta2"], chosen["step"]
    g = np.abs(f64(before["grad"])) * chosen["grad_scale"]
    if chosen.get("coupled_l2"):
        g = g + chosen["weight_decay"] * w
    m_terms = beta1 * old_m + (1 - beta1) * g
    v_terms = beta2 * old_v + (1 - beta2) * g**2
    assert close(arrays["exp_avg"], m, m_terms)
    assert close(arrays["exp_avg_sq"], v, v_terms)

    used = v if largest is None else largest
    denominator = np.sqrt(used / (1 - beta2**step)) + chosen["eps"]
    with np.errstate(divide="ignore", invalid="ignore"):
        u_terms = m_terms / (1 - beta1**step) / denominator + np.abs(u) * (v_terms / used)
    known = np.isfinite(u_terms)
    if chosen.get("cautious_decay"):
        known &= np.abs(m) > 1e-5 * m_terms  # else the sign of u is a matter of rounding
    terms = np.maximum(w, np.abs(param)) + 4 * chosen["lr"] * u_terms
    terms = np.where(known, terms, np.inf)
    if delta is None:
        assert close(arrays["param"], param, terms)
    else:
        assert close(delta, param - f64(before["param"]), terms)
        assert np.array_equal(f64(arrays["param"]), f64(before["param"]))
    if largest is not None:
        assert close(arrays["max_exp_avg_sq"], largest, np.maximum(largest, v_terms))


@given(
    shapes=st.lists(st.lists(st.integers(0, 7), max_size=3), min_size=1, max_size=4),
    types=st.one_of(
        st.fixed_dictionaries(dict.fromkeys(["param", "grad", "exp_avg", "exp_avg_sq"], storage)),
        st.just(dict.fromkeys(["param", "grad", "exp_avg", "exp_avg_sq"], "float64")),
    ),
    offset=st.integers(0, 3),
    transposed=st.booleans(),
    amsgrad=st.booleans(),
    emit=st.booleans(),
    threads=st.integers(1, 2),
    chosen=options,
    seed=seeds,
)
def test_formula(shapes, types, offset, transposed, amsgrad, emit, threads, chosen, seed):
    rng = np.random.default_rng(seed)
    tensors = []
    for shape in shapes:
        state = new_state(rng, tuple(shape))
        wanted = dict(types)
        if amsgrad:
            state["max_exp_avg_sq"] = rng.uniform(0.1, 2, shape)
            wanted["max_exp_avg_sq"] = types["exp_avg_sq"]
        axes = tuple(rng.permutation(len(shape))) if transposed else None
        tensors.append(
            {
                name: embed(values, DTYPES[wanted[name]], axes=axes, offset=offset)
                for name, values in state.items()
            }
        )
        if emit:
            kind = "float64" if types["param"] == "float64" else "float32"
            tensors[-1]["delta"] = embed(np.zeros(shape), DTYPES[kind], axes=axes, offset=offset)
    before = [{name: array.copy() for name, array in tensor.items()} for tensor in tensors]
    lists = {name: [tensor[name] for tensor in tensors] for name in tensors[0]}

    assert steepest.adamw_step(**lists, **chosen, threads=threads)

    for tensor, old in zip(tensors, before):
        old.pop("delta", None)
        check(tensor, old, chosen, tensor.get("delta"))
        assert np.array_equal(f64(tensor["grad"]), f64(old["grad"]))
        assert all(margins_untouched(array, offset) for array in tensor.values())


def test_many_steps_follow_the_formula():
    rng = np.random.default_rng(1)
    state = new_state(rng, (13, 5))
    state["exp_avg"][:] = state["exp_avg_sq"][:] = 0
    expected = [state[name].copy() for name in ("param", "exp_avg", "exp_avg_sq")]
    for step in range(1, 101):
        state["grad"][:] = rng.standard_normal((13, 5))
        assert steepest.adamw_step(**state, step=step, lr=0.01)
        w, m, v = expected
        expected = reference.adamw(w, state["grad"], m, v, step=step, lr=0.01)[:3]
    np.testing.assert_allclose(state["param"], expected[0], rtol=1e-12, atol=1e-13)


def test_values_per_tensor_are_parameter_groups():
    rng = np.random.default_rng(2)
    states = [new_state(rng, (6,)) for _ in range(3)]
    alone = [{name: array.copy() for name, array in state.items()} for state in states]
    lists = {name: [state[name] for state in states] for name in states[0]}
    steepest.adamw_step(**lists, lr=[0.1, 0.2, 0.3], step=[1, 5, 9], weight_decay=np.ones(3))
    for state, lr, step in zip(alone, (0.1, 0.2, 0.3), (1, 5, 9)):
        steepest.adamw_step(**state, lr=lr, step=step, weight_decay=1.0)
    for state, other in zip(states, alone):
        assert all(np.array_equal(state[name], other[name]) for name in state)


def test_a_list_may_mix_plain_arrays_with_others():
    """Plain arrays are read a list at a time, others one by one: the results are the same."""
    rng = np.random.default_rng(6)

    def state(dtype, order="C", grad_readonly=False, empty=False):
        made = new_state(rng, (0, 3) if empty else (4, 3))
        made = {name: np.asarray(array, dtype, order=order) for name, array in made.items()}
        made["grad"].flags.writeable = not grad_readonly
        return made

    plain = [state("f4"), state(BF16), state("f4", empty=True), state("f2")]
    others = [state("f4", "F"), state("f4", grad_readonly=True), state(BF16, "F")]
    for states in (plain, plain + others):
        alone = [{n: a.copy(order="A") for n, a in one.items()} for one in states]
        lists = {name: [one[name] for one in states] for name in states[0]}
        assert steepest.adamw_step(**lists, step=3, lr=0.1)
        norm = steepest.grad_norm(lists["grad"]).norm
        assert norm == pytest.approx(np.sqrt(sum((f64(g) ** 2).sum() for g in lists["grad"])))
        for one in alone:
            assert steepest.adamw_step(**one, step=3, lr=0.1)
        for one, expected in zip(states, alone):
            assert all(np.array_equal(f64(one[n]), f64(expected[n])) for n in one)
    lists["exp_avg"][5] = readonly(lists["exp_avg"][5])
    with pytest.raises(ValueError, match=r"exp_avg\[5\] is read-only"):
        steepest.adamw_step(**lists, step=3)
    lists["exp_avg_sq"][3] = np.zeros((3, 4), "f2")
    with pytest.raises(ValueError, match=r"exp_avg_sq\[3\] has shape \(3, 4\), but param\[3\]"):
        steepest.adamw_step(**{n: a[:4] for n, a in lists.items()}, step=3)
    kinds = [np.zeros(3, "f4"), np.zeros(3, "f4")[:, None], [1.0]]
    with pytest.raises(TypeError, match=r"grads\[2\] is a list, not an array"):
        steepest.grad_norm(kinds)


def test_arrays_that_changed_in_place_are_read_anew():
    given = arrays()
    given["grad"][:] = 1
    steepest.adamw_step(**given, step=1)
    for array in given.values():
        array.resize((40, 60), refcheck=False)  # moves the data
    given["grad"][:] = 1
    steepest.adamw_step(**given, step=2)
    assert np.all(given["exp_avg"][10:] == np.float32(1 - 0.9))
    given["exp_avg"].shape = (60, 40)
    with pytest.raises(ValueError, match=r"exp_avg has shape \(60, 40\)"):
        steepest.adamw_step(**given, step=3)


def test_stats_and_skipping():
    rng = np.random.default_rng(3)
    states = [new_state(rng, (50,)) for _ in range(2)]
    lists = {name: [state[name] for state in states] for name in states[0]}
    before = [state["param"].copy() for state in states]
    grads = [state["grad"].copy() for state in states]
    stats = [None]
    u = [reference.adamw(**state, step=3)[-1] for state in states]
    assert steepest.adamw_step(**lists, step=3, stats=stats) is True
    assert len(stats) == 2
    for one, update, grad, param in zip(stats, u, grads, before):
        assert one.status == 0
        assert one.nonfinite == 0
        assert one.update_rms == pytest.approx(np.sqrt(np.mean(update**2)), rel=2e-6)
        assert one.grad_rms == pytest.approx(np.sqrt(np.mean(grad**2)), rel=2e-6)
        assert one.param_rms == pytest.approx(np.sqrt(np.mean(param**2)), rel=2e-6)
        assert np.isfinite(one.snr_momentum)

    states[1]["grad"][7] = np.inf
    before = [state["param"].copy() for state in states]
    assert steepest.adamw_step(**lists, step=4, stats=stats, skip_nonfinite=True) is False
    assert [one.nonfinite for one in stats] == [0, 1]
    assert [one.status for one in stats] == [0, -5]
    assert all(np.array_equal(state["param"], old) for state, old in zip(states, before))
    assert steepest.adamw_step(**lists, step=4, stats=stats) is True
    assert np.isnan(states[1]["param"][7])


def test_threads_and_consistent_do_not_change_bits():
    rng = np.random.default_rng(4)
    state = {name: array.astype(np.float32) for name, array in new_state(rng, (300000,)).items()}
    results = []
    for threads in (1, 2, None):
        copy = {name: array.copy() for name, array in state.items()}
        steepest.adamw_step(**copy, step=2, threads=threads, consistent=True)
        results.append(copy["param"])
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_no_tensors():
    assert steepest.adamw_step([], [], [], [], step=1)
    assert steepest.adamw_step([], [], [], [], step=1, lr=[])


def arrays(dtype=np.float32, shape=(4, 6)):
    return {name: np.zeros(shape, dtype) for name in ("param", "grad", "exp_avg", "exp_avg_sq")}


def readonly(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("error", "message", "changes"),
    [
        (ValueError, "exp_avg has shape (4, 5), but param", {"exp_avg": np.zeros((4, 5), "f4")}),
        (ValueError, "param is not contiguous", {"param": np.zeros((4, 12), "f4")[:, ::2]}),
        (ValueError, "grad has strides", {"grad": np.zeros((6, 4), "f4").T}),
        (ValueError, "param is read-only", {"param": readonly(np.zeros((4, 6), "f4"))}),
        (ValueError, "exp_avg_sq is read-only", {"exp_avg_sq": readonly(np.zeros((4, 6), "f4"))}),
        (TypeError, "grad is of dtype('int32')", {"grad": np.zeros((4, 6), "i4")}),
        (TypeError, "grad is of dtype('>f4')", {"grad": np.zeros((4, 6), ">f4")}),
        (TypeError, "grad is of dtype('complex64')", {"grad": np.zeros((4, 6), "c8")}),
        (TypeError, "exp_avg[0] is a float, not an array", {"exp_avg": [1.0]}),
        (TypeError, "exp_avg is a NoneType", {"exp_avg": None}),
        (ValueError, "exp_avg has 2 arrays", {"exp_avg": [np.zeros((4, 6), "f4")] * 2}),
        (TypeError, "grad", {"grad": np.zeros((4, 6))}),  # float64 beside float32
        (
            TypeError,
            "max_exp_avg_sq must have the type of exp_avg_sq",
            {"max_exp_avg_sq": np.zeros((4, 6), BF16)},
        ),
        (
            ValueError,
            "grad is not aligned",
            {"grad": np.zeros(97, "i1")[1:].view("f4").reshape(4, 6)},
        ),
        (ValueError, "config.lr", {"lr": -1.0}),
        (ValueError, "config.beta1", {"beta1": 1.0}),
        (ValueError, "config.eps", {"eps": float("nan")}),
        (ValueError, "config.step", {"step": 0}),
        (ValueError, "step is out of range", {"step": 2**63}),
        (TypeError, "step is 1.5, not an integer", {"step": 1.5}),
        (TypeError, "lr is 'fast', not a number", {"lr": "fast"}),
        (ValueError, "lr has 2 values for 1 tensors", {"lr": [0.1, 0.2]}),
        (ValueError, "COUPLED_L2", {"coupled_l2": True, "cautious_decay": True}),
        (ValueError, "num_threads", {"threads": -1}),
        (ValueError, "threads is out of range", {"threads": 2**32}),
    ],
)
def test_errors_name_the_argument_and_write_nothing(error, message, changes):
    given = {**arrays(), "step": 1, **changes}
    for array in given.values():
        if isinstance(array, np.ndarray) and array.flags.writeable:
            array[...] = 1
    with pytest.raises(error) as caught:
        steepest.adamw_step(**given)
    assert message in str(caught.value)
    for array in given.values():
        if isinstance(array, np.ndarray) and array.flags.writeable:
            assert np.all(array == 1)


def test_overlaps_are_refused():
    whole = np.zeros(10, np.float32)
    given = arrays(shape=(6,))
    given.update(param=whole[:6], exp_avg=whole[4:])
    with pytest.raises(steepest.InvalidArgumentError, match="overlaps"):
        steepest.adamw_step(**given, step=1)
    tied = arrays()
    with pytest.raises(ValueError, match=r"tensors\[1\]"):
        steepest.adamw_step(**{name: [array] * 2 for name, array in tied.items()}, step=1)


def test_param_may_be_read_only_when_only_its_change_is_wanted():
    given = arrays()
    given["grad"][:] = 1
    readonly(given["param"])
    readonly(given["grad"])
    delta = np.zeros((4, 6), np.float32)
    assert steepest.adamw_step(**given, step=1, delta=delta)
    np.testing.assert_allclose(delta, -1e-3, rtol=1e-6)
