# SPDX-License-Identifier: Apache-2.0
"""steepest.torch.AdamW against torch.optim.AdamW."""

from __future__ import annotations

import copy
import functools
import io
import itertools
import pickle

import pytest

torch = pytest.importorskip("torch")
import steepest.torch as st
from steepest.torch import _rows

torch.set_num_threads(1)  # the tests of threads set their own number

SHAPES = [(), (1,), (7,), (33, 5), (2, 3, 4, 5), (0, 4), (130,)]
TOLERANCE = {torch.float64: 1e-11, torch.float32: 5e-5, torch.bfloat16: 0.3, torch.float16: 0.02}


def make_params(seed=0, dtype=torch.float32, shapes=SHAPES):
    g = torch.Generator().manual_seed(seed)
    return [
        torch.nn.Parameter(torch.randn(s, generator=g, dtype=torch.float64).to(dtype))
        for s in shapes
    ]


@functools.cache
def noise(seed, shape):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64)


def set_grads(params, step, scale=1.0, drift=0.3):
    """Gradients that are the same for equal steps: noise about a fixed direction."""
    for k, p in enumerate(params):
        mean = noise(k, tuple(p.shape))
        p.grad = (scale * (noise(100 * (step % 50 + 1) + k, tuple(p.shape)) + drift * mean)).to(
            p.dtype
        )


def run(optimizer, params, steps, start=0, **kwargs):
    for step in range(start, start + steps):
        set_grads(params, step, **kwargs)
        optimizer.step()
        optimizer.zero_grad()


def assert_same_bits(a, b):
    for left, right in zip(a, b, strict=True):
        assert left.dtype == right.dtype
        assert torch.equal(left, right), (left - right).abs().max()


def assert_close(ours, theirs, atol=2e-5):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=atol)


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


# ---- memory layouts


def layouts(shape=(4, 6, 5, 3)):
    g = torch.Generator().manual_seed(5)
    base = torch.randn(shape, generator=g)
    yield "contiguous", base.clone()
    yield "channels_last", base.clone(memory_format=torch.channels_last)
    yield "permuted", base.permute(2, 0, 3, 1).contiguous().permute(1, 3, 0, 2)
    wide = torch.randn(4, 6, 5, 6, generator=g)
    wide[..., ::2] = base
    yield "strided", wide[..., ::2]
    buffer = torch.zeros(base.numel() + 3)
    buffer[3:] = base.flatten()
    yield "offset", buffer[3:].view(shape)
    tall = torch.zeros(8, 6, 5, 3)
    tall[2:6] = base
    yield "rows of a larger one", tall[2:6]


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


# ---- clipping, scaling, statistics


def test_max_grad_norm_is_clip_grad_norm():
    ours, theirs = make_params(), make_params()
    a = st.AdamW(ours, lr=1e-2, max_grad_norm=0.7, weight_decay=0)
    b = torch.optim.AdamW(theirs, lr=1e-2, weight_decay=0)
    for step in range(20):
        set_grads(ours, step, scale=10.0 if step % 3 else 1e-3)
        set_grads(theirs, step, scale=10.0 if step % 3 else 1e-3)
        kept = [p.grad.clone() for p in ours]
        norm = torch.nn.utils.clip_grad_norm_(theirs, 0.7)
        a.step()
        b.step()
        assert a.grad_norm == pytest.approx(norm.item(), rel=1e-5)
        assert_same_bits(kept, [p.grad for p in ours])
    assert_close(ours, theirs)


def test_skip_nonfinite():
    params = make_params()
    before = [p.detach().clone() for p in params]
    optimizer = st.AdamW(params, skip_nonfinite=True)
    set_grads(params, 0)
    params[3].grad[2, 2] = float("nan")
    optimizer.step()
    assert optimizer.skipped
    assert_same_bits(before, params)
    set_grads(params, 0)
    optimizer.step()
    assert not optimizer.skipped
    assert optimizer.state[params[3]]["step"] == 1


