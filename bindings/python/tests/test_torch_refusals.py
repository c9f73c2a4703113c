# SPDX-License-Identifier: Apache-2.0
"""What the torch optimizers refuse, and what makes no difference to them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
import steepest.torch as st
from torch_support import assert_same_bits, make_params, run


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
