# SPDX-License-Identifier: Apache-2.0
"""Measures the matrix functions and writes docs/performance.md and its figure.

The prose is performance.md.in; every figure comes from this run, which is kept as performance.json
in the build directory.
"""

import importlib.util
import json
import statistics
import string
import subprocess
import sys

import report
import tabulate

DOCS = report.ROOT / "docs"
PROGRAMS = ["unit_linalg", "msign", "muon"]


def measure(options, kept):
    """Writes what was measured to `kept`: first without the peers, which take longest."""
    facts, benchmarks = report.measure(PROGRAMS, options)
    run = {"machine": facts, "benchmarks": benchmarks, "peers": []}
    kept.write_text(json.dumps(run, indent=1))
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed: nothing is compared with it", file=sys.stderr)
    else:
        out = options.build / "performance-peers.json"
        command = [sys.executable, str(report.ROOT / "bench" / "peers" / "muon.py"), "--quick"]
        command += ["--rounds=1"] if options.quick else []
        command += [f"--build={options.build}", f"--json={out}"]
        subprocess.run(command, check=True, stdout=sys.stderr)
        peers = json.loads(out.read_text())
        facts["PyTorch"] = peers["results"][0]["their_first"]["build"]
        run["peers"] = peers["results"]
        kept.write_text(json.dumps(run, indent=1))


def grouped(benchmarks, kind):
    """{(method, size): {threads: benchmark}} of the benchmarks named kind/method/size/..."""
    found = {}
    for each in benchmarks:
        first, method, size = each["name"].split("/")[:3]
        if first == kind:
            found.setdefault((method, size), {})[int(each["threads"])] = each
    return found


def table(headers, rows):
    align = ("left", "left") + ("right",) * (len(headers) - 2)
    return tabulate.tabulate(
        rows, headers=headers, tablefmt="github", disable_numparse=True, colalign=align
    )


def percent(value):
    return f"{100 * value:.0f} %"


def columns(by_threads, counts, show):
    """show(benchmark) for each number of threads; empty where it was not measured."""
    return [show(by_threads[t]) if t in by_threads else "" for t in counts]


def per_thread(text, counts):
    return [f"{text}, {t} thread{'s' if t > 1 else ''}" for t in counts]


def set_shares(benchmarks):
    """Several threads are held against that many times the peak of one: to wake them costs the
    peak's own loop more than small matrices take."""
    alone = {}
    for each in benchmarks:
        if each["threads"] == 1 and "peak_seconds" in each:
            alone[each["name"].split("/threads:")[0]] = each["peak_seconds"]
    for each in benchmarks:
        if "peak_ratio" not in each:
            continue
        each["share"] = each["peak_ratio"]
        peak = alone.get(each["name"].split("/threads:")[0])
        if each["threads"] > 1 and peak is not None:
            each["peak_seconds"] = peak / each["threads"]
            each["share"] = each["peak_seconds"] / each["seconds"]


def share(benchmark):
    return percent(benchmark["share"]) if "share" in benchmark else ""


def parts_table(benchmarks, counts):
    def openblas(benchmark):
        if "openblas_seconds" not in benchmark:
            return ""
        return percent(benchmark["peak_seconds"] / benchmark["openblas_seconds"])

    rows = []
    for (part, size), runs in grouped(benchmarks, "linalg").items():
        row = [part, size] + columns(runs, counts, share) + columns(runs, counts, openblas)
        if len(counts) > 1:
            pair = [runs[t]["seconds"] for t in counts if t in runs]
            row.append(f"{pair[0] / pair[1]:.2f}" if len(pair) == 2 else "")
            held = runs.get(counts[-1], {}).get("rounds_held")
            row.append("" if held is None else percent(held))
        rows.append(row)
    headers = ["part", "matrix"] + per_thread("share of peak", counts)
    headers += per_thread("OpenBLAS alone", counts)
    last = [f"{counts[-1]} threads / 1", "rounds on all cores"]
    return table(headers + last * (len(counts) > 1), rows)


