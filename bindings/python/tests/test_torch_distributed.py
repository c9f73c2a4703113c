# SPDX-License-Identifier: Apache-2.0
"""The torch optimizers on 2 and 3 processes of this machine, and checkpoints between them.

Importing torch takes seconds, so a few launches run all cases of torch_distributed_cases.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("this torch has no gloo", allow_module_level=True)
from steepest._shares import msign_flops, muon_flops, owners

CASES = Path(__file__).with_name("torch_distributed_cases.py")
COMMON = [
    "ddp",
    "ddp_muon",
    "clipping",
    "errors",
    "zero",
    "added_later",
    "plain_files",
    "bytes",
    "narrow",
    "narrow_zero",
]
SHARDED = [
    "fsdp_adamw",
    "fsdp_muon_adamw",
    "placements",
    "narrow_sharded",
    "parts",
    "parts_fsdp",
    "parts_order",
    "parts_refused",
    "parts_written",
]
SAVE = ["save", "parts_save"]  # by 2 ranks
LOAD = ["load", "narrow_load", "parts_load"]  # by others
LIMIT = 300  # seconds, of a launch


def launch(size, directory, cases):
    """Runs cases on as many processes. Returns {case: [what went wrong, of each rank]}."""
    command = [sys.executable, str(CASES)]
    logs = [(directory / f"log-{size}-{rank}-{cases[0]}").open("w+b") for rank in range(size)]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(size), str(directory), *cases], stdout=log, stderr=log
        )
        for rank, log in enumerate(logs)
    ]
    end = time.monotonic() + LIMIT
    try:
        for process in processes:
            process.wait(max(0.1, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        pass
    finally:
        for process in processes:
            process.kill()
            process.wait()
    found = {case: [] for case in cases}
    for rank, log in enumerate(logs):
        log.seek(0)
        output = log.read().decode(errors="replace")[-4000:]
        log.close()
        path = directory / f"{size}-{rank}-{cases[0]}.json"
        results = json.loads(path.read_text()) if path.exists() else {}
        for case in cases:
            found[case].append(results.get(case, f"did not finish; its output:\n{output}"))
    return found


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("distributed")


@pytest.fixture(scope="module")
def two(directory):
    return launch(2, directory, [*SAVE, *COMMON, *SHARDED])


@pytest.fixture(scope="module")
def three(directory, two):
    return launch(3, directory, [*LOAD, *COMMON, *SHARDED])


def check(found, case):
    for rank, text in enumerate(found[case]):
        assert not text, f"rank {rank}: {text}"


@pytest.mark.parametrize("case", [*SAVE, *COMMON, *SHARDED])
def test_two_processes(two, case):
    check(two, case)


@pytest.mark.parametrize("case", [*LOAD, *COMMON, *SHARDED])
def test_three_processes(three, case):
    check(three, case)


@pytest.fixture(scope="module")
def one(directory, two):
    return launch(1, directory, LOAD)


@pytest.mark.parametrize("case", LOAD)
def test_a_checkpoint_of_two_processes_in_one(one, case):
    check(one, case)


def test_a_lost_rank_is_an_error_for_the_others(tmp_path):
    began = time.monotonic()
    found = launch(2, tmp_path, ["lost"])
    assert not found["lost"][0], found["lost"][0]
    assert time.monotonic() - began < 150


def test_flops():
    assert msign_flops(768, 3072) == msign_flops(3072, 768) == 15 * 768**3  # (3 m/n + 3) n^3
    assert msign_flops(100, 100, "newton-schulz", 5) == 20 * 100**3
    assert muon_flops(2304, 768, blocks=[768] * 3) == 3 * msign_flops(768, 768)
    assert muon_flops(768, 2304, blocks=[768] * 3, block_axis=1) == 3 * msign_flops(768, 768)
    assert muon_flops(0, 4) == 0


def test_owners_are_balanced_and_always_the_same():
    assert owners([5, 4, 3, 3, 3], 2) == [0, 1, 1, 0, 1]
    assert owners([7, 7, 7], 2) == [0, 1, 0]
    assert owners([1], 4) == [0]
    costs = [k * k % 97 + 1 for k in range(200)]
    for ranks in (1, 2, 3, 7, 64):
        loads = [0] * ranks
        for cost, owner in zip(costs, owners(costs, ranks)):
            loads[owner] += cost
        best = max(max(costs), -(-sum(costs) // ranks))
        assert max(loads) <= best * (4 / 3 - 1 / (3 * ranks))


def test_the_tables_of_the_documentation_are_those_of_the_script(monkeypatch):
    import runpy

    script = CASES.parents[3] / "docs" / "distributed.py"
    monkeypatch.syspath_prepend(str(script.parent))
    names = runpy.run_path(str(script))
    text = script.with_suffix(".md").read_text()
    # The small models; the others take seconds.
    for name in ("GPT-2 124M",):
        assert names["model_table"](name, names["rates"]([])) in text
    assert names["overview"]() in text


LONG = pytest.mark.skipif(not os.environ.get("STEEPEST_TEST_LONG"), reason="long form only")


@pytest.mark.parametrize("options", [[], pytest.param(["--fsdp"], marks=LONG)])
def test_the_example(options, tmp_path):
    script = CASES.parents[3] / "examples" / "python" / "ddp_muon.py"
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    run += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]  # a free port
    command = [*run, str(script), "--steps", "40", "--checkpoint", str(tmp_path / "run"), *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr[-4000:]
    losses = [float(line.split()[-1]) for line in done.stdout.splitlines() if "loss" in line]
    assert losses[1] < losses[0]
    assert (tmp_path / "run" / ".metadata").exists()
