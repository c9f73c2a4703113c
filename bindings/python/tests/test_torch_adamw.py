# SPDX-License-Identifier: Apache-2.0
"""steepest.torch.AdamW against torch.optim.AdamW."""

from __future__ import annotations

import copy
import io
import itertools
import pickle

import pytest

torch = pytest.importorskip("torch")
import steepest.torch as st
from torch_support import assert_close, assert_same_bits, make_params, run, set_grads

TOLERANCE = {torch.float64: 1e-11, torch.float32: 5e-5, torch.bfloat16: 0.3, torch.float16: 0.02}

FLAGS = [
    {"weight_decay": decay, "amsgrad": amsgrad, "maximize": maximize}
    for decay, amsgrad, maximize in itertools.product((0.0, 0.1), (False, True), (False, True))
]


@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_500_steps_agree_with_torch(dtype, flags):
    eps = 1e-3 if dtype == torch.float16 else 1e-8  # torch's own tests: f16 underflows
    ours, theirs = make_params(dtype=dtype), make_params(dtype=dtype)
    options = dict(lr=1e-2, betas=(0.8, 0.95), eps=eps, **flags)
    for optimizer, params in (
        (st.AdamW(ours, **options), ours),
        (torch.optim.AdamW(theirs, fused=True, **options), theirs),
    ):
        run(optimizer, params, 500)
    assert_close(ours, theirs, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_one_step_of_16_bits_is_the_rounded_exact_step(dtype):
    ours, exact = make_params(dtype=dtype), make_params(dtype=dtype)
    exact = [torch.nn.Parameter(p.detach().double()) for p in exact]
    a, b = st.AdamW(ours, lr=0.1), torch.optim.AdamW(exact, lr=0.1)
    set_grads(ours, 0)
    for p, q in zip(ours, exact):
        q.grad = p.grad.double()
    a.step()
    b.step()
    for p, q in zip(ours, exact):
        assert torch.equal(p, q.to(dtype)) or (p.double() - q).abs().max() < 2e-2


def test_groups_have_their_own_options_and_steps():
    ours, theirs = make_params(), make_params()

    def groups(params):
        return [
            {"params": params[:3], "lr": 3e-2, "weight_decay": 0.0},
            {"params": params[3:5], "betas": (0.5, 0.6), "amsgrad": True},
            {"params": params[5:]},
        ]

    for params, cls in ((ours, st.AdamW), (theirs, torch.optim.AdamW)):
        optimizer = cls(groups(params), lr=1e-2)
        for step in range(60):
            set_grads(params, step)
            for k, p in enumerate(params):  # some parameters have a gradient now and then only
                if step % (k + 1):
                    p.grad = None
            optimizer.step()
        if cls is st.AdamW:
            counted = [optimizer.state[p]["step"].item() for p in params]
    assert counted == [len([s for s in range(60) if s % (k + 1) == 0]) for k in range(len(ours))]
    assert_close(ours, theirs)


def test_state_has_torchs_keys_types_and_order():
    ours, theirs = make_params(), make_params()
    a, b = st.AdamW(ours, amsgrad=True), torch.optim.AdamW(theirs, amsgrad=True)
    for optimizer, params in ((a, ours), (b, theirs)):
        run(optimizer, params, 2)
    mine, torchs = a.state_dict(), b.state_dict()
    assert mine["state"].keys() == torchs["state"].keys()
    for key, state in torchs["state"].items():
        assert list(mine["state"][key]) == list(state)
        for name, value in state.items():
            found = mine["state"][key][name]
            assert (found.dtype, found.shape) == (value.dtype, value.shape), name
    assert torchs["param_groups"][0].items() <= mine["param_groups"][0].items()


@pytest.mark.parametrize("amsgrad", [False, True])
def test_resume_from_torch_and_back(amsgrad):
    options = {"lr": 1e-2, "weight_decay": 0.1, "amsgrad": amsgrad}
    params = make_params()
    theirs = torch.optim.AdamW(params, **options)
    run(theirs, params, 20)
    file = io.BytesIO()
    torch.save(theirs.state_dict(), file)
    file.seek(0)
    start = [p.detach().clone() for p in params]

    # torch's checkpoint in ours is torch's state to the bit
    ours = st.AdamW(params, lr=7.0, cautious=False)
    ours.load_state_dict(torch.load(file, weights_only=True))
    assert ours.param_groups[0]["lr"] == 1e-2
    for p in params:
        for key, value in theirs.state[p].items():
            assert torch.equal(ours.state[p][key], value)
    run(ours, params, 20, start=20)
    # and goes on as torch would have
    twin = [torch.nn.Parameter(p) for p in start]
    file.seek(0)
    other = torch.optim.AdamW(twin, **options)
    other.load_state_dict(torch.load(file, weights_only=True))
    run(other, twin, 20, start=20)
    assert_close(params, twin)

    # back to torch, in mid-training
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    back = torch.optim.AdamW(params, **options)
    back.load_state_dict(torch.load(file, weights_only=True))
    run(back, params, 20, start=40)
    run(other, twin, 20, start=40)
    assert_close(params, twin)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("state_dtype", [None, torch.float32], ids=str)
def test_resuming_is_bit_identical(dtype, state_dtype):
    options = {"lr": 1e-2, "amsgrad": True, "state_dtype": state_dtype}
    whole = make_params(dtype=dtype)
    run(st.AdamW(whole, **options), whole, 30)

    parts = make_params(dtype=dtype)
    first = st.AdamW(parts, **options)
    run(first, parts, 13)
    file = io.BytesIO()
    torch.save({"model": parts, "optimizer": first.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    parts = [torch.nn.Parameter(p.detach()) for p in saved["model"]]
    second = st.AdamW(parts, **options)
    second.load_state_dict(saved["optimizer"])
    run(second, parts, 17, start=13)
    assert_same_bits(whole, parts)
    if state_dtype and dtype != state_dtype:
        assert second.state[parts[3]]["exp_avg"].dtype == state_dtype


def test_old_checkpoints_load():
    params = make_params()
    optimizer = st.AdamW(params)
    run(optimizer, params, 3)
    old = copy.deepcopy(optimizer.state_dict())
    for state in old["state"].values():
        state["step"] = int(state["step"])  # as before torch 1.12
    for key in ("foreach", "maximize", "capturable", "differentiable", "fused"):
        del old["param_groups"][0][key]
    other = make_params()
    for p, q in zip(params, other):
        q.data.copy_(p.data)
    second = st.AdamW(other)
    second.load_state_dict(old)
    run(optimizer, params, 3, start=3)
    run(second, other, 3, start=3)
    assert_same_bits(params, other)
    assert torch.is_tensor(second.state[other[0]]["step"])


def test_our_options_survive_torchs_checkpoint():
    params = make_params()
    theirs = torch.optim.AdamW(params)
    run(theirs, params, 1)
    ours = st.AdamW([{"params": params, "cautious": True}])
    ours.load_state_dict(theirs.state_dict())
    assert ours.param_groups[0]["cautious"] is True


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_copies_go_on_alike(way):
    params = make_params()
    optimizer = st.AdamW(params, lr=1e-2, max_grad_norm=1.0)
    run(optimizer, params, 5)
    if way == "deepcopy":
        twins, twin = copy.deepcopy((params, optimizer))
    else:
        twins, twin = pickle.loads(pickle.dumps((params, optimizer)))
    assert twin.max_grad_norm == 1.0
    run(optimizer, params, 5, start=5)
    run(twin, twins, 5, start=5)
    assert_same_bits(params, twins)


def test_tensor_lr_and_schedulers():
    ours, theirs = make_params(), make_params()
    for params, cls in ((ours, st.AdamW), (theirs, torch.optim.AdamW)):
        optimizer = cls(params, lr=torch.tensor(1e-2))
        schedule = torch.optim.lr_scheduler.SequentialLR(
            optimizer,
            [
                torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 10),
                torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20),
            ],
            [10],
        )
        for step in range(30):
            set_grads(params, step)
            optimizer.step()
            schedule.step()
    assert_close(ours, theirs)


def test_one_cycle_moves_betas():
    ours, theirs = make_params(), make_params()
    for params, cls in ((ours, st.AdamW), (theirs, torch.optim.AdamW)):
        optimizer = cls(params)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=30)
        for step in range(30):
            set_grads(params, step)
            optimizer.step()
            schedule.step()
    assert_close(ours, theirs)


def test_closure_and_its_loss():
    params = make_params(shapes=[(4, 3)])
    optimizer = st.AdamW(params, lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (params[0] ** 2).sum()
        assert torch.is_grad_enabled()
        loss.backward()
        return loss

    with torch.no_grad():
        losses = [optimizer.step(closure).item() for _ in range(20)]
    assert losses[-1] < losses[0]


def test_hooks_run_around_the_step():
    params = make_params()
    optimizer = st.AdamW(params)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(len(optimizer.state)))
    optimizer.register_step_post_hook(lambda *_: seen.append(len(optimizer.state)))
    run(optimizer, params, 1)
    assert seen == [0, len(params)]
