# SPDX-License-Identifier: Apache-2.0
"""What a step call costs in Python: all of its time but the library's own call.

Tensors of one or two elements, one of them and 1,000 in one call: a fixed part and a part per
tensor. PyTorch's line is its whole fused step, whose Python and C++ parts cannot be told apart.
"""

import os
import sys
import time

import alternate
import machine

COUNT = 1000


class TimedLibrary:
    """The library's functions, counting the time that is spent in them."""

    def __init__(self, library):
        self.wrapped = library
        self.inside = 0.0

    def __getattr__(self, name):
        function = getattr(self.wrapped, name)

        def timed(*arguments):
            began = time.perf_counter()
            result = function(*arguments)
            self.inside += time.perf_counter() - began
            return result

        setattr(self, name, timed)
        return timed


def torch_step(make, count, shape):
    import torch

    params = [torch.nn.Parameter(torch.ones(shape)) for _ in range(count)]
    for param in params:
        param.grad = torch.ones(shape)
    return make(params).step


def numpy_step(function, count, arrays, **options):
    import numpy as np

    columns = [[np.ones((1, 2), np.float32) for _ in range(count)] for _ in range(arrays)]
    given = columns if count > 1 else [column[0] for column in columns]
    return lambda: function(*given, threads=1, **options)


def steps():
    """Name and a maker of step(count tensors)."""
    import steepest
    import steepest.torch as ours
    import torch

    return {
        "torch.optim.AdamW(fused=True), all": lambda n: torch_step(
            lambda p: torch.optim.AdamW(p, fused=True), n, (1,)
        ),
        "steepest.torch.AdamW": lambda n: torch_step(ours.AdamW, n, (1,)),
        "steepest.torch.AdamW(max_grad_norm=1)": lambda n: torch_step(
            lambda p: ours.AdamW(p, max_grad_norm=1.0), n, (1,)
        ),
        "steepest.torch.Muon": lambda n: torch_step(ours.Muon, n, (1, 2)),
        "steepest.adamw_step": lambda n: numpy_step(steepest.adamw_step, n, 4, step=1),
        "steepest.muon_step": lambda n: numpy_step(steepest.muon_step, n, 3),
        "steepest.grad_norm": lambda n: numpy_step(lambda x, **o: steepest.grad_norm(x, **o), n, 1),
    }


def overhead(step, library, seconds):
    """Median seconds of a call outside of the library."""

    def run():
        library.inside = 0.0
        began = time.perf_counter()
        step()
        return time.perf_counter() - began - library.inside

    samples, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples) < 20:
        samples.append(run())
    samples = sorted(samples[len(samples) // 3 :])  # the first third is warm-up
    return samples[len(samples) // 2]


def main():
    options = alternate.parse(alternate.parser(__doc__.splitlines()[0]))
    os.environ["STEEPEST_LIBRARY"] = str((options.build / "libsteepest.so.1").resolve())
    sys.path.insert(0, str(alternate.BENCH.parent / "bindings" / "python"))
    import tabulate
    import torch
    from steepest import _c

    torch.set_num_threads(1)
    library = _c.lib = TimedLibrary(_c.lib)
    facts = machine.describe()
    facts["PyTorch"], facts["Python"] = torch.__version__, sys.version.split()[0]
    rows = []
    for name, make in steps().items():
        if options.filter in name:
            one, many = (overhead(make(n), library, options.seconds) for n in (1, COUNT))
            rows.append([name, f"{one * 1e6:.1f}", f"{(many - one) / (COUNT - 1) * 1e6:.2f}"])
    machine.print_header(facts, options.markdown)
    headers = ["us outside of the library", "one tensor", f"each further one of {COUNT:,}"]
    style = "github" if options.markdown else "simple"
    print(tabulate.tabulate(rows, headers, style, disable_numparse=True))


if __name__ == "__main__":
    main()
