# SPDX-License-Identifier: Apache-2.0
"""Clipping, gradient scaling and statistics of the torch optimizers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
import steepest.torch as st
from torch_support import assert_close, assert_same_bits, make_params, set_grads


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


@pytest.mark.parametrize("clip", [None, 0.5])
def test_grad_scaler_and_muon(clip):
    """Scaled by a power of two and unscaled within the step, the results are the same bits."""

    def train(scaled):
        params = make_params(shapes=[(8, 6), (6, 12), (5,)])
        groups = [
            {"params": params[:2], "use_muon": True},
            {"params": params[2:], "use_muon": False},
        ]
        optimizer = st.MuonAdamW(groups, lr=1e-2, max_grad_norm=clip)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=scaled)
        for step in range(6):
            optimizer.zero_grad()
            loss = sum((p * (k + 1) - 1).square().sum() for k, p in enumerate(params))
            scaler.scale(loss).backward()
            if scaled and step == 3:  # skipped, and lowers the scale
                params[1].grad[2, 2] = float("inf")
            if scaled or step != 3:
                scaler.step(optimizer)
                scaler.update()
        assert not scaled or scaler.get_scale() == 2.0**9
        return params

    assert_same_bits(train(False), train(True))


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
