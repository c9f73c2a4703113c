# SPDX-License-Identifier: Apache-2.0
"""Times torch.optim.Muon and ours on the hidden matrices of GPT-2 124M.

PyTorch's Newton-Schulz iteration runs in bf16, as it does there, or in f32; our msign is the
default method, with f32 or bf16 products. The errors are those of msign, on the Gaussian gradients
of one layer: ||O - U V^T||_F / ||U V^T||_F. Whole processes alternate; "in one process" has both
sides in one, where their threads may disturb each other.
"""

import ctypes
import dataclasses
import json
import sys
import time

import alternate

from msign import newton_schulz

LAYERS = 12
SHAPES = [(2304, 768), (768, 768), (3072, 768), (768, 3072)]  # out x in, of one layer


@dataclasses.dataclass(frozen=True)
class Case:
    ours: str  # products in f32 or bf16
    theirs: str  # the whole iteration in f32 or bf16
    one_process: bool = False
    all_threads: bool = True  # also with every core

    def name(self):
        return f"{self.ours} / {self.theirs}" + (" in one process" if self.one_process else "")


CASES = [Case("f32", "bf16"), Case("bf16", "bf16"), Case("f32", "f32", all_threads=False)]
CASES += [Case("bf16", "bf16", one_process=True)]


def exact_sign(x):
    """(X X^T)^-1/2 X in double, much faster than by the singular value decomposition."""
    import torch

    x = x.double()
    if x.size(0) > x.size(1):
        return exact_sign(x.T).T
    values, vectors = torch.linalg.eigh(x @ x.T)
    return (vectors * values.rsqrt()) @ (vectors.T @ x)


def torch_step(dtype):
    """optimizer.step of the model, and the error of its msign."""
    import torch

    if dtype == "f32":
        torch.optim._muon._zeropower_via_newtonschulz = lambda grad, *_: newton_schulz(
            grad, torch.float32
        )
    draw = torch.Generator().manual_seed(1)
    params = [torch.nn.Parameter(torch.zeros(shape)) for _ in range(LAYERS) for shape in SHAPES]
    for param in params:
        param.grad = torch.randn(param.shape, generator=draw)
    optimizer = torch.optim.Muon(params, lr=1e-3, weight_decay=1e-2)

    def error():
        difference = total = 0.0
        for param in params[: len(SHAPES)]:
            sign = torch.optim._muon._zeropower_via_newtonschulz(
                param.grad, (3.4445, -4.7750, 2.0315), 5, 1e-7
            )
            exact = exact_sign(param.grad)
            difference += (sign.double() - exact).square().sum().item()
            total += exact.square().sum().item()
        return (difference / total) ** 0.5

    return params, optimizer.step, error


# The structs of steepest.h: a letter is the type of the fields after it.
TYPES = {
    "Z": ctypes.c_size_t,
    "U": ctypes.c_uint64,
    "I": ctypes.c_int64,
    "W": ctypes.c_int32,
    "D": ctypes.c_double,
    "P": ctypes.c_void_p,
}
FIELDS = {
    "msign_config": """Z struct_size U flags W method steps coefficients normalization
        P custom_coefficients D lower_bound norm_bound rank_tolerance W compute_dtype reserved
        I custom_count P restarts I restart_count""",
    "muon_config": """Z struct_size U flags D lr momentum weight_decay scale_value grad_scale I step
        U seed W momentum_kind scale_mode P msign skipped""",
    "muon_tensor": """Z struct_size I rows cols param_ld grad_ld momentum_ld delta_ld fan_out fan_in
        P param grad momentum delta W param_dtype grad_dtype momentum_dtype delta_dtype P blocks
        I block_count W block_axis reserved P config""",
    "context_options": "Z struct_size U flags W num_threads max_isa P executor allocator",
}
BF16 = 3


