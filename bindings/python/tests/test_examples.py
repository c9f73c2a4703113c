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


def losses(directory, name):
    with (directory / f"{name}.csv").open(newline="") as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


@pytest.fixture
def small(tmp_path):
    """Arguments of train_gpt.py for a training of a second."""
    for needed in ("torch", "tqdm", "matplotlib"):
        pytest.importorskip(needed)
    text = tmp_path / "text"
    words = [f"{number} times {number} is {number**2}" for number in range(2000)]
    text.write_text("\n\n".join(words))
    options = ["--steps", 8, "--text", text, "--layers", 1, "--heads", 2]
    return [*options, "--context", 16, "--batch", 4]


def check_resuming(run, directory, options, names):
    whole, parts = directory / "whole", directory / "parts"
    run("train_gpt.py", *options, "--directory", whole)
    run("train_gpt.py", *options, "--directory", parts, "--resume", "--stop-at", 5)
    run("train_gpt.py", *options, "--directory", parts, "--resume")
    assert (whole / "figure.png").stat().st_size > 10_000
    for name in names:
        assert len(losses(whole, name)) == 8
        assert losses(parts, name) == losses(whole, name)
    assert not list(whole.glob("*.pt"))


def test_train_gpt_resumes(run, small, tmp_path, capsys):
    optimizers = ["torch-adamw", "adamw", "muon"]
    options = [*small, "--width", 16, "--optimizer", *optimizers, "--seeds", 0, 1]
    names = [f"{optimizer}-{seed}" for optimizer in optimizers for seed in (0, 1)]
    check_resuming(run, tmp_path, options, names)
    assert "| torch-adamw |" in capsys.readouterr().out


STORAGE = {
    "master-split-q8_companded-stochastic": ["--master", "split", "--state-dtype", "q8_companded"],
    "q8_dynamic-stochastic": ["--state-dtype", "q8_dynamic"],
    "master-f32-float32-bfloat16-stochastic": [
        "--master", "f32", "--state-dtype", "float32", "bfloat16",
    ],
}  # fmt: skip


@pytest.mark.parametrize("label", STORAGE)
def test_train_gpt_stores_as_told(run, small, tmp_path, capsys, label):
    """A width at which there are matrices large enough for 8 bits."""
    optimizers = ["adamw", "muon"]
    options = [*small, "--width", 32, "--optimizer", "torch-adamw", *optimizers]
    options += [*STORAGE[label], "--dtype", "bfloat16", "--rounding", "stochastic"]
    names = [f"{optimizer}-bfloat16-{label}-0" for optimizer in optimizers]
    check_resuming(run, tmp_path, options, [*names, "torch-adamw-bfloat16-0"])
    assert f"| adamw-bfloat16-{label} |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--optimizer torch-adamw --state-dtype q8_dynamic", "need --optimizer adamw or muon"),
        ("--optimizer adamw --state-dtype float32 float32 float32", "one type or two"),
        ("--optimizer adamw --master split", "--master split needs --dtype bfloat16"),
        ("--optimizer adamw --rounding stochastic", "nothing is stored in bfloat16 or 8 bits"),
        (
            "--dtype bfloat16 --optimizer adamw --master split --rounding stochastic --state-dtype "
            + "float32",
            "nothing is stored in bfloat16 or 8 bits",
        ),
        ("--optimizer adamw --state-dtype int8", "invalid choice"),
    ],
)
def test_train_gpt_refuses_storage(run, small, capsys, options, message):
    with pytest.raises(SystemExit) as refused:
        run("train_gpt.py", *small, *options.split())
    assert refused.value.code == 2
    assert message in capsys.readouterr().err
