# SPDX-License-Identifier: Apache-2.0
"""Parameters, gradients and comparisons for the tests of the torch optimizers."""

from __future__ import annotations

import functools

import pytest

torch = pytest.importorskip("torch")

torch.set_num_threads(1)  # the tests of threads set their own number

SHAPES = [(), (1,), (7,), (33, 5), (2, 3, 4, 5), (0, 4), (130,)]


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
