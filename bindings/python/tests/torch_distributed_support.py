# SPDX-License-Identifier: Apache-2.0
"""A model, gradients and comparisons for torch_distributed_cases.py."""

from __future__ import annotations

import steepest.torch as st
import torch
import torch.distributed as dist
from torch import nn

BLOCKS = {"qkv.weight": 3}


class Model(nn.Module):
    """Of every kind of parameter, and sides that 2 and 3 do not divide; 1 row of `one`."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(7, 20)
        self.qkv = nn.Linear(20, 51)
        self.kernel = nn.Conv2d(5, 4, 3)
        self.norm = nn.LayerNorm(51)
        self.proj = nn.Linear(51, 20, bias=False)
        self.one = nn.Linear(20, 1)
        self.more = nn.ModuleList(nn.Linear(20, 20, bias=False) for _ in range(3))
        self.lm_head = nn.Linear(20, 7, bias=False)

    def forward(self, x):
        x = self.norm(self.qkv(self.embedding(x)))
        y = self.kernel(x[:, :45].reshape(-1, 5, 3, 3)).mean()
        x = self.proj(x.tanh())
        for layer in self.more:
            x = x + layer(x).relu()
        return self.lm_head(x + y + self.one(x))


def muon_adamw(model, group=None, **options):
    groups = st.split_parameters(model, blocks={f"*{key}": n for key, n in BLOCKS.items()})
    return st.MuonAdamW(groups, lr=1e-2, process_group=group, **options)


def adamw(model, group=None, **options):
    return st.AdamW(model.parameters(), lr=1e-2, **options)


def give(model, seed, scale=1.0):
    """The same gradients on every rank, as DTensors where the parameters are."""
    generator = torch.Generator().manual_seed(1000 + seed)
    for p in model.parameters():
        grad = scale * torch.randn(p.shape, generator=generator)
        p.grad = sharded(grad, p) if is_dtensor(p) else grad.to(p.dtype)


def train(model, optimizer, steps, start=0, **options):
    for step in range(start, start + steps):
        give(model, step, **options)
        optimizer.step()
        optimizer.zero_grad()


def is_dtensor(value):
    return hasattr(value, "full_tensor")


def sharded(whole, like):
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole, like.device_mesh, like.placements)


def whole(value):
    return value.full_tensor() if is_dtensor(value) else value


def same(model, expected):
    for (name, p), q in zip(model.named_parameters(), expected.parameters(), strict=True):
        assert torch.equal(whole(p.detach()), q), name


def same_state(found, expected, steps=True):
    for i, state in expected["state"].items():
        for key, value in state.items():
            if key != "step" or steps:
                assert torch.equal(whole(found["state"][i][key]), value), (i, key)


def single(make, steps, **options):
    model = Model()
    optimizer = make(model, **options)
    train(model, optimizer, steps)
    return model, optimizer


def mesh(*shape):
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh("cpu", shape or (dist.get_world_size(),))


def fsdp(model):
    from torch.distributed.fsdp import fully_shard

    m = mesh()
    for layer in (model.qkv, model.proj):
        fully_shard(layer, mesh=m)
    return fully_shard(model, mesh=m)


def refused(kind, text, call):
    try:
        call()
    except kind as error:
        assert text in str(error), str(error)
    else:
        raise AssertionError(f"no {kind.__name__}")
