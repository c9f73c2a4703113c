# SPDX-License-Identifier: Apache-2.0
"""State dicts of other storage, of bitsandbytes, and broken ones."""

from __future__ import annotations

import copy
import itertools

import pytest

torch = pytest.importorskip("torch")
import steepest.torch as st
from narrow_support import BF16, MODES, assert_same_state, descend, parameters

try:
    import bitsandbytes
except ImportError:
    bitsandbytes = None

needs_bitsandbytes = pytest.mark.skipif(
    bitsandbytes is None, reason="bitsandbytes is not installed: ./dev setup --peers"
)


def trained(dtype=torch.float32, steps=3, cls=st.AdamW, **options):
    params = parameters(dtype)
    optimizer = cls(params, lr=1e-2, **options)
    descend(optimizer, params, steps)
    return optimizer, params


def loaded(state_dict, params, **options):
    fresh = [torch.nn.Parameter(p.detach().clone()) for p in params]
    optimizer = st.AdamW(fresh, lr=1e-2, **options)
    optimizer.load_state_dict(copy.deepcopy(state_dict))
    return optimizer, fresh


# ---- conversions

FORMATS = [torch.float32, BF16, "q8_dynamic", "q8_companded"]
# Half a step of each format relative to the largest value of a block.
STEPS = {torch.float32: 0.0, BF16: 2.0**-8, "q8_dynamic": 0.04, "q8_companded": 0.01}


def moments(optimizer, param):
    """The moments as float32, by way of a state dict."""
    plain, (fresh,) = loaded_one(optimizer, param, state_dtype=torch.float32)
    return [plain.state[fresh][key] for key in ("exp_avg", "exp_avg_sq")]


def loaded_one(optimizer, param, **options):
    params = optimizer.param_groups[0]["params"]
    other, fresh = loaded(optimizer.state_dict(), params, **options)
    index = next(i for i, p in enumerate(params) if p is param)
    return other, (fresh[index],)


@pytest.mark.parametrize(("source", "target"), list(itertools.product(FORMATS, FORMATS)))
def test_conversion_on_loading(source, target):
    first, params = trained(state_dtype=source)
    second, fresh = loaded(first.state_dict(), params, state_dtype=target)
    assert second.param_groups[0]["state_dtype"] == target
    for old, new in zip(params, fresh):
        small = old.numel() < 4096 and isinstance(target, str)
        wanted = torch.float32 if small else torch.uint8 if isinstance(target, str) else target
        state = second.state[new]
        assert state["exp_avg"].dtype == state["exp_avg_sq"].dtype == wanted
        assert ("exp_avg_scales" in state) == ("format" in state) == (wanted == torch.uint8)
        assert state["step"] == 3
        error = 2 * STEPS[target] if source != target else 0.0
        for a, b in zip(moments(first, old), moments(second, new)):
            assert (a - b).abs().max() <= error * a.abs().max() + 1e-12
    if source == target:
        assert_same_state(first, second)
    descend(second, fresh, 2, start=3)


def test_torchs_checkpoints_go_into_8_bits_and_back():
    first, params = trained(cls=torch.optim.AdamW)
    second, fresh = loaded(first.state_dict(), params, state_dtype="q8_companded")
    descend(second, fresh, 2, start=3)
    third, again = loaded(second.state_dict(), fresh, state_dtype=torch.float32)
    back = torch.optim.AdamW([torch.nn.Parameter(p.detach().clone()) for p in again], lr=1e-2)
    back.load_state_dict(third.state_dict())
    last = back.param_groups[0]["params"]
    descend(back, last, 2, start=5)
    descend(first, params, 4, start=3)
    for p, q in zip(params, last):
        assert (p - q).abs().max() < 0.02
    assert back.state[last[0]]["step"] == 7


MASTERS = ["split", "split-low", "split8", "kahan", "f32"]


@pytest.mark.parametrize(("source", "target"), list(itertools.product(MASTERS, [*MASTERS, None])))
def test_masters_of_another_kind(source, target):
    first, params = trained(BF16, master=source)
    masters = [first.master(p) for p in params]
    second, fresh = loaded(first.state_dict(), params, master=target)
    for p in fresh:
        p.grad = torch.zeros_like(p)
    second.param_groups[0]["lr"] = 0.0
    second.step()
    for p, master in zip(fresh, masters):
        kind = target or source
        assert second.state[p]["format"] == {"param": kind}
        bits = 2.0**-16 if "split8" in (kind, source) or "kahan" in (kind, source) else 0.0
        assert ((second.master(p) - master).abs() <= bits * master.abs()).all()
        assert ((p.detach().float() - master).abs() <= 2.0**-7 * master.abs()).all()


def test_a_master_can_begin_in_mid_run():
    first, params = trained(BF16, state_dtype=torch.float32)
    second, fresh = loaded(first.state_dict(), params, master="split")
    descend(second, fresh, 1, start=3)
    assert all(second.state[p]["residual"].dtype == torch.int16 for p in fresh)


