# SPDX-License-Identifier: Apache-2.0
"""Runs the benchmark programs and prints one table of ratios. README.md tells how to read it."""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import machine
import tabulate

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(program, options):
    """The program's report as Google Benchmark writes it; its progress goes to stderr."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [
            str(program),
            f"--benchmark_out={out.name}",
            "--benchmark_out_format=json",
            f"--benchmark_filter={options.filter}",
        ]
        if options.quick:
            command.append("--quick")
        subprocess.run(command, check=True, stdout=sys.stderr)
        text = pathlib.Path(out.name).read_text()
    return json.loads(text) if text else None


def with_quartiles(benchmark, group):
    if f"{group}_ratio" not in benchmark:
        return ""
    median, low, high = (benchmark[f"{group}_ratio{end}"] for end in ("", "_q1", "_q3"))
    digits = 2 if high < 10 else 1
    return f"{median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def row(benchmark):
    what, dtype = benchmark["name"].split("/")[:2]
    elements, threads = int(benchmark["elements"]), int(benchmark["threads"])
    if "error_message" in benchmark:
        return [what, dtype, machine.size_text(elements), threads, benchmark["error_message"]]
    seconds, gigabytes = benchmark["seconds"], benchmark["bytes"] / 1e9
    return [
        what,
        dtype,
        machine.size_text(elements),
        threads,
        f"{seconds * 1e6:,.1f}",
        f"{seconds * 1e9 / elements:.3f}",
        f"{gigabytes / seconds:.1f}",
        f"{gigabytes / benchmark['stream_seconds']:.1f}",
        with_quartiles(benchmark, "stream"),
        with_quartiles(benchmark, "naive"),
        with_quartiles(benchmark, "without_stats"),
        with_quartiles(benchmark, "f32"),
    ]


def matrix_row(benchmark):
    _, method, size = benchmark["name"].split("/")[:3]
    seconds, flops = benchmark["seconds"], benchmark["flops"]
    known = flops > 0
    return [
        method,
        size,
        int(benchmark["threads"]),
        f"{seconds * 1e3:,.2f}",
        f"{flops / seconds / 1e9:.0f}" if known else "",
        f"{flops / benchmark['peak_seconds'] / 1e9:.0f}" if known else "",
        with_quartiles(benchmark, "peak"),
        with_quartiles(benchmark, "openblas"),
        f"{benchmark['error']:.1e}" if "error" in benchmark else "",
    ]


MATRIX_HEADERS = [
    "operation",
    "matrix",
    "threads",
    "ms/call",
    "useful GFLOP/s",
    "FMA peak GFLOP/s",
    "share of peak (quartiles)",
    "speed / OpenBLAS (quartiles)",
    "error",
]

HEADERS = [
    "benchmark",
    "type",
    "elements",
    "threads",
    "us/call",
    "ns/element",
    "GB/s",
    "stream GB/s",
    "speed / stream (quartiles)",
    "speed / naive (quartiles)",
    "speed / without stats",
    "speed / f32",
]


def measure(names, options):
    """What the header says, and every benchmark of these programs."""
    facts = machine.describe()
    programs = [options.build / "bench" / name for name in names]
    missing = [str(p) for p in programs if not p.exists()]
    if missing:
        sys.exit(f"not built: {', '.join(missing)}; run ./dev build")
    reports = [report for report in (run(p, options) for p in programs) if report]
    benchmarks = [b for report in reports for b in report["benchmarks"]]
    if not benchmarks:
        sys.exit(f"no benchmark matches --filter {options.filter}")
    facts["Library"] = reports[0]["context"]["steepest"]
    facts["ISA level"] = reports[0]["context"]["isa"]
    facts["OpenBLAS"] = reports[0]["context"]["openblas"]
    return facts, benchmarks


def argument_parser(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a minute: fewer sizes and rounds")
    parser.add_argument(
        "--build",
        type=pathlib.Path,
        default=ROOT / "build" / "release",
        help="the build directory; the programs are in its folder bench",
    )
    return parser


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("--filter", default=".", help="regular expression on benchmark names")
    parser.add_argument("--json", type=pathlib.Path, help="also write all results to this file")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options = parser.parse_args()

    # A *_process program belongs to a script in peers/.
    sources = sorted(p.stem for p in (ROOT / "bench").glob("*.cpp"))
    facts, benchmarks = measure([p for p in sources if not p.endswith("_process")], options)
    machine.print_header(facts, options.markdown)
    matrices = [b for b in benchmarks if "flops" in b]
    vectors = [b for b in benchmarks if "flops" not in b]
    tables = [(HEADERS, [row(b) for b in vectors])]
    tables.append((MATRIX_HEADERS, [matrix_row(b) for b in matrices]))
    style = "github" if options.markdown else "simple"
    for headers, rows in tables:
        if not rows:
            continue
        align = ("left", "left") + ("right",) * (len(headers) - 2)
        text = tabulate.tabulate(
            rows, headers=headers, tablefmt=style, disable_numparse=True, colalign=align
        )
        print(text, end="\n\n")
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "benchmarks": benchmarks}, indent=1))


if __name__ == "__main__":
    main()
