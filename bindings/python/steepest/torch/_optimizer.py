# SPDX-License-Identifier: Apache-2.0
"""What the optimizers share: the step, checkpoints, clipping and statistics."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from .. import _c
from .._structs import Structs
from . import _states as states
from . import _storage as storage
from ._bitsandbytes import translated
from ._rows import Rows, Stale, norm_of, same


class Optimizer(torch.optim.Optimizer):
    """Three attributes of every optimizer here, also arguments of its constructor:

    max_grad_norm: clip the gradients to this norm over all parameters, as
        torch.nn.utils.clip_grad_norm_ would, but as a factor within the step. The gradients
        themselves are not modified.
    skip_nonfinite: skip a step if any gradient has a NaN or infinity; `skipped` tells.
    track_stats: let `stats()` have figures on the latest step.

    The number of threads is torch.get_num_threads() at each step.
    """

    _step_supports_amp_scaling = True  # GradScaler sets grad_scale and found_inf, and calls step()
    _extra: ClassVar[dict[str, Any]] = {}  # options beyond torch's, and their defaults
    _own = ("max_grad_norm", "skip_nonfinite", "track_stats")
    _kinds: ClassVar[tuple[type[Rows], ...]] = ()
    _tables: list[Rows] | None = None
    process_group: Any = None  # of ranks that share the matrices: see Muon
    _plan: Any = None  # of _distributed, where ranks share matrices
    _shared = False  # whether the rows hold less than the parameters
    _items: list[tuple[dict, str, Tensor]]
    _whole: tuple[int, dict] | None = None  # a rank, and on it the state of all ranks
    _seen_groups: list[dict]
    _seen_params: list[Tensor]
    _seen_states: list[Any]
    _norms: Structs | None = None
    _clip = 1.0
    grad_norm: float | None = None  # of all gradients, before clipping, where it was computed
    skipped = False  # whether the latest step was skipped

    def _rows_for(self, group: dict) -> type[Rows]:
        raise NotImplementedError

    # ---- construction, copies and checkpoints

    def _set_up(self, max_grad_norm: float | None, skip_nonfinite: bool, stats: bool) -> None:
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be positive, or None: {max_grad_norm}")
        self.max_grad_norm = max_grad_norm
        self.skip_nonfinite = skip_nonfinite
        self.track_stats = stats

    def _extend(self, **options: Any) -> None:
        """Adds options that the base class's constructor does not know."""
        self.defaults.update(options)
        for group in self.param_groups:
            for key, value in options.items():
                group.setdefault(key, value)
            self._check_group(group)
            self._check_parts(group)

    def _check_group(self, group: dict) -> None:
        if group.get("capturable"):
            raise ValueError("capturable=True is for graphs on an accelerator, not for the CPU")
        if group.get("differentiable"):
            raise ValueError("differentiable=True: the step is not differentiable")

    def add_param_group(self, param_group: dict) -> None:
        super().add_param_group(param_group)
        self._tables = None
        try:
            self._check_group(self.param_groups[-1])
            self._check_parts(self.param_groups[-1])
        except ValueError:
            del self.param_groups[-1]
            raise

    def _check_parts(self, group: dict, formats: dict | None = None) -> None:
        """Refuses what DTensors cannot have."""
        if any(type(p) not in (Tensor, Parameter) for p in group["params"]):
            from ._dtensor import check_parts

            check_parts(group, self._rows_for(group), formats)

    def __getstate__(self) -> dict[str, Any]:
        if self.process_group is not None:
            raise TypeError(
                "an optimizer with a process_group cannot be copied; its state_dict can"
            )
        return {**super().__getstate__(), **{name: getattr(self, name) for name in self._own}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        old = self.__dict__.get("param_groups", [{}] * len(state["param_groups"]))
        super().__setstate__(state)
        self._tables = None
        # A checkpoint of torch's optimizer lacks our options: they stay what they were.
        for group, before in zip(self.param_groups, old):
            for key, default in self._extra.items():
                group.setdefault(key, before.get(key, self.defaults.get(key, default)))

    def load_state_dict(self, state_dict: dict) -> None:
        """As in torch, and from other kinds of storage: see `AdamW`.

        Nothing is changed if the dictionary does not fit: ValueError then says what is wrong.
        """
        ready: dict[Tensor, dict] = {}
        hook = self.register_load_state_dict_pre_hook(lambda _, given: self._read(given, ready))
        try:
            super().load_state_dict(state_dict)
        finally:
            hook.remove()
        for param, entry in ready.items():
            self.state[param].update(entry)
        if (plan := self._planned()) is not None:
            plan.keep_own()

    def _read(self, given: dict, ready: dict[Tensor, dict]) -> dict:
        """Puts the states that torch would spoil into `ready`. Returns what is left for torch."""
        for key in ("state", "param_groups"):
            if not isinstance(given.get(key), (dict, list)):
                states.refuse("this is no state dict of an optimizer", f"it has no {key!r}")
        given = translated(given)
        groups, state = [], dict(given["state"])
        for place, (group, saved) in enumerate(zip(self.param_groups, given["param_groups"])):
            # How state is stored is this optimizer's own choice, if it has made one.
            chosen = {key: group[key] for key in ("state_dtype", "master") if group.get(key)}
            groups.append({**saved, **chosen})
            storing = {**group, **groups[-1]}
            storage.check_options(storing, tuple(k for kind in self._kinds for k in kind.moments))
            for i, (param, number) in enumerate(zip(group["params"], saved["params"])):
                where = f"state_dict['state'][{number!r}], for param_groups[{place}]['params'][{i}]"
                entry = state.get(number, {})
                self._check_state(where, entry, param)
                if not entry:
                    continue
                one = {**storing, "params": [param], "param_names": [where]}
                self._check_parts(one, entry.get("format"))
                if "format" in entry or storing["state_dtype"]:
                    try:
                        ready[param] = self._converted(entry, storing, param)
                    except TypeError as error:
                        raise TypeError(f"{where}: {error}") from None
                    left = {k: v for k, v in entry.items() if k not in ready[param]}
                    state[number] = {k: v for k, v in left.items() if k not in states.KEYS}
        groups += given["param_groups"][len(groups) :]
        return {**given, "state": state, "param_groups": groups}

    @staticmethod
    def _converted(entry: dict, group: dict, param: Tensor) -> dict:
        if type(param) in (Tensor, Parameter):
            return states.converted(entry, group, param)
        from ._dtensor import converted

        return converted(entry, group, param)

    def _check_state(self, where: str, entry: Any, param: Tensor) -> None:
        if not isinstance(entry, dict):
            states.refuse(where, f"it is {type(entry).__name__}, not a dictionary")
        tensors = {k for k, v in entry.items() if isinstance(v, Tensor)} - {"step"}
        kinds = [rows.moments for rows in self._kinds]
        if tensors and not any(tensors >= set(kind) for kind in kinds):
            wanted = " or ".join(" and ".join(kind) for kind in kinds)
            found = ", ".join(sorted(tensors))
            states.refuse(where, f"it has {found}, but needs {wanted}: is it of another optimizer?")
        if entry and "step" not in entry and all("exp_avg" in kind for kind in kinds):
            states.refuse(where, "step is missing")
        states.check_state(where, entry, param.shape, param.dtype)

    def master(self, param: Tensor) -> Tensor:
        """The float32 value of a parameter, with what its master keeps beyond the parameter's own
        bits; without a master, the parameter as float32. A copy.

        Where ranks share matrices: of a 16-bit one on the rank that computes it, or after
        `consolidate_state_dict` on the rank that has the state; on the others RuntimeError.
        """
        state = self.state.get(param, {})
        plan = self._planned() if param.dtype in storage.NARROW else None
        if plan is not None and not plan.has(param):
            if self._whole is None or self._whole[0] not in (None, plan.team.me):
                raise RuntimeError(
                    "the master of this parameter is on another rank: call consolidate_state_dict()"
                )
            state = self._whole[1].get(param, {})
        kind = state.get("format", {}).get("param")
        if kind is None:
            return param.detach().to(torch.float32, copy=True)
        residual = state[storage.master_key(kind)]
        if type(param) in (Tensor, Parameter):
            return storage.join(kind, param, residual)
        from ._dtensor import master_of

        return master_of(kind, param, residual)

    def state_dict(self) -> dict[str, Any]:
        """As in torch. Where ranks share matrices: of all of them, called by all of them."""
        if (plan := self._planned()) is None:
            return super().state_dict()
        if self._whole is None:
            whole = plan.whole_state(None)
        elif self._whole[0] in (None, plan.team.me):
            whole = self._whole[1]
        else:
            raise RuntimeError(
                f"the state was consolidated to rank {self._whole[0]}: this is rank {plan.team.me}"
            )
        own, self.state = self.state, whole
        try:
            return super().state_dict()
        finally:
            self.state = own

    def consolidate_state_dict(self, to: int | None = 0) -> None:
        """Collects the state of all ranks on rank `to` of the process group, or on all if None.

        Called by all ranks. Until the next step `state_dict()` there needs no other rank, and on
        the others is an error. As in torch's ZeroRedundancyOptimizer.
        """
        if (plan := self._planned()) is not None:
            self._whole = (to, plan.whole_state(to))

    def _planned(self) -> Any:
        """The plan of the ranks that share matrices, or None."""
        params = chain.from_iterable([group["params"] for group in self.param_groups])
        if self.process_group is None and all(type(p) in (Tensor, Parameter) for p in params):
            return None
        self._current_tables()
        return self._plan

    # ---- the step

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all parameters that have a gradient.

        An attribute `grad_scale`, a number or tensor, divides the gradients; a non-zero `found_inf`
        skips the step. torch.amp.GradScaler sets both.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        found_inf = getattr(self, "found_inf", None)
        self.skipped = found_inf is not None and bool(found_inf)
        self._whole = None
        if not self.skipped:
            self._update()
        elif self._planned() is not None:
            self._plan.agree(None, skip=True)
        return loss

    @torch._disable_dynamo
    def _update(self) -> None:
        try:
            self._attempt()
        except Stale:
            self._tables = None
            self._attempt()

    def _attempt(self) -> None:
        tables = self._gather()
        if self._plan is not None and self._plan.agree(None):
            self.skipped = True
        elif tables or self._plan is not None:
            self._run(tables)

    def _gather(self) -> list[Rows]:
        """The rows of each kind, brought up to date, where any parameter has a gradient."""
        try:
            tables = [table for table in self._current_tables() if table.gather()]
            if self._plan is not None:
                self._plan.gather(tables)
        except Exception as error:
            plan, self._tables = self._plan, None  # perhaps half made
            if plan is not None and not isinstance(error, Stale):
                plan.agree(error)
            raise
        self._seen_states = list(self.state.values())
        return tables

    def _run(self, tables: list[Rows]) -> None:
        context = _c.context(torch.get_num_threads())
        grad_scale = getattr(self, "grad_scale", None)
        scale = 1.0 if grad_scale is None else 1.0 / float(grad_scale)
        self.grad_norm, self._clip = None, 1.0
        if self.max_grad_norm is not None or self.skip_nonfinite:
            norm, nonfinite = self._measure(context, tables)
            self.grad_norm = norm * scale
            if nonfinite and self.skip_nonfinite:
                self.skipped = True
                return
            if self.max_grad_norm is not None:
                if nonfinite:
                    raise FloatingPointError(
                        f"{nonfinite} elements of the gradients are not finite, so they cannot be "
                        "clipped; nothing was updated. skip_nonfinite=True skips such steps."
                    )
                self._clip = min(1.0, self.max_grad_norm / (self.grad_norm + 1e-6))
        scale *= self._clip
        for table in tables:
            table.write_configs(scale)
        if self._plan is not None:
            self._plan.run(context, scale, self.track_stats, tables)
            return
        for table in tables:
            table.run(context, self.track_stats)
            table.grads = []  # torch frees them with zero_grad()

    def _current_tables(self) -> list[Rows]:
        """The rows of each kind, new ones if parameters, groups or states were exchanged."""
        groups = self.param_groups
        params = list(chain.from_iterable([group["params"] for group in groups]))
        if (
            self._tables is not None
            and same(groups, self._seen_groups)
            and same(params, self._seen_params)
            and same(list(self.state.values()), self._seen_states)
        ):
            return self._tables
        items: dict[type[Rows], list] = {}
        seen = set()
        for number, group in enumerate(groups):
            names = group.get("param_names")
            for i, param in enumerate(group["params"]):
                if id(param) in seen:  # a tied weight that was given twice
                    continue
                seen.add(id(param))
                where = f"param_groups[{number}]['params'][{i}], shape {tuple(param.shape)}"
                name = names[i] if names else where
                items.setdefault(self._rows_for(group), []).append((group, name, param))
        self._tables = self._make_tables(items)
        places = {id(param): place for place, param in reversed(list(enumerate(params)))}
        shared = self._plan.tables if self._plan is not None else []
        for table in self._tables + shared:  # a parameter's random numbers are those of its place
            streams = [places[id(param)] for param in table.whole]
            table.tensors.columns["random_stream"][:] = streams
        self._seen_groups, self._seen_params = list(groups), params
        self._seen_states = list(self.state.values())
        return self._tables

    def _make_tables(self, items: dict[type[Rows], list]) -> list[Rows]:
        self._items = list(chain.from_iterable(items.values()))
        self._shared = self.process_group is not None
        if not self._shared and all(type(p) in (Tensor, Parameter) for _, _, p in self._items):
            self._plan = None
            return [kind(self.state, rows) for kind, rows in items.items()]
        from ._distributed import make_tables

        tables, self._plan, self._shared = make_tables(self, items)
        return tables

    def _measure(self, context: int, tables: list[Rows]) -> tuple[float, int]:
        """The norm of all gradients and the number of their elements that are not finite."""
        if self._shared:
            from ._distributed import measure

            return measure(context, self._items, self._plan)
        count = sum(table.selection.count for table in tables)
        if self._norms is None or len(self._norms.array) != count:
            self._norms = Structs(_c.Vector, count)
        columns = self._norms.columns
        for field, of in (("data", "grad"), ("dtype", "grad_dtype")):
            parts = [table.tensors.columns[of][table.selection.index] for table in tables]
            columns[field][:] = np.concatenate(parts)
        columns["count"][:] = np.concatenate([table.selection.numel for table in tables])
        return norm_of(context, self._norms)

    # ---- statistics

    def stats(self) -> dict[str, Any]:
        """What the latest step did, if `track_stats` is set (before the step).

        {"grad_norm": of all gradients, "groups": [figures of each parameter group],
         "params": {name: figures}}, where figures are
        update_rms    RMS of the update before lr and decay; about 0.2 in healthy training
        grad_norm     norm of the gradient, unscaled, before clipping
        momentum_rms  RMS of the bias-corrected first moment
        param_rms     RMS of the parameters before the step
        snr_update    the gradient's signal-to-noise ratio estimated from update_rms (Muon: NaN)
        snr_momentum  the same estimated from the RMS of momentum and gradient
        nonfinite     elements of the gradient that are NaN or infinite
        Where several ranks share the work, of what this one did, and for DTensors of its part.
        """
        if not self.track_stats:
            raise RuntimeError("set track_stats = True, and take a step, before calling stats()")
        groups: list[dict] = [{} for _ in self.param_groups]
        params: dict[str, dict] = {}
        total = 0.0
        shared = self._plan.tables if self._plan is not None else []
        for table in (self._tables or []) + shared:
            if table.selection is None:
                continue
            stats, numel = table.selection.stats.columns, table.selection.numel
            steps = table.steps[table.selection.index]
            square = {
                name: stats[name] ** 2 * numel
                for name in ("update_rms", "grad_rms", "momentum_rms", "param_rms")
            }
            owners = [table.groups[i] for i in table.selection.chosen]
            for number, group in enumerate(self.param_groups):
                rows = [k for k, owner in enumerate(owners) if owner is group]
                if rows:
                    groups[number] = self._figures(table, group, rows, square, stats, steps)
            for k, i in enumerate(table.selection.chosen):
                figures = self._figures(table, owners[k], [k], square, stats, steps)
                params[table.names[i]] = figures
                total += figures["grad_norm"] ** 2
        return {"grad_norm": math.sqrt(total), "groups": groups, "params": params}

    def _figures(
        self, table: Rows, group: dict, rows: list, square: dict, stats: dict, steps: Any
    ) -> dict[str, Any]:
        count = max(1, int(table.selection.numel[rows].sum()))
        mean = {name: float(column[rows].sum()) / count for name, column in square.items()}
        step, beta = float(steps[rows[0]]), table.beta(group)
        noise = (1 - beta) * (1 + beta**step) / ((1 + beta) * (1 - beta**step))

        def snr(share: float) -> float:
            return (share - noise) / (1 - share) if step > 1 and share < 1 else math.nan

        quotient = mean["momentum_rms"] / mean["grad_rms"] if mean["grad_rms"] else math.nan
        return {
            "update_rms": math.sqrt(mean["update_rms"]),
            "grad_norm": math.sqrt(mean["grad_rms"] * count) / self._clip,
            "momentum_rms": math.sqrt(mean["momentum_rms"]),
            "param_rms": math.sqrt(mean["param_rms"]),
            "snr_update": snr(mean["update_rms"]) if table.has_snr_update else math.nan,
            "snr_momentum": snr(quotient),
            "nonfinite": int(stats["nonfinite"][rows].sum()),
        }
