# SPDX-License-Identifier: Apache-2.0
"""Times PyTorch's Newton-Schulz and SVD and our msign on the same matrices.

PyTorch's side is the iteration of torch.optim.Muon, in bf16 as it runs there and in f32, or
U V^T from torch.linalg.svd; ours is the method that the case names. The errors are
||O - U V^T||_F / ||U V^T||_F on a Gaussian matrix. Whole processes alternate.
"""

import dataclasses
import json
import sys

import alternate


@dataclasses.dataclass(frozen=True)
class Case:
    rows: int
    cols: int
    method: str  # ours: a name of ../msign_support.hpp
    theirs: str  # bf16, f32: Newton-Schulz; svd
    all_threads: bool = True  # also with every core

    def name(self):
        return f"{self.rows}x{self.cols} {self.method} / {self.theirs}"


SHAPES = [(256, 256), (768, 768), (768, 2304), (768, 3072), (1024, 1024), (1024, 4096)]
SHAPES += [(2048, 2048)]
PAIRS = [("rational_r3", "f32"), ("rational_r3", "bf16"), ("rational_r3_bf16", "bf16")]
CASES = [Case(rows, cols, *pair) for rows, cols in SHAPES for pair in PAIRS] + [
    Case(768, 3072, method, "svd") for method in ("accurate", "svd")
]


def newton_schulz(x, dtype):
    """As torch.optim.Muon forms it, in the type that is asked for."""
    import torch

    a, b, c = 3.4445, -4.7750, 2.0315
    x = x.to(dtype)
    tall = x.size(0) > x.size(1)
    x = x.T if tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def svd_sign(x):
    import torch

    u, _, vt = torch.linalg.svd(x, full_matrices=False)
    return u @ vt


def worker(case, threads, seconds):
    """PyTorch's side, in a process of its own: the counterpart of ../msign_process.cpp."""
    import torch

    torch.set_num_threads(threads)
    x = torch.randn(case.rows, case.cols, generator=torch.Generator().manual_seed(1))
    types = {"bf16": torch.bfloat16, "f32": torch.float32}

    def run():
        return svd_sign(x) if case.theirs == "svd" else newton_schulz(x, types[case.theirs])

    exact = svd_sign(x.double())
    error = ((run().double() - exact).norm() / exact.norm()).item()
    result = alternate.sample(run, seconds) | {"error": error}
    print(json.dumps(result | {"threads": torch.get_num_threads(), "build": torch.__version__}))


def our_command(case, threads, options):
    command = [str(options.build / "bench" / "msign_process"), "--error", "1"]
    command += ["--rows", str(case.rows), "--cols", str(case.cols), "--method", case.method]
    return command + ["--threads", str(threads), "--seconds", str(options.seconds)]


def main():
    options = alternate.parse(alternate.parser(__doc__.splitlines()[0]))
    if options.worker:
        return worker(Case(**json.loads(options.worker)), options.threads, options.seconds)

    def compare(case, threads):
        work = json.dumps(dataclasses.asdict(case))
        theirs = [sys.executable, __file__, "--worker", work, "--threads", str(threads)]
        theirs.append(f"--seconds={options.seconds}")
        return alternate.compare(theirs, our_command(case, threads, options), options)

    def errors(result):
        return [f"{result[side]['error']:.1e}" for side in ("their_first", "our_first")]

    headers = ["PyTorch's error", "Steepest's error"]
    program = options.build / "bench" / "msign_process"
    name = "the Newton-Schulz iteration of torch.optim.Muon, or torch.linalg.svd"
    alternate.run(CASES, compare, errors, headers, name, program, options)


if __name__ == "__main__":
    main()
