#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks one line of the library at a time and shows that a test notices: run.py [NAME...]

Each mutant of mutants.toml is made in a copy of src/, of which only the source that has it is
compiled; it is linked with the objects of build/release, and the tests named run with that library.
A mutant is a failure if none of them fails, if its text is no longer there exactly once, or if it
does not compile.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time

import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/release"
WORK = ROOT / "build/mutation"
LIBRARY = "libsteepest.so.1"
TIME_LIMIT_S = 900


class Failure(Exception):
    pass


def run(command, **options):
    return subprocess.run(
        command,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        **options,
    )


def build(targets):
    """What mutants are compared with and linked from."""
    subprocess.run(
        ["cmake", "--preset", "release"], check=True, cwd=ROOT, stdout=subprocess.DEVNULL
    )
    subprocess.run(["cmake", "--build", BUILD, "--target", *targets], check=True)


def compile_commands():
    commands = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        file = pathlib.Path(entry["file"])
        if file.is_relative_to(ROOT / "src"):
            commands[str(file.relative_to(ROOT / "src"))] = shlex.split(entry["command"])
    return commands


def link_command(target):
    """Of a target: the last of its commands that has an output."""
    text = run(["ninja", "-C", BUILD, "-t", "commands", target]).stdout
    commands = [shlex.split(line) for line in text.splitlines() if " -o " in line]
    # CMake's are ": && COMPILER ... && :".
    return [word for word in commands[-1] if word not in (":", "&&")]


def output_of(command):
    return command[command.index("-o") + 1]


def with_output(command, output):
    at = command.index("-o") + 1
    return [*command[:at], str(output), *command[at + 1 :]]


def execute(command, what):
    result = run(command, cwd=BUILD)
    if result.returncode != 0:
        raise Failure(f"{what}:\n{result.stdout[-3000:]}")


def make(mutant, folder, commands):
    """Compiles the mutant's units in a changed copy of src/; old object -> new object."""
    source = folder / "src"
    shutil.copytree(ROOT / "src", source)
    file = source / mutant["file"]
    text = file.read_text()
    if text.count(mutant["old"]) != 1:
        raise Failure(f"its text is in {mutant['file']} {text.count(mutant['old'])} times")
    file.write_text(text.replace(mutant["old"], mutant["new"]))
    objects = {}
    for unit in mutant.get("units", [mutant["file"]]):
        command = [word.replace(f"{ROOT}/src", str(source)) for word in commands[unit]]
        new = folder / (unit.replace("/", "-") + ".o")
        execute([*with_output(command, new), "-w"], "does not compile")
        objects[output_of(commands[unit])] = str(new)
    return objects


def link(folder, objects, links, tests):
    """The mutated library, and the unit tests, which are linked with the static one."""
    command = [objects.get(word, word) for word in links["steepest_shared"]]
    execute(with_output(command, folder / LIBRARY), "does not link")
    for test in tests:
        if test.startswith("unit_"):
            command = links[f"test_{test}"]
            # Before the archive, whose own object is then not looked at.
            at = next(i for i, word in enumerate(command) if word.endswith("libsteepest.a"))
            command = [*command[:at], *objects.values(), *command[at:]]
            execute(with_output(command, folder / test), "does not link")


def first_failing(folder, tests):
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "OPENBLAS_NUM_THREADS": "1"}
    for test in tests:
        own = folder / test
        program = own if own.exists() else BUILD / "tests" / test
        try:
            result = run([program, "--gtest_brief=1"], env=environment, timeout=TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            return test, "does not end"
        if result.returncode != 0:
            failed = re.findall(r"^\[  FAILED  \] (\w[\w./]*)", result.stdout, re.MULTILINE)
            return test, failed[0] if failed else f"status {result.returncode}"
    return None


def attempt(mutant, commands, links):
    started = time.monotonic()
    folder = WORK / mutant["name"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        objects = make(mutant, folder, commands)
        link(folder, objects, links, mutant["tests"])
        found = first_failing(folder, mutant["tests"])
        if found is None:
            raise Failure(f"SURVIVED {', '.join(mutant['tests'])}")
        text = f"caught by {found[0]} ({found[1]})"
        good = True
    except Failure as failure:
        text = str(failure)
        good = False
    finally:
        shutil.rmtree(folder)
    mark = "ok     " if good else "FAILED "
    print(f"{mark} {mutant['name']:20} {text} ({time.monotonic() - started:.0f} s)", flush=True)
    if good:
        print(f"          {mutant['file']}: {mutant['about']}", flush=True)
    return good


def main(names):
    started = time.monotonic()
    file = pathlib.Path(__file__).with_name("mutants.toml")
    mutants = tomllib.loads(file.read_text())["mutant"]
    unknown = set(names) - {mutant["name"] for mutant in mutants}
    if unknown:
        print(f"no such mutant: {', '.join(sorted(unknown))}")
        return 2
    chosen = [mutant for mutant in mutants if not names or mutant["name"] in names]
    tests = sorted({test for mutant in chosen for test in mutant["tests"]})
    targets = ["steepest_shared", "steepest_static", *(f"test_{test}" for test in tests)]
    build(targets)
    links = {target: link_command(target) for target in targets if "_static" not in target}
    commands = compile_commands()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        good = list(pool.map(lambda mutant: attempt(mutant, commands, links), chosen))
    minutes = (time.monotonic() - started) / 60
    print(f"{sum(good)} of {len(good)} mutants caught, in {minutes:.1f} minutes")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