def test_clipping_what_is_not_finite_is_an_error():
    params = make_params()
    before = [p.detach().clone() for p in params]
    optimizer = st.AdamW(params, max_grad_norm=1.0)
    set_grads(params, 0)
    params[3].grad[2, 2] = float("inf")
    with pytest.raises(FloatingPointError, match="1 elements"):
        optimizer.step()
    assert_same_bits(before, params)


@pytest.mark.parametrize("unscale_first", [False, True])
def test_grad_scaler(unscale_first):
    def train(cls, **options):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 3))
        optimizer = cls(model.parameters(), lr=1e-2, **options)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=5)
        x, y = torch.randn(32, 8), torch.randn(32, 3)
        scales = []
        for step in range(30):
            optimizer.zero_grad()
            loss = ((model(x) - y) ** 2).mean()
            scaler.scale(loss * (float("inf") if step in (3, 11) else 1.0)).backward()
            if unscale_first:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            scales.append(scaler.get_scale())
        counted = optimizer.state[model[0].weight]["step"].item()
        assert not hasattr(optimizer, "found_inf")
        return [p.detach() for p in model.parameters()], scales, counted

    ours, scales, steps = train(st.AdamW)
    theirs, expected, expected_steps = train(torch.optim.AdamW, fused=True)
    assert (scales, steps) == (expected, expected_steps)
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_clipping_sees_unscaled_gradients():
    a, b = make_params(), make_params()
    first, second = (st.AdamW(p, lr=1e-2, max_grad_norm=0.5, track_stats=True) for p in (a, b))
    set_grads(a, 0)
    set_grads(b, 0, scale=1024.0)
    second.grad_scale = torch.tensor(1024.0)
    first.step()
    second.step()
    assert second.grad_norm == pytest.approx(first.grad_norm, rel=1e-6)
    norms = [optimizer.stats()["grad_norm"] for optimizer in (first, second)]
    assert norms == pytest.approx([first.grad_norm] * 2, rel=1e-4)
    for p, q in zip(a, b):
        torch.testing.assert_close(p, q)


