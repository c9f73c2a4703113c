# SPDX-License-Identifier: Apache-2.0
"""What one process of test_torch_distributed.py does: python FILE RANK SIZE DIRECTORY CASE...

Each case runs on all ranks at once. What became of it is written to DIRECTORY/SIZE-RANK.json.
"""

from __future__ import annotations

import copy
import datetime
import json
import os
import sys
import time
import traceback
from pathlib import Path

import steepest
import steepest.torch as st
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from narrow_support import descend, parameters
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch_distributed_narrow import (  # noqa: F401
    case_parts,
    case_parts_fsdp,
    case_parts_load,
    case_parts_order,
    case_parts_refused,
    case_parts_save,
    case_parts_written,
)
from torch_distributed_support import (
    Model,
    adamw,
    fsdp,
    give,
    is_dtensor,
    mesh,
    muon_adamw,
    refused,
    same,
    same_state,
    sharded,
    single,
    train,
    whole,
)

torch.set_num_threads(1)
WORLD, RANK, SIZE, DIRECTORY = None, 0, 1, Path()

# ---- DDP


def case_ddp():
    """Gradients of a real DDP pass; the twin is a single process that is given the same."""
    twin, model = Model(), Model()
    for m in (twin, model):
        m.kernel.to(memory_format=torch.channels_last)
    model = nn.parallel.DistributedDataParallel(model)
    optimizer = muon_adamw(model, model.process_group, track_stats=True)
    reference = muon_adamw(twin)
    for step in range(4):
        torch.manual_seed(10 * step + RANK)
        model(torch.randint(7, (6,))).square().mean().backward()
        for p, q in zip(model.parameters(), twin.parameters()):
            q.grad = p.grad.clone()
        optimizer.step()
        reference.step()
        optimizer.zero_grad()
    same(model, twin)
    owned = [i for i, s in enumerate(optimizer.state.values()) if "momentum_buffer" in s]
    shares = optimizer._plan.team.gather_objects(owned)
    assert sum(map(len, shares)) == 6  # each momentum is on one rank
    assert optimizer.stats()["params"]
    found = optimizer.state_dict()
    same_state(found, reference.state_dict())
    with_refusal = RuntimeError if RANK else None
    optimizer.consolidate_state_dict(to=0)
    try:
        same_state(optimizer.state_dict(), reference.state_dict())
        assert with_refusal is None
    except RuntimeError as error:
        assert with_refusal and "consolidated to rank 0" in str(error)


def case_ddp_muon():
    """Muon alone, in bfloat16 and float32, several rounds, large matrices as they lie."""
    from steepest.torch import _distributed, _team

    _distributed.ROUND_BYTES, _team.LARGE = 1 << 12, 2000
    shapes = [(40, 60), (33, 5), (5, 33), (100, 21), (64, 64), (1, 9), (0, 4), (60, 40)]
    for dtype in (torch.float32, torch.bfloat16):

        def params(dtype=dtype):
            g = torch.Generator().manual_seed(3)
            return [nn.Parameter(torch.randn(s, generator=g).to(dtype)) for s in shapes]

        ours, theirs = params(), params()
        a, b = st.Muon(ours, process_group=WORLD), st.Muon(theirs)
        for step in range(3):
            g = torch.Generator().manual_seed(step)
            for k, (p, q) in enumerate(zip(ours, theirs)):
                grad = torch.randn(p.shape, generator=g).to(dtype)
                unused = k == 4 and step == 1
                p.grad, q.grad = (None, None) if unused else (grad, grad)
            a.step()
            b.step()
        assert all(map(torch.equal, ours, theirs))
        assert len(a._plan.rounds) > 1
        same_state(a.state_dict(), b.state_dict())
    _distributed.ROUND_BYTES, _team.LARGE = 32 << 20, 1 << 18