# ---- broken and foreign state dicts


def broken(change):
    first, params = trained(BF16, master="split", state_dtype="q8_companded", steps=1)
    state = copy.deepcopy(first.state_dict())
    change(state["state"][0])
    return state, params


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("exp_avg_scales"), "exp_avg_scales is missing, though exp_avg is q8_comp"),
        (lambda s: s.pop("exp_avg_sq"), r"it has .*, but needs exp_avg and exp_avg_sq"),
        (
            lambda s: s.update(exp_avg=s["exp_avg"][:3]),
            r"exp_avg has the shape \(3, 61\), not \(70",
        ),
        (lambda s: s.update(exp_avg=s["exp_avg"].float()), "exp_avg is of type torch.float32, but"),
        (lambda s: s.update(exp_avg_scales=s["exp_avg_scales"][:5]), "exp_avg_scales has 5 elem"),
        (
            lambda s: s.update(exp_avg_scales=s["exp_avg_scales"].float()),
            "exp_avg_scales has 134 elements of torch.float32, but .* have 134 of torch.int16",
        ),
        (lambda s: s["format"].update(exp_avg="q4"), "format says exp_avg: 'q4', which this vers"),
        (lambda s: s["format"].update(param="half"), "format says param: 'half', which"),
        (lambda s: s["format"].update(other="q8_dynamic"), "format says other: 'q8_dynamic'"),
        (lambda s: s["format"].pop("exp_avg"), "exp_avg is of type torch.uint8, and no format"),
        (lambda s: s.update(format="q8"), "its format is 'q8', not a dictionary"),
        (lambda s: s.update(format=None), "its format is None, not a dictionary"),
        (lambda s: s.pop("residual"), "residual is missing, though the format says 'split'"),
        (lambda s: s.update(residual=s["residual"].float()), "residual is of type torch.float32"),
        (lambda s: s.update(residual=s["residual"][:1]), r"residual has the shape \(1, 61\)"),
        (lambda s: s.update(exp_avg=[1.0, 2.0]), "it has .*, but needs exp_avg and exp_avg_sq"),
    ],
)
def test_broken_state_dicts(change, message):
    state, params = broken(change)
    optimizer = st.AdamW(params, lr=0.5)
    descend(optimizer, params, 1)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"state_dict\['state'\]\[0\].*" + message):
        optimizer.load_state_dict(state)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for number, entry in after["state"].items():
        assert all(torch.equal(v, before["state"][number][k]) for k, v in entry.items())
    descend(optimizer, params, 1)
    # The same in a state that somebody has changed in place.
    optimizer, fresh = trained(BF16, master="split", state_dtype="q8_companded", steps=1)
    optimizer.load_state_dict(optimizer.state_dict())  # so that rows are made anew
    change(optimizer.state[fresh[0]])
    if "but needs" not in message:
        with pytest.raises(ValueError, match=message):
            descend(optimizer, fresh, 1)


@pytest.mark.parametrize("state", [{}, {"state": {}}, {"param_groups": []}])
def test_what_is_no_state_dict(state):
    optimizer = st.AdamW(parameters(torch.float32))
    with pytest.raises(ValueError, match="this is no state dict of an optimizer"):
        optimizer.load_state_dict(state)


def test_state_dicts_of_other_optimizers():
    params = parameters(torch.float32)
    sgd = torch.optim.SGD(params, lr=0.1, momentum=0.9)
    descend(sgd, params, 1)
    with pytest.raises(ValueError, match="it has momentum_buffer, but needs exp_avg and exp_avg_s"):
        st.AdamW(params).load_state_dict(sgd.state_dict())
    adam, _ = trained()
    with pytest.raises(ValueError, match=r"different number of parameter groups|doesn't match"):
        st.AdamW(params[:2]).load_state_dict(adam.state_dict())


def test_a_master_is_refused_for_float32_parameters():
    first, params = trained(BF16, master="split")
    wide = [torch.nn.Parameter(p.detach().float()) for p in params]
    with pytest.raises(ValueError, match=r"a master \('split'\) of a 16-bit parameter, but this"):
        st.AdamW(wide).load_state_dict(first.state_dict())


# ---- bitsandbytes


def theirs(dtype=torch.float32, steps=3, bits=8):
    cls = bitsandbytes.optim.AdamW8bit if bits == 8 else bitsandbytes.optim.AdamW32bit
    return trained(dtype, steps, cls)


def assert_close_moments(ours, params, other, others):
    """Our float32 moments, and those of a bitsandbytes optimizer."""
    for p, q in zip(params, others):
        state = other.state[q]
        if state["state1"].dtype == torch.uint8:
            blocks = [state["absmax1"], state["absmax2"]]
            tables = [state["qmap1"], state["qmap2"]]
            codes = [state["state1"], state["state2"]]
            values = [
                (t[c.long().flatten()] * b.repeat_interleave(256)[: c.numel()]).view(c.shape)
                for t, c, b in zip(tables, codes, blocks)
            ]
        else:
            values = [state["state1"], state["state2"]]
        for a, b in zip(moments(ours, p), values):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-12)


