# SPDX-License-Identifier: Apache-2.0
"""Times PyTorch's AdamW and ours on the same work and prints one table of ratios.

Whole processes alternate: one of PyTorch, one of ours, and so on. A round is one process of each,
with the order changing from round to round; the ratio is formed within a round.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import time

BENCH = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(BENCH))

KI, MI = 1 << 10, 1 << 20


@dataclasses.dataclass(frozen=True)
class Case:
    count: int  # elements of each tensor
    tensors: int = 1
    dtype: str = "f32"
    amsgrad: bool = False
    foreach: bool = False  # PyTorch's foreach=True in place of fused=True
    all_threads: bool = True  # also with every core

    def name(self):
        import machine

        size = machine.size_text(self.count)
        many = f"{self.tensors:,} x " if self.tensors > 1 else ""
        text = f"{self.dtype} {many}{size}"
        return text + (" amsgrad" if self.amsgrad else "") + (" (foreach)" if self.foreach else "")


CASES = [
    Case(64 * MI),
    Case(16 * MI),
    Case(1 * MI),
    Case(64 * KI),
    Case(64, all_threads=False),
    Case(4 * KI, tensors=1000),
    Case(4 * KI, tensors=1000, foreach=True),
    Case(16 * MI, dtype="f64"),
    Case(16 * MI, dtype="bf16"),
    Case(16 * MI, dtype="f16"),
    Case(16 * MI, amsgrad=True),
]


def worker(case, threads, seconds):
    """PyTorch's side, in a process of its own: the counterpart of ../adamw_process.cpp."""
    import torch

    torch.set_num_threads(threads)
    types = {"f32": torch.float32, "f64": torch.float64}
    types |= {"bf16": torch.bfloat16, "f16": torch.float16}
    dtype = types[case.dtype]
    pattern = torch.arange(case.count) % 7 - 3
    params = [(pattern * 0.1 + 0.5).to(dtype) for _ in range(case.tensors)]
    for param in params:
        param.grad = (pattern * 1e-3 + 1e-4).to(dtype)
    optimizer = torch.optim.AdamW(
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=1e-2,
        amsgrad=case.amsgrad,
        fused=not case.foreach,
        foreach=case.foreach,
    )

    def seconds_for(steps):
        start = time.perf_counter()
        for _ in range(steps):
            optimizer.step()
        return time.perf_counter() - start

    # Samples of at least a millisecond; the first third of the time is warm-up.
    steps, elapsed = 1, 0.0
    while elapsed < seconds / 3:
        sample = seconds_for(steps)
        elapsed += sample
        if sample < 1e-3:
            steps *= 2
    samples, elapsed = [], 0.0
    while elapsed < seconds * 2 / 3 or len(samples) < 5:
        sample = seconds_for(steps)
        elapsed += sample
        samples.append(sample / steps)
    result = {"seconds": statistics.median(samples), "samples": len(samples)}
    print(json.dumps(result | {"threads": torch.get_num_threads(), "build": torch.__version__}))


def torch_command(case, threads, options):
    work = json.dumps(dataclasses.asdict(case))
    return [sys.executable, __file__, "--worker", work, "--threads", str(threads)] + [
        f"--seconds={options.seconds}"
    ]


def our_program(options):
    return options.build / "bench" / "adamw_process"


def our_command(case, threads, options):
    command = [str(our_program(options)), "--dtype", case.dtype]
    command += ["--tensors", str(case.tensors), "--count", str(case.count)]
    command += ["--threads", str(threads), "--seconds", str(options.seconds)]
    return command + (["--amsgrad"] if case.amsgrad else [])


def measure(command, options):
    environment = dict(os.environ)
    if options.pages == "huge":
        # The C library then asks for transparent huge pages, for both sides alike.
        environment["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def bootstrap_interval(values, level=0.95, resamples=10_000):
    """Of the median, by drawing as many values again with replacement."""
    draw = random.Random(0)
    medians = sorted(
        statistics.median(draw.choices(values, k=len(values))) for _ in range(resamples)
    )
    tail = (1 - level) / 2
    return medians[int(tail * resamples)], medians[int((1 - tail) * resamples) - 1]


def compare(case, threads, options):
    sides = [torch_command, our_command]
    results = {side: [] for side in sides}
    for number in range(options.rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            results[side].append(measure(side(case, threads, options), options))
    theirs, ours = ([r["seconds"] for r in results[side]] for side in sides)
    ratios = [a / b for a, b in zip(theirs, ours)]
    return {
        "case": case.name(),
        "elements": case.count * case.tensors,
        "threads": threads,
        "torch_seconds": theirs,
        "our_seconds": ours,
        "ratios": ratios,
        "interval": bootstrap_interval(ratios),
        "torch": results[torch_command][0]["build"],
        "steepest": results[our_command][0]["build"],
        "isa": results[our_command][0]["isa"],
    }


def row(result):
    def microseconds(seconds):
        return f"{statistics.median(seconds) * 1e6:,.1f}"

    ratios, (low, high) = result["ratios"], result["interval"]
    return [
        result["case"],
        result["threads"],
        microseconds(result["torch_seconds"]),
        microseconds(result["our_seconds"]),
        f"{statistics.median(ratios):.2f}",
        f"{low:.2f}-{high:.2f}",
        f"{min(ratios):.2f}-{max(ratios):.2f}",
    ]


HEADERS = ["case", "threads", "PyTorch us", "Steepest us", "PyTorch / Steepest"]
HEADERS += ["95% interval", "min-max"]


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="processes of each side (7; with --quick 3)")
    parser.add_argument("--seconds", type=float, help="stepping time of a process (1.5; 0.6)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and shorter ones")
    parser.add_argument("--filter", default="", help="only cases whose name contains this text")
    parser.add_argument("--pages", choices=["huge", "default"], default="huge")
    parser.add_argument("--json", type=pathlib.Path, help="also write all results to this file")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument(
        "--build",
        type=pathlib.Path,
        default=BENCH.parent / "build" / "release",
        help="the build directory; adamw_process is in its folder bench",
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 7)
    options.seconds = options.seconds or (0.6 if options.quick else 1.5)
    return options


def main():
    options = parse()
    if options.worker:
        return worker(Case(**json.loads(options.worker)), options.threads, options.seconds)
    if importlib.util.find_spec("torch") is None:
        sys.exit("PyTorch is not installed; run ./dev setup --peers")
    if not our_program(options).exists():
        sys.exit(f"not built: {our_program(options)}; run ./dev build")
    import machine
    import tabulate

    facts = machine.describe()
    all_threads = len(os.sched_getaffinity(0))
    results = []
    for case in CASES:
        if options.filter not in case.name():
            continue
        for threads in [1, all_threads] if case.all_threads and all_threads > 1 else [1]:
            print(f"{case.name()}, {threads} threads", file=sys.stderr)
            results.append(compare(case, threads, options))
    if not results:
        sys.exit(f"no case matches --filter {options.filter}")
    facts["PyTorch"] = results[0]["torch"] + ", AdamW(fused=True) unless the case says otherwise"
    facts["Library"] = results[0]["steepest"]
    facts["ISA level"] = results[0]["isa"]
    facts["Method"] = f"{options.rounds} processes of each side in turn, {options.pages} pages"
    machine.print_header(facts, options.markdown)
    style = "github" if options.markdown else "simple"
    align = ("left",) + ("right",) * (len(HEADERS) - 1)
    table = [row(result) for result in results]
    print(
        tabulate.tabulate(
            table, headers=HEADERS, tablefmt=style, disable_numparse=True, colalign=align
        )
    )
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "results": results}, indent=1))


if __name__ == "__main__":
    main()