def case_clipping():
    """The norm, and so the factor, are the single process's; a bad step is skipped by all."""
    options = {"max_grad_norm": 1.0, "skip_nonfinite": True}
    twin, reference = single(muon_adamw, 2, **options)
    model = Model()
    optimizer = muon_adamw(model, WORLD, **options)
    train(model, optimizer, 2)
    assert optimizer.grad_norm == reference.grad_norm > 1
    give(model, 9)
    if RANK == SIZE - 1:  # which a broken all-reduce might do
        model.proj.weight.grad[0, 0] = torch.inf
    optimizer.step()
    assert optimizer.skipped
    same(model, twin)


def case_added_later():
    """A parameter group that is added in mid-training: momentum stays where it is."""
    models = [Model(), Model(), fsdp(Model())]
    optimizers = []
    for model, group in zip(models, (None, WORLD, None)):
        optimizer = st.Muon(model.more.parameters(), process_group=group)
        train(model, optimizer, 2)
        optimizer.add_param_group({"params": [model.qkv.weight, model.proj.weight], "blocks": None})
        train(model, optimizer, 2, 2)
        optimizers.append(optimizer)
    for model, optimizer in zip(models[1:], optimizers[1:]):
        same(model, models[0])
        same_state(optimizer.state_dict(), optimizers[0].state_dict())


def case_errors():
    """An error of one rank is an error of all, and the next step works."""
    twin, reference = single(muon_adamw, 1)
    model = Model()
    optimizer = muon_adamw(model, WORLD)
    train(model, optimizer, 1)
    # A gradient that is not finite: the others are done, everywhere.
    for m in (model, twin):
        give(m, 1)
        m.proj.weight.grad[3, 4] = torch.nan
    refused(steepest.NonfiniteError, "proj.weight", optimizer.step)
    refused(steepest.NonfiniteError, "proj.weight", reference.step)
    same(model, twin)
    same_state(optimizer.state_dict(), reference.state_dict())
    # One rank lacks a gradient: nothing is done.
    give(model, 2)
    if RANK == 1:
        model.proj.weight.grad = None
    refused(RuntimeError, "differ in their parameters, or", optimizer.step)
    # One rank has a sparse one.
    give(model, 2)
    if RANK == 1:
        model.norm.weight.grad = torch.eye(51)[0].to_sparse()
    refused(RuntimeError, "sparse gradients: norm.weight", optimizer.step)
    # One rank has found an infinity.
    give(model, 2)
    optimizer.found_inf = torch.tensor(float(RANK == 1))
    optimizer.step()
    assert optimizer.skipped
    same(model, twin)
    optimizer.found_inf = None
    train(model, optimizer, 1, 2)
    train(twin, reference, 1, 2)
    same(model, twin)
    refused(TypeError, "process_group", lambda: copy.deepcopy(optimizer))


def case_zero():
    """AdamW within ZeroRedundancyOptimizer, and its checkpoint."""
    from torch.distributed.optim import ZeroRedundancyOptimizer

    twin, reference = single(adamw, 3)
    for view in (False, True):

        def make(m, view=view):
            options = {"lr": 1e-2, "parameters_as_bucket_view": view}
            return ZeroRedundancyOptimizer(m.parameters(), st.AdamW, **options)

        model = Model()
        optimizer = make(model)
        train(model, optimizer, 3)
        same(model, twin)
        optimizer.consolidate_state_dict(to=0)
        box = [optimizer.state_dict() if RANK == 0 else None]
        dist.broadcast_object_list(box)
        same_state(box[0], reference.state_dict())
        again, more = Model(), single(adamw, 5)[0]
        again.load_state_dict(model.state_dict())
        resumed = make(again)
        resumed.load_state_dict(box[0])
        train(again, resumed, 2, 3)
        same(again, more)


# ---- FSDP2


