# SPDX-License-Identifier: Apache-2.0
"""The examples run, and an interrupted training goes on as if it had not been."""

from __future__ import annotations

import csv
import os
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "python"


@pytest.fixture
def run(monkeypatch):
    """Runs an example with arguments, in this process."""

    def run(name, *arguments):
        script = EXAMPLES / name
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        monkeypatch.syspath_prepend(str(EXAMPLES))
        runpy.run_path(str(script), run_name="__main__")

    return run


@pytest.mark.skipif(not os.environ.get("STEEPEST_TEST_LONG"), reason="12 seconds; long form only")
def test_numpy_quickstart(run, capsys):
    run("numpy_quickstart.py")
    assert capsys.readouterr().out


def test_train_gpt_resumes(run, tmp_path, capsys):
    for needed in ("torch", "tqdm", "matplotlib"):
        pytest.importorskip(needed)
    text = tmp_path / "text"
    words = [f"{number} times {number} is {number**2}" for number in range(2000)]
    text.write_text("\n\n".join(words))
    optimizers = ["torch-adamw", "adamw", "muon"]
    options = ["--optimizer", *optimizers, "--seeds", 0, 1, "--steps", 8, "--text", text]
    options += ["--width", 16, "--layers", 1, "--heads", 2, "--context", 16, "--batch", 4]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run("train_gpt.py", *options, "--directory", whole)
    run("train_gpt.py", *options, "--directory", parts, "--resume", "--stop-at", 5)
    run("train_gpt.py", *options, "--directory", parts, "--resume")
    assert "| torch-adamw |" in capsys.readouterr().out
    assert (whole / "figure.png").stat().st_size > 10_000

    def losses(directory, name):
        with (directory / f"{name}.csv").open(newline="") as file:
            return [(row["step"], row["loss"]) for row in csv.DictReader(file)]

    for name in [f"{optimizer}-{seed}" for optimizer in optimizers for seed in (0, 1)]:
        assert len(losses(whole, name)) == 8
        assert losses(parts, name) == losses(whole, name)
    assert os.listdir(whole).count("adamw-0.pt") == 0
