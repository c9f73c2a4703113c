# SPDX-License-Identifier: Apache-2.0
"""Layouts in memory, and storage that moves between steps."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")
import steepest.torch as st
from steepest.torch import _rows
from torch_support import assert_close, assert_same_bits, layouts, make_params, run


@pytest.mark.parametrize("guards", [True, False])
@pytest.mark.parametrize("grad_layout", [name for name, _ in layouts()])
@pytest.mark.parametrize("param_layout", [name for name, _ in layouts()])
def test_layouts_of_parameter_and_gradient(param_layout, grad_layout, guards, monkeypatch):
    if not guards:  # the fallback where torch's private tensor guards are missing
        monkeypatch.setattr(_rows, "TensorGuards", None)
    ours = [torch.nn.Parameter(dict(layouts())[param_layout])]
    theirs = [torch.nn.Parameter(dict(layouts())["contiguous"])]
    strides = ours[0].stride()
    a, b = st.AdamW(ours, lr=0.1), torch.optim.AdamW(theirs, lr=0.1)
    for step in range(3):
        for p in (ours[0], theirs[0]):
            p.grad = dict(layouts())[grad_layout if p is ours[0] else "contiguous"] * (step - 0.5)
        a.step()
        b.step()
    assert ours[0].stride() == strides
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
    for key in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(a.state[ours[0]][key], b.state[theirs[0]][key])


def test_a_strided_parameter_leaves_its_neighbours_alone():
    wide = torch.zeros(5, 8)
    param = torch.nn.Parameter(wide[:, ::2])
    param.grad = torch.ones(5, 4)
    st.AdamW([param], lr=0.1).step()
    assert torch.all(wide[:, 1::2] == 0)
    assert torch.all(wide[:, ::2] != 0)


def test_negated_gradients():
    param = torch.nn.Parameter(torch.zeros(6))
    param.grad = torch._neg_view(torch.ones(6))
    optimizer = st.AdamW([param], lr=0.1)
    optimizer.step()
    assert torch.all(param > 0)
    param.grad = torch.ones(6)
    before = optimizer.state[param]["exp_avg"].clone()
    optimizer.step()
    assert torch.all(optimizer.state[param]["exp_avg"] > before)


def test_moments_in_another_layout_are_reordered():
    base = dict(layouts())["contiguous"]
    a = torch.nn.Parameter(base.clone(memory_format=torch.channels_last))
    b = torch.nn.Parameter(base.clone())
    first, second = st.AdamW([a], lr=0.1), st.AdamW([b], lr=0.1)
    for _ in range(2):
        a.grad, b.grad = base.clone(), base.clone()
        first.step()
        second.step()
        first.load_state_dict(copy.deepcopy(second.state_dict()))
    torch.testing.assert_close(a, b)


# ---- storage that moves


@pytest.mark.parametrize("guards", [True, False])
@pytest.mark.parametrize(
    "move",
    [
        lambda o, p: setattr(p, "data", p.data.clone()),
        lambda o, p: setattr(p, "data", p.data.t().contiguous().t()),
        lambda o, p: o.state[p].update(exp_avg=o.state[p]["exp_avg"].clone()),
        lambda o, p: setattr(o.state[p]["exp_avg_sq"], "data", o.state[p]["exp_avg_sq"].clone()),
        lambda o, p: o.state[p].update(step=torch.tensor(float(o.state[p]["step"]))),
        lambda o, p: o.state.update({p: dict(o.state[p])}),
        lambda o, p: o.load_state_dict(copy.deepcopy(o.state_dict())),
        lambda o, p: o.__setstate__(o.__getstate__()),
        lambda o, p: o.param_groups[0].update(params=list(o.param_groups[0]["params"])),
    ],
)
def test_moved_storage_is_noticed(move, guards, monkeypatch):
    if not guards:
        monkeypatch.setattr(_rows, "TensorGuards", None)
    still, moved = make_params(), make_params()
    a, b = st.AdamW(still, lr=0.1), st.AdamW(moved, lr=0.1)
    keep = []  # old storage stays allocated: only the results show that it was used
    for step in range(6):
        for optimizer, params in ((a, still), (b, moved)):
            run(optimizer, params, 1, start=step)
        keep += [b.state[moved[3]]["exp_avg_sq"].detach(), moved[3].data]
        move(b, moved[3])
    assert_same_bits(still, moved)
    assert a.state[still[3]]["step"] == b.state[moved[3]]["step"] == 6


def test_a_changed_type_or_shape_is_noticed():
    param = torch.nn.Parameter(torch.ones(8))
    optimizer = st.AdamW([param], lr=0.1)
    param.grad = torch.ones(8)
    optimizer.step()
    param.data = param.data.double()
    param.grad = torch.ones(8, dtype=torch.float64)
    optimizer.step()
    assert optimizer.state[param]["exp_avg"].dtype == torch.float64
    param.data = torch.ones(5, dtype=torch.float64)
    param.grad = torch.ones(5, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"exp_avg .*shape \(8,\), not \(5,\)"):
        optimizer.step()


def test_steps_that_the_user_sets_count():
    ours, theirs = make_params(), make_params()
    for params, cls in ((ours, st.AdamW), (theirs, torch.optim.AdamW)):
        optimizer = cls(params, lr=1e-2)
        run(optimizer, params, 3)
        optimizer.state[params[3]]["step"].fill_(50)
        run(optimizer, params, 3, start=3)
    assert_close(ours, theirs)


def test_amsgrad_can_be_switched_on():
    params = make_params()
    optimizer = st.AdamW(params, lr=1e-2)
    run(optimizer, params, 3)
    optimizer.param_groups[0]["amsgrad"] = True
    run(optimizer, params, 3, start=3)
    assert torch.all(
        optimizer.state[params[3]]["max_exp_avg_sq"] >= optimizer.state[params[3]]["exp_avg_sq"]
    )


def test_new_groups_and_cleared_state():
    params = make_params()
    optimizer = st.AdamW(params[:3], lr=1e-2)
    run(optimizer, params, 2)
    optimizer.add_param_group({"params": params[3:], "lr": 0.1})
    run(optimizer, params, 2)
    assert optimizer.state[params[3]]["step"] == 2
    assert optimizer.state[params[0]]["step"] == 4
    optimizer.state.clear()
    run(optimizer, params, 1)
    assert optimizer.state[params[0]]["step"] == 1


def test_an_exchanged_group_is_noticed():
    params = make_params()
    optimizer = st.AdamW(params, lr=1e-2)
    run(optimizer, params, 1)
    before = [p.detach().clone() for p in params]
    optimizer.param_groups[0] = {**optimizer.param_groups[0], "lr": 0.0}
    run(optimizer, params, 1)
    assert_same_bits(before, params)


def test_the_version_counter_tells_autograd():
    param = torch.nn.Parameter(torch.ones(3))
    optimizer = st.AdamW([param])
    loss = (param**2).sum()
    param.grad = torch.ones(3)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