def test_stats():
    params = make_params(shapes=[(64, 32), (100,), (3,)])
    named = [("matrix", params[0]), ("vector", params[1])]
    optimizer = st.AdamW(
        [{"params": named}, {"params": [("idle", params[2])]}], lr=1e-3, track_stats=True
    )
    for step in range(40):
        set_grads(params[:2], step, drift=0.0)
        before = params[0].detach().clone()
        optimizer.step()
    stats = optimizer.stats()
    assert list(stats["params"]) == ["matrix", "vector"]
    assert stats["groups"][1] == {}
    matrix = stats["params"]["matrix"]
    assert matrix["grad_norm"] == pytest.approx(params[0].grad.norm().item(), rel=1e-5)
    norm = torch.cat([p.grad.flatten() for p in params[:2]]).norm().item()
    assert stats["grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert stats["groups"][0]["grad_norm"] == pytest.approx(norm, rel=1e-5)
    moved = (params[0] - before * (1 - 1e-5)).square().mean().sqrt().item() / 1e-3
    assert matrix["update_rms"] == pytest.approx(moved, rel=1e-3)
    assert 0.15 < matrix["update_rms"] < 0.35  # pure noise: 0.23
    assert matrix["param_rms"] == pytest.approx(before.square().mean().sqrt().item(), rel=1e-5)
    assert abs(matrix["snr_update"]) < 0.05
    assert abs(matrix["snr_momentum"]) < 0.05
    for step in range(40, 140):
        set_grads(params[:2], step, drift=1.0)
        optimizer.step()
    assert 0.6 < optimizer.stats()["groups"][0]["snr_momentum"] < 1.6


def test_stats_must_be_asked_for():
    with pytest.raises(RuntimeError, match="track_stats"):
        st.AdamW(make_params()).stats()


# ---- what is refused


def test_refusals_name_the_parameter():
    def step_with(param, grad):
        optimizer = st.AdamW([("layer.weight", param)])
        param.grad = grad
        optimizer.step()

    sparse = torch.eye(4)[:1].to_sparse()[0]
    with pytest.raises(RuntimeError, match=r"sparse gradients: layer\.weight"):
        step_with(torch.nn.Parameter(torch.ones(4)), sparse)
    z = torch.ones(4, dtype=torch.complex64)
    with pytest.raises(RuntimeError, match=r"complex parameters: layer\.weight"):
        step_with(torch.nn.Parameter(z), z.clone())
    meta = torch.nn.Parameter(torch.ones(4, device="meta"))
    with pytest.raises(RuntimeError, match=r"parameters on meta.*: layer\.weight"):
        step_with(meta, torch.ones(4, device="meta"))


def test_a_sparse_gradient_after_a_dense_one():
    param = torch.nn.Parameter(torch.ones(4))
    optimizer = st.AdamW([param])
    param.grad = torch.ones(4)
    optimizer.step()
    param.grad = torch.eye(4)[:1].to_sparse()[0]
    with pytest.raises(RuntimeError, match=r"sparse gradients: param_groups\[0\]"):
        optimizer.step()


def test_after_a_refused_step_the_next_one_works():
    param = torch.nn.Parameter(torch.ones(4))
    optimizer = st.AdamW([param])
    param.grad = torch.eye(4)[:1].to_sparse()[0]
    for _ in range(2):
        with pytest.raises(RuntimeError, match="sparse"):
            optimizer.step()
    param.grad = torch.ones(4)
    optimizer.step()
    assert optimizer.state[param]["step"] == 1


@pytest.mark.parametrize("inference", [False, True])
def test_a_step_within_compiled_code_and_in_inference_mode(inference):
    params, twins = make_params(shapes=[(4, 3), (3,)]), make_params(shapes=[(4, 3), (3,)])
    optimizer, twin = st.AdamW(params, lr=0.1), st.AdamW(twins, lr=0.1)

    def step(optimizer, params):
        optimizer.zero_grad()
        loss = sum((p**2).sum() for p in params)
        loss.backward()
        with torch.inference_mode(inference):
            optimizer.step()
        return loss

    compiled = torch.compile(step, backend="eager")
    for _ in range(3):
        torch.testing.assert_close(compiled(optimizer, params), step(twin, twins))
    assert_same_bits(params, twins)


def test_overlapping_parameters_are_an_error_with_names():
    memory = torch.ones(8)
    a, b = torch.nn.Parameter(memory[:5]), torch.nn.Parameter(memory[3:])
    optimizer = st.AdamW([("first", a), ("second", b)])
    a.grad, b.grad = torch.ones(5), torch.ones(5)
    with pytest.raises(ValueError, match="second"):
        optimizer.step()
    assert torch.all(memory == 1)
    assert optimizer.state[a]["step"] == 0


@pytest.mark.parametrize("option", ["capturable", "differentiable"])
def test_what_cannot_be_honoured_is_refused(option):
    with pytest.raises(ValueError, match=option):
        st.AdamW(make_params(), **{option: True})
    optimizer = st.AdamW(make_params())
    with pytest.raises(ValueError, match=option):
        optimizer.add_param_group({"params": make_params(), option: True})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("options", [{"foreach": True}, {"fused": True}, {"foreach": False}])
def test_implementations_make_no_difference(options):
    a, b = make_params(), make_params()
    run(st.AdamW(a), a, 3)
    run(st.AdamW(b, **options), b, 3)
    assert_same_bits(a, b)


def test_tied_weights_given_twice_are_stepped_once():
    param, twin = make_params(shapes=[(4, 4)]) + make_params(shapes=[(4, 4)])
    with pytest.warns(UserWarning, match="duplicate"):
        optimizer = st.AdamW([param, param], lr=0.1)
    run(optimizer, [param], 2)
    run(st.AdamW([twin], lr=0.1), [twin], 2)
    assert_same_bits([param], [twin])


def test_cautious_decay():
    param = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    param.grad = torch.tensor([1.0, -1.0])
    st.AdamW([param], lr=0.1, weight_decay=1.0, cautious=True).step()
    torch.testing.assert_close(param.detach(), torch.tensor([0.8, 1.1]))
