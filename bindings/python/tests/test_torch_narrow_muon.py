# SPDX-License-Identifier: Apache-2.0
"""Narrow momentum and masters in Muon and MuonAdamW."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")
import steepest.torch as st
from narrow_support import BF16, assert_same_state, bytes_of, descend, parameters
from torch_support import assert_same_bits

SHAPES = [(64, 96), (130, 40), (12, 9)]  # the last has less than 4096 elements

MODES = {
    "f32": (torch.float32, {}),
    "bf16 momentum": (torch.float32, {"state_dtype": BF16}),
    "q8_dynamic": (torch.float32, {"state_dtype": "q8_dynamic"}),
    "q8_companded": (torch.float32, {"state_dtype": "q8_companded"}),
    "q8 stochastic": (BF16, {"state_dtype": "q8_companded", "rounding": "stochastic"}),
    "bf16 stochastic": (BF16, {"rounding": "stochastic"}),
    "split": (BF16, {"master": "split", "state_dtype": torch.float32}),
    "split-low": (BF16, {"master": "split-low", "state_dtype": torch.float32}),
    "split8": (BF16, {"master": "split8", "state_dtype": torch.float32}),
    "kahan": (BF16, {"master": "kahan", "state_dtype": torch.float32}),
    "f32 master": (BF16, {"master": "f32", "state_dtype": torch.float32}),
    "split, 8 bits": (BF16, {"master": "split", "state_dtype": "q8_companded"}),
}
NAMES = list(MODES)
# How far from float32 after 60 steps, as a share of the way. Orthogonalisation weighs the small
# singular values of the momentum as much as the large ones, and so the errors in them.
CLOSE = dict.fromkeys(NAMES, 0.002) | {
    "bf16 momentum": 0.004,
    "q8_dynamic": 0.03,
    "q8_companded": 0.012,
    "q8 stochastic": 0.15,
    "bf16 stochastic": 0.15,
    "split, 8 bits": 0.012,
}


def make(mode, **more):
    dtype, options = MODES[mode]
    params = parameters(dtype, SHAPES)
    return st.Muon(params, lr=2e-2, **{**options, **more}), params


@pytest.mark.parametrize("mode", NAMES[1:])
def test_steps_stay_close_to_those_with_float32(mode):
    exact, wide = make("f32")
    start = torch.cat([p.detach().flatten() for p in wide])
    descend(exact, wide, 60)
    optimizer, params = make(mode)
    descend(optimizer, params, 60)
    after = torch.cat([optimizer.master(p).flatten() for p in params])
    wanted = torch.cat([p.detach().flatten() for p in wide])
    distance = float((after - wanted).norm() / (wanted - start).norm())
    assert distance < CLOSE[mode], distance


@pytest.mark.parametrize("mode", NAMES)
def test_a_run_goes_on_from_a_checkpoint_with_the_same_bits(mode):
    whole, params = make(mode, seed=7)
    descend(whole, params, 4)
    first, others = make(mode, seed=7)
    descend(first, others, 2)
    fresh = [torch.nn.Parameter(p.detach().clone()) for p in others]
    second = st.Muon(fresh, lr=1.0)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    descend(second, fresh, 2, start=2)
    assert_same_bits(params, fresh)
    assert_same_state(whole, second)


def test_what_a_state_holds():
    optimizer, params = make("split, 8 bits")
    descend(optimizer, params, 1)
    state = optimizer.state[params[0]]
    assert set(state) == {"step", "format", "momentum_buffer", "momentum_buffer_scales", "residual"}
    assert state["format"] == {"momentum_buffer": "q8_companded", "param": "split"}
    assert optimizer.state[params[2]]["momentum_buffer"].dtype == torch.float32
    sizes = [p.numel() for p in params]
    assert bytes_of(optimizer) == sum(1.0625 * n + 2 * n for n in sizes[:2]) + 6 * sizes[2] + 1


def test_torchs_checkpoints_go_into_8_bits_and_back():
    params = parameters(torch.float32, SHAPES)
    first = torch.optim.Muon(params, lr=1e-2)
    descend(first, params, 2)
    fresh = [torch.nn.Parameter(p.detach().clone()) for p in params]
    second = st.Muon(fresh, state_dtype="q8_dynamic")
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.state[fresh[0]]["momentum_buffer"].dtype == torch.uint8
    third = st.Muon([torch.nn.Parameter(p.detach().clone()) for p in fresh])
    third.param_groups[0]["state_dtype"] = torch.float32
    third.load_state_dict(second.state_dict())
    for old, new in zip(params, third.param_groups[0]["params"]):
        a, b = first.state[old]["momentum_buffer"], third.state[new]["momentum_buffer"]
        assert (a - b).abs().max() <= 0.04 * a.abs().max()


def test_muon_and_adamw_together():
    def run(**options):
        params = parameters(BF16, [(64, 96), (5000,)])
        groups = [
            {"params": params[:1], "use_muon": True},
            {"params": params[1:], "use_muon": False},
        ]
        optimizer = st.MuonAdamW(groups, lr=1e-3, **options)
        descend(optimizer, params, 3)
        return optimizer, params

    dictionary = {"momentum_buffer": "q8_dynamic", "exp_avg_sq": "q8_companded"}
    optimizer, params = run(state_dtype=dictionary, master="split", rounding="stochastic", seed=3)
    first, second = (optimizer.state[p] for p in params)
    assert first["format"] == {"momentum_buffer": "q8_dynamic", "param": "split"}
    assert second["format"] == {"exp_avg_sq": "q8_companded", "param": "split"}
    assert second["exp_avg"].dtype == BF16
    _, others = run(state_dtype=dictionary, master="split", rounding="stochastic", seed=3)
    assert_same_bits(params, others)
    optimizer, params = run(state_dtype=("q8_dynamic", torch.float32))
    assert optimizer.state[params[0]]["momentum_buffer"].dtype == torch.uint8
    assert optimizer.state[params[1]]["exp_avg_sq"].dtype == torch.float32
    loaded = st.MuonAdamW(
        [{**group, "params": [torch.nn.Parameter(p.detach().clone()) for p in group["params"]]}
         for group in optimizer.param_groups]
    )  # fmt: skip
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert_same_state(optimizer, loaded)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state_dtype": "q4"}, "state_dtype is 'q4'"),
        ({"state_dtype": (BF16, BF16)}, r"must be one type, or for AdamW a pair"),
        ({"master": "half"}, "master is 'half'"),
        ({"rounding": "up"}, "rounding is 'up'"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        st.Muon(parameters(torch.float32, SHAPES), **options)
