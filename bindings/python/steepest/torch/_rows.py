# SPDX-License-Identifier: Apache-2.0
"""From torch tensors to the C structs of one call, one row per parameter.

The rows are kept between steps. Addresses are read anew in every step, for all rows at once; types,
sizes and strides are compared with what the rows say, and the rows are made anew if they changed.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from operator import attrgetter, is_
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from .. import _c
from .._structs import Structs
from . import _states as states
from . import _storage as storage
from ._storage import is_dense, same_order

DTYPES = {
    torch.float32: _c.F32,
    torch.float64: _c.F64,
    torch.bfloat16: _c.BF16,
    torch.float16: _c.F16,
}
_dtype_of = attrgetter("dtype")


try:  # compares types, sizes, strides and kinds of a list of tensors in one call, unlike Python
    from torch._C._dynamo.guards import TensorGuards
except ImportError:
    TensorGuards = None  # type: ignore[assignment, misc]


def norm_of(context: int, vectors: Structs) -> tuple[float, int]:
    """The norm of some vectors together, and the number of their elements that are not finite."""
    norm, nonfinite = ctypes.c_double(), ctypes.c_int64()
    array, references = vectors.array, (ctypes.byref(norm), ctypes.byref(nonfinite))
    _c.check(_c.lib.steepest_grad_norm(context, array, len(array), *references))
    return norm.value, nonfinite.value


class Stale(Exception):
    """A parameter or its state is no longer what the rows say."""


def same(a: list, b: list) -> bool:
    """Whether both lists hold the same objects, not only equal ones."""
    return len(a) == len(b) and all(map(is_, a, b))


def _signature(tensors: list[Tensor]) -> tuple[list, list, list]:
    """The types, sizes and strides of the tensors; no strides if all are contiguous."""
    whole = all(map(Tensor.is_contiguous, tensors))
    strides = [] if whole else list(map(Tensor.stride, tensors))
    return list(map(_dtype_of, tensors)), list(map(Tensor.numel, tensors)), strides


def _never(*tensors: Tensor) -> bool:
    return False


def _like(tensors: list[Tensor]) -> Callable[..., bool]:
    """A quick check that tensors are like these. A false result says nothing."""
    try:
        guards = TensorGuards(*tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None)
    except (TypeError, AttributeError, RuntimeError):  # private to torch: do without it
        return _never
    return guards.check


class Selection:
    """The rows whose parameters have a gradient, and what is expected of these."""

    def __init__(self, rows: Rows, active: list[int] | None) -> None:
        chosen = list(range(len(rows.params))) if active is None else active
        self.active = active
        self.chosen = chosen
        self.count = len(chosen)
        self.index = slice(None) if active is None else np.array(active)
        self.params = [rows.params[i] for i in chosen]
        self.states = [rows.states[i] for i in chosen]
        self.copies = [(k, rows.copies[i]) for k, i in enumerate(chosen) if i in rows.copies]
        self.signature = _signature(self.params)
        self.numel = np.array(self.signature[1])
        self.params_alike = _like(self.params)
        self.grads_alike: Callable[..., bool] = _never  # set by Rows.accept
        # A gradient must store its elements in the order of the buffer that is updated.
        self.targets = self.params.copy()
        for k, copy in self.copies:
            self.targets[k] = copy
        self.strides = _signature(self.targets)[2]
        self.dtypes: list = []  # of the gradients, as the rows have them
        self.addresses: list[int] = []
        self.grad_addresses: list[int] = []
        self.steps = [state["step"] for state in self.states]
        self.keys = []
        watched: dict[str, list] = {}
        for i in chosen:
            for key in rows.watched[i]:
                watched.setdefault(key, []).append(rows.states[i])
        for key, owners in watched.items():
            self.keys.append((key, owners, [state[key].data_ptr() for state in owners]))
        self.masters = [(k, i) for k, i in enumerate(chosen) if "master" in rows.watched[i]]
        self.stats = Structs(_c.StepStats, self.count)
        self.packed = None if active is None else Structs(rows.tensor_kind, self.count)


class Rows:
    """The parameters that one C function updates. Subclasses say which function, and how."""

    title = ""  # in messages
    tensor_kind: type[ctypes.Structure]
    config_kind: type[ctypes.Structure]
    fields: ClassVar[dict[str, str]]  # state key -> field of the tensor struct
    moments: tuple[str, ...] = ()  # the state keys without which a state is not of this kind
    has_snr_update = False
    unknown_steps = 0.0  # what a state without a count of its steps is taken to have

    def __init__(self, state: dict, items: list[tuple[dict, str, Tensor]]) -> None:
        count = len(items)
        self.state = state
        self.groups = [group for group, _, _ in items]
        self.names = [name for _, name, _ in items]
        self.params = [param for _, _, param in items]
        self.whole: list[Any] = self.params  # the optimizer's parameters, for which `params` stand
        self.states: list[Any] = [None] * count
        self.watched: list[list[str]] = [[]] * count  # the state tensors that the struct points to
        self.versions: dict[int, int] = {}  # of parameters with a float32 master, as we left them
        self.copies: dict[int, Tensor] = {}  # of parameters that the library cannot update in place
        self.selection: Any = None  # a Selection once any parameter has had a gradient
        self.grads: list[Tensor] = []
        self.tensors = Structs(self.tensor_kind, count)
        self.configs = Structs(self.config_kind, count)
        # All step counters are elements of one tensor, so that one addition increments them.
        double = torch.get_default_dtype() == torch.float64
        self.counters = torch.zeros(count, dtype=torch.float64 if double else torch.float32)
        self.steps = self.counters.numpy()
        self.shared = b""  # the steps for which `config` was written
        self.scale = 1.0
        # Each parameter group is a run of rows: [group, its rows, its options when last written].
        self.runs: list[list] = []
        self.group_of = np.zeros(count, np.int64)
        for i, group in enumerate(self.groups):
            if not self.runs or self.runs[-1][0] is not group:
                self.runs.append([group, slice(i, i), None])
            self.runs[-1][1] = slice(self.runs[-1][1].start, i + 1)
            self.group_of[i] = len(self.runs)

    # ---- what subclasses say

    def uses(self, key: str, group: dict) -> bool:
        return True

    def options(self, group: dict) -> tuple:
        """Everything in the group that matters, as plain values that can be compared."""
        raise NotImplementedError

    def structure(self, options: tuple) -> Any:
        """Those options on which more than the config depends."""
        return None

    def configure(self, group: dict) -> dict[str, float]:
        """Values for the fields of the group's config."""
        raise NotImplementedError

    def describe(self, i: int, buffer: Tensor) -> None:
        """Writes the sizes of row i."""
        raise NotImplementedError

    def fits(self, i: int) -> bool:
        """Whether the library can update the parameter's memory as it lies."""
        return is_dense(self.params[i])

    def call(self, context: int, tensors: Any, count: int, stats: Any) -> int:
        raise NotImplementedError

    def beta(self, group: dict) -> float:
        """The decay of the first moment."""
        raise NotImplementedError

    # ---- making a row

    def refuse(self, i: int, what: str, error: type[Exception] = RuntimeError) -> NoReturn:
        raise error(f"{self.title} does not support {what}: {self.names[i]}")

    def check(self, i: int) -> None:
        """Refuses what the library cannot read."""
        param = self.params[i]
        for tensor, role in ((param, "parameters"), (param.grad, "gradients")):
            if tensor is None:
                continue
            if tensor.is_complex():
                self.refuse(i, f"complex {role}")
            if tensor.layout is not torch.strided:
                sparse = "sparse" in str(tensor.layout)
                self.refuse(i, f"{'sparse' if sparse else tensor.layout} {role}")
            if not tensor.is_cpu:
                self.refuse(i, f"{role} on {tensor.device} (only on the CPU)")
            if tensor.dtype not in DTYPES:
                self.refuse(i, f"{role} of type {tensor.dtype}", TypeError)
            if tensor.shape != param.shape:
                self.refuse(i, f"gradients of another shape, {tuple(tensor.shape)}", ValueError)
            if tensor.numel() and not tensor.data_ptr():
                self.refuse(i, f"{role} of type {type(tensor).__name__}, without their own memory")

    def prepare(self, i: int) -> None:
        """The state and the struct of row i, whose parameter has a gradient."""
        self.check(i)
        param, group, columns = self.params[i], self.groups[i], self.tensors.columns
        buffer = param.detach()
        if not self.fits(i):
            buffer = self.copies[i] = torch.empty(param.shape, dtype=param.dtype)
        state = self.states[i] = self.state[param]
        self.steps[i] = float(state.get("step", self.unknown_steps if state else 0.0))
        state["step"] = self.counters[i]
        columns["param_dtype"][i] = DTYPES[param.dtype]
        self.watched[i] = []
        try:
            states.check_state("its state", state, param.shape, param.dtype)
            for key, field in self.fields.items():
                if self.uses(key, group):
                    self.place(i, key, field, buffer)
            self.place_master(i, buffer)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self.title}: {self.names[i]}: {error}") from None
        self.describe(i, buffer)

    def place(self, i: int, key: str, field: str, buffer: Tensor) -> None:
        """Writes one moment's addresses and type into row i."""
        state, columns = self.states[i], self.tensors.columns
        name = states.settle_moment(state, self.groups[i], key, buffer)
        self.watched[i].append(key)
        columns[field][i] = state[key].data_ptr()
        if f"{field}_dtype" in columns:
            dtype = storage.Q8[name] if name else DTYPES[state[key].dtype]
            columns[f"{field}_dtype"][i] = dtype
        if name:
            self.watched[i].append(f"{key}_scales")
            columns[f"{field}_scales"][i] = state[f"{key}_scales"].data_ptr()

    def place_master(self, i: int, buffer: Tensor) -> None:
        """Writes what keeps the bits beyond a 16-bit parameter's own into row i."""
        state, columns = self.states[i], self.tensors.columns
        kind = states.settle_master(state, self.groups[i], self.params[i], buffer)
        if not kind:
            return
        key = storage.master_key(kind)
        self.watched[i].append(key)
        if kind == "f32":
            columns["param_dtype"][i] = _c.F32
            columns["param_copy_dtype"][i] = DTYPES[buffer.dtype]
        else:
            columns["residual"][i] = state[key].data_ptr()
            columns["residual_kind"][i] = storage.RESIDUALS[kind][0]

    # ---- one step

    def gather(self) -> bool:
        """Brings the rows up to date. False: no parameter has a gradient."""
        grads = [grad for param in self.params if (grad := param.grad) is not None]
        self.grads = grads
        if not grads:
            return False
        active = None
        if len(grads) < len(self.params):
            active = [i for i, param in enumerate(self.params) if param.grad is not None]
        chosen = self.selection
        if chosen is None or chosen.active != active:
            for i in active or range(len(self.params)):
                if self.states[i] is None:
                    self.prepare(i)
            chosen = self.selection = Selection(self, active)
        try:
            self.refresh(chosen, grads)
        except (RuntimeError, TypeError, KeyError):  # sparse, say: the cause has a better message
            for i in chosen.chosen:
                self.check(i)
            raise
        return True

    def refresh(self, chosen: Selection, grads: list[Tensor]) -> None:
        columns, index = self.tensors.columns, chosen.index
        params = chosen.params
        if not chosen.params_alike(*params) and _signature(params) != chosen.signature:
            raise Stale
        if self.moved(chosen):
            raise Stale
        addresses = list(map(Tensor.data_ptr, params))
        for k, copy in chosen.copies:
            copy.copy_(params[k].detach())
            addresses[k] = copy.data_ptr()
        if addresses != chosen.addresses:
            columns["param"][index] = chosen.addresses = addresses
            for (
                k,
                i,
            ) in chosen.masters:  # the step computes with these, and writes the parameter too
                columns["param_copy"][i] = addresses[k]
                columns["param"][i] = self.states[i]["master"].data_ptr()
        for k, i in chosen.masters:
            if self.versions.get(i) != params[k]._version:
                target = self.copies[i] if i in self.copies else params[k].detach()
                storage.reconcile(target, self.states[i]["master"])
        if not chosen.grads_alike(*grads):
            self.accept(chosen, grads)
        addresses = list(map(Tensor.data_ptr, grads))
        if addresses != chosen.grad_addresses:
            columns["grad"][index] = chosen.grad_addresses = addresses

    def moved(self, chosen: Selection) -> bool:
        """Whether state tensors were exchanged."""
        try:
            moved = not same([state["step"] for state in chosen.states], chosen.steps)
            for key, states, addresses in chosen.keys:
                tensors = [state[key] for state in states]
                moved = moved or list(map(Tensor.data_ptr, tensors)) != addresses
        except KeyError:
            moved = True
        return moved

    def accept(self, chosen: Selection, grads: list[Tensor]) -> None:
        """Checks gradients that are not all like those of the step before."""
        dtypes, sizes, strides = _signature(grads)
        if sizes != chosen.signature[1]:
            raise Stale
        if dtypes != chosen.dtypes:
            self.tensors.columns["grad_dtype"][chosen.index] = [DTYPES[dtype] for dtype in dtypes]
            chosen.dtypes = dtypes
        ordered = strides == chosen.strides and not any(map(Tensor.is_neg, grads))
        for k, (grad, target) in enumerate(zip(grads, chosen.targets) if not ordered else ()):
            if grad.is_neg() or not same_order(grad, target):
                copy = torch.empty_like(target.detach(), dtype=grad.dtype)
                grads[k] = copy.copy_(grad.detach())
        chosen.grads_alike = _like(grads) if ordered else _never

    def write_configs(self, scale: float) -> None:
        columns = self.configs.columns
        for run in self.runs:
            group, rows, written = run
            options = self.options(group)
            if options != written:
                if written and self.structure(written) != self.structure(options):
                    raise Stale
                for field, value in self.configure(group).items():
                    columns[field][rows] = value
                run[2] = options
        if scale != self.scale:
            columns["grad_scale"].fill(scale)
            self.scale = scale
        columns["step"][:] = self.steps
        columns["step"] += 1
        if self.steps.tobytes() != self.shared:
            # Neighbours of one group at the same step share a config, which is prepared once.
            steps, groups = self.steps, self.group_of
            alike = np.zeros(len(steps), bool)
            alike[1:] = (steps[1:] == steps[:-1]) & (groups[1:] == groups[:-1])
            owner = np.maximum.accumulate(np.where(alike, 0, np.arange(len(steps))))
            self.tensors.columns["config"][:] = self.configs.addresses[owner]
            self.shared = steps.tobytes()

    def run(self, context: int, stats: bool) -> None:
        """One step of the parameters that `gather` has found."""
        chosen = self.selection
        array = self.tensors.array
        if chosen.packed is not None:
            chosen.packed.records[:] = self.tensors.records[chosen.index]
            array = chosen.packed.array
        status = self.call(context, array, chosen.count, chosen.stats.array if stats else None)
        if status == _c.E_NONFINITE or status == _c.E_NOT_CONVERGED:
            done = chosen.stats.columns["status"] == 0
        elif status != _c.OK:
            self.explain(status)
        for k, copy in chosen.copies:
            chosen.params[k].detach().copy_(copy)
        increment_version(chosen.params)
        for k, i in chosen.masters:
            self.versions[i] = chosen.params[k]._version
        if status == _c.OK:
            self.steps[chosen.index] += 1
            if chosen.active is None:
                self.shared = self.steps.tobytes()
            return
        rows = np.array(chosen.chosen)
        self.steps[rows[done]] += 1
        names = ", ".join(self.names[i] for i in rows[~done])
        self.explain(status, f" in {names}: left as it was, the others are done")

    def explain(self, status: int, text: str = "") -> None:
        """Raises the library's error with the names of the parameters."""
        try:
            _c.check(status)
        except _c.SteepestError as error:
            names, chosen = self.names, self.selection.chosen
            found = re.findall(r"tensors\[(\d+)\]", str(error))
            which = [f"tensors[{k}] is {names[chosen[int(k)]]}" for k in dict.fromkeys(found)]
            raise type(error)(str(error) + text + "".join(f"; {each}" for each in which)) from None
