# SPDX-License-Identifier: Apache-2.0
"""Times PyTorch's AdamW and ours on the same work and prints one table of ratios.

Whole processes alternate: one of PyTorch, one of ours, and so on. A round is one process of each,
with the order changing from round to round; the ratio is formed within a round.
"""

import dataclasses
import json
import sys

import alternate
import machine

KI, MI = 1 << 10, 1 << 20


@dataclasses.dataclass(frozen=True)
class Case:
    count: int  # elements of each tensor
    tensors: int = 1
    dtype: str = "f32"
    amsgrad: bool = False
    foreach: bool = False  # PyTorch's foreach=True in place of fused=True
    all_threads: bool = True  # also with every core

    def name(self):
        size = machine.size_text(self.count)
        many = f"{self.tensors:,} x " if self.tensors > 1 else ""
        text = f"{self.dtype} {many}{size}"
        return text + (" amsgrad" if self.amsgrad else "") + (" (foreach)" if self.foreach else "")


CASES = [
    Case(64 * MI),
    Case(16 * MI),
    Case(1 * MI),
    Case(64 * KI),
    Case(64, all_threads=False),
    Case(4 * KI, tensors=1000),
    Case(4 * KI, tensors=1000, foreach=True),
    Case(16 * MI, dtype="f64"),
    Case(16 * MI, dtype="bf16"),
    Case(16 * MI, dtype="f16"),
    Case(16 * MI, amsgrad=True),
]


def worker(case, threads, seconds):
    """PyTorch's side, in a process of its own: the counterpart of ../adamw_process.cpp."""
    import torch

    torch.set_num_threads(threads)
    types = {"f32": torch.float32, "f64": torch.float64}
    types |= {"bf16": torch.bfloat16, "f16": torch.float16}
    dtype = types[case.dtype]
    pattern = torch.arange(case.count) % 7 - 3
    params = [(pattern * 0.1 + 0.5).to(dtype) for _ in range(case.tensors)]
    for param in params:
        param.grad = (pattern * 1e-3 + 1e-4).to(dtype)
    optimizer = torch.optim.AdamW(
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=1e-2,
        amsgrad=case.amsgrad,
        fused=not case.foreach,
        foreach=case.foreach,
    )

    # Samples of at least a millisecond.
    result = alternate.sample(optimizer.step, seconds, least_sample=1e-3, least_count=5)
    print(json.dumps(result | {"threads": torch.get_num_threads(), "build": torch.__version__}))


def torch_command(case, threads, options):
    work = json.dumps(dataclasses.asdict(case))
    return [sys.executable, __file__, "--worker", work, "--threads", str(threads)] + [
        f"--seconds={options.seconds}"
    ]


def our_program(options):
    return options.build / "bench" / "adamw_process"


def our_command(case, threads, options):
    command = [str(our_program(options)), "--dtype", case.dtype]
    command += ["--tensors", str(case.tensors), "--count", str(case.count)]
    command += ["--threads", str(threads), "--seconds", str(options.seconds)]
    return command + (["--amsgrad"] if case.amsgrad else [])


def main():
    options = alternate.parse(alternate.parser(__doc__.splitlines()[0]))
    if options.worker:
        return worker(Case(**json.loads(options.worker)), options.threads, options.seconds)

    def compare(case, threads):
        return alternate.compare(
            torch_command(case, threads, options), our_command(case, threads, options), options
        )

    name = "AdamW(fused=True) unless the case says otherwise"
    alternate.run(CASES, compare, lambda result: [], [], name, our_program(options), options)


if __name__ == "__main__":
    main()
