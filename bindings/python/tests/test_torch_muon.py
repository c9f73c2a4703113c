# SPDX-License-Identifier: Apache-2.0
"""steepest.torch.Muon, against torch.optim.Muon and by itself."""

from __future__ import annotations

import copy
import io
import math

import pytest

torch = pytest.importorskip("torch")
import steepest.torch as st
from torch_support import assert_same_bits, layouts, make_params, run, set_grads

MATRICES = [(16, 16), (12, 40), (40, 12), (1, 9), (64, 48)]
torch_muon = pytest.mark.skipif(
    not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon needs torch 2.9"
)


def matrices(seed=0, dtype=torch.float32, shapes=MATRICES):
    return make_params(seed, dtype, shapes)


def relative_error(ours, theirs, initial):
    """Of the whole change of the parameters."""
    square = lambda a, b: sum((x - y).detach().double().square().sum() for x, y in zip(a, b))
    return float(square(ours, theirs) / square(theirs, initial)) ** 0.5


OPTIONS = [
    {},
    {"adjust_lr_fn": "original"},
    {"adjust_lr_fn": "match_rms_adamw"},
    {"nesterov": False},
    {"momentum": 0.0},
    {"momentum": 0.8, "weight_decay": 0.0},
    {"lr": torch.tensor(0.01)},
    {"ns_steps": 6},
    {"ns_coefficients": (3.4, -4.7, 2.0)},
]


@torch_muon
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_newton_schulz_agrees_with_torch(dtype, options):
    ours, theirs = matrices(dtype=dtype), matrices(dtype=dtype)
    initial = [p.detach().clone() for p in ours]
    options = {"lr": 1e-2, **options}
    a = st.Muon(ours, method="newton-schulz", **options)
    b = torch.optim.Muon(theirs, **options)
    run(a, ours, 10)
    run(b, theirs, 10)
    # torch iterates in bf16: it is the less exact side
    assert relative_error(ours, theirs, initial) < 0.02
    for p, q in zip(ours, theirs):
        torch.testing.assert_close(a.state[p]["momentum_buffer"], b.state[q]["momentum_buffer"])


@torch_muon
@pytest.mark.parametrize("options", [{"ns_steps": 6}, {"ns_coefficients": (3.4, -4.7, 2.0)}])
def test_changed_coefficients_mean_newton_schulz(options):
    ours, same = matrices(), matrices()
    run(st.Muon(ours, **options), ours, 3)
    run(st.Muon(same, method="newton-schulz", **options), same, 3)
    assert_same_bits(ours, same)


@pytest.mark.parametrize("method", ["auto", "rational", "halley", "svd", "accurate"])
def test_one_step_is_the_orthogonal_factor(method):
    param = torch.nn.Parameter(torch.zeros(12, 40, dtype=torch.float64))
    (grad,) = matrices(3, torch.float64, [(12, 40)])
    param.grad = grad.detach()
    st.Muon([param], lr=1.0, weight_decay=0, adjust_lr_fn="none", method=method).step()
    u, _, vh = torch.linalg.svd(grad.detach(), full_matrices=False)
    error = (param.detach() + u @ vh).norm() / math.sqrt(12)
    assert error < (1e-7 if method in ("svd", "accurate") else 0.06)


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("original", math.sqrt(40 / 12)),
        ("match_rms_adamw", 0.2 * math.sqrt(40)),
        ("sqrt_out_in", math.sqrt(40 / 12)),
        ("sqrt_max", math.sqrt(40)),
        ("none", 1.0),
    ],
)
def test_scales(name, factor):
    param, plain = matrices(shapes=[(40, 12)]) + matrices(shapes=[(40, 12)])
    before = param.detach().clone()
    options = {"lr": 1e-2, "weight_decay": 0.0, "method": "svd"}
    set_grads([param], 0)
    set_grads([plain], 0)
    st.Muon([param], adjust_lr_fn=name, **options).step()
    st.Muon([plain], adjust_lr_fn="none", **options).step()
    change = (param - before).detach() / factor
    torch.testing.assert_close(change, (plain - before).detach(), rtol=1e-3, atol=1e-6)