def case_fsdp_adamw():
    twin, reference = single(adamw, 3)
    model = fsdp(Model())
    parts = [p.to_local().shape[0] for p in model.parameters()]
    assert (0 in parts) == (RANK > 0)  # of `one`, some ranks have nothing
    optimizer = adamw(model)
    train(model, optimizer, 3)
    same(model, twin)
    state = optimizer.state_dict()
    same_state(state, reference.state_dict())
    assert is_dtensor(state["state"][0]["exp_avg"])
    # A real pass, clipped.
    model, twin = fsdp(Model()), Model()
    optimizer, reference = adamw(model, max_grad_norm=0.1), adamw(twin, max_grad_norm=0.1)
    for step in range(2):
        torch.manual_seed(step)
        data = torch.randint(7, (6,))
        for m, o in ((model, optimizer), (twin, reference)):
            m(data).square().mean().backward()
            o.step()
            o.zero_grad()
    torch.testing.assert_close(optimizer.grad_norm, reference.grad_norm, rtol=1e-4, atol=0)
    give(model, 3)
    model.proj.weight.grad.to_local()[:1].fill_(torch.inf)
    optimizer.max_grad_norm, optimizer.skip_nonfinite = None, True
    optimizer.step()
    assert optimizer.skipped


def case_fsdp_muon_adamw():
    from steepest.torch import _distributed

    twin, reference = single(muon_adamw, 3)
    for _distributed.ROUND_BYTES in (1, 32 << 20):
        model = fsdp(Model())
        optimizer = muon_adamw(model, track_stats=True)
        train(model, optimizer, 3)
        same(model, twin)
        assert not optimizer._plan.rounds[-1].full or all(
            f.numel() == 0 and f.grad is None for f in optimizer._plan.rounds[-1].full.values()
        )
    same_state(optimizer.state_dict(), reference.state_dict())
    assert is_dtensor(optimizer.state_dict()["state"][0]["momentum_buffer"])
    # An error of one owner.
    for m in (model, twin):
        give(m, 3)
    twin.proj.weight.grad[0, 1] = torch.nan
    model.proj.weight.grad = sharded(twin.proj.weight.grad, model.proj.weight)
    refused(steepest.NonfiniteError, "proj.weight", optimizer.step)
    refused(steepest.NonfiniteError, "proj.weight", reference.step)
    same(model, twin)
    train(model, optimizer, 1, 4)
    train(twin, reference, 1, 4)
    same(model, twin)
    # Clipping and statistics.
    optimizer.max_grad_norm = 1.0
    train(model, optimizer, 1, 5)
    assert optimizer.grad_norm > 1


def placed(shape, m, placements, dtype=torch.float32):
    from torch.distributed.tensor import distribute_tensor

    g = torch.Generator().manual_seed(sum(shape))
    value = torch.randn(shape, generator=g).to(dtype)
    return nn.Parameter(distribute_tensor(value, m, placements)), nn.Parameter(value)


def case_placements():
    """Rows, columns, copies, two dimensions of a mesh, plain tensors; and what is refused."""
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

    line, square = mesh(), mesh(1, SIZE)
    cases = [
        ((25, 20), line, [Shard(0)], torch.float32),
        ((21, 34), line, [Shard(1)], torch.bfloat16),
        ((13, 17), line, [Replicate()], torch.float32),
        ((9, 1), line, [Shard(1)], torch.bfloat16),
        ((11, 14), square, [Replicate(), Shard(0)], torch.float32),
        ((14, 11), square, [Shard(0), Shard(1)], torch.float32),
    ]
    pairs = [placed(*each) for each in cases]
    plain = nn.Parameter(torch.ones(6, 8))
    pairs.append((plain, nn.Parameter(plain.detach().clone())))
    for make in (st.AdamW, st.Muon):
        options = {"process_group": WORLD} if make is st.Muon else {}
        a = make([p for p, _ in pairs], lr=0.1, **options)
        b = make([q for _, q in pairs], lr=0.1)
        for step in range(3):
            for p, q in pairs:
                g = torch.Generator().manual_seed(step)
                q.grad = torch.randn(q.shape, generator=g).to(q.dtype)
                p.grad = sharded(q.grad, p) if is_dtensor(p) else q.grad
            a.step()
            b.step()
        for p, q in pairs:
            assert torch.equal(whole(p.detach()), q), (make, q.shape)
    alone = st.Muon([("hidden", pairs[4][0])])
    refused(ValueError, "the mesh of hidden has 2 dimensions", alone.step)
    part = DTensor.from_local(torch.ones(4, 4), line, [Partial()])
    param = nn.Parameter(part)
    param.grad = part.detach()
    refused(NotImplementedError, "Partial", st.Muon([("hidden", param)]).step)
    refused(NotImplementedError, "hidden", st.AdamW([("hidden", param)]).step)
    p, q = placed((8, 8), line, [Shard(0)])
    p.grad = DTensor.from_local(torch.ones(8, 8), line, [Replicate()])
    refused((ValueError, RuntimeError), "hidden", st.Muon([("hidden", p)]).step)
    refused(ValueError, "hidden", st.AdamW([("hidden", p)]).step)


