# SPDX-License-Identifier: Apache-2.0
"""Narrow state and masters in the torch optimizers."""

from __future__ import annotations

import copy
import functools
import io
import pickle

import pytest

torch = pytest.importorskip("torch")
import steepest.torch as st
from narrow_support import (
    BF16,
    MODES,
    NAMES,
    SHAPES,
    assert_same_state,
    bytes_of,
    descend,
    parameters,
)
from torch_support import assert_same_bits


def make(mode, **more):
    dtype, options = MODES[mode]
    params = parameters(dtype)
    return st.AdamW(params, lr=2e-3, betas=(0.9, 0.99), **{**options, **more}), params


def saved_and_loaded(state_dict):
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@functools.cache
def reference():
    """Where 500 steps with float32 everything go, and how far from the start that is."""
    optimizer, params = make("f32")
    before = torch.cat([p.detach().flatten() for p in params])
    descend(optimizer, params, 500)
    after = torch.cat([p.detach().flatten() for p in params])
    return after, (after - before).square().mean().sqrt()


# The distance after 500 steps, as a share of the way: about twice what it is.
@pytest.mark.parametrize("mode", NAMES[1:])
def test_500_steps_stay_close_to_those_with_float32(mode):
    optimizer, params = make(mode)
    descend(optimizer, params, 500)
    after = torch.cat([optimizer.master(p).flatten() for p in params])
    wanted, way = reference()
    distance = float((after - wanted).square().mean().sqrt() / way)
    assert distance < CLOSE[mode], distance


CLOSE = {
    "q8_dynamic": 0.04,
    "q8_companded": 0.012,
    "pair": 0.012,
    "dictionary": 0.035,
    "bf16 stochastic": 0.15,
    "q8 stochastic": 0.15,
    "split": 4e-4,
    "split-low": 4e-3,  # the gradient is that of parameters rounded towards zero
    "split8": 6e-4,
    "kahan": 4e-4,
    "kahan f16": 6e-5,
    "f32 master": 4e-4,
    "f32 master f16": 6e-5,
    "split, 8 bits": 0.012,
}


@pytest.mark.parametrize("mode", NAMES)
def test_a_run_goes_on_from_a_checkpoint_with_the_same_bits(mode):
    whole, params = make(mode, seed=7)
    descend(whole, params, 6)
    first, others = make(mode, seed=7)
    descend(first, others, 3)
    state = saved_and_loaded(first.state_dict())
    fresh = [torch.nn.Parameter(p.detach().clone()) for p in others]
    second = st.AdamW(fresh, lr=1.0)  # everything is taken from the checkpoint
    second.load_state_dict(copy.deepcopy(state))  # torch's own loading copies no plain moments
    descend(second, fresh, 3, start=3)
    assert_same_bits(params, fresh)
    assert_same_state(whole, second)
    third, again = make(mode, seed=8)  # the same options, but for the seed: it is the run's own
    third.load_state_dict(state)
    for p, value in zip(again, others):
        p.data.copy_(value.data)
    descend(third, again, 3, start=3)
    assert_same_bits(params, again)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
@pytest.mark.parametrize("mode", NAMES)
def test_copies_go_on_with_the_same_bits(mode, duplicate):
    optimizer, params = make(mode)
    descend(optimizer, params, 2)
    other = duplicate(optimizer)
    copies = other.param_groups[0]["params"]
    descend(optimizer, params, 2, start=2)
    descend(other, copies, 2, start=2)
    assert_same_bits(params, copies)
    assert_same_state(optimizer, other)