def test_transposed_swaps_the_fans():
    tall, wide = matrices(shapes=[(40, 12)])[0], matrices(shapes=[(40, 12)])[0]
    wide = torch.nn.Parameter(wide.detach().t().contiguous())
    options = {"lr": 1e-2, "adjust_lr_fn": "original", "method": "svd"}
    set_grads([tall], 0)
    wide.grad = tall.grad.t().contiguous()
    st.Muon([tall], **options).step()
    st.Muon([wide], transposed=True, **options).step()
    torch.testing.assert_close(tall.detach(), wide.detach().t(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("blocks", [3, [8, 4, 12]])
def test_blocks_are_matrices_of_their_own(blocks, axis):
    shape = (24, 10) if axis == 0 else (10, 24)
    (fused,) = matrices(shapes=[shape])
    set_grads([fused], 0)
    sizes = [8, 8, 8] if blocks == 3 else blocks
    parts = [torch.nn.Parameter(x.clone()) for x in fused.detach().split(sizes, axis)]
    for part, grad in zip(parts, fused.grad.split(sizes, axis)):
        part.grad = grad.clone()
    options = {"lr": 0.1, "method": "svd"}
    st.Muon([{"params": [fused], "blocks": blocks, "block_axis": axis}], **options).step()
    st.Muon(parts, **options).step()
    whole = torch.cat([part.detach() for part in parts], axis)
    torch.testing.assert_close(fused.detach(), whole, rtol=1e-5, atol=1e-6)


def test_blocks_that_do_not_fit_name_the_parameter():
    (param,) = matrices(shapes=[(10, 4)])
    set_grads([param], 0)
    with pytest.raises(ValueError, match=r"layer\.qkv has 10 rows .*not 3"):
        st.Muon([{"params": [("layer.qkv", param)], "blocks": 3}]).step()
    with pytest.raises(ValueError, match="do not add up to 10"):
        st.Muon([{"params": [param], "blocks": [5, 4]}]).step()


@pytest.mark.parametrize("grad_layout", [name for name, _ in layouts()])
@pytest.mark.parametrize("param_layout", [name for name, _ in layouts()])
def test_kernels_in_any_layout(param_layout, grad_layout):
    ours = torch.nn.Parameter(dict(layouts())[param_layout])
    plain = torch.nn.Parameter(dict(layouts())["contiguous"].flatten(1))
    a = st.Muon([ours], lr=0.1, flatten=True, method="svd")
    b = st.Muon([plain], lr=0.1, method="svd")
    for step in range(2):
        ours.grad = dict(layouts())[grad_layout] * (step + 0.5)
        plain.grad = dict(layouts())["contiguous"].flatten(1) * (step + 0.5)
        a.step()
        b.step()
    torch.testing.assert_close(ours.detach().flatten(1), plain.detach(), rtol=1e-4, atol=1e-5)


def test_transposed_memory_and_rows_of_a_larger_matrix():
    (plain,) = matrices(shapes=[(12, 40)])
    column = torch.nn.Parameter(plain.detach().t().contiguous().t())
    wide = torch.zeros(12, 50)
    wide[:, :40] = plain.detach()
    part = torch.nn.Parameter(wide[:, :40])
    for param in (plain, column, part):
        set_grads([param], 0)
        st.Muon([param], lr=0.1).step()
    torch.testing.assert_close(plain.detach(), column.detach())
    torch.testing.assert_close(plain.detach(), part.detach())
    assert torch.all(wide[:, 40:] == 0)


@torch_muon
def test_resume_from_torch_and_back():
    options = {"lr": 1e-2, "weight_decay": 0.05}
    params = matrices()
    initial = [p.detach().clone() for p in params]
    theirs = torch.optim.Muon(params, **options)
    run(theirs, params, 5)
    twins = copy.deepcopy(params)
    twin = torch.optim.Muon(twins, **options)
    twin.load_state_dict(copy.deepcopy(theirs.state_dict()))
    run(twin, twins, 10, start=5)

    ours = st.Muon(params, lr=9.0, method="newton-schulz", track_stats=True)
    ours.load_state_dict(theirs.state_dict())
    group = ours.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["method"]) == (1e-2, 0.05, "newton-schulz")
    run(ours, params, 5, start=5)
    assert abs(ours.stats()["params"][ours._tables[0].names[4]]["snr_momentum"]) < 1
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    back = torch.optim.Muon(params, **options)
    back.load_state_dict(torch.load(file, weights_only=True))
    run(back, params, 5, start=10)
    assert relative_error(params, twins, initial) < 0.03


@pytest.mark.parametrize("cls", [st.Muon, st.MuonAdamW])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_resuming_is_bit_identical(cls, dtype):
    def build(params):
        groups = [{"params": params[:3], "use_muon": True}, {"params": params[3:]}]
        if cls is st.MuonAdamW:
            groups[1]["use_muon"] = False
        return cls(groups, lr=1e-2, state_dtype=torch.float32)

    whole, parts = matrices(dtype=dtype), matrices(dtype=dtype)
    run(build(whole), whole, 12)
    first = build(parts)
    run(first, parts, 5)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = build(parts)
    second.load_state_dict(torch.load(file, weights_only=True))
    run(second, parts, 7, start=5)
    assert_same_bits(whole, parts)


def test_a_matrix_that_is_not_finite_is_named_and_left_alone():
    params = matrices()
    before = [p.detach().clone() for p in params]
    optimizer = st.Muon([(f"layer{k}", p) for k, p in enumerate(params)])
    set_grads(params, 0)
    params[2].grad[0, 0] = float("nan")
    with pytest.raises(ArithmeticError, match="layer2"):
        optimizer.step()
    assert torch.equal(params[2], before[2])
    assert not torch.equal(params[0], before[0])
    steps = [optimizer.state[p]["step"].item() for p in params]
    assert steps == [1, 1, 0, 1, 1]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lr": -1.0}, "Learning rate should be >= 0"),
        ({"momentum": 1.0}, "momentum should be"),
        ({"weight_decay": -0.1}, "weight decay should be >= 0"),
        ({"adjust_lr_fn": "spectral"}, "spectral is not supported"),
        ({"method": "magic"}, "magic"),
        ({"ns_steps": 100}, "ns_steps"),
        ({"ns_coefficients": (1.0, 2.0)}, "exactly 3"),
        ({"compute_dtype": torch.float16}, "compute_dtype"),
        ({"momentum_kind": "heavy"}, "heavy"),
        ({"block_axis": 2}, "block_axis"),
    ],
)
@pytest.mark.parametrize("cls", [st.Muon, st.MuonAdamW])
def test_options_are_checked(cls, options, text):
    groups = [{"params": matrices(), "use_muon": True}]
    with pytest.raises(ValueError, match=text):
        cls(groups, **options)
    with pytest.raises(ValueError, match=text):
        cls([{**groups[0], **options}])


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="metod"):
        st.Muon(matrices(), metod="svd")


def test_vectors_and_unflattened_kernels_are_refused():
    with pytest.raises(ValueError, match=r"only supports 2D.*params\[0\]"):
        st.Muon(make_params(shapes=[(5,)]))
    with pytest.raises(ValueError, match=r"\(conv\)"):
        st.Muon([("conv", make_params(shapes=[(4, 3, 2, 2)])[0])])


def test_maximize_classic_momentum_and_exact_rms():
    a, b = matrices(), matrices()
    options = {"lr": 1e-2, "weight_decay": 0.0, "track_stats": True, "adjust_lr_fn": "exact_rms"}
    first = st.Muon(a, maximize=True, **options)
    second = st.Muon(b, momentum_kind="classic", scale_value=0.1, **options)
    before = [p.detach().clone() for p in a]
    run(first, a, 1)
    run(second, b, 1)
    for p, q, start in zip(a, b, before):
        torch.testing.assert_close(p - start, -2 * (q - start), rtol=1e-3, atol=1e-6)
    assert first.stats()["groups"][0]["update_rms"] == pytest.approx(0.2, rel=1e-3)
