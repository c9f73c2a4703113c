#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""wrappers.py: each of the wrappers (C++, Rust, Julia, Python) uses every function, struct and
constant of steepest.h, except for those that WITHOUT names with a reason; and Julia's structs have
the header's fields (Rust's and Python's tests compare those themselves, and C++ uses the header's
structs). Says what is missing and where; also of reasons that nobody needs any longer.

A new name in the header: give it to each wrapper, or write here why not.
"""

import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEADER = ROOT / "include/steepest/steepest.h"

OWN_THREADS = (
    "threads and memory are the library's: a Python callback would need the interpreter's lock in"
    " each of its threads"
)
OWN_MEMORY = (
    "a call takes scratch memory from its context, which keeps it for the next one; trim() frees it"
)
JULIA_CALLBACKS = (
    "threads that Julia did not start must not run Julia code (before 1.9), nor may a task that"
    " waits inside a C call go on in another thread (from 1.7); Context takes the addresses of such"
    " structs with functions in C"
)
BATCHED = "msign_batched does one matrix as well as many"
# What a wrapper does without, and why: functions and structs without steepest_, constants without
# STEEPEST_; * stands for anything.
WITHOUT = {
    "C++": {},
    "Rust": {
        "abi_version": "build.rs and the loader see to it: the library is linked by its soname",
        "isa_name": "Isa is an enum with Debug",
        "status_name": "ErrorKind is an enum with Debug",
        "RESIDUAL_NONE": "a tensor has none until residual() gives it one",
    },
    "Julia": {
        "executor": JULIA_CALLBACKS,
        "allocator": JULIA_CALLBACKS,
        "msign": BATCHED,
        "OK": "SteepestError has the number and the library's name of it",
        "E_*": "SteepestError has the number and the library's name of it",
        "F*[0-9]": "the element type of an array says it: dtype()",
        "Q8_*": "the type of a Q8State's scales says it",
        "RESIDUAL_*": "the type of the array that is a Master's residual says it",
        "*_EMIT_DELTA": "an array given as `delta` says it",
    },
    "Python": {
        "executor": OWN_THREADS,
        "allocator": OWN_THREADS,
        "*_workspace_size": OWN_MEMORY,
        "msign": BATCHED,
        "status_name": "each status is an exception class of its own",
        "RESIDUAL_NONE": "an array given as `residual` says it",
        "ISA_*": "a context is known by its number of threads; STEEPEST_MAX_ISA lowers the level",
        "CONTEXT_OPENBLAS": "for comparisons, which bench/ makes from C++",
    },
}

CPP = "include/steepest/steepest.hpp"
RUST = "bindings/rust/steepest/src"
JULIA = "bindings/julia/Steepest.jl/src"
PYTHON = "bindings/python/steepest"
# The first part of a constant's name, where it has one.
GROUP = r"^(?:ADAMW|MUON|MSIGN|COEF|NORM|MOMENTUM|SCALE|SCHEDULE|DECAY|REFINE|CONTEXT|FLAG|ISA)_"


def text(place, pattern="*", without=()):
    files = [ROOT / place] if (ROOT / place).is_file() else sorted((ROOT / place).rglob(pattern))
    files = [path for path in files if path.is_file() and path.name not in without]
    assert files, f"{place}/{pattern}: no files"
    return "\n".join(path.read_text() for path in files)


def names(header):
    """(functions, structs that have an _init function, constants)"""
    declared = re.findall(r"^STEEPEST_API [^(]*?steepest_(\w+)\(", header, re.MULTILINE)
    functions = [name for name in declared if not name.endswith("_init")]
    structs = [name.removesuffix("_init") for name in declared if name.endswith("_init")]
    constants = re.findall(r"^#define STEEPEST_(\w+) \(?(?:UINT64_C|-?\d)", header, re.MULTILINE)
    constants = [name for name in constants if "VERSION" not in name]
    assert len(functions) > 30 and len(structs) > 10 and len(constants) > 60
    return functions, structs, constants


def finds(source, pattern):
    return lambda name: re.search(pattern.format(name=name, NAME=name.upper()), source) is not None


def wrappers():
    """By wrapper: where it is, and whether it uses a function, a struct, a constant."""
    cpp, rust = text(CPP), text(RUST, "*.rs")
    julia = re.sub(r"^@declare.*", "", text(JULIA, "*.jl"), flags=re.MULTILINE)
    python = text(PYTHON, "*.py")
    above = text(PYTHON, "*.py", without=["_c.py"])
    in_julia = finds(julia.upper(), r"\b{name}\b")
    statuses = text(f"{PYTHON}/_errors.py")
    return {
        # Includes the header, which has the constants.
        "C++": (
            CPP,
            finds(cpp, r"\bsteepest_{name}\("),
            finds(cpp, r"\bSTEEPEST_{NAME}_INIT\b"),
            lambda name: True,
        ),
        "Rust": (
            RUST,
            finds(rust, r"\bsys::steepest_{name}\("),
            finds(rust, r"\bsys::STEEPEST_{NAME}_INIT\b"),
            finds(rust, r"\bsys::STEEPEST_{name}\b"),
        ),
        # Structs have constructors, which a test compares with the _init functions. Constants are
        # symbols and keywords by their last part.
        "Julia": (
            JULIA,
            finds(julia, r"\b(?:loaded|reduction)\({name}_\b|\b{name}_\[\]|:steepest_{name}\b"),
            finds(text(f"{JULIA}/../test/layout_test.jl"), r"\b{name}_init_\b"),
            lambda name: in_julia(re.sub(GROUP, "", name)),
        ),
        "Python": (
            PYTHON,
            finds(python, r"\b(?:lib|library)\.steepest_{name}\b"),
            finds(python, r': "steepest_{name}",'),
            lambda name: finds(above, r"\b_c\.{name}\b")(name) or status_of(statuses, name),
        ),
    }


def status_of(errors, name):
    """Whether it is the number of one of the exception classes."""
    value = re.search(rf"^#define STEEPEST_{name} \((-\d)\)", HEADER.read_text(), re.MULTILINE)
    return value is not None and re.search(rf"status[^\n]*= {value[1]}\b", errors) is not None


def header_fields(header):
    """By struct: its fields in order."""
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    result = {}
    for body, name in re.findall(r"typedef struct \w+ {(.*?)} steepest_(\w+);", header, re.DOTALL):
        fields = []
        for declaration in body.split(";")[:-1]:
            function = re.search(r"\(\*(\w+)\)", declaration)
            fields += [function[1]] if function else re.findall(r"(\w+)\s*(?:,|$)", declaration)
        result[name] = fields
    return result


def julia_fields():
    """By the C name, which stands in a comment behind Julia's."""
    pattern = r"^struct \w+ # steepest_(\w+)\n(.*?)^end"
    found = re.findall(pattern, text(JULIA, "*.jl"), re.MULTILINE | re.DOTALL)
    return {name: re.findall(r"^ +(\w+)::", body, re.MULTILINE) for name, body in found}