def test_what_a_state_holds():
    optimizer, params = make("split, 8 bits")
    descend(optimizer, params, 1)
    state = optimizer.state[params[0]]
    assert set(state) == {
        "step", "format", "exp_avg", "exp_avg_scales", "exp_avg_sq", "exp_avg_sq_scales", "residual"
    }  # fmt: skip
    assert state["format"] == {
        "exp_avg": "q8_companded",
        "exp_avg_sq": "q8_companded",
        "param": "split",
    }
    assert state["exp_avg"].dtype == torch.uint8 and state["exp_avg"].shape == SHAPES[0]
    assert state["exp_avg_scales"].dtype == torch.int16
    assert len(state["exp_avg_scales"]) == -(-params[0].numel() // 32)
    small = optimizer.state[params[2]]
    assert small["format"] == {"param": "split"}
    assert small["exp_avg"].dtype == small["exp_avg_sq"].dtype == torch.float32
    plain, params = make("f32")
    descend(plain, params, 1)
    assert set(plain.state[params[0]]) == {"step", "exp_avg", "exp_avg_sq"}


# Bytes of state per element beside the parameter's own, and of the small tensors.
@pytest.mark.parametrize(
    ("mode", "large", "small"),
    [
        ("f32", 8, 8),
        ("q8_dynamic", 2 * (1 + 4 / 256), 8),
        ("q8_companded", 2 * (1 + 2 / 32), 8),
        ("bf16 stochastic", 4, 4),
        ("split", 10, 10),
        ("split8", 9, 9),
        ("kahan", 10, 10),
        ("f32 master", 12, 12),
        ("split, 8 bits", 2 * (1 + 2 / 32) + 2, 10),
    ],
)
def test_memory(mode, large, small):
    optimizer, params = make(mode)
    descend(optimizer, params, 1)
    sizes = [p.numel() for p in params]
    wanted = large * sum(n for n in sizes if n >= 4096) + small * sum(n for n in sizes if n < 4096)
    assert wanted <= bytes_of(optimizer) < wanted + 16  # the last, short blocks


@pytest.mark.parametrize("name", ["split", "split-low", "f32"])
def test_exact_masters_are_those_of_float32(name):
    """The gradients do not depend on the parameters here, so the masters are float32's bits."""
    exact, wide = st.AdamW(parameters(torch.float32), lr=1e-2), parameters(BF16)
    ours = st.AdamW(wide, lr=1e-2, master=name, state_dtype=torch.float32)
    floats = exact.param_groups[0]["params"]
    for step in range(20):
        for p, q in zip(floats, wide):
            g = torch.Generator().manual_seed(step)
            q.grad = torch.randn(p.shape, generator=g).bfloat16()
            p.grad = q.grad.float()
        exact.step()
        ours.step()
    for p, q in zip(floats, wide):
        torch.testing.assert_close(ours.master(q), p.detach(), rtol=1e-5, atol=1e-6)
        if name == "split-low":
            shown = (p.detach().view(torch.int32) >> 16 << 16).view(torch.float32)
        else:
            shown = p.detach().bfloat16().float()
        close = (q.detach().float() - shown).abs() <= p.detach().abs() * 2.0**-7 + 1e-30
        assert close.all()
        assert (q.detach().float() == shown).float().mean() > 0.98


@pytest.mark.parametrize("dtype", [BF16, torch.float16])
def test_a_parameter_that_is_written_between_steps(dtype):
    """Its new values replace those of a float32 master; the others keep theirs."""
    params = parameters(dtype, [(5000,)])
    optimizer = st.AdamW(params, lr=1e-3, master="f32")
    descend(optimizer, params, 3)
    before = optimizer.master(params[0])
    with torch.no_grad():
        params[0][100] = 7.5
    params[0].grad = torch.zeros_like(params[0])
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    after = optimizer.master(params[0])
    assert after[100] == 7.5 == params[0][100]
    after[100] = before[100]
    assert torch.equal(before, after)


@pytest.mark.parametrize("mode", ["q8_dynamic", "q8 stochastic", "split", "f32 master"])
def test_layouts(mode):
    """Blocks and random numbers follow memory; what has gaps is stepped in a copy."""
    dtype, options = MODES[mode]
    values = parameters(dtype, [(8, 6, 16, 16)])[0].detach()
    wide = torch.zeros(8, 6, 16, 32, dtype=dtype)
    wide[..., ::2] = values
    results = []
    for data in (values.clone(), wide[..., ::2]):
        param = torch.nn.Parameter(data)
        optimizer = st.AdamW([param], lr=1e-2, **options)
        descend(optimizer, [param], 3)
        results.append(param.detach().clone())
    assert torch.equal(*results)
    last = torch.nn.Parameter(values.clone(memory_format=torch.channels_last))
    optimizer = st.AdamW([last], lr=1e-2, **options)
    descend(optimizer, [last], 3)
    assert last.is_contiguous(memory_format=torch.channels_last)
    difference = (last.detach().float() - results[0].float()).abs()
    assert difference.mean() < 0.01 and not torch.equal(last.detach(), values)
    # Loaded into another layout, the blocks are formed anew.
    row_major = torch.nn.Parameter(last.detach().contiguous())
    second = st.AdamW([row_major], lr=1e-2, **options)
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    descend(second, [row_major], 2, start=3)
    descend(optimizer, [last], 2, start=3)
    assert (last.detach().float() - row_major.detach().float()).abs().mean() < 0.01


def test_groups_with_storage_of_their_own():
    params = [*parameters(BF16), *parameters(torch.float32, [(5000,), (5000,)])]
    groups = [
        {"params": params[:2], "master": "split"},
        {"params": params[2:4]},
        {"params": params[4:5], "state_dtype": "q8_companded", "rounding": "stochastic"},
        {"params": params[5:], "master": "kahan"},  # float32: it has none
    ]
    optimizer = st.AdamW(groups, lr=1e-2, state_dtype=torch.float32)
    descend(optimizer, params, 3)
    formats = [optimizer.state[p].get("format") for p in params]
    eight = {"exp_avg": "q8_companded", "exp_avg_sq": "q8_companded"}
    assert formats == [{"param": "split"}, {"param": "split"}, None, None, eight, None]
    new = parameters(BF16, [(6000,)])
    optimizer.add_param_group({"params": new, "state_dtype": "q8_dynamic", "master": "split8"})
    descend(optimizer, params + new, 2, start=3)
    assert optimizer.state[new[0]]["format"]["param"] == "split8"
    assert optimizer.state[new[0]]["step"] == 2 and optimizer.state[params[0]]["step"] == 5


def test_random_numbers_are_the_seeds_and_the_places():
    def run(**options):
        params = parameters(BF16, [(5000,)] * 2)
        with torch.no_grad():
            params[1].copy_(params[0])
        optimizer = st.AdamW(params, lr=1e-4, weight_decay=0.0, rounding="stochastic", **options)
        for _ in range(3):
            for p in params:
                p.grad = torch.ones_like(p)
            optimizer.step()
        return [p.detach() for p in params]

    one, two = run(), run()
    assert_same_bits(one, two)
    assert not torch.equal(*one)  # another place in the optimizer
    assert not torch.equal(one[0], run(seed=1)[0])
    # Unbiased: 3 steps of 1e-4, each much less than half an ulp.
    moved = one[0].float() - parameters(BF16, [(5000,)])[0].detach().float()
    assert abs(float(moved.mean()) + 3e-4) < 5 * float(moved.std()) / 5000**0.5


def test_skipping_clipping_and_threads():
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            optimizer, params = make("q8 stochastic", skip_nonfinite=True, max_grad_norm=1.0)
            descend(optimizer, params, 2)
            state = copy.deepcopy(optimizer)
            params[0].grad[3, 3] = float("nan")
            optimizer.step()
            assert optimizer.skipped
            assert_same_state(optimizer, state)
            descend(optimizer, params, 2, start=2)
            results.append(params)
    finally:
        torch.set_num_threads(before)
    assert_same_bits(*results)


# ---- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state_dtype": "q4"}, "state_dtype is 'q4': must be a floating-point torch.dtype or one"),
        ({"state_dtype": torch.int8}, "state_dtype is torch.int8"),
        ({"state_dtype": ("q8_dynamic",) * 3}, r"or for AdamW a pair \(exp_avg, exp_avg_sq\)"),
        ({"state_dtype": {"momentum": BF16}}, r"state_dtype has 'momentum': the moments are"),
        ({"master": "half"}, r"master is 'half': must be None or one of \['split', 'split-low'"),
        ({"rounding": "up"}, "rounding is 'up': must be 'nearest' or 'stochastic'"),
        ({"seed": -1}, r"seed is -1: must be an integer in \[0, 2\*\*63\)"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"amsgrad": True, "state_dtype": "q8_dynamic"}, "amsgrad=True: exp_avg_sq cannot have 8"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        st.AdamW(parameters(torch.float32), **options)
    optimizer = st.AdamW(parameters(torch.float32))
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": parameters(torch.float32), **options})
    assert len(optimizer.param_groups) == 1


def test_parameters_that_cannot_have_what_is_asked_for():
    for dtype, options, message in (
        (torch.float16, {"master": "split"}, r"master 'split' needs bfloat16 parameters"),
        (torch.float64, {"state_dtype": "q8_dynamic"}, "a float64 parameter has float64 moments"),
    ):
        params = parameters(dtype, [(5000,)])
        optimizer = st.AdamW([("weight", params[0])], **options)
        with pytest.raises(TypeError, match=f"AdamW: weight: .*{message}"):
            descend(optimizer, params, 1)
