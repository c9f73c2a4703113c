# SPDX-License-Identifier: Apache-2.0
"""How the library's threads and OpenMP's, which torch computes with, share the cores.

Both keep threads, as many as torch.set_num_threads says. OpenMP's wait for work by spinning for
some time before they sleep, and so may hold the cores that the library's threads need. A row is
one setting of that waiting: milliseconds of an AdamW step by itself, and of the same step where it
follows a forward and a backward pass, ours and PyTorch's fused one; then of these passes right
after each. Medians of medians, of a process per round and row.
"""

import json
import os
import statistics
import subprocess
import sys
import time

import alternate
import machine

SETTINGS = [
    (None, {}),
    (None, {"OMP_WAIT_POLICY": "passive"}),
    (None, {"OMP_WAIT_POLICY": "active"}),
    (1, {}),
]
KINDS = ("alone", "after", "passes")


def worker(threads, seconds):
    import steepest.torch
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = nn.Sequential(
        *(
            nn.Sequential(nn.Linear(768, 3072), nn.GELU(), nn.Linear(3072, 768), nn.LayerNorm(768))
            for _ in range(4)
        )
    )
    x = torch.randn(64, 768)
    optimizers = {
        "ours": steepest.torch.AdamW(model.parameters(), lr=1e-5),
        "theirs": torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True),
    }

    def passes():
        model.zero_grad()
        model(x).square().mean().backward()

    def timed(function):
        began = time.perf_counter()
        function()
        return (time.perf_counter() - began) * 1e3

    passes()
    result = {name: {kind: [] for kind in KINDS} for name in optimizers}
    for name, optimizer in optimizers.items():
        for _ in range(3):
            optimizer.step()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            result[name]["alone"].append(timed(optimizer.step))
    # In turn, since the state of the heap decides how long the passes take.
    end = time.perf_counter() + 4 * seconds
    while time.perf_counter() < end:
        for name, optimizer in optimizers.items():
            result[name]["after"].append(timed(optimizer.step))
            result[name]["passes"].append(timed(passes))
    for times in result.values():
        times.update({kind: statistics.median(found) for kind, found in times.items()})
    print(json.dumps(result | {"torch": torch.__version__, "threads": torch.get_num_threads()}))


def main():
    options = alternate.parse(alternate.parser(__doc__.splitlines()[0]))
    if options.worker:
        return worker(options.threads, options.seconds)
    os.environ["STEEPEST_LIBRARY"] = str((options.build / "libsteepest.so.1").resolve())
    os.environ["PYTHONPATH"] = str(alternate.BENCH.parent / "bindings" / "python")
    import tabulate

    facts, rows = machine.describe(), []
    found = [[] for _ in SETTINGS]
    for _ in range(options.rounds):
        for (wanted, setting), results in zip(SETTINGS, found):
            threads = wanted or len(os.sched_getaffinity(0))
            command = [sys.executable, __file__, "--worker", "{}", "--threads", str(threads)]
            command.append(f"--seconds={options.seconds}")
            environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
            done = subprocess.run(
                command, env=environment | setting, check=True, stdout=subprocess.PIPE, text=True
            )
            results.append(json.loads(done.stdout))
    for (wanted, setting), results in zip(SETTINGS, found):
        name = " ".join(f"{key}={value}" for key, value in setting.items()) or "as it comes"
        columns = [(side, kind) for kind in KINDS for side in ("ours", "theirs")]
        medians = [statistics.median(r[side][kind] for r in results) for side, kind in columns]
        rows.append([name, results[0]["threads"], *(f"{median:.1f}" for median in medians)])
    result = found[0][0]
    facts["PyTorch"] = result["torch"]
    machine.print_header(facts, options.markdown)
    headers = ["OpenMP's waiting", "threads", "step alone, ours", "PyTorch's", "after passes, ours"]
    headers += ["PyTorch's", "the passes after ours", "after PyTorch's"]
    style = "github" if options.markdown else "simple"
    print(tabulate.tabulate(rows, headers, style, disable_numparse=True))


if __name__ == "__main__":
    main()
