# SPDX-License-Identifier: Apache-2.0
"""The files of tests/conformance are what its generator makes."""

import copy
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

DIRECTORY = Path(__file__).parents[3] / "tests/conformance"


def test_the_generator_makes_the_files():
    command = [sys.executable, DIRECTORY / "generate.py", "--check"]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count(": 0 differences") == len(list(DIRECTORY.glob("*.json")))


@pytest.fixture(scope="module")
def differences():
    place = importlib.util.spec_from_file_location("compare", DIRECTORY / "compare.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module.differences


def changed(case, *path, by):
    """The case with a number, or a thing in its place, changed."""
    case = copy.deepcopy(case)
    place = case
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = by(place[path[-1]]) if callable(by) else by
    return case


def test_what_is_changed_is_found(differences):
    cases = json.loads((DIRECTORY / "adamw.json").read_text())["cases"]
    case = next(c for c in cases if c["name"] == "BF16 param and grad, F32 moments")
    v, tolerance = ("expected", "exp_avg", "values", 2), ("expected", "exp_avg", "tolerance", 2)
    allowed = case["expected"]["exp_avg"]["tolerance"][2]
    assert differences([case], [copy.deepcopy(case)]) == []
    for other in (
        changed(case, *v, by=lambda x: x + 0.9 * allowed),
        changed(case, *tolerance, by=lambda x: 1.01 * x),
        changed(case, "arrays", "exp_avg", "values", 0, by=lambda x: x * (1 + 1e-8)),
        changed(case, "arrays", "param", "values", 0, by=lambda x: x + 1),
        changed(case, "arguments", "lr", by=lambda x: x * (1 + 1e-15)),
    ):
        assert differences([case], [other]) == []
    for other, what in (
        (changed(case, *v, by=lambda x: x + 1.1 * allowed), "expected exp_avg"),
        (changed(case, *v, by="nan"), "expected exp_avg"),
        (changed(case, *tolerance, by=lambda x: 2 * x), "tolerance of exp_avg"),
        (changed(case, "arrays", "exp_avg", "values", 0, by=lambda x: x + 1e-3), "exp_avg"),
        (changed(case, "arrays", "param", "values", 0, by=lambda x: x + 2), "param"),
        (changed(case, "arrays", "grad", "dtype", by="F16"), "grad"),
        (changed(case, "arguments", "lr", by=0.031), "lr"),
        (changed(case, "arguments", "step", by=11), "step"),
        (changed(case, "function", by="muon_step"), "function"),
        (changed(case, "arguments", by={}), "names of arguments"),
        (changed(case, "expected", by={}), "names of what is expected"),
    ):
        assert differences([case], [other]) == [f"{case['name']}: {what}"]
    narrow = json.loads((DIRECTORY / "narrow_masters.json").read_text())["cases"]
    case = next(c for c in narrow if c["name"] == "LOW16, exact")
    for array in ("param", "residual"):  # a number of 16 bits to its last place, an integer exactly
        other = changed(case, "arrays", array, "values", 0, by=lambda x: x + 1)
        found = [f"{case['name']}: residual"] if array == "residual" else []
        assert differences([case], [other]) == found
    assert differences(cases, cases[1:]) == ["the names of the cases, or their order"]