# ---- checkpoints


def kinds():
    for name, make in (("adamw", adamw), ("muon_adamw", muon_adamw)):
        yield f"fsdp-{name}", make, lambda: fsdp(Model()), None
        yield f"ddp-{name}", make, lambda: nn.parallel.DistributedDataParallel(Model()), WORLD


def case_save():
    """Distributed checkpoints after three steps."""
    for name, make, build, group in kinds():
        model = build()
        optimizer = make(model, group)
        train(model, optimizer, 3)
        state = {
            "model": get_model_state_dict(model),
            "optimizer": get_optimizer_state_dict(model, optimizer),
        }
        dcp.save(state, checkpoint_id=DIRECTORY / f"{SIZE}-{name}")
        full = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = {
            "model": get_model_state_dict(model, options=full),
            "optimizer": get_optimizer_state_dict(model, optimizer, options=full),
        }
        if RANK == 0:
            torch.save(state, DIRECTORY / f"{SIZE}-{name}.pt")


def resume(model, optimizer, path, make):
    state = {
        "model": get_model_state_dict(model),
        "optimizer": get_optimizer_state_dict(model, optimizer),
    }
    dcp.load(state, checkpoint_id=path)
    set_model_state_dict(model, state["model"])
    set_optimizer_state_dict(model, optimizer, state["optimizer"])
    train(model, optimizer, 2, 3)
    same(model, single(make, 5)[0])


def case_load():
    """Those that 2 ranks have saved go on here, on any number, sharded or not, bit for bit."""
    for name, make, build, group in kinds():
        for other in ("ddp", "fsdp"):
            saved = name.replace(name.split("-")[0], other)
            model = build() if SIZE > 1 else Model()
            resume(model, make(model, group), DIRECTORY / f"2-{saved}", make)
        # A file of the whole state, as a single process writes it.
        model = build() if SIZE > 1 else Model()
        optimizer = make(model, group)
        state = torch.load(DIRECTORY / f"2-{name}.pt")
        full = StateDictOptions(full_state_dict=True)
        set_model_state_dict(model, state["model"], options=full)
        set_optimizer_state_dict(model, optimizer, state["optimizer"], options=full)
        train(model, optimizer, 2, 3)
        same(model, single(make, 5)[0])


def case_plain_files():
    """torch.save of state_dict(), loaded by other ranks, without torch.distributed.checkpoint."""
    model = Model()
    optimizer = muon_adamw(model, WORLD)
    train(model, optimizer, 3)
    state = optimizer.state_dict()
    expected = single(muon_adamw, 5)[0]
    for group in (None, WORLD):
        again = Model()
        again.load_state_dict(model.state_dict())
        resumed = muon_adamw(again, group)
        resumed.load_state_dict(copy.deepcopy(state))
        if group is not None:
            held = sum("momentum_buffer" in s for s in resumed.state.values())
            assert held < 6
        train(again, resumed, 2, 3)
        same(again, expected)
    again = fsdp(Model())
    set_model_state_dict(again, model.state_dict(), options=StateDictOptions(full_state_dict=True))
    resumed = muon_adamw(again)
    resumed.load_state_dict(copy.deepcopy(state))
    train(again, resumed, 2, 3)
    same(again, expected)


