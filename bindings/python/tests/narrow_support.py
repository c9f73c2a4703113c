# SPDX-License-Identifier: Apache-2.0
"""Ways to store state, for the tests of torch optimizers."""

from __future__ import annotations

import functools

import pytest

torch = pytest.importorskip("torch")

# A matrix and a vector that get 8 bits with a short last block, one that is too small for them.
SHAPES = [(70, 61), (4099,), (33, 5), ()]
BF16 = torch.bfloat16

# name: type of the parameters, options
MODES = {
    "f32": (torch.float32, {}),
    "q8_dynamic": (torch.float32, {"state_dtype": "q8_dynamic"}),
    "q8_companded": (torch.float32, {"state_dtype": "q8_companded"}),
    "pair": (torch.float32, {"state_dtype": ("q8_companded", BF16), "rounding": "stochastic"}),
    "dictionary": (torch.float32, {"state_dtype": {"exp_avg_sq": "q8_dynamic"}}),
    "bf16 stochastic": (BF16, {"rounding": "stochastic"}),
    "q8 stochastic": (BF16, {"state_dtype": "q8_companded", "rounding": "stochastic"}),
    "split": (BF16, {"master": "split", "state_dtype": torch.float32}),
    "split-low": (BF16, {"master": "split-low", "state_dtype": torch.float32}),
    "split8": (BF16, {"master": "split8", "state_dtype": torch.float32}),
    "kahan": (BF16, {"master": "kahan", "state_dtype": torch.float32}),
    "kahan f16": (torch.float16, {"master": "kahan", "state_dtype": torch.float32}),
    "f32 master": (BF16, {"master": "f32", "state_dtype": torch.float32}),
    "f32 master f16": (torch.float16, {"master": "f32", "state_dtype": torch.float32}),
    "split, 8 bits": (BF16, {"master": "split", "state_dtype": "q8_companded"}),
}
NAMES = list(MODES)


@functools.cache
def _start(k, shape):
    g = torch.Generator().manual_seed(k)
    return torch.randn(shape, generator=g).bfloat16()


def parameters(dtype, shapes=SHAPES):
    """The same values for each type."""
    return [
        torch.nn.Parameter(_start(k, shape).to(dtype, copy=True)) for k, shape in enumerate(shapes)
    ]


def descend(optimizer, params, steps, start=0):
    """Steps down a bowl with noise that is the same for equal steps and does not depend on how
    anything is stored."""
    for step in range(start, start + steps):
        g = torch.Generator().manual_seed(1000 + step)
        for p in params:
            noise = torch.randn(p.shape, generator=g)
            p.grad = (0.2 * p.detach().float() + 0.3 * noise).to(p.dtype)
        optimizer.step()


def bytes_of(optimizer):
    """Of all state tensors but the steps."""
    return sum(
        value.nbytes
        for state in optimizer.state.values()
        for key, value in state.items()
        if key not in ("step", "format")
    )


def assert_same_state(a, b):
    """Two optimizers' states, bit for bit."""
    for one, other in zip(a.state.values(), b.state.values(), strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            if key == "format":
                assert value == other[key]
            else:
                assert value.dtype == other[key].dtype
                assert torch.equal(value, other[key]), key
