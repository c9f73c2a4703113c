# SPDX-License-Identifier: Apache-2.0
"""Times optimizer.step() of PyTorch and of steepest.torch on the same tensors, from Python.

GPT-2 124M has 148 tensors. With Muon, its 48 hidden matrices are Muon's and the rest AdamW's; the
errors are those of msign on the Gaussian gradients of one layer, ||O - U V^T||_F / ||U V^T||_F.
Adapters stand for LoRA: 1,000 small matrices, (8, n) and (n, 8) in turn. Whole processes alternate.
"""

import dataclasses
import json
import os

import alternate

from muon import LAYERS, SHAPES, exact_sign

VECTORS = [2304, 768, 3072, 768, 768, 768, 768, 768]  # of one layer: four biases, two norms
OUTER = [(50257, 768), (1024, 768), (768,), (768,)]


@dataclasses.dataclass(frozen=True)
class Case:
    dtype: str = "f32"  # of parameters, gradients and moments
    adapters: int = 0  # elements of each of 1,000 matrices; 0: GPT-2 124M
    all_threads = True  # also with every core
    muon: str = ""  # Muon for the hidden matrices: our products in f32 or bf16; PyTorch's are bf16

    def name(self):
        if self.adapters:
            return f"AdamW {self.dtype}, 1,000 adapters of {self.adapters:,}"
        if self.muon:
            return f"GPT-2 124M, Muon ({self.muon} products) and AdamW"
        return f"GPT-2 124M, AdamW {self.dtype}"


CASES = [Case(), Case("bf16"), Case(muon="bf16"), Case(muon="f32")]
CASES += [Case(adapters=count) for count in (256, 1024, 4096, 6144)]


def shapes(case):
    """The hidden matrices and the other tensors."""
    if case.adapters:
        side = case.adapters // 8
        return [], [(8, side), (side, 8)] * 500
    return SHAPES * LAYERS, [(size,) for size in VECTORS] * LAYERS + OUTER


def parameters(case):
    """Gradients are set once: there is no autograd in the time. Muon's are Gaussian."""
    import torch

    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[case.dtype]
    draw = torch.Generator().manual_seed(1)
    groups = []
    for wanted in shapes(case):
        params = [torch.nn.Parameter(torch.full(shape, 0.5, dtype=dtype)) for shape in wanted]
        for param in params:
            if case.muon and groups == []:
                param.grad = torch.randn(param.shape, generator=draw)
            else:
                pattern = torch.arange(param.numel()) % 7 - 3
                param.grad = (pattern * 1e-3 + 1e-4).to(dtype).view(param.shape)
        groups.append(params)
    return groups


def their_step(case, hidden, rest):
    """PyTorch's step, its msign if there is one, and its version."""
    import torch

    if not case.muon:
        optimizer = torch.optim.AdamW(hidden + rest, lr=1e-3, weight_decay=1e-2, fused=True)
        return optimizer.step, None, torch.__version__, None
    options = {"lr": 1e-3, "weight_decay": 1e-2}
    first = torch.optim.Muon(hidden, adjust_lr_fn="match_rms_adamw", **options)
    second = torch.optim.AdamW(rest, fused=True, **options)

    def step():
        first.step()
        second.step()

    def msign(x):
        method = torch.optim._muon._zeropower_via_newtonschulz
        return method(x, (3.4445, -4.7750, 2.0315), 5, 1e-7)

    return step, msign, torch.__version__, None


def our_step(case, hidden, rest):
    import steepest.torch
    import torch

    facts = steepest.get_config()
    options = {"lr": 1e-3, "weight_decay": 1e-2}
    if not case.muon:
        optimizer = steepest.torch.AdamW(hidden + rest, **options)
        return optimizer.step, None, facts["build"], facts["isa"]
    groups = [{"params": hidden, "use_muon": True}, {"params": rest, "use_muon": False}]
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[case.muon]
    optimizer = steepest.torch.MuonAdamW(groups, compute_dtype=dtype, **options)

    def msign(x):
        names = {"f32": "float32", "bf16": "bfloat16"}
        return torch.from_numpy(steepest.msign(x.numpy(), compute_dtype=names[case.muon]))

    return optimizer.step, msign, facts["build"], facts["isa"]


def msign_error(msign, matrices):
    difference = total = 0.0
    for x in matrices:
        exact = exact_sign(x)
        difference += (msign(x).double() - exact).square().sum().item()
        total += exact.square().sum().item()
    return (difference / total) ** 0.5


def worker(case, side, options):
    """One side in a process of its own."""
    import torch

    torch.set_num_threads(options.threads)
    hidden, rest = parameters(case)
    make = their_step if side == "theirs" else our_step
    step, msign, build, isa = make(case, hidden, rest)
    facts = {"threads": torch.get_num_threads(), "build": build, "isa": isa}
    count = 1 if case.muon else 5
    result = alternate.sample(step, options.seconds, least_sample=1e-3, least_count=count)
    error = msign_error(msign, [p.grad for p in hidden[: len(SHAPES)]]) if msign else None
    print(json.dumps(result | facts | {"error": error}))


def main():
    options = alternate.parse(alternate.parser(__doc__.splitlines()[0]))
    library = options.build / "libsteepest.so.1"
    if options.worker:
        work, side = json.loads(options.worker)
        return worker(Case(**work), side, options)

    os.environ["STEEPEST_LIBRARY"] = str(library.resolve())
    os.environ["PYTHONPATH"] = str(alternate.BENCH.parent / "bindings" / "python")

    def compare(case, threads):
        return alternate.compare_workers(__file__, case, threads, options)

    def errors(result):
        shown = (result[side]["error"] for side in ("their_first", "our_first"))
        return ["" if error is None else f"{error:.1e}" for error in shown]

    alternate.run(
        CASES,
        compare,
        errors,
        ["PyTorch's error", "Steepest's error"],
        "AdamW(fused=True), optim.Muon",
        library,
        options,
    )


if __name__ == "__main__":
    main()
