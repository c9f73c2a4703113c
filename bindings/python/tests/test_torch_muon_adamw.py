# SPDX-License-Identifier: Apache-2.0
"""steepest.torch.MuonAdamW, and which parameters Muon gets."""

from __future__ import annotations

import copy
import pickle

import pytest

torch = pytest.importorskip("torch")
import steepest.torch as st
from torch_support import assert_same_bits, make_params, run, set_grads


class Block(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.qkv = torch.nn.Linear(width, 3 * width)
        self.out = torch.nn.Linear(width, width, bias=False)
        self.gate_up = torch.nn.Linear(width, 4 * width, bias=False)


class Nested(torch.nn.Module):
    """A layer that is called like a head."""

    def __init__(self, width):
        super().__init__()
        self.fc = torch.nn.Linear(width, width)


class Model(torch.nn.Module):
    def __init__(self, width=16, tied=True):
        super().__init__()
        self.wte = torch.nn.Embedding(50, width)
        self.pos_embed = torch.nn.Parameter(torch.zeros(8, width))
        self.conv = torch.nn.Conv2d(3, width, 3)
        self.depthwise = torch.nn.Conv2d(width, width, 3, groups=width)
        self.up = torch.nn.ConvTranspose2d(width, 3, 3)
        self.h = torch.nn.ModuleList(Block(width) for _ in range(2))
        self.extra = torch.nn.ModuleList([Nested(width)])
        self.frozen = torch.nn.Linear(width, width).requires_grad_(False)
        self.lm_head = torch.nn.Linear(width, 50, bias=False)
        if tied:
            self.lm_head.weight = self.wte.weight


def names(groups, use_muon):
    return {name for g in groups if g["use_muon"] is use_muon for name, _ in g["params"]}


@pytest.mark.parametrize("tied", [True, False])
def test_split_parameters(tied):
    model = Model(tied=tied)
    groups = st.split_parameters(model)
    hidden = {f"h.{i}.{part}.weight" for i in range(2) for part in ("qkv", "out", "gate_up")}
    assert names(groups, True) == hidden | {"conv.weight", "extra.0.fc.weight"}
    everything = [name for g in groups for name, _ in g["params"]]
    expected = [name for name, p in model.named_parameters() if p.requires_grad]
    assert sorted(everything) == sorted(expected)  # tied weights once, frozen ones not at all


def test_a_tied_weight_goes_to_adamw_if_one_of_its_places_does():
    model = torch.nn.ModuleDict(
        {name: torch.nn.Linear(8, 8, bias=False) for name in ("first", "second", "lm_head")}
    )
    model["table"] = torch.nn.Embedding(8, 8)
    model["table"].weight = model["second"].weight
    model["first"].weight = model["lm_head"].weight
    groups = st.split_parameters(model)
    assert names(groups, False) == {"first.weight", "second.weight"}
    parts = {"table": model["table"], "hidden": model["second"], "lm_head": torch.nn.Linear(8, 8)}
    model = torch.nn.ModuleDict(parts)
    assert "table.weight" in names(st.split_parameters(model), False)


def test_split_parameters_overrides():
    model = Model()
    groups = st.split_parameters(
        model,
        adamw="h.0.*",
        muon=["pos_embed", "lm_head.weight"],  # one of the names of a tied weight
        blocks={"*.qkv.weight": 3, "*.gate_up.weight": [32, 32]},
        decay_vectors=False,
    )
    assert "wte.weight" in names(groups, True)
    assert "pos_embed" in names(groups, True)
    assert not any(name.startswith("h.0.") for name in names(groups, True))
    by_blocks = {str(g.get("blocks")): [n for n, _ in g["params"]] for g in groups if g["use_muon"]}
    assert by_blocks["3"] == ["h.1.qkv.weight"]
    assert by_blocks["[32, 32]"] == ["h.1.gate_up.weight"]
    vectors = [p for g in groups if g.get("weight_decay") == 0.0 for _, p in g["params"]]
    assert vectors
    assert all(p.ndim < 2 for p in vectors)
    with pytest.raises(ValueError, match="no parameter of the model matches.*attn"):
        st.split_parameters(model, blocks={"*.attn.weight": 3})
    with pytest.raises(ValueError, match="needs a matrix"):
        st.split_parameters(model, muon="h.0.norm.weight")


def test_the_last_linear_layer_is_the_head_if_none_is_named():
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    groups = st.split_parameters(model)
    assert names(groups, True) == {"0.weight"}


def test_muon_adamw_is_muon_and_adamw():
    a, b = Model(), Model()
    b.load_state_dict(a.state_dict())
    both = st.MuonAdamW(a, lr=1e-2)
    groups = st.split_parameters(b)
    hidden = [p for g in groups if g["use_muon"] for _, p in g["params"]]
    rest = [p for g in groups if not g["use_muon"] for _, p in g["params"]]
    muon = st.Muon(hidden, lr=1e-2, adjust_lr_fn="match_rms_adamw", flatten=True)
    adamw = st.AdamW(rest, lr=1e-2, weight_decay=0.1)
    for step in range(4):
        for model, optimizers in ((a, [both]), (b, [muon, adamw])):
            set_grads(list(model.parameters())[:-2], step)
            for optimizer in optimizers:
                optimizer.step()
    assert_same_bits(a.parameters(), b.parameters())


def test_muon_adamw_clips_over_both_kinds_and_schedules():
    model = Model()
    optimizer = st.MuonAdamW(model, lr=1e-2, max_grad_norm=1.0, track_stats=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=10)
    params = [p for p in model.parameters() if p.requires_grad]
    for step in range(5):
        set_grads(params, step)
        optimizer.step()
        schedule.step()
    expected = torch.nn.utils.get_total_norm([p.grad for p in params]).item()
    assert optimizer.grad_norm == pytest.approx(expected, rel=1e-5)
    stats = optimizer.stats()
    assert stats["grad_norm"] == pytest.approx(expected, rel=1e-4)
    assert len(stats["params"]) == len(params)
    assert 0.15 < stats["groups"][0]["update_rms"] < 0.25


def test_groups_must_say_which_they_are():
    with pytest.raises(ValueError, match="use_muon"):
        st.MuonAdamW(make_params(shapes=[(4, 4)]))


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_muon_adamw_copies(way):
    model = Model()
    optimizer = st.MuonAdamW(model, lr=1e-2, max_grad_norm=1.0)
    params = [p for p in model.parameters() if p.requires_grad]
    run(optimizer, params, 2)
    if way == "deepcopy":
        twins, twin = copy.deepcopy((params, optimizer))
    else:
        twins, twin = pickle.loads(pickle.dumps((params, optimizer)))
    assert twin.max_grad_norm == 1.0
    run(optimizer, params, 2, start=2)
    run(twin, twins, 2, start=2)
    assert_same_bits(params, twins)
