# SPDX-License-Identifier: Apache-2.0
"""Threads, forks, memory and many small tensors under the torch optimizers."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import pytest

torch = pytest.importorskip("torch")
import steepest.torch as st
from steepest import _c
from torch_support import assert_same_bits, make_params, run, set_grads


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("cls", [st.AdamW, st.Muon])
def test_the_number_of_threads_follows_torch_and_changes_no_bit(cls, threads, monkeypatch):
    asked = []
    context = _c.context
    monkeypatch.setattr(_c, "context", lambda n: asked.append(n) or context(n))
    results = []
    for number in (1, 2):
        threads(number)
        params = make_params(shapes=[(300, 200), (64, 500)])
        run(cls(params, lr=1e-2), params, 3)
        results.append(params)
    assert_same_bits(*results)
    assert asked == [1, 1, 1, 2, 2, 2]


def test_optimizers_in_threads_of_their_own():
    expected = make_params()
    run(st.AdamW(expected, lr=1e-2), expected, 50)
    found = [make_params() for _ in range(4)]
    errors = []

    def work(params):
        try:
            run(st.AdamW(params, lr=1e-2), params, 50)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    workers = [threading.Thread(target=work, args=(params,)) for params in found]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not errors
    for params in found:
        assert_same_bits(expected, params)


class Data(torch.utils.data.Dataset):
    """A data set whose items come from a training step in the worker."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        params = make_params(shapes=[(64, 64)])
        run(st.MuonAdamW([{"params": params, "use_muon": True}], lr=1e-2), params, 2)
        return params[0].detach()


def test_data_loader_workers(threads):
    threads(2)
    params = make_params(shapes=[(64, 64)])
    run(st.MuonAdamW([{"params": params, "use_muon": True}], lr=1e-2), params, 2)
    loader = torch.utils.data.DataLoader(
        Data(), batch_size=4, num_workers=2, multiprocessing_context="fork", timeout=60
    )
    for batch in loader:
        for item in batch:
            assert torch.equal(item, params[0].detach())
    run(st.AdamW(params), params, 1)  # the parent goes on


def test_a_forked_child_can_step_its_parents_optimizer():
    params = make_params()
    optimizer = st.AdamW(params, lr=1e-2)
    run(optimizer, params, 2)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run(optimizer, params, 1, start=2)
            os.write(writer, params[3].detach().numpy().tobytes())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        found = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    run(optimizer, params, 1, start=2)
    assert params[3].detach().numpy().tobytes() == found


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_no_memory_growth_over_10000_steps():
    shapes = [(16, 8), (8,), (4, 4, 3, 3)]
    params = make_params(shapes=shapes)
    params[2].data = params[2].data.to(memory_format=torch.channels_last)
    groups = [{"params": params[::2], "use_muon": True}, {"params": [params[1]], "use_muon": False}]
    optimizer = st.MuonAdamW(groups, lr=1e-4, max_grad_norm=1.0, track_stats=True)

    def steps(count):
        for step in range(count):
            for k, p in enumerate(params):
                p.grad = torch.ones(p.shape) if (step + k) % 3 else None  # the rows change
            optimizer.step()
            optimizer.zero_grad()

    steps(1000)
    gc.collect()
    before = resident()
    steps(10_000)
    gc.collect()
    assert resident() - before < 2 << 20


def test_a_dropped_optimizer_frees_its_parameters():
    param = torch.nn.Parameter(torch.ones(3))
    optimizer = st.AdamW([param])
    param.grad = torch.ones(3)
    optimizer.step()
    gone = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert gone() is None


def test_a_thousand_small_tensors():
    shapes = [(8, 32), (32, 8)] * 500
    ours, theirs = make_params(shapes=shapes), make_params(shapes=shapes)
    a = st.AdamW([{"params": [p], "lr": 1e-3 * (1 + k % 7)} for k, p in enumerate(ours)])
    b = torch.optim.AdamW([{"params": [p], "lr": 1e-3 * (1 + k % 7)} for k, p in enumerate(theirs)])
    for step in range(2):
        set_grads(ours, step)
        for p, q in zip(ours, theirs):
            q.grad = p.grad.clone()
        a.step()
        b.step()
    for p, q in zip(ours, theirs):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-5)


def test_a_step_holds_no_gradients():
    params = make_params(shapes=[(4, 4)])
    optimizer = st.AdamW(params)
    set_grads(params, 0)
    optimizer.step()
    gradient = weakref.ref(params[0].grad)
    optimizer.zero_grad()
    gc.collect()
    assert gradient() is None
