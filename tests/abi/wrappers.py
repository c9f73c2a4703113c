#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""wrappers.py: every function and struct of steepest.h is used by each of the wrappers (C++, Python,
Rust, Julia), except for those that the lists below name with a reason. Fails when the header has
something that a wrapper has not, when a reason is no longer needed, and when a field of a Julia
struct is not the header's; says which, and where it belongs. Rust's and Python's tests compare
fields and constants with the header themselves; C++ uses the header's structs.

A new function of the C interface: give it to each wrapper, or write here why not.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# What a wrapper does without, and why.
NO_CALLBACKS_PYTHON = (
    "threads and memory are the library's: a Python callback would need the interpreter's lock in"
    " each of its threads"
)
CONTEXT_MEMORY_PYTHON = (
    "a call takes scratch memory from its context, which keeps it for the next one; trim() frees it"
)
JULIA_CALLBACKS = (
    "threads that Julia did not start must not run Julia code (before 1.9), nor may a task that"
    " waits inside a C call go on in another thread (from 1.7); Context takes the addresses of such"
    " structs with functions in C"
)
WITHOUT = {
    "C++": {},
    "Rust": {
        "abi_version": "build.rs and the loader see to it: the library is linked by its soname",
        "isa_name": "Isa is an enum with Debug",
        "status_name": "ErrorKind is an enum with Debug",
    },
    "Julia": {
        "executor": JULIA_CALLBACKS,
        "allocator": JULIA_CALLBACKS,
        "msign": "msign_batched does one matrix as well as many",
    },
    "Python": {
        "executor": NO_CALLBACKS_PYTHON,
        "allocator": NO_CALLBACKS_PYTHON,
        "msign_workspace_size": CONTEXT_MEMORY_PYTHON,
        "muon_workspace_size": CONTEXT_MEMORY_PYTHON,
        "msign": "msign_batched does one matrix as well as many",
        "status_name": "each status is an exception class of its own",
    },
}


def text(folder, pattern, without=()):
    files = sorted(path for path in (ROOT / folder).glob(pattern) if path.name not in without)
    assert files, f"{folder}/{pattern}: no files"
    return "\n".join(path.read_text() for path in files)


def declared(header):
    """Names without prefix: functions, and structs that have an _init function."""
    functions = re.findall(r"^STEEPEST_API [^(]*?steepest_(\w+)\(", header, re.MULTILINE)
    assert len(functions) > 40
    structs = [name.removesuffix("_init") for name in functions if name.endswith("_init")]
    return [name for name in functions if not name.endswith("_init")], structs


def used():
    """By wrapper: where it is, and two searches, for a function and for a struct."""
    cpp = text("include/steepest", "steepest.hpp")
    rust = text("bindings/rust/steepest/src", "**/*.rs")
    julia = re.sub(r"^@declare.*", "", text(JULIA, "*.jl"), flags=re.MULTILINE)
    julia_tests = text(f"{JULIA}/../test", "layout_test.jl")
    python = text("bindings/python/steepest", "**/*.py")

    def finds(source, pattern):
        return lambda name: re.search(pattern.format(name, name.upper()), source) is not None

    return {
        "C++": (
            "include/steepest/steepest.hpp",
            finds(cpp, r"\bsteepest_{0}\("),
            finds(cpp, r"\bSTEEPEST_{1}_INIT\b"),
        ),
        "Rust": (
            "bindings/rust/steepest/src",
            finds(rust, r"\bsys::steepest_{0}\("),
            finds(rust, r"\bsys::STEEPEST_{1}_INIT\b"),
        ),
        # Its structs have constructors, which its tests compare with the _init functions.
        "Julia": (
            JULIA,
            finds(julia, r"\b(?:loaded|reduction)\({0}_\b|\b{0}_\[\]|:steepest_{0}\b"),
            finds(julia_tests, r"\b{0}_init_\b"),
        ),
        "Python": (
            "bindings/python/steepest",
            finds(python, r"\b(?:lib|library)\.steepest_{0}\b"),
            finds(python, r': "steepest_{0}",'),
        ),
    }


JULIA = "bindings/julia/Steepest.jl/src"


def fields_of_header(header):
    """By struct: its fields in order."""
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    result = {}
    for body, name in re.findall(r"typedef struct \w+ {(.*?)} steepest_(\w+);", header, re.DOTALL):
        names = []
        for declaration in body.split(";")[:-1]:
            pointer = re.search(r"\(\*(\w+)\)", declaration)
            names += [pointer[1]] if pointer else re.findall(r"(\w+)\s*(?:,|$)", declaration)
        result[name] = names
    return result


def fields_of_julia():
    """By the name of the struct's _init function, which the comment behind its name says."""
    source = text(JULIA, "*.jl")
    result = {}
    pattern = r"^struct \w+ # steepest_(\w+)\n(.*?)^end"
    for name, body in re.findall(pattern, source, re.MULTILINE | re.DOTALL):
        result[name] = re.findall(r"^ +(\w+)::", body, re.MULTILINE)
    return result


def main():
    header = (ROOT / "include/steepest/steepest.h").read_text()
    functions, structs = declared(header)
    faults = []
    for wrapper, (where, has_function, has_struct) in used().items():
        without = WITHOUT[wrapper]
        for kind, names, has in (("()", functions, has_function), ("", structs, has_struct)):
            for name in names:
                if not has(name) and name not in without:
                    faults.append(f"{wrapper}: {where} does not use steepest_{name}{kind}")
        faults += [
            f"{wrapper}: the reason to do without {name} is needed no longer"
            for name in without
            if (name in functions and has_function(name)) or (name in structs and has_struct(name))
        ]
        faults += [
            f"{wrapper}: a reason to do without {name}, which the header does not have"
            for name in without
            if name not in functions and name not in structs
        ]
    julia, fields = fields_of_julia(), fields_of_header(header)
    faults += [
        f"Julia: steepest_{name} has the fields {julia.get(name)}, the header {fields[name]}"
        for name in structs
        if name not in WITHOUT["Julia"] and julia.get(name) != fields[name]
    ]
    print("\n".join(faults) or f"{len(functions)} functions and {len(structs)} structs")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
