# SPDX-License-Identifier: Apache-2.0
"""Cases of torch_distributed_cases.py: AdamW's 8-bit state and masters on DTensors."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import steepest
import steepest.torch as st
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from narrow_support import parameters
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch_distributed_support import is_dtensor, mesh, refused, sharded

BF16 = torch.bfloat16
# Whole blocks of 256 on 1, 2 and 3 ranks; parts of less than 4096 elements; too small for 8 bits.
SHAPES = [(96, 256), (4608,), (12, 9)]
MODES = [
    {"state_dtype": "q8_companded", "master": "split"},
    {"state_dtype": "q8_dynamic", "master": "f32"},
    {"state_dtype": ("q8_dynamic", torch.float32), "master": "split-low"},
    {"state_dtype": torch.float32, "master": "kahan"},
    {"state_dtype": "q8_companded", "master": "split8", "rounding": "stochastic", "seed": 3},
    {"state_dtype": "q8_dynamic", "rounding": "stochastic", "seed": 4},
]


def gathered(values):
    """Tensors of all ranks; at once and as objects, since gloo has no int16."""
    mine = [value.to_local().detach() if is_dtensor(value) else None for value in values]
    ranks = [None] * dist.get_world_size()
    dist.all_gather_object(ranks, mine)
    return [
        torch.cat([rank[k] for rank in ranks]) if is_dtensor(value) else value
        for k, value in enumerate(values)
    ]


def same_tensors(found, expected, what):
    for k, (a, b) in enumerate(zip(gathered(list(found)), expected, strict=True)):
        assert torch.equal(a.detach(), b.detach()), (what, k, tuple(b.shape))


def same_states(found, expected, what):
    """Two state dicts, all entries; of the first the parts."""
    pairs = []
    for i, state in expected["state"].items():
        other = found["state"][i]
        assert other.keys() == state.keys(), (what, i, other.keys(), state.keys())
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                assert other[key].shape == value.shape, (what, i, key)
                pairs.append((other[key], value))
            else:
                assert other[key] == value, (what, i, key)
    same_tensors(*zip(*pairs), what)


def parts(whole, line):
    return [nn.Parameter(distribute_tensor(p.detach(), line, [Shard(0)])) for p in whole]


def step(pairs, number):
    """One step of each pair of an optimizer and its parameters, with the same gradients."""
    for optimizer, params in pairs:
        g = torch.Generator().manual_seed(1000 + number)
        for p in params:
            grad = torch.randn(p.shape, generator=g).to(p.dtype)
            p.grad = sharded(grad, p) if is_dtensor(p) else grad
        optimizer.step()


def adamw(params, **options):
    return st.AdamW(params, lr=1e-2, **options)


def case_parts():
    """The bits of a single process, resumed and converted too."""
    line = mesh()
    for options in MODES:
        theirs = parameters(BF16, SHAPES)
        ours = parts(theirs, line)
        a, b = adamw(ours, **options), adamw(theirs, **options)
        for number in range(3):
            step([(a, ours), (b, theirs)], number)
        same_tensors(ours, theirs, options)
        state, whole = copy.deepcopy(a.state_dict()), copy.deepcopy(b.state_dict())
        same_states(state, whole, options)
        same_tensors(map(a.master, ours), map(b.master, theirs), options)
        # Its own state; a single process's; both as they say, and as this optimizer has been told.
        wide = {"state_dtype": torch.float32, "master": "f32"}
        for told in ({}, options, wide):
            again = [nn.Parameter(q.detach().clone()) for q in theirs]
            d = adamw(again, **told)
            d.load_state_dict(copy.deepcopy(whole))
            mine = [parts(theirs, line) for _ in range(2)]
            others = [(adamw(params, **told), params) for params in mine]
            for (c, _), given in zip(others, (state, whole)):
                c.load_state_dict(copy.deepcopy(given))
            for number in (3, 4):
                step([(d, again), *others], number)
            for c, params in others:
                same_tensors(params, again, (options, told))
                same_states(c.state_dict(), d.state_dict(), (options, told))
    # A float32 checkpoint into 8 bits and a master.
    theirs = parameters(BF16, SHAPES)
    ours = parts(theirs, line)
    pairs = [(adamw(p, state_dtype=torch.float32), p) for p in (ours, theirs)]
    step(pairs, 0)
    narrow = [adamw(p, **MODES[0]) for p in (ours, theirs)]
    for (wide, _), optimizer in zip(pairs, narrow):
        optimizer.load_state_dict(copy.deepcopy(wide.state_dict()))
    step(list(zip(narrow, (ours, theirs))), 1)
    same_tensors(ours, theirs, "from float32")
    same_states(narrow[0].state_dict(), narrow[1].state_dict(), "from float32")


def case_parts_written():
    """A float32 master follows values that are written into the parameter."""
    theirs = parameters(BF16, SHAPES)
    ours = parts(theirs, mesh())
    pairs = [(adamw(p, master="f32", state_dtype=torch.float32), p) for p in (ours, theirs)]
    step(pairs, 0)
    with torch.no_grad():
        ours[0].mul_(2)
        theirs[0].mul_(2)
        ours[1].to_local().fill_(3)
        theirs[1].fill_(3)
    step(pairs, 1)
    same_tensors(ours, theirs, "written")


def case_parts_order():
    """Codes of another order of memory than the parts': encoded anew."""
    value = parameters(BF16, SHAPES[:1])[0].detach()
    theirs = [nn.Parameter(value.t().contiguous().t())]
    saved = adamw(theirs, state_dtype="q8_dynamic")
    step([(saved, theirs)], 0)
    ours = parts([value], mesh())
    optimizer = adamw(ours)
    optimizer.load_state_dict(copy.deepcopy(saved.state_dict()))
    ours[0].grad = torch.zeros_like(ours[0])
    optimizer.param_groups[0].update(lr=0.0, betas=(1 - 2**-20, 1 - 2**-20))
    optimizer.step()

    def decoded(state, key, order):
        codes, scales = gathered([state[key], state[f"{key}_scales"]])
        codes = codes.permute(order).contiguous()
        return steepest.q8_decode(codes, scales, signed=key == "exp_avg").transpose(order)

    for key in ("exp_avg", "exp_avg_sq"):
        before = decoded(saved.state[theirs[0]], key, (1, 0))
        after = decoded(optimizer.state[ours[0]], key, (0, 1))
        off = abs(before - after).max() / abs(before).max()
        assert off <= 0.03, (key, off)


