# SPDX-License-Identifier: Apache-2.0
"""Alternating whole processes of a peer and of ours: what the scripts beside this one share."""

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

import machine


def sample(run, seconds, least_sample=0.0, least_count=3):
    """Median seconds of run(); a sample is as many calls as last least_sample seconds.

    The first third of the time is warm-up.
    """

    def seconds_for(calls):
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return time.perf_counter() - start

    calls, elapsed = 1, 0.0
    while elapsed < seconds / 3:
        one = seconds_for(calls)
        elapsed += one
        if one < least_sample:
            calls *= 2
    samples, elapsed = [], 0.0
    while elapsed < seconds * 2 / 3 or len(samples) < least_count:
        one = seconds_for(calls)
        elapsed += one
        samples.append(one / calls)
    return {"seconds": statistics.median(samples), "samples": len(samples)}


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


def compare(their_command, our_command, options):
    """options.rounds processes of each side, the order changing from round to round."""
    commands = [their_command, our_command]
    results = ([], [])
    for number in range(options.rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            results[side].append(measure(commands[side], options))
    theirs, ours = ([r["seconds"] for r in side] for side in results)
    return compared(theirs, ours, results[0][0], results[1][0])


def compare_workers(script, case, threads, options):
    """compare() with both sides in processes of `script`, which gets --worker [case, side]."""
    commands = []
    for side in ("theirs", "ours"):
        work = json.dumps([dataclasses.asdict(case), side])
        command = [sys.executable, script, "--worker", work, "--threads", str(threads)]
        commands.append([*command, f"--seconds={options.seconds}"])
    return compare(*commands, options)


def compared(theirs, ours, their_first, our_first):
    ratios = [a / b for a, b in zip(theirs, ours)]
    return {
        "torch_seconds": theirs,
        "our_seconds": ours,
        "ratios": ratios,
        "interval": bootstrap_interval(ratios),
        "their_first": their_first,
        "our_first": our_first,
    }


def ratio_columns(result):
    """Peer us, Steepest us, their ratio, its interval and extremes."""

    def microseconds(seconds):
        return f"{statistics.median(seconds) * 1e6:,.1f}"

    ratios, (low, high) = result["ratios"], result["interval"]
    return [
        microseconds(result["torch_seconds"]),
        microseconds(result["our_seconds"]),
        f"{statistics.median(ratios):.2f}",
        f"{low:.2f}-{high:.2f}",
        f"{min(ratios):.2f}-{max(ratios):.2f}",
    ]


def ratio_headers(peer):
    return [f"{peer} us", "Steepest us", f"{peer} / Steepest", "95% interval", "min-max"]


def parser(description):
    """The options of every such script."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, help="processes of each side (7; with --quick 3)")
    parser.add_argument("--seconds", type=float, help="running time of a process (1.5; 0.6)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and shorter ones")
    parser.add_argument("--filter", default="", help="only cases whose name contains this text")
    parser.add_argument("--pages", choices=["huge", "default"], default="huge")
    parser.add_argument("--json", type=pathlib.Path, help="also write all results to this file")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument(
        "--build",
        type=pathlib.Path,
        default=BENCH.parent / "build" / "release",
        help="the build directory; our programs are in its folder bench",
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    return parser


def parse(parser):
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 7)
    options.seconds = options.seconds or (0.6 if options.quick else 1.5)
    return options


def run(cases, compare_one, row, headers, their_program, program, options, peer="PyTorch"):
    """Compares the cases that --filter leaves, on one thread and on all, and prints the table.

    compare_one(case, threads) is a result of compare(); row(result) its first columns.
    """
    if importlib.util.find_spec({"PyTorch": "torch"}.get(peer, peer)) is None:
        sys.exit(f"{peer} is not installed; run ./dev setup --peers")
    if not program.exists():
        sys.exit(f"not built: {program}; run ./dev build")
    import tabulate

    facts = machine.describe()
    all_threads = len(os.sched_getaffinity(0))
    results = []
    for case in cases:
        if options.filter not in case.name():
            continue
        for threads in [1, all_threads] if case.all_threads and all_threads > 1 else [1]:
            print(f"{case.name()}, {threads} threads", file=sys.stderr)
            result = {"case": case.name(), "threads": threads}
            results.append(result | compare_one(case, threads))
    if not results:
        sys.exit(f"no case matches --filter {options.filter}")
    facts[peer] = f"{results[0]['their_first']['build']}, {their_program}"
    facts["Library"] = results[0]["our_first"]["build"]
    facts["ISA level"] = results[0]["our_first"]["isa"]
    facts["Method"] = f"{options.rounds} processes of each side in turn, {options.pages} pages"
    machine.print_header(facts, options.markdown)
    table = [[r["case"], r["threads"]] + row(r) + ratio_columns(r) for r in results]
    headers = ["case", "threads"] + headers + ratio_headers(peer)
    print(
        tabulate.tabulate(
            table,
            headers=headers,
            tablefmt="github" if options.markdown else "simple",
            disable_numparse=True,
            colalign=("left",) + ("right",) * (len(headers) - 1),
        )
    )
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "results": results}, indent=1))