@needs_bitsandbytes
@pytest.mark.parametrize("dtype", [torch.float32, BF16])
@pytest.mark.parametrize("bits", [8, 32])
def test_bitsandbytes_state_is_loaded(dtype, bits):
    first, params = theirs(dtype, bits=bits)
    second, fresh = loaded(first.state_dict(), params)
    assert_close_moments(second, fresh, first, params)
    large = second.state[fresh[0]]
    if bits == 8:
        assert large["format"] == {"exp_avg": "q8_dynamic", "exp_avg_sq": "q8_dynamic"}
        assert second.param_groups[0]["state_dtype"] == "q8_dynamic"
        assert torch.equal(large["exp_avg"], first.state[params[0]]["state1"])
        assert torch.equal(large["exp_avg_scales"], first.state[params[0]]["absmax1"])
    else:
        assert large["exp_avg"].dtype == torch.float32
    assert second.state[fresh[2]]["exp_avg"].dtype == torch.float32
    assert large["step"] == 3
    # Both go on alike: the formula is the same, the rounding to codes nearly.
    descend(first, params, 5, start=3)
    descend(second, fresh, 5, start=3)
    for p, q in zip(params, fresh):
        way = 5 * 1e-2
        assert (p.detach().float() - q.detach().float()).abs().mean() < 0.05 * way


@needs_bitsandbytes
@pytest.mark.parametrize("mode", ["f32", "q8_dynamic", "q8_companded", "split, 8 bits"])
def test_our_state_goes_to_bitsandbytes(mode):
    dtype, options = MODES[mode]
    first, params = trained(dtype, **options)
    fresh = [torch.nn.Parameter(p.detach().clone()) for p in params]
    second = bitsandbytes.optim.AdamW8bit(fresh, lr=1.0)
    second.load_state_dict(st.to_bitsandbytes(first))
    assert second.param_groups[0]["lr"] == 1e-2
    for p in fresh:
        assert second.state[p]["state1"].dtype == (
            torch.uint8 if p.numel() >= 4096 else torch.float
        )
        assert second.state[p]["step"] == 3
    if mode == "q8_dynamic":
        assert_close_moments(first, params, second, fresh)
        # And back again: nothing is lost.
        third, again = loaded(second.state_dict(), fresh)
        assert_same_state(first, third)
        assert again is not fresh
    descend(second, fresh, 2, start=3)
    descend(first, params, 2, start=3)
    for p, q in zip(params, fresh):
        assert (p.detach().float() - q.detach().float()).abs().mean() < 0.2 * 2e-2


def made_by_hand():
    """A state as bitsandbytes writes it, which needs no bitsandbytes."""
    first, params = trained(state_dtype="q8_dynamic")
    return first, params, st.to_bitsandbytes(first)


def test_bitsandbytes_state_made_by_hand():
    first, params, state = made_by_hand()
    entry = state["state"][0]["__bnb_optimizer_quant_state__"]
    assert set(entry) == {"state1", "state2", "qmap1", "qmap2", "absmax1", "absmax2"}
    assert set(state["state"][2]["__bnb_optimizer_quant_state__"]) == {"state1", "state2"}
    second, fresh = loaded(state, params)
    assert_same_state(first, second)
    flat = {n: {"step": e["step"], **e["__bnb_optimizer_quant_state__"]}
            for n, e in state["state"].items()}  # fmt: skip
    third, _ = loaded({**state, "state": flat}, params)
    assert_same_state(first, third)
    descend(second, fresh, 1, start=3)
    companded, _ = loaded(state, params, state_dtype="q8_companded")
    assert companded.state_dict()["state"][0]["format"]["exp_avg"] == "q8_companded"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("state2"), "state2 is missing: it is of another optimizer than AdamW"),
        (lambda s: s.pop("qmap1"), "state1 has 8 bits, but qmap1 or absmax1 is missing"),
        (lambda s: s.pop("absmax2"), "state2 has 8 bits, but qmap2 or absmax2 is missing"),
        (lambda s: s.update(qmap2=s["qmap1"]), "qmap2 is not bitsandbytes' dynamic map"),
        (lambda s: s.update(absmax1=s["absmax1"][1:]), "exp_avg_scales has 16 elements of"),
    ],
)
def test_broken_states_of_bitsandbytes(change, message):
    _, params, state = made_by_hand()
    change(state["state"][0]["__bnb_optimizer_quant_state__"])
    with pytest.raises(ValueError, match=message):
        st.AdamW(params).load_state_dict(state)


def test_what_does_not_go_to_bitsandbytes():
    optimizer, _ = trained(amsgrad=True)
    with pytest.raises(ValueError, match="not that of AdamW without AMSGrad"):
        st.to_bitsandbytes(optimizer)
