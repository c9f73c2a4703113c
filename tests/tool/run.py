# SPDX-License-Identifier: Apache-2.0
"""The command-line tool as a user runs it: run.py PROGRAM [WRONG_LIBRARY] [unittest options]

WRONG_LIBRARY: to be preloaded; its AdamW step is wrong.
"""

import csv
import io
import json
import math
import os
import pathlib
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

PROGRAM = ""
WRONG_LIBRARY = ""
OK, FAILED, USAGE, INPUT, OUTPUT = range(5)
METHODS = 11
HERE = pathlib.Path(__file__).resolve().parent
TOOLS = HERE.parents[1] / "tools"


def environment(**changes):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("STEEPEST_", "NO_COLOR"))}
    return {**kept, **changes}


def run(*arguments, env=None, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(
        [PROGRAM, *map(str, arguments)],
        check=False,
        env=env or environment(),
        timeout=600,
        **options,
    )


def npy(values, shape, descr="<f4", fortran=False, version=1, header=None):
    """The bytes of a .npy file."""
    text = header or f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}"
    text = text.encode("latin1")
    length = struct.pack("<H" if version == 1 else "<I", len(text) + 1)
    code = {"2": "e", "4": "f", "8": "d"}.get(descr[-1], "f")
    order = ">" if descr[0] == ">" else "<"
    data = struct.pack(f"{order}{len(values)}{code}", *values)
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + b"\n" + data


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return str(pathlib.Path(self.folder.name) / name)

    def file(self, name, content):
        pathlib.Path(self.path(name)).write_bytes(content)
        return self.path(name)

    def good(self, *arguments, **options):
        """Standard output of a run that must succeed without a word on standard error."""
        done = run(*arguments, **options)
        self.assertEqual((done.returncode, done.stderr), (OK, b""), done.stderr)
        return done.stdout.decode()

    def bad(self, code, *arguments, says="", **options):
        """The complaint of a run that must fail, with nothing on standard output."""
        done = run(*arguments, **options)
        text = (done.stderr or b"").decode()
        self.assertEqual(done.returncode, code, text)
        self.assertEqual(done.stdout or b"", b"")
        self.assertTrue(text.startswith("steepest: "), text)
        self.assertIn(says, text)
        return text


