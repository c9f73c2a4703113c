# SPDX-License-Identifier: Apache-2.0
"""The cases of torch's own optimizer tests, and shapes, strides and offsets by hypothesis."""

from __future__ import annotations

import inspect
import warnings

import pytest

torch = pytest.importorskip("torch")
import steepest.torch as st

pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as some
from torch_support import noise

# needs expecttest
common = pytest.importorskip("torch.testing._internal.common_optimizers")
INFOS = {
    info.optim_cls.__name__: info
    for info in common.optim_db
    if info.optim_cls.__name__ in ("AdamW", "Muon")
}
CASES = [
    (name, case)
    for name, info in INFOS.items()
    for case in info.optim_inputs_func(device="cpu", dtype=torch.float32)
]
ERRORS = [
    (name, case)
    for name, info in INFOS.items()
    for case in info.optim_error_inputs_func("cpu", torch.float32)
]


def described(value):
    return getattr(value, "desc", None) or getattr(
        getattr(value, "optimizer_error_input", value), "desc", str(value)
    )


@pytest.mark.parametrize("name", INFOS)
def test_constructors_take_torchs_arguments(name):
    """Names, order, kinds and defaults; ours has more behind them."""
    ours, theirs = (
        inspect.signature(getattr(module, name).__init__).parameters for module in (st, torch.optim)
    )
    for argument, expected in theirs.items():
        assert ours[argument].default == expected.default
        assert ours[argument].kind == expected.kind
    positional = [k for k, p in theirs.items() if p.kind == p.POSITIONAL_OR_KEYWORD]
    assert list(ours)[: len(positional)] == positional


@pytest.mark.parametrize(("name", "case"), CASES, ids=described)
def test_torchs_cases(name, case):
    """As in torch's test_forloop_goes_right_direction the loss falls, and as torch's does."""

    def train(cls, **more):
        torch.manual_seed(0)
        shapes = [(10, 5)] if name == "Muon" else [(10, 5), (10,)]
        params = [torch.nn.Parameter(torch.rand(s)) for s in shapes]
        x = torch.rand(5)
        optimizer = cls(params, **case.kwargs, **more)
        schedulers = [make(optimizer) for make in INFOS[name].scheduler_inputs[0]]

        def closure():
            optimizer.zero_grad()
            y = params[0] @ x + (params[1] if len(params) > 1 else 0)
            loss = (y**2).sum()
            loss.backward()
            return loss

        losses = [optimizer.step(closure).item() for _ in range(20)]
        for schedule in schedulers:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                is_plateau = isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau)
                schedule.step(losses[-1]) if is_plateau else schedule.step()
        return losses, params

    method = {"method": "newton-schulz"} if name == "Muon" else {}
    losses, ours = train(getattr(st, name), **method)
    expected, theirs = train(getattr(torch.optim, name))
    assert (losses[-1] > losses[0]) == bool(case.kwargs.get("maximize"))
    tolerance = {"rtol": 0.02, "atol": 3e-2} if name == "Muon" else {"rtol": 1e-5, "atol": 1e-5}
    assert losses == pytest.approx(expected, rel=0.02 if name == "Muon" else 1e-4)
    for p, q in zip(ours, theirs):
        torch.testing.assert_close(p, q, **tolerance)


@pytest.mark.parametrize(("name", "case"), ERRORS, ids=described)
def test_torchs_error_cases(name, case):
    given_ = case.optimizer_error_input
    params = given_.params
    if params is None:
        params = [torch.nn.Parameter(torch.randn(2, 3))]
    at_step = case.error_on == common.OptimizerErrorEnum.STEP_ERROR
    if issubclass(case.error_type, Warning):
        with pytest.warns(case.error_type, match=case.error_regex):
            getattr(st, name)(params, **given_.kwargs)
    elif at_step:
        optimizer = getattr(st, name)(params, **given_.kwargs)
        with pytest.raises(case.error_type, match=case.error_regex):
            optimizer.step()
    else:
        with pytest.raises(case.error_type, match=case.error_regex):
            getattr(st, name)(params, **given_.kwargs)


# ---- any shape, order of dimensions, gaps and offset

shapes = some.lists(some.integers(0, 5), min_size=0, max_size=4)


@some.composite
def placed(draw, shape):
    """A tensor of that shape somewhere in a larger piece of memory, and the memory."""
    order = draw(some.permutations(range(len(shape))))
    gaps = [draw(some.integers(1, 2)) for _ in shape]
    offset = draw(some.integers(0, 3))
    strides, stride = [0] * len(shape), 1
    for dim in order:
        strides[dim] = stride * gaps[dim]
        stride *= max(1, shape[dim]) * gaps[dim]
    memory = torch.full((stride + offset,), 7.0)
    return torch.as_strided(memory, shape, strides, offset), memory


@settings(max_examples=150, deadline=None)
@given(some.data())
def test_adamw_anywhere_in_memory(data):
    shape = data.draw(shapes)
    check_anywhere(data, shape, lambda p: st.AdamW(p, lr=0.1), lambda p: st.AdamW(p, lr=0.1))


@settings(max_examples=100, deadline=None)
@given(some.data())
def test_muon_anywhere_in_memory(data):
    shape = data.draw(some.lists(some.integers(0, 5), min_size=2, max_size=4))

    def make(params):
        return st.Muon(params, lr=0.1, flatten=True, method="svd")

    check_anywhere(data, shape, make, make)


def check_anywhere(data, shape, make, make_plain):
    """Two steps with every layout of parameter and gradients give what contiguous ones give."""
    value = noise(7, tuple(shape)).float()
    view, memory = data.draw(placed(shape))
    untouched = torch.ones_like(memory, dtype=torch.bool)
    torch.as_strided(untouched, view.shape, view.stride(), view.storage_offset()).fill_(False)
    view.copy_(value)
    param, plain = torch.nn.Parameter(view), torch.nn.Parameter(value.clone())
    optimizer, other = make([param]), make_plain([plain])
    for step in range(2):
        grad, _ = data.draw(placed(shape))
        param.grad = grad.copy_(noise(8 + step, tuple(shape)).float())
        plain.grad = grad.clone(memory_format=torch.contiguous_format)
        optimizer.step()
        other.step()
    torch.testing.assert_close(param.detach(), plain.detach(), rtol=1e-4, atol=1e-5)
    assert torch.all(memory[untouched] == 7)
