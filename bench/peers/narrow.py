# SPDX-License-Identifier: Apache-2.0
"""Times bitsandbytes' AdamW8bit on the CPU and steepest.torch.AdamW with 8-bit state.

"q8_dynamic" is the same state as theirs, bit for bit; "q8_companded" is another of its size.

One parameter of 16 Mi elements, optimizer.step() as a user calls it. Memory is that of the state
per element, and the largest of the process beyond parameter, gradient and state. Whole processes
alternate, each bound to as many cores as it may have threads.
"""

import dataclasses
import json
import os
import resource

import alternate

COUNT = 2**24
FORMATS = ("q8_dynamic", "q8_companded")


@dataclasses.dataclass(frozen=True)
class Case:
    dtype: str = "f32"  # of parameter and gradient
    moments: str = "q8_dynamic"  # of ours
    all_threads = True

    def name(self):
        return f"AdamW, {self.moments}, parameter {self.dtype}"


CASES = [Case(dtype, moments) for dtype in ("f32", "bf16") for moments in FORMATS]


def worker(case, side, options):
    """One side in a process of its own."""
    import torch

    # Their quantisation has threads of its own, which torch's setting does not reach.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    torch.set_num_threads(options.threads)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[case.dtype]
    draw = torch.Generator().manual_seed(1)
    values = torch.randn(2, COUNT // 16, generator=draw).to(dtype)
    param = torch.nn.Parameter(values[0].repeat(16))
    param.grad = values[1].repeat(16)
    rates = {"lr": 1e-3, "weight_decay": 1e-2}
    if side == "theirs":
        import bitsandbytes

        optimizer = bitsandbytes.optim.AdamW8bit([param], **rates)
        facts = {"build": f"bitsandbytes {bitsandbytes.__version__}, torch {torch.__version__}"}
    else:
        import steepest
        import steepest.torch

        optimizer = steepest.torch.AdamW([param], state_dtype=case.moments, **rates)
        config = steepest.get_config()
        facts = {"build": config["build"], "isa": config["isa"]}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    optimizer.step()
    values = [value for value in optimizer.state[param].values() if isinstance(value, torch.Tensor)]
    # Not the step and the tables of the codes' values, which all parameters share.
    state = sum(value.nbytes for value in values if value.numel() > 256)
    peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) - state
    facts |= {"state": state / COUNT, "beyond": max(0, peak) / COUNT}
    result = alternate.sample(optimizer.step, options.seconds, least_count=1)
    print(json.dumps(result | facts))


def main():
    options = alternate.parse(alternate.parser(__doc__.splitlines()[0]))
    library = options.build / "libsteepest.so.1"
    if options.worker:
        work, side = json.loads(options.worker)
        return worker(Case(**work), side, options)

    os.environ["STEEPEST_LIBRARY"] = str(library.resolve())
    paths = [str(alternate.BENCH.parent / "bindings" / "python"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))

    def compare(case, threads):
        return alternate.compare_workers(__file__, case, threads, options)

    def memory(result):
        sides = [result[side] for side in ("their_first", "our_first")]
        return [" / ".join(f"{s[key]:.2f}" for s in sides) for key in ("state", "beyond")]

    alternate.run(
        CASES,
        compare,
        memory,
        ["state bytes, both", "other bytes at the peak, both"],
        "AdamW8bit",
        library,
        options,
        peer="bitsandbytes",
    )


if __name__ == "__main__":
    main()
