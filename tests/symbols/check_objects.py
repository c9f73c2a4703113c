#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_objects.py BUILD_DIR: may one library hold code for CPUs that differ?

The linker keeps one copy of each weak symbol, from whichever object comes first. A copy compiled
for a newer CPU would then also be called by code that runs on an older one. Hence, for each object
of a unit that src/sources.list gives a level:
  - its one strong global symbol is its kernel table;
  - a weak symbol has the level in its name, so that no other unit can have the same;
  - it calls nothing of the C++ library, whose templates would be weak symbols in it or elsewhere.
All other objects contain no instruction beyond the architecture's baseline.
"""

import json
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path

root = Path(__file__).resolve().parents[2]

# Holds the address of the C++ runtime's personality routine, the same in every object.
SHAREABLE = {"DW.ref.__gxx_personality_v0"}

# Mangled names of namespace std.
CPP_LIBRARY = re.compile(r"_ZN?K?S")

# A VEX or EVEX instruction: a mnemonic in v with a vector or mask register.
WIDE_X86 = re.compile(r"^\s*[0-9a-f]+:\s+v\w+\s.*%([xyz]mm|k)\d|%[yz]mm\d")


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def read_sources():
    """Level of each unit (None: baseline), and the levels with flags of their own."""
    levels, flagged = {}, set()
    for line in (root / "src/sources.list").read_text().splitlines():
        words = line.split()
        if words[:1] == ["source"]:
            levels[root / "src" / words[1]] = words[2] if len(words) > 2 else None
        elif words[:1] == ["flags"] and len(words) > 3:
            flagged.add(words[1])
    return levels, flagged


def find_objects(build, levels):
    objects = {}
    for command in json.loads((build / "compile_commands.json").read_text()):
        directory = Path(command["directory"])
        source = (directory / command["file"]).resolve()
        words = shlex.split(command["command"])
        output = directory / words[words.index("-o") + 1]
        if source in levels and output.exists():
            objects[source] = output
    return objects


def check_level(path, level):
    tag = level.split("_", 1)[1].replace("_", "")
    strong, problems = [], []
    for line in output_of("nm", "--extern-only", str(path)).splitlines():
        kind, name = line.split()[-2:]
        if kind in "wvU":
            if CPP_LIBRARY.match(name):
                problems.append(f"uses {name} of the C++ library")
        elif kind in "WVu":
            if name not in SHAREABLE and tag not in name.replace("_", ""):
                problems.append(f"the weak symbol {name} does not name the level")
        else:
            strong.append(name)
    if len(strong) != 1:
        problems.append(f"exactly one global symbol expected, not {strong}")
    return problems


def check_baseline(path):
    for line in output_of("objdump", "-d", "--no-show-raw-insn", str(path)).splitlines():
        if WIDE_X86.search(line):
            return [f"beyond the baseline: {line.strip()}"]
    return []


def main():
    build = Path(sys.argv[1])
    levels, flagged = read_sources()
    objects = find_objects(build, levels)
    x86 = platform.machine() == "x86_64"
    problems, counts = [], {"with": 0, "without": 0}
    for source, level in levels.items():
        if source not in objects:
            if level is None:
                problems.append(f"{source}: not built")
            continue
        counts["with" if level else "without"] += 1
        if level is not None:
            found = check_level(objects[source], level)
        elif x86:
            found = check_baseline(objects[source])
        else:
            found = []
        problems += [f"{source.relative_to(root)}: {problem}" for problem in found]
    if x86 and not any(levels[s] in flagged for s in objects):
        problems.append("no unit with a level was built")
    for problem in problems:
        print(problem)
    print(f"{counts['with']} objects of ISA levels and {counts['without']} others checked")
    if not x86:
        print(f"their instructions were not checked: no rule for {platform.machine()}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
