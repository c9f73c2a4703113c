# SPDX-License-Identifier: Apache-2.0
"""Threads, forked processes and memory."""

import gc
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import steepest
from steepest import _c


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_other_threads_run_during_a_call():
    x = np.random.default_rng(13).standard_normal((300, 300))
    duration = 0.0
    while duration < 0.3:  # a matrix that takes long enough
        x = np.concatenate([np.concatenate([x, -x.T]), np.concatenate([x.T, x])], axis=1)
        x += np.eye(len(x))
        start = time.perf_counter()
        steepest.msign(x, method="accurate", threads=1)
        duration = time.perf_counter() - start
    ticks = []
    stop = threading.Event()

    def tick():
        while not stop.wait(0.001):
            ticks.append(time.perf_counter())

    ticking = threading.Thread(target=tick)
    ticking.start()
    start = time.perf_counter()
    steepest.msign(x, method="accurate", threads=1)
    duration = time.perf_counter() - start
    stop.set()
    ticking.join()
    middle = [t for t in ticks if start + duration / 4 < t < start + duration * 3 / 4]
    assert len(middle) > 3


def state(seed, size=100_000):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(size).astype("f4") for _ in range(3)] + [np.ones(size, "f4")]


def in_threads(count, function):
    """function(index) in that many threads, which begin at the same time."""
    start = threading.Barrier(count)

    def run_one(index):
        start.wait()
        function(index)

    threads = [threading.Thread(target=run_one, args=[index]) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_make_one_context():
    for _ in range(30):
        _c.contexts.clear()
        found = {}
        in_threads(4, lambda index, found=found: found.setdefault(index, _c.context(2)))
        assert list(found.values()) == [_c.context(2)] * 4


def test_threads_share_a_context():
    given = [state(seed) for seed in range(6)]
    expected = [state(seed) for seed in range(6)]
    for arrays in expected:
        steepest.adamw_step(*arrays, step=1, threads=2)
    in_threads(6, lambda index: steepest.adamw_step(*given[index], step=1, threads=2))
    for arrays, others in zip(given, expected):
        assert all(np.array_equal(one, other) for one, other in zip(arrays, others))


def test_an_error_belongs_to_its_thread():
    texts = {}

    def fail(index):
        for _ in range(200):
            try:
                steepest.scale_factor("none", 1, 1, -index)
            except ValueError as error:
                texts.setdefault(index, set()).add(str(error))
            try:
                steepest.adamw_step(*state(0, 3), step=1, lr=-1 - index)
            except ValueError as error:
                texts[index].add(str(error))

    in_threads(4, fail)
    assert all(len(found) == 2 for found in texts.values())
    assert all(any(f"-{1 + index}" in text for text in found) for index, found in texts.items())


# Forking a process in which OpenBLAS or a thread of the test before is busy is tested elsewhere;
# here a fresh interpreter forks after both kinds of use.
FORK = """
import os, signal, sys
import numpy as np, steepest
from steepest import _c

def step():
    arrays = [np.ones((700, 300), np.float32) for _ in range(3)] + [np.ones((700, 300), np.float32)]
    arrays[1][::2] = -3
    steepest.adamw_step(*arrays, step=1, threads=THREADS)
    steepest.muon_step(*arrays[:3], threads=THREADS)
    return arrays[0]

expected = step() if PARENT_FIRST else None
parents = _c.context(THREADS) if PARENT_FIRST else None
child = os.fork()
if child == 0:
    signal.alarm(30)
    found = step()
    right = expected is None or np.array_equal(found, expected)
    own = _c.context(THREADS) != parents
    print(_c.lib.steepest_context_threads(_c.context(THREADS)))
    if PARENT_FIRST:  # whoever still has the parent's context may use it
        norm = _c.c_double()
        vectors = _c.new_array(_c.Vector, 1)
        vectors[0].data, vectors[0].count = found.ctypes.data, found.size
        _c.check(_c.lib.steepest_grad_norm(parents, vectors, 1, norm, None))
        right = right and abs(norm.value - np.linalg.norm(found)) < 1e-2
    sys.stdout.flush()
    os._exit(0 if right and own else 1)
status = os.waitpid(child, 0)[1]
assert status == 0, status
assert expected is None or np.array_equal(step(), expected)
"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("parent_first", [False, True])
def test_fork(threads, parent_first):
    code = f"THREADS = {threads}\nPARENT_FIRST = {parent_first}\n{FORK}"
    done = run(code)
    assert done.returncode == 0, done.stderr
    if threads == 1 or parent_first:
        assert done.stdout.strip() == "1"  # see the header on fork


def resident_bytes():
    with open("/proc/self/statm") as numbers:
        return int(numbers.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_memory_does_not_grow():
    lists = [[np.ones((4, 8), np.float32) for _ in range(3)] for _ in range(4)]
    wrong = [lists[0], lists[1], lists[2], [np.ones(3, np.float32)] * 3]
    stats = []

    def steps(count):
        for _ in range(count):
            steepest.adamw_step(*lists, step=1, lr=[1e-3] * 3, stats=stats, threads=1)
            steepest.muon_step(*lists[:3], blocks=[[2, 2]] * 3, threads=1)
            steepest.msign(lists[0], method="newton_schulz", coefficients=[[1.5, -0.5, 0]] * 3)
            for bad in ({"step": 0}, {"step": "x"}):
                with pytest.raises((ValueError, TypeError)):
                    steepest.adamw_step(*lists, **bad)
            with pytest.raises(ValueError):
                steepest.adamw_step(*wrong, step=1)

    steps(300)
    gc.collect()
    before = resident_bytes()
    steps(3000)
    gc.collect()
    # One struct or view kept per step would be 1.5 MB or more.
    assert resident_bytes() - before < 1_000_000


def test_a_library_that_is_missing_or_something_else():
    done = run("import steepest", STEEPEST_LIBRARY="/nowhere/libsteepest.so.1")
    assert "ImportError: steepest: cannot load /nowhere/libsteepest.so.1" in done.stderr
    done = run("import steepest", STEEPEST_LIBRARY="libc.so.6")
    assert "ImportError: steepest: cannot load libc.so.6" in done.stderr


def test_environment():
    show = "import steepest; print(steepest.get_config())"
    done = run(show, STEEPEST_NUM_THREADS="1", STEEPEST_MAX_ISA="generic")
    assert "'isa': 'generic', 'threads': 1" in done.stdout
    done = run(show, STEEPEST_NUM_THREADS="many")
    assert "InvalidArgumentError" in done.stderr
    assert "STEEPEST_NUM_THREADS" in done.stderr


def test_torch_is_not_imported():
    done = run("import sys, steepest; print('torch' in sys.modules, 'ml_dtypes' in sys.modules)")
    assert done.stdout.strip() == "False False"