# ---- narrow storage


def narrow(params, group=None, **options):
    """Muon for all but the last parameter."""
    groups = [{"params": params[:-1], "use_muon": True}, {"params": params[-1:], "use_muon": False}]
    options = {"rounding": "stochastic", "seed": 5, "lr": 1e-2, **options}
    return st.MuonAdamW(groups, process_group=group, **options)


def same_entries(found, expected):
    """Two state dicts, all entries and memory layouts."""
    assert found["state"].keys() == expected["state"].keys()
    for i, state in expected["state"].items():
        assert found["state"][i].keys() == state.keys(), (i, found["state"][i].keys(), state.keys())
        for key, value in state.items():
            other = found["state"][i][key]
            if isinstance(value, torch.Tensor):
                assert (other.dtype, other.stride()) == (value.dtype, value.stride()), (i, key)
                assert torch.equal(other, value), (i, key)
            else:
                assert other == value, (i, key)


def case_narrow():
    """8-bit momentum, masters and stochastic rounding on shared matrices: a single process's."""
    shapes = [(64, 80), (70, 61), (12, 9), (80, 64), (8, 6, 10, 10), (4099,)]

    def params():
        values = parameters(torch.bfloat16, shapes)
        values[4].data = values[4].data.to(memory_format=torch.channels_last)
        return values

    modes = [
        {"state_dtype": "q8_companded", "master": "split"},
        {"state_dtype": "q8_dynamic", "master": "f32"},
        {"state_dtype": torch.float32, "master": "split8"},
        {"state_dtype": "q8_companded"},
        {},
    ]
    for options in modes:
        ours, theirs = params(), params()
        a, b = narrow(ours, WORLD, **options), narrow(theirs, **options)
        descend(a, ours, 3)
        descend(b, theirs, 3)
        assert all(map(torch.equal, ours, theirs)), options
        held = sum("momentum_buffer" in state for state in a.state.values())
        assert held < 5 or SIZE == 1
        state = a.state_dict()
        same_entries(state, b.state_dict())
        a.consolidate_state_dict(to=SIZE - 1)
        if RANK == SIZE - 1:
            same_entries(a.state_dict(), b.state_dict())
            assert all(torch.equal(a.master(p), b.master(q)) for p, q in zip(ours, theirs))
        elif SIZE > 1:
            refused(RuntimeError, "on another rank", lambda a=a, o=ours: list(map(a.master, o)))
        descend(b, theirs, 2, start=3)
        for group in (None, WORLD):
            again = [nn.Parameter(p.detach().clone()) for p in ours]
            resumed = narrow(again, group)  # takes storage and options from the dictionary
            resumed.load_state_dict(copy.deepcopy(state))
            descend(resumed, again, 2, start=3)
            assert all(map(torch.equal, again, theirs)), (options, group)
            same_entries(resumed.state_dict(), b.state_dict())
        if options == modes[0]:
            dcp.save({"optimizer": state}, checkpoint_id=DIRECTORY / f"{SIZE}-narrow")
            again = [nn.Parameter(p.detach().clone()) for p in ours]
            resumed = narrow(again, WORLD, **options)
            descend(resumed, again, 1)  # makes the entries that are read into
            for p, q in zip(again, ours):
                p.data.copy_(q)
            into = {"optimizer": resumed.state_dict()}
            dcp.load(into, checkpoint_id=DIRECTORY / f"{SIZE}-narrow")
            resumed.load_state_dict(into["optimizer"])
            descend(resumed, again, 2, start=3)
            assert all(map(torch.equal, again, theirs))
            torch.save((state, ours), DIRECTORY / f"{SIZE}-{RANK}-narrow.pt")