def struct_faults(ours, theirs):
    if ours is None:
        return ["is not there"]
    faults = [f"has no {field}" for field in theirs if field not in ours]
    faults += [f"has a {field}" for field in ours if field not in theirs]
    return faults or ([] if ours == theirs else ["has its fields in another order"])


def main():
    header = HEADER.read_text()
    functions, structs, constants = names(header)
    faults = []
    for wrapper, (where, *uses) in wrappers().items():
        needed = set()
        for kind, all_of_it, has in zip(
            ("steepest_{}()", "steepest_{}", "STEEPEST_{}"), (functions, structs, constants), uses
        ):
            for name in (name for name in all_of_it if not has(name)):
                reasons = [key for key in WITHOUT[wrapper] if fnmatchcase(name, key)]
                needed.update(reasons)
                if not reasons:
                    faults.append(f"{wrapper}: {where} does not use {kind.format(name)}")
        for key in WITHOUT[wrapper].keys() - needed:
            faults.append(f"{wrapper}: the reason to do without {key} is not needed")
    ours, theirs = julia_fields(), header_fields(header)
    for name in structs:
        if not any(fnmatchcase(name, key) for key in WITHOUT["Julia"]):
            for fault in struct_faults(ours.get(name), theirs[name]):
                faults.append(f"Julia: in {JULIA} the struct of steepest_{name} {fault}")
    total = f"{len(functions)} functions, {len(structs)} structs and {len(constants)} constants"
    print("\n".join(faults) or total)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