def milliseconds(benchmark):
    time = 1e3 * benchmark["seconds"]
    return f"{time:,.{0 if time > 100 else 1 if time > 10 else 2}f}"


def msign_table(benchmarks, counts):
    rows = []
    for (method, size), runs in grouped(benchmarks, "msign").items():
        row = [size, method] + columns(runs, counts, milliseconds) + columns(runs, counts, share)
        rows.append(row + [f"{runs[max(runs)]['error']:.1e}"])
    headers = ["matrix", "method"] + per_thread("ms", counts) + per_thread("share of peak", counts)
    return table(headers + ["error"], rows)


def muon_table(benchmarks, counts):
    rows = []
    for (products, model), runs in grouped(benchmarks, "muon").items():
        row = [model, products] + columns(runs, counts, milliseconds) + columns(runs, counts, share)
        row += columns(runs, counts, lambda b: percent(b["msign_ratio"]))
        rows.append(row + [f"{runs[max(runs)]['error']:.1e}"])
    headers = ["model", "products"] + per_thread("ms", counts)
    headers += per_thread("share of peak", counts) + per_thread("msign alone", counts)
    return table(headers + ["error of msign"], rows)


def peers_table(results):
    if not results:
        return "Not measured: PyTorch was not installed (`./dev setup --peers`)."
    rows = []
    for each in results:
        low, high = each["interval"]
        rows.append(
            [each["case"], each["threads"]]
            + [f"{statistics.median(each[s]):.2f}" for s in ("torch_seconds", "our_seconds")]
            + [f"{statistics.median(each['ratios']):.2f} ({low:.2f}\u2013{high:.2f})"]
            + [
                "" if each[side]["error"] is None else f"{each[side]['error']:.1e}"
                for side in ("their_first", "our_first")
            ]
        )
    headers = ["ours / PyTorch's", "threads", "PyTorch, s", "Steepest, s", "PyTorch / Steepest"]
    return table(headers + ["PyTorch's error", "Steepest's error"], rows)


def draw_figure(benchmarks, counts, path):
    """Share of peak over n, of square matrices."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "steepest"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(counts), figsize=(4.5 * len(counts), 3.5), sharey=True, squeeze=False
    )
    parts = {}
    for (part, size), runs in grouped(benchmarks, "linalg").items():
        rows, cols = map(int, size.split("x"))
        if rows == cols:
            parts.setdefault(part, []).append((rows, runs))
    for axis, threads in zip(axes[0], counts):
        for part, sizes in parts.items():
            points = [(n, 100 * runs[threads]["share"]) for n, runs in sizes]
            dashes = "--" if part.endswith("avx2") else ":" if part.endswith("bf16") else "-"
            axis.plot(*zip(*points), dashes, marker="o", markersize=3, label=part)
        axis.set_xscale("log", base=2)
        axis.set_title(per_thread("", [threads])[0].strip(", "), fontsize=9)
        axis.set_xlabel("n")
        axis.set_ylim(0, 105)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("% of the multiply-add peak")
    axes[0][-1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = report.argument_parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--render-only", action="store_true", help="from the figures of the last run"
    )
    options = parser.parse_args()
    options.filter = "."
    kept = options.build / "performance.json"
    if not options.render_only:
        measure(options, kept)
    run = json.loads(kept.read_text())
    benchmarks = run["benchmarks"]
    set_shares(benchmarks)
    counts = sorted({int(b["threads"]) for b in benchmarks})
    template = (report.ROOT / "bench" / "performance.md.in").read_text()
    text = string.Template(template).substitute(
        machine="\n".join(f"* {label}: {value}" for label, value in run["machine"].items()),
        parts=parts_table(benchmarks, counts),
        msign=msign_table(benchmarks, counts),
        muon=muon_table(benchmarks, counts),
        peers=peers_table(run["peers"]),
    )
    (DOCS / "performance.md").write_text(text)
    draw_figure(benchmarks, counts, DOCS / "performance.svg")


if __name__ == "__main__":
    main()
