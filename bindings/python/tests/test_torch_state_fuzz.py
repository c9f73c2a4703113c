# SPDX-License-Identifier: Apache-2.0
"""State dicts with random faults: they load and then step, or are refused and change nothing."""

from __future__ import annotations

import copy
import functools
import math

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("hypothesis")
import steepest.torch as st
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some
from narrow_support import MODES, descend, parameters

SHAPES = [(4100,), (5, 3)]
# What is wrong with a state is one of these, with a text.
REFUSALS = (ValueError, TypeError)


def trained(mode):
    dtype, options = MODES[mode]
    params = parameters(dtype, SHAPES)
    optimizer = st.AdamW(params, lr=1e-2, **options)
    descend(optimizer, params, 2)
    return optimizer, params


@functools.cache
def saved(form):
    if form != "bitsandbytes":
        return trained(form)[0].state_dict()
    return st.to_bitsandbytes(trained("q8_dynamic")[0])


def places(value, path=()):
    """Paths of all that is in a dictionary, its keys and the elements of its lists."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, (list, tuple))
        else ()
    )
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def others(value):
    """What may stand in the place of `value`: near it, or of another kind altogether."""
    strange = [None, -1, 0, 2**70, math.nan, math.inf, "", "q8_dynamic", [], {}, (0.5, 2.0), [[1]]]
    strange += [torch.zeros(()), torch.zeros(0), torch.zeros(7, dtype=torch.uint8), b"x"]
    if isinstance(value, torch.Tensor) and value.layout == torch.strided:
        strange += [value[..., :-1] if value.dim() else value[None], value.flatten()[None]]
        strange += [value.to(t) for t in (torch.float64, torch.bfloat16, torch.uint8, torch.int64)]
        strange += [value.to("meta"), torch.zeros(value.shape).to_sparse()]
        strange += [value.to(torch.complex64)]
        if value.is_floating_point():
            strange += [torch.full_like(value, x) for x in (math.nan, -math.inf, 3e38, -1.0)]
            strange.append(value[..., None].expand(*value.shape, 2)[..., 0])  # with gaps
    return strange


def spoil(draw, root):
    """One edit: something is deleted, doubled, renamed or replaced."""
    path = draw(some.sampled_from(list(places(root))))
    parent = root
    for key in path[:-1]:
        parent = parent[key]
    key = path[-1]
    if isinstance(parent, tuple):
        return
    what = draw(some.sampled_from(["replace", "replace", "replace", "delete", "rename", "move"]))
    if what == "delete":
        del parent[key]
    elif what == "rename" and isinstance(parent, dict):
        parent[draw(some.sampled_from([0, 1, 7, -1, "step", "exp_avg", "state1", "x", None]))] = (
            parent.pop(key)
        )
    elif what == "move":  # a value from elsewhere
        source = root
        for step in draw(some.sampled_from(list(places(root)))):
            source = source[step]
        parent[key] = copy.deepcopy(source)
    else:
        parent[key] = draw(some.sampled_from(others(parent[key])))


def content(optimizer, params):
    return copy.deepcopy(
        ([p.detach() for p in params], optimizer.state_dict()["state"], optimizer.param_groups)
    )


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


REPEATABLE = settings(
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("target", ["f32", "q8_dynamic", "split, 8 bits"])
@pytest.mark.parametrize("form", ["f32", "q8_dynamic", "q8_companded", "kahan", "bitsandbytes"])
@settings(REPEATABLE, max_examples=40)
@given(data=some.data())
def test_edited_state_dicts_load_or_are_refused(form, target, data):
    given = copy.deepcopy(saved(form))
    for _ in range(data.draw(some.integers(1, 3))):
        if given["state"]:
            spoil(data.draw, given["state"])
    optimizer, params = trained(target)
    before = content(optimizer, params)
    try:
        optimizer.load_state_dict(given)
    except REFUSALS as error:
        assert str(error)
        assert same(content(optimizer, params), before)
        descend(optimizer, params, 1)
        return
    try:
        descend(optimizer, params, 1)
    except REFUSALS as error:
        assert str(error)


@pytest.mark.parametrize("form", ["q8_dynamic", "split, 8 bits", "bitsandbytes"])
@settings(REPEATABLE, max_examples=60)
@given(data=some.data())
def test_edits_anywhere_never_crash(form, data):
    """torch takes any hyper-parameters from a dictionary: what is wrong with them a step says."""
    given = {**copy.deepcopy(saved(form))}
    for _ in range(data.draw(some.integers(1, 4))):
        if given:
            spoil(data.draw, given)
    optimizer, params = trained("q8_dynamic")
    try:
        optimizer.load_state_dict(given)
        descend(optimizer, params, 1)
    except Exception as error:  # noqa: BLE001  # of torch's own too
        assert type(error) is not SystemError
