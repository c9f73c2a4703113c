# SPDX-License-Identifier: Apache-2.0
"""Runs the benchmark programs and prints one table of ratios. README.md tells how to read it."""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import tabulate

import machine

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
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute: fewer sizes and rounds")
    parser.add_argument("--filter", default=".", help="regular expression on benchmark names")
    parser.add_argument("--json", type=pathlib.Path, help="also write all results to this file")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument(
        "--executables",
        type=pathlib.Path,
        default=ROOT / "build" / "release" / "bench",
        help="where the benchmark programs are",
    )
    options = parser.parse_args()

    facts = machine.describe()
    # A *_process program belongs to a script in peers/.
    sources = sorted(p.stem for p in (ROOT / "bench").glob("*.cpp"))
    programs = [options.executables / name for name in sources if not name.endswith("_process")]
    missing = [str(p) for p in programs if not p.exists()]
    if missing:
        sys.exit(f"not built: {', '.join(missing)}; run ./dev build")

    reports = [report for report in (run(p, options) for p in programs) if report]
    benchmarks = [b for report in reports for b in report["benchmarks"]]
    if not benchmarks:
        sys.exit(f"no benchmark matches --filter {options.filter}")
    facts["Library"] = reports[0]["context"]["steepest"]
    facts["ISA level"] = reports[0]["context"]["isa"]
    machine.print_header(facts, options.markdown)
    print(
        tabulate.tabulate(
            [row(b) for b in benchmarks],
            headers=HEADERS,
            tablefmt="github" if options.markdown else "simple",
            disable_numparse=True,
            colalign=("left", "left") + ("right",) * (len(HEADERS) - 2),
        )
    )
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "benchmarks": benchmarks}, indent=1))


if __name__ == "__main__":
    main()