def case_parts_refused():
    """What parts cannot have, when it is asked for and when it is loaded; nothing is changed."""
    line, text = mesh(), "whole blocks of"
    pairs = [(64, 80), (81, 60), (4099,)]
    theirs = parameters(BF16, pairs)
    ours = parts(theirs, line)
    for name in ("q8_companded", "q8_dynamic"):
        refused(ValueError, text, lambda n=name: adamw(ours[2:], state_dtype=n))
        saved = adamw(theirs[2:], state_dtype=name)
        step([(saved, theirs[2:])], 0)
        target = adamw(ours[2:])
        load = copy.deepcopy(saved.state_dict())
        refused(ValueError, text, lambda t=target, s=load: t.load_state_dict(s))
        load["param_groups"][0]["state_dtype"] = None  # only the state says so
        refused(ValueError, text, lambda t=target, s=load: t.load_state_dict(s))
        assert not target.state
    columns = nn.Parameter(distribute_tensor(torch.zeros(64, 256), line, [Shard(1)]))
    refused(ValueError, text, lambda: adamw([columns], state_dtype="q8_dynamic"))
    adamw([columns], master="split")
    copies = nn.Parameter(distribute_tensor(torch.zeros(70, 61), line, [Replicate()]))
    optimizer = adamw([copies], state_dtype="q8_dynamic")
    copies.grad = torch.ones_like(copies)
    optimizer.step()
    assert optimizer.state[copies]["exp_avg_scales"].shape == (17,)


def case_parts_save():
    theirs = parameters(BF16, SHAPES)
    ours = parts(theirs, mesh())
    optimizer = adamw(ours, **MODES[0])
    for number in range(3):
        step([(optimizer, ours)], number)
    state = {"params": dict(enumerate(ours)), "optimizer": optimizer.state_dict()}
    dcp.save({"params": {str(i): p for i, p in enumerate(ours)}, "optimizer": state["optimizer"]},
             checkpoint_id=Path(sys.argv[3]) / f"{dist.get_world_size()}-parts")  # fmt: skip


def case_parts_load():
    """What 2 ranks have saved goes on here, on any number, bit for bit."""
    theirs = parameters(BF16, SHAPES)
    reference = adamw(theirs, **MODES[0])
    for number in range(3):
        step([(reference, theirs)], number)
    ours = [nn.Parameter(torch.zeros_like(p)) for p in theirs]
    if dist.get_world_size() > 1:
        ours = parts(ours, mesh())
    optimizer = adamw(ours, **MODES[0])
    step([(optimizer, ours)], 0)  # makes the entries that are read into
    into = {"params": {str(i): p.detach() for i, p in enumerate(ours)}}
    into["optimizer"] = optimizer.state_dict()
    dcp.load(into, checkpoint_id=Path(sys.argv[3]) / "2-parts")
    optimizer.load_state_dict(into["optimizer"])
    for number in (3, 4):
        step([(optimizer, ours), (reference, theirs)], number)
    same_tensors(ours, theirs, "loaded")
    same_states(optimizer.state_dict(), reference.state_dict(), "loaded")


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(256, 96), nn.Linear(96, 96)).to(BF16)


def case_parts_fsdp():
    """torch.distributed.checkpoint of an FSDP2 model, in parts and whole."""
    options = {"state_dtype": "q8_dynamic", "master": "kahan"}  # gloo gathers no int16
    twin = small_model()
    reference = adamw(list(twin.parameters()), **options)
    model = fully_shard(small_model(), mesh=mesh())
    optimizer = adamw(list(model.parameters()), **options)
    pairs = [(optimizer, list(model.parameters())), (reference, list(twin.parameters()))]
    for number in range(2):
        step(pairs, number)
    path = Path(sys.argv[3]) / f"{dist.get_world_size()}-parts-fsdp"
    full = StateDictOptions(full_state_dict=True)
    saved = [
        copy.deepcopy(
            (
                get_model_state_dict(model, options=o),
                get_optimizer_state_dict(model, optimizer, options=o),
            )
        )
        for o in (None, full)
    ]
    dcp.save(dict(zip(("model", "optimizer"), saved[0])), checkpoint_id=path)
    step([pairs[1]], 2)
    for which in (None, full):
        model = fully_shard(small_model(), mesh=mesh())
        optimizer = adamw(list(model.parameters()), **options)
        if which is None:
            state = {
                "model": get_model_state_dict(model),
                "optimizer": get_optimizer_state_dict(model, optimizer),
            }
            dcp.load(state, checkpoint_id=path)
            set_model_state_dict(model, state["model"])
            set_optimizer_state_dict(model, optimizer, state["optimizer"])
        else:
            set_model_state_dict(model, saved[1][0], options=full)
            set_optimizer_state_dict(model, optimizer, saved[1][1], options=full)
        step([(optimizer, list(model.parameters()))], 2)
        same_tensors(model.parameters(), twin.parameters(), which)
        same_states(optimizer.state_dict(), reference.state_dict(), which)