class General(Case):
    def test_version(self):
        self.assertRegex(
            self.good("--version"), r"^steepest \d+\.\d+\.\d+ \(library \d+\.\d+\.\d+, ABI \d+\)\n$"
        )

    def test_help(self):
        text = self.good("--help")
        for command in ("info", "bench", "selftest", "schedule", "simulate", "msign"):
            self.assertIn(f"\n  {command} ", text)
            self.assertIn(f"steepest {command}", self.good(command, "--help"))

    def test_usage_errors(self):
        for arguments in (
            [],
            ["no-such-command"],
            ["--no-such-option"],
            ["info", "--no-such-option"],
            ["info", "extra"],
            ["bench", "--elements", "1e9x"],
            ["bench", "--elements", "0"],
            ["bench", "--threads", "-1"],
            ["selftest", "now"],
            ["msign"],
            ["msign", "a.npy", "--method", "magic"],
            ["schedule", "--steps"],
        ):
            with self.subTest(arguments=arguments):
                self.bad(USAGE, *arguments)

    def test_environment(self):
        matrix = self.file("x.npy", npy([1, 0, 0, 1], (2, 2)))
        for name, value in (("STEEPEST_MAX_ISA", "x87"), ("STEEPEST_NUM_THREADS", "many")):
            for arguments in (["info"], ["selftest"], ["bench"], ["simulate"], ["msign", matrix]):
                with self.subTest(name=name, arguments=arguments):
                    env = environment(**{name: value})
                    self.bad(USAGE, *arguments, says=name, env=env)

    def test_output_that_cannot_be_written(self):
        for arguments in (["--help"], ["--version"], ["info"], ["schedule"], ["info", "--json"]):
            with self.subTest(arguments=arguments):
                with open("/dev/full", "wb") as full:
                    self.bad(OUTPUT, *arguments, stdout=full, says="standard output")
                closed = subprocess.run(
                    ["sh", "-c", 'exec "$0" "$@" >&-', PROGRAM, *arguments],
                    stderr=subprocess.PIPE,
                    check=False,
                )
                self.assertEqual(closed.returncode, OUTPUT, closed.stderr)
        self.bad(OUTPUT, "schedule", "-o", self.path("no/such/folder.csv"), says="folder.csv")
        self.bad(OUTPUT, "simulate", "-o", self.folder.name, says=self.folder.name)
        self.bad(OUTPUT, "schedule", "-o", "/dev/full", says="/dev/full")

    def test_a_reader_that_leaves(self):
        """`steepest schedule | head -1`: no complaint, and the end that a shell expects."""
        with subprocess.Popen(
            [PROGRAM, "schedule", "--steps", "1000000"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            self.assertEqual(process.stdout.readline(), b"step,lr,bound\n")
            process.stdout.close()
            self.assertEqual(process.stderr.read(), b"")
            self.assertEqual(process.wait(), -signal.SIGPIPE)
        # And with SIGPIPE ignored, as some callers leave it.
        with subprocess.Popen(
            ["sh", "-c", "trap '' PIPE; exec \"$0\" schedule --steps 1000000", PROGRAM],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            process.stdout.readline()
            process.stdout.close()
            self.assertIn(b"Broken pipe", process.stderr.read())
            self.assertEqual(process.wait(), OUTPUT)


def on_terminal(*arguments, **variables):
    """The exit code of a run on a terminal, and what is seen there."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, *arguments],
        stdout=slave,
        stderr=slave,
        env=environment(**{"TERM": "xterm", **variables}),
    )
    os.close(slave)
    seen = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # the program has ended
            break
        if not part:
            break
        seen += part
    os.close(master)
    return process.wait(), seen.decode()


class Terminal(Case):
    def test_progress(self):
        code, seen = on_terminal("simulate", "--steps", "50")
        self.assertEqual(code, OK)
        self.assertIn("0%   10   20", seen)
        self.assertIn("***", seen)

    def test_colour(self):
        code, seen = on_terminal("selftest")
        self.assertEqual(code, OK)
        self.assertIn("\033[32m", seen)
        self.assertIn("\033[32m", on_terminal("selftest", NO_COLOR="")[1])
        for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            self.assertNotIn("\033", on_terminal("selftest", **variables)[1])


class Info(Case):
    def test_text(self):
        text = self.good("info")
        for label in ("tool", "library", "CPU", "ISA level", "threads", "BLAS"):
            self.assertRegex(text, rf"(?m)^{label} +\S")

    def test_json(self):
        facts = json.loads(self.good("info", "--json"))
        self.assertEqual(facts["levels"][facts["isa"]], "in use")
        self.assertGreaterEqual(facts["threads"], 1)
        self.assertEqual(facts["cores"], len(os.sched_getaffinity(0)))

    def test_environment(self):
        env = environment(STEEPEST_MAX_ISA="generic", STEEPEST_NUM_THREADS="1")
        facts = json.loads(self.good("info", "--json", env=env))
        self.assertEqual((facts["isa"], facts["threads"]), ("generic", 1))
        if len([s for s in facts["levels"].values() if s != "not available"]) > 1:
            self.assertEqual(facts["isa_because"], "STEEPEST_MAX_ISA is generic")
            self.assertIn("held back by STEEPEST_MAX_ISA", facts["levels"].values())
        self.assertEqual(facts["threads_because"], "STEEPEST_NUM_THREADS is 1")


class Schedule(Case):
    def rows(self, *arguments):
        return list(csv.DictReader(io.StringIO(self.good("schedule", *arguments))))

    def rates(self, *arguments):
        return [float(row["lr"]) for row in self.rows(*arguments)]

    def test_shapes(self):
        self.assertEqual(self.rates("--steps", "4", "--lr", "1"), [0.8, 0.6, 0.4, 1 - 4 / 5])
        self.assertEqual(
            self.rates("--steps", "4", "--lr", "2", "--kind", "constant", "--warmup", "2"),
            [1, 2, 2, 2],
        )
        expected = [0.5 * (1 + math.cos(math.pi * t / 6)) for t in range(1, 6)]
        for got, want in zip(
            self.rates("--steps", "5", "--lr", "1", "--kind", "cosine"), expected, strict=True
        ):
            self.assertAlmostEqual(got, want, delta=1e-15)
        wsd = ["--kind", "wsd", "--steps", "4", "--lr", "1", "--decay-steps", "2"]
        self.assertEqual(self.rates(*wsd)[:2], [1, 1])
        self.assertNotEqual(self.rates(*wsd), self.rates(*wsd, "--decay", "one-minus-sqrt"))
        self.assertEqual(len(self.rates()), 100)
        self.assertEqual([row["step"] for row in self.rows("--steps", "3")], ["1", "2", "3"])
        # Decimal, whatever C would make of it.
        self.assertEqual(len(self.rates("--steps", "010")), 10)

    def test_bound(self):
        """Against the sum itself, and figures that are published."""
        for kind in ("linear", "cosine", "constant", "inverse", "inverse-sqrt", "optimal"):
            rows = self.rows("--kind", kind, "--steps", "50", "--lr", ".1", "--distance", "2")
            lr = [float(row["lr"]) for row in rows]
            tail = [sum(lr[t:]) for t in range(50)]
            bound = 4 / (2 * tail[0])
            bound += sum(lr[t] ** 2 / tail[min(t + 1, 49)] for t in range(50)) / 2
            self.assertAlmostEqual(float(rows[0]["bound"]) / bound, 1, delta=1e-12)
            self.assertEqual(len({row["bound"] for row in rows}), 1)
        best = self.rows("--kind", "optimal", "--steps", "10")
        self.assertAlmostEqual(float(best[0]["bound"]), 0.57801, delta=0.6e-5)

    def test_from_gradient_norms(self):
        norms = self.file("norms.txt", b"# of a run\n4 2\n1\t1\r\n1\n")
        self.assertEqual(len(self.rates("--grad-norms", norms)), 5)
        refined = self.rows("--kind", "refine-adam", "--grad-norms", norms, "--smoothing", "0")
        weights = [1 / 4, 1 / 2, 1, 1, 1]
        rates = [w * sum(weights[t + 1 :]) for t, w in enumerate(weights)]
        for row, rate in zip(refined, rates, strict=True):
            self.assertAlmostEqual(float(row["lr"]), 1e-3 * rate / max(rates), delta=1e-12)
        self.assertEqual({row["bound"] for row in refined}, {""})  # the last rate is zero
        self.bad(USAGE, "schedule", "--grad-norms", norms, "--steps", "4", says="norms.txt")
        self.bad(USAGE, "schedule", "--kind", "refine-sgd", says="--grad-norms")

    def test_bad_norms(self):
        for content, says in (
            (b"", "no numbers"),
            (b"# nothing\n", "no numbers"),
            (b"1\ntwo\n", "line 2"),
            (b"1 2 3,4", "line 1"),
            (b"1\n\xff\xfe", "line 2"),
        ):
            with self.subTest(content=content):
                name = self.file("bad.txt", content)
                text = self.bad(INPUT, "schedule", "--grad-norms", name, says=says)
                self.assertIn("bad.txt", text)
        for content in (b"1 nan 1", b"1 -1 1", b"1 inf"):
            name = self.file("bad.txt", content)
            self.bad(USAGE, "schedule", "--grad-norms", name, says="grad_norms")
        self.bad(INPUT, "schedule", "--grad-norms", self.path("none"), says="No such file")
        self.bad(INPUT, "schedule", "--grad-norms", self.folder.name, says="directory")

    def test_bad_numbers(self):
        for arguments in (
            ["--lr", "-1"],
            ["--lr", "nan"],
            ["--lr", "inf"],
            ["--lr", "1e"],
            ["--steps", "0"],
            ["--steps", "1.5"],
            ["--steps", "99999999999999999999"],
            ["--warmup", "101"],
            ["--final-ratio", "2"],
            ["--decay-steps", "3"],
            ["--distance", "-1"],
            ["--kind", "triangle"],
            ["--kind", "optimal", "--grad-norm", "0"],
        ):
            with self.subTest(arguments=arguments):
                self.bad(USAGE, "schedule", *arguments)

    def test_file(self):
        name = self.path("rates.csv")
        text = self.good("schedule", "--steps", "7", "-o", name)
        self.assertRegex(text, r"rates\.csv: 7 rates; bound \S+ at D = 1, G = 1\n")
        self.assertEqual(pathlib.Path(name).read_text(), self.good("schedule", "--steps", "7"))


class Simulate(Case):
    def test_table(self):
        lines = self.good("simulate", "--steps", "1000").splitlines()
        steady = next(line.split() for line in lines if line.lstrip().startswith("steady"))
        simulated, formula, second_order = float(steady[1]), float(steady[2]), float(steady[5])
        # Published: exact .2261, first order .2294, second order .2258.
        self.assertAlmostEqual(simulated, 0.2261, delta=0.001)
        self.assertEqual((formula, second_order), (0.2294, 0.2258))

    def test_csv(self):
        name = self.path("rms.csv")
        arguments = ["--csv", "--steps", "30", "--snr", ".25", "--noise", "sign", "-o", name]
        self.assertEqual(self.good("simulate", *arguments), "")
        with open(name, newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([int(row["step"]) for row in rows], list(range(1, 31)))
        self.assertAlmostEqual(float(rows[0]["simulated"]), 1, delta=1e-6)
        for row in rows[5:]:
            self.assertAlmostEqual(
                float(row["simulated"]) / float(row["formula"]), 1, delta=0.1, msg=row
            )

    def test_seeds(self):
        tables = [self.good("simulate", "--steps", "5", "--seed", seed) for seed in "112"]
        self.assertEqual(tables[0], tables[1])
        self.assertNotEqual(tables[0], tables[2])

    def test_bad_numbers(self):
        for arguments in (
            ["--beta1", "1"],
            ["--beta1", "-.1"],
            ["--beta2", "1.5"],
            ["--snr", "-1"],
            ["--snr", "x"],
            ["--steps", "0"],
            ["--elements", "0"],
            ["--noise", "pink"],
        ):
            with self.subTest(arguments=arguments):
                self.bad(USAGE, "simulate", *arguments)


class Msign(Case):
    # Singular values 4, 2, 1.
    VALUES = (0, 4, 0, 0, -2, 0, 0, 0, 0, 0, 0, 1)
    SHAPE = (3, 4)

    def examined(self, content, *arguments):
        name = self.file("x.npy", content)
        return json.loads(self.good("msign", name, "--json", "--seconds", "0", *arguments))

    def test_json(self):
        found = self.examined(npy(self.VALUES, self.SHAPE))
        self.assertEqual((found["rows"], found["cols"], found["dtype"]), (3, 4, "f32"))
        for got, want in zip(found["singular_values"], (4, 2, 1), strict=True):
            self.assertAlmostEqual(got, want, delta=1e-6)
        p = [s * s / 21 for s in (4, 2, 1)]
        entropy = -sum(x * math.log(x) for x in p) / math.log(3)
        self.assertAlmostEqual(found["entropy"], entropy, delta=1e-9)
        self.assertEqual(found["rank"], 3)
        self.assertAlmostEqual(found["frobenius_norm"], math.sqrt(21), delta=1e-6)
        self.assertAlmostEqual(found["schatten4_norm"], 273**0.25, delta=1e-6)
        self.assertIn(len(found["methods"]), (METHODS - 1, METHODS))
        methods = {m["name"]: m for m in found["methods"]}
        for method in methods.values():
            self.assertGreater(method["seconds"], 0)
            low, high = method["band"]
            # Of three singular values none is off by more than the band.
            self.assertLessEqual(method["error"], max(1 - low, high - 1) + 1e-5, method)
        self.assertLess(methods["accurate"]["error"], 1e-6)
        self.assertAlmostEqual(methods["rational_r3"]["band"][1], 1.0621, delta=1e-4)

    def test_every_layout_is_the_same_matrix(self):
        rows, cols = self.SHAPE
        by_columns = [self.VALUES[i * cols + j] for j in range(cols) for i in range(rows)]
        for version in (1, 2, 3):
            for descr in ("<f2", "<f4", "<f8", "|f4"):
                for fortran, values in ((False, self.VALUES), (True, by_columns)):
                    content = npy(values, self.SHAPE, descr, fortran, version)
                    found = self.examined(content, "--method", "accurate")
                    self.assertEqual((found["rows"], found["cols"]), self.SHAPE)
                    self.assertAlmostEqual(found["singular_values"][0], 4, delta=1e-6)
                    self.assertLess(found["methods"][0]["error"], 1e-6)
                    self.assertEqual(found["dtype"], "f" + str(8 * int(descr[-1])))

    def test_text(self):
        name = self.file("x.npy", npy(self.VALUES, self.SHAPE))
        text = self.good("msign", name, "--seconds", "0", "--threads", "1")
        for part in ("3 x 4, f32, C order", "largest 4", "entropy", "1 thread)", "svd"):
            self.assertIn(part, text)
        only = self.good("msign", name, "--seconds", "0", "--method", "svd", "--method", "halley_2")
        self.assertNotIn("rational", only)

    def test_low_rank(self):
        found = self.examined(npy([1, 2, 2, 4], (2, 2)), "--method", "svd")
        self.assertEqual(found["rank"], 1)
        text = self.good("msign", self.path("x.npy"), "--seconds", "0")
        self.assertIn("has not its full rank", text)

    def test_pipe(self):
        done = run(
            "msign", "/dev/stdin", "--json", "--seconds", "0", input=npy(self.VALUES, self.SHAPE)
        )
        self.assertEqual(done.returncode, OK, done.stderr)
        self.assertEqual(json.loads(done.stdout)["rank"], 3)

    def test_a_name_that_is_no_text(self):
        name = os.fsencode(self.folder.name) + b"/\xff.npy"
        with open(name, "wb") as file:
            file.write(npy(self.VALUES, self.SHAPE))
        done = subprocess.run(
            [PROGRAM, "msign", name, "--json", "--seconds", "0"],
            env=environment(),
            capture_output=True,
            check=True,
        )
        self.assertTrue(json.loads(done.stdout)["file"].endswith("/\ufffd.npy"))

    def test_bad_files(self):
        good = npy(self.VALUES, self.SHAPE)

        def with_header(text, values=self.VALUES):
            return npy(values, None, header=text)

        shape = "'shape': (3, 4), }"
        for content, says in (
            (b"", "empty"),
            (b"PK\x03\x04", "no .npy file"),
            (good[:4], "no .npy file"),
            (good[:7], "truncated"),
            (good[:9], "truncated"),
            (good[:40], "truncated"),
            (good[:-1], "truncated"),
            (good[:-48], "truncated"),
            (good + b"\0", "1 bytes after"),
            (good[:6] + b"\x04" + good[7:], "version is 4"),
            (npy(self.VALUES, self.SHAPE, ">f4"), "big-endian"),
            (npy(self.VALUES, (12,)), "two dimensions"),
            (npy(self.VALUES, (3, 2, 2)), "two dimensions"),
            (npy([1], ()), "two dimensions"),
            (npy([], (0, 4)), "no elements"),
            (npy(self.VALUES, (-3, 4)), "negative"),
            (npy(self.VALUES, (2**62, 2**62)), "truncated"),
            (npy(self.VALUES, (2**63 - 1, 2**63 - 1)), "truncated"),
            (npy(self.VALUES, (2**64, 4)), "64 bits"),
            (npy(self.VALUES, (1,) * 65), "more than 64"),
            (npy([1, math.nan, 0, 1], (2, 2)), "element (0, 1) is nan"),
            (npy([1, 0, math.inf, 1], (2, 2), "<f8"), "element (1, 0) is inf"),
            (npy([0, 0, 0, 0], (2, 2)), "every element is zero"),
            (with_header("{'descr': '<i4', 'fortran_order': False, " + shape), "'<i4'"),
            (with_header("{'descr': '|O', 'fortran_order': False, " + shape), "Python objects"),
            (with_header("{'descr': '<c8', 'fortran_order': False, " + shape), "'<c8'"),
            (with_header("{'descr': [('a', '<f4')], 'fortran_order': False, " + shape), "struct"),
            (with_header("{'descr': '', 'fortran_order': False, " + shape), "''"),
            (with_header("{'descr': '<f4', 'fortran_order': 1, " + shape), "True or False"),
            (with_header("{'descr': '<f4', 'fortran_order': False}"), "lacks the key 'shape'"),
            (with_header("{'fortran_order': False, " + shape), "lacks the key 'descr'"),
            (with_header("{'descr': '<f4', 'descr': '<f4', " + shape), "twice"),
            (with_header("{'descr': '<f4', 'x': 1, " + shape), "unknown key"),
            (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (3 4)}"), "malformed"),
            (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': 3}"), "malformed"),
            (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (3,"), "malformed"),
            (with_header("{'descr': '<f4"), "malformed"),
            (with_header("{" * 5000), "malformed"),
            (with_header(""), "malformed"),
            (with_header("\x1b[31m"), "'?[31m?'"),  # no control sequence reaches the terminal
        ):
            with self.subTest(says=says, begin=content[:60]):
                name = self.file("bad.npy", content)
                text = self.bad(INPUT, "msign", name, says=says)
                self.assertIn("bad.npy: ", text)
                self.assertNotIn("\033", text)

    def test_every_truncation(self):
        good = npy(self.VALUES, self.SHAPE, version=2)
        for length in range(len(good)):
            self.bad(INPUT, "msign", self.file("cut.npy", good[:length]), says="cut.npy: ")

    def test_unreadable(self):
        self.bad(INPUT, "msign", self.path("none.npy"), says="No such file")
        self.bad(INPUT, "msign", self.folder.name, says="directory")
        if os.geteuid() != 0:
            name = self.file("closed.npy", b"")
            os.chmod(name, 0)
            self.bad(INPUT, "msign", name, says="Permission denied")

    def test_numpy(self):
        try:
            import numpy
        except ImportError:
            self.skipTest("NumPy is not here")
        rng = numpy.random.default_rng(1)
        for dtype in ("float16", "float32", "float64"):
            x = rng.standard_normal((17, 9)).astype(dtype)
            for array in (x, numpy.asfortranarray(x)):
                numpy.save(self.path("n.npy"), array)
                content = pathlib.Path(self.path("n.npy")).read_bytes()
                values = self.examined(content, "--method", "svd")["singular_values"]
                expected = numpy.linalg.svd(x.astype("float64"), compute_uv=False)
                self.assertLess(numpy.abs(expected - values).max(), 1e-12)


class Bench(Case):
    def test_json(self):
        text = self.good("bench", "--quick", "--elements", 1 << 20, "--json", "--threads", "1")
        found = json.loads(text)
        self.assertEqual(found["elements"], 1 << 20)
        for group, work in (("memory", "bytes"), ("arithmetic", "operations")):
            self.assertGreater(len(found[group]), 2)
            for row in found[group]:
                self.assertEqual(row["threads"], 1)
                for key in ("seconds", "limit_seconds", "share", work):
                    self.assertGreater(row[key], 0)
                low, high = row["share_quartiles"]
                self.assertTrue(low <= row["share"] <= high)
        f32 = next(row for row in found["memory"] if row["name"] == "AdamW f32")
        self.assertEqual(f32["bytes"], 28 << 20)

    def test_not_enough_memory(self):
        self.bad(USAGE, "bench", "--elements", 1 << 34, says="memory")


class Selftest(Case):
    def test_text(self):
        before = os.times()
        lines = self.good("selftest").splitlines()
        self.assertLess(os.times().children_user - before.children_user, 30)
        self.assertRegex(lines[-1], r"^\d+ checks, 0 failed, \S+ s$")
        self.assertTrue(all(line.startswith("ok ") for line in lines[:-1]))

    def test_json(self):
        found = json.loads(self.good("selftest", "--json"))
        self.assertGreater(len(found["checks"]), 10)
        self.assertTrue(all(check["passed"] for check in found["checks"]))

    def test_levels(self):
        env = environment(STEEPEST_MAX_ISA="generic")
        found = json.loads(self.good("selftest", "--json", env=env))
        self.assertIn("generic", {check["where"] for check in found["checks"]})
        self.assertFalse([c for c in found["checks"] if c["where"].startswith("x86_")])

    def test_finds_an_error(self):
        if not WRONG_LIBRARY:
            self.skipTest("no wrong library to preload")
        done = run("selftest", env=environment(LD_PRELOAD=WRONG_LIBRARY))
        self.assertEqual(done.returncode, FAILED, done.stderr)
        failed = re.findall(r"(?m)^FAILED +\S+ +(.*?)  ", done.stdout.decode())
        self.assertIn("AdamW f32 against long double", failed)
        self.assertNotIn("Muon against its formula", failed)


class Documents(Case):
    """The man page and the completions name every command and option, and nothing else."""

    def options(self):
        commands = {}
        for command in ("info", "bench", "selftest", "schedule", "simulate", "msign"):
            found = set(re.findall(r"--[a-z][a-z0-9-]+", self.good(command, "--help")))
            commands[command] = found - {"--help"}
        return commands

    def test_completions_and_man_page(self):
        commands = self.options()
        every = set().union(*commands.values()) | {"--help", "--version"}
        for name in (
            "completions/steepest.bash",
            "completions/_steepest",
            "completions/steepest.fish",
            "steepest.1",
        ):
            text = (TOOLS / name).read_text().replace("\\-", "-")
            if name.endswith("fish"):
                text = re.sub(r"(?<=complete).* -l ([a-z])", r" --\1", text)
            found = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text))
            self.assertEqual(found, every, name)
            for command in commands:
                self.assertRegex(text, rf"\b{command}\b")

    def test_man_page_is_well_formed(self):
        if not shutil.which("groff"):
            self.skipTest("groff is not here")
        page = str(TOOLS / "steepest.1")
        done = subprocess.run(
            ["groff", "-man", "-ww", "-z", "-Tutf8", page], capture_output=True, check=True
        )
        self.assertEqual(done.stderr, b"")
        version = self.good("--version").split()[1]
        self.assertIn(f'"steepest {version}"', pathlib.Path(page).read_text())

    def test_completions_are_scripts(self):
        for shell, name in (
            ("bash", "steepest.bash"),
            ("zsh", "_steepest"),
            ("fish", "steepest.fish"),
        ):
            if shutil.which(shell):
                subprocess.run([shell, "-n", str(TOOLS / "completions" / name)], check=True)

    def test_completion_for_bash(self):
        self.file("x.npy", b"")
        self.file("x.txt", b"")

        def completed(*words):
            script = (
                'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _steepest;'
                ' printf "%s\\n" "${COMPREPLY[@]}"'
            )
            done = subprocess.run(
                [
                    "bash",
                    "-c",
                    script,
                    "-",
                    TOOLS / "completions/steepest.bash",
                    "steepest",
                    *words,
                ],
                cwd=self.folder.name,
                capture_output=True,
                check=True,
            )
            return set(done.stdout.decode().split())

        self.assertEqual(completed("sch"), {"schedule"})
        self.assertEqual(completed("schedule", "--grad"), {"--grad-norm", "--grad-norms"})
        self.assertEqual(completed("schedule", "--kind", "lin"), {"linear"})
        self.assertEqual(completed("msign", ""), {"x.npy"})
        self.assertEqual(completed("bench", "--threads", ""), set())
        for command, option in (
            ("schedule", "--kind"),
            ("simulate", "--noise"),
            ("msign", "--method"),
        ):
            offered = self.good(command, "--help").partition(f"{option} ")[2]
            offered = set(re.search(r"\{(.*?)\}", offered, re.DOTALL)[1].split(","))
            self.assertEqual(completed(command, option, ""), offered)


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    if len(sys.argv) > 1 and sys.argv[1].endswith(".so"):
        WRONG_LIBRARY = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=1)
