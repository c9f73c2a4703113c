# SPDX-License-Identifier: Apache-2.0
"""What a table of measurements says about where it comes from."""

import datetime
import os
import pathlib
import platform


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()


def huge_pages():
    try:
        setting = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
        return setting.split("[")[1].split("]")[0]
    except (OSError, IndexError):
        return "none"


def describe():
    """Ordered pairs of label and text."""
    cores = len(os.sched_getaffinity(0))
    return {
        "CPU": f"{cpu_model()}, {cores} cores usable",
        "Kernel": f"{platform.system()} {platform.release()}",
        "Transparent huge pages": huge_pages(),
        "Date": datetime.date.today().isoformat(),
        "Load before": f"{os.getloadavg()[0]:.2f}",
    }


def print_header(facts, markdown):
    for label, text in facts.items():
        print(f"{'* ' if markdown else ''}{label}: {text}")
    print()


def size_text(elements):
    for unit, size in (("Mi", 1 << 20), ("Ki", 1 << 10)):
        if elements >= size and elements % size == 0:
            return f"{elements // size} {unit}"
    return f"{elements:,}"