def initialized(library, name, count=1):
    """An array of structs as steepest_<name>_init leaves them."""
    fields, kind = [], None
    for word in FIELDS[name].split():
        if word in TYPES:
            kind = TYPES[word]
        else:
            fields.append((word, kind))
    structs = (type(name, (ctypes.Structure,), {"_fields_": fields}) * count)()
    for each in structs:
        initialize = getattr(library, f"steepest_{name}_init")
        assert initialize(ctypes.byref(each), ctypes.c_size_t(ctypes.sizeof(each))) == 0
    return structs


def our_step(library, products, threads, params):
    """The same step of the library on parameters like these."""
    import torch

    library.steepest_build_info.restype = ctypes.c_char_p
    library.steepest_isa_name.restype = ctypes.c_char_p
    options = initialized(library, "context_options")
    options[0].num_threads = threads
    context = ctypes.c_void_p()
    assert library.steepest_context_create(options, ctypes.byref(context)) == 0
    msign = initialized(library, "msign_config")
    msign[0].compute_dtype = BF16 if products == "bf16" else 0
    config = initialized(library, "muon_config")
    config[0].msign = ctypes.addressof(msign)
    tensors = initialized(library, "muon_tensor", len(params))
    arrays = []
    for tensor, param in zip(tensors, params):
        tensor.rows, tensor.cols = param.shape
        weights, momentum = torch.zeros(param.shape), torch.zeros(param.shape)
        tensor.param, tensor.momentum = weights.data_ptr(), momentum.data_ptr()
        tensor.grad = param.grad.data_ptr()
        arrays += [weights, momentum]

    def step(alive=(msign, arrays)):
        count = ctypes.c_int64(len(params))
        assert library.steepest_muon_step(context, config, tensors, count, None, None) == 0
        config[0].step += 1

    facts = {
        "isa": library.steepest_isa_name(library.steepest_context_isa(context)).decode(),
        "build": library.steepest_build_info().decode(),
    }
    return step, facts


def seconds_for(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def worker(case, threads, options):
    """PyTorch's side, in a process of its own; or both sides."""
    import torch

    torch.set_num_threads(threads)
    params, step, error = torch_step(case.theirs)
    theirs = {"threads": torch.get_num_threads(), "build": torch.__version__, "error": error()}
    if not case.one_process:
        result = alternate.sample(step, options.seconds, least_count=1)
        return print(json.dumps(result | theirs))
    library = ctypes.CDLL(str(options.build / "libsteepest.so.1"))
    ours, facts = our_step(library, case.ours, threads, params)
    step()
    ours()
    times = [[seconds_for(step), seconds_for(ours)] for _ in range(options.rounds)]
    print(json.dumps({"times": times, "theirs": theirs, "ours": facts | {"error": None}}))


def torch_command(case, threads, options):
    work = json.dumps(dataclasses.asdict(case))
    command = [sys.executable, __file__, "--worker", work, "--threads", str(threads)]
    command += [f"--seconds={options.seconds}", f"--rounds={options.rounds}"]
    return command + [f"--build={options.build}"]


def our_program(options):
    return options.build / "bench" / "muon_process"


def compare(case, threads, options):
    theirs = torch_command(case, threads, options)
    if case.one_process:
        result = alternate.measure(theirs, options)
        return alternate.compared(*zip(*result["times"]), result["theirs"], result["ours"])
    ours = [str(our_program(options)), "--compute", case.ours]
    ours += ["--threads", str(threads), "--seconds", str(options.seconds)]
    return alternate.compare(theirs, ours, options)


def main():
    options = alternate.parse(alternate.parser(__doc__.splitlines()[0]))
    if options.worker:
        return worker(Case(**json.loads(options.worker)), options.threads, options)

    def errors(result):
        shown = (result[side]["error"] for side in ("their_first", "our_first"))
        return ["" if error is None else f"{error:.1e}" for error in shown]

    headers = ["PyTorch's error", "Steepest's error"]
    alternate.run(
        CASES,
        lambda case, threads: compare(case, threads, options),
        errors,
        headers,
        "optim.Muon; a case is our products / its iteration",
        our_program(options),
        options,
    )


if __name__ == "__main__":
    main()