def case_narrow_load():
    """What 2 ranks have saved goes on here, on any number."""
    options = {"state_dtype": "q8_companded", "master": "split"}
    state, start = torch.load(DIRECTORY / "2-0-narrow.pt", weights_only=False)
    theirs = [nn.Parameter(p.detach().clone()) for p in start]
    reference = narrow(theirs, **options)
    reference.load_state_dict(copy.deepcopy(state))
    ours = [nn.Parameter(p.detach().clone()) for p in start]
    optimizer = narrow(ours, WORLD)
    optimizer.load_state_dict(copy.deepcopy(state))
    for o, p in ((optimizer, ours), (reference, theirs)):
        descend(o, p, 2, start=3)
    assert all(map(torch.equal, ours, theirs))
    same_entries(optimizer.state_dict(), reference.state_dict())


def case_narrow_sharded():
    """DTensors: stochastic rounding and narrow types are a single process's; others are refused."""
    from torch.distributed.tensor import Shard

    line = mesh()
    shapes = [(64, 80), (81, 60), (4099,)]
    for options in ({}, {"state_dtype": torch.bfloat16}, {"state_dtype": torch.float32}):
        pairs = [placed(shape, line, [Shard(0)], torch.bfloat16) for shape in shapes]
        ours, theirs = ([pair[k] for pair in pairs] for k in (0, 1))
        for split in (slice(0, 0), slice(0, 2)):  # AdamW alone, then Muon and AdamW
            make = narrow if split.stop else st.AdamW
            more = {"rounding": "stochastic", "seed": 5, "lr": 1e-2, **options}
            a, b = make(ours, **more), make(theirs, **more)
            for step in range(3):
                g = torch.Generator().manual_seed(step)
                for p, q in zip(ours, theirs):
                    q.grad = torch.randn(q.shape, generator=g).to(q.dtype)
                    p.grad = sharded(q.grad, p)
                a.step()
                b.step()
            for p, q in zip(ours, theirs):
                assert torch.equal(whole(p.detach()), q), (options, make, q.shape)
            same_state(a.state_dict(), b.state_dict())
    for name, value in (("state_dtype", "q8_companded"), ("master", "split")):
        refused(ValueError, "in Muon", lambda n=name, v=value: narrow(ours, **{n: v}))
        saved = narrow(theirs, lr=1e-2, **{name: value})
        descend(saved, theirs, 1)
        target = narrow(ours)
        load = copy.deepcopy(saved.state_dict())
        refused(ValueError, "in Muon", lambda t=target, s=load: t.load_state_dict(s))
        assert not target.state
    target = st.AdamW(ours)
    refused(ValueError, "DTensor", lambda: st.to_bitsandbytes(target))
    # 8 bits of a whole state go into a type that parts can have.
    target = st.AdamW(ours, state_dtype=torch.float32)
    saved = st.AdamW(theirs, state_dtype="q8_dynamic")
    descend(saved, theirs, 1)
    target.load_state_dict(copy.deepcopy(saved.state_dict()))
    for p in ours:
        p.grad = torch.zeros_like(p)
    target.step()
    assert target.state[ours[0]]["exp_avg"].dtype == torch.float32
    columns, _ = placed((16, 24), line, [Shard(1)], torch.bfloat16)
    refused(ValueError, "rounding", lambda: st.AdamW([columns], rounding="stochastic"))
    st.Muon([columns], rounding="stochastic")  # computes on the whole
    later = st.AdamW([columns])
    columns.grad = torch.zeros_like(columns)
    later.step()
    later.param_groups[0]["rounding"] = "stochastic"
    refused(ValueError, "rounding", later.step)


def case_narrow_zero():
    """8 bits and masters within ZeroRedundancyOptimizer, and its checkpoint."""
    from torch.distributed.optim import ZeroRedundancyOptimizer

    shapes = [(70, 61), (64, 80), (4099,), (12, 9)]
    ours, theirs = (parameters(torch.bfloat16, shapes) for _ in range(2))
    options = {"lr": 1e-2, "state_dtype": "q8_companded", "master": "split"}
    optimizer = ZeroRedundancyOptimizer(ours, st.AdamW, **options)
    reference = st.AdamW(theirs, **options)
    descend(optimizer, ours, 3)
    descend(reference, theirs, 3)
    assert all(map(torch.equal, ours, theirs))
    optimizer.consolidate_state_dict(to=0)
    box = [optimizer.state_dict() if RANK == 0 else None]
    dist.broadcast_object_list(box)
    same_entries(box[0], reference.state_dict())
    again = [nn.Parameter(p.detach().clone()) for p in ours]
    resumed = ZeroRedundancyOptimizer(again, st.AdamW, **options)
    resumed.load_state_dict(box[0])
    descend(resumed, again, 2, start=3)
    descend(reference, theirs, 2, start=3)
    assert all(map(torch.equal, again, theirs))


# ---- what it costs


def case_bytes():
    """What docs/distributed.py predicts is what is held and sent."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "docs"))
    import distributed as predicted

    sent = [0]
    exchange, broadcast = dist.all_to_all_single, dist.broadcast

    def counted_exchange(out, into, receives, sends, **options):
        sent[0] += sum(sends) - sends[RANK]
        return exchange(out, into, receives, sends, **options)

    def counted_broadcast(tensor, src, **options):
        sent[0] += (SIZE - 1) * tensor.nbytes * (src == RANK)
        return broadcast(tensor, src, **options)

    dist.all_to_all_single, dist.broadcast = counted_exchange, counted_broadcast
    try:
        for how, build, group in (
            ("ddp", Model, WORLD),
            ("fsdp", lambda: fsdp(Model()), None),
        ):
            model = build()
            optimizer = muon_adamw(model, group)
            give(model, 0)
            sent[0] = 0
            optimizer.step()
            held = sum(
                (v.to_local() if is_dtensor(v) else v).nbytes
                for s in optimizer.state.values()
                for k, v in s.items()
                if k != "step"
            )
            expected = predicted.per_rank(predicted.entries_of(optimizer), SIZE, f"muon-{how}")
            expected = expected[RANK]
            assert sent[0] == expected["sent"], (how, sent[0], expected)
            assert held == expected["state"], (how, held, expected)
    finally:
        dist.all_to_all_single, dist.broadcast = exchange, broadcast


# ---- ranks that get lost


def case_lost():
    """A rank that hangs, then ends: for the other an error within the group's timeout."""
    for build, group in ((Model, WORLD), (lambda: fsdp(Model()), None)):
        model = build()
        optimizer = muon_adamw(model, group)
        train(model, optimizer, 1)
    give(model, 1)
    marker = DIRECTORY / "seen"
    if RANK == 1:
        while not marker.exists():
            time.sleep(0.05)
        os._exit(0)
    began = time.monotonic()
    refused(RuntimeError, "", optimizer.step)
    assert time.monotonic() - began < 40
    marker.touch()
    model = Model()
    give(model, 1)
    began = time.monotonic()
    refused(RuntimeError, "", muon_adamw(model, WORLD).step)
    assert time.monotonic() - began < 40


def main():
    global RANK, SIZE, DIRECTORY, WORLD
    RANK, SIZE, DIRECTORY = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    names = sys.argv[4:]
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    rendezvous = f"file://{DIRECTORY / '-'.join(['meet', str(SIZE), *names[:1]])}"
    dist.init_process_group(
        "gloo",
        init_method=rendezvous,
        rank=RANK,
        world_size=SIZE,
        timeout=datetime.timedelta(seconds=8 if names == ["lost"] else 120),
    )
    WORLD = dist.group.WORLD
    results = {}
    for name in names:
        began = time.monotonic()
        try:
            globals()[f"case_{name}"]()
            results[name] = ""
        except Exception:  # noqa: BLE001
            results[name] = traceback.format_exc()
        results[f"{name} seconds"] = time.monotonic() - began
        path = DIRECTORY / f"{SIZE}-{RANK}-{names[0]}.json"
        path.write_text(json.dumps(results))
        if results[name]:
            break  # the ranks may be out of step
    if names != ["lost"]:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
