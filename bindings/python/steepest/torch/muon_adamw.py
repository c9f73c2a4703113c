# SPDX-License-Identifier: Apache-2.0
"""Muon for hidden matrices and AdamW for the rest, in one optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from torch import Tensor, nn

from . import _storage as storage
from ._optimizer import Optimizer
from ._rows import Rows
from .adamw import AdamWRows
from .muon import KELLER, NS_STEPS, OURS, MuonRows, check_options

HEADS = {"lm_head", "head", "heads", "classifier", "score", "embed_out", "output", "out_head", "fc"}
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _is_embedding(path: str, module: nn.Module) -> bool:
    return isinstance(module, (nn.Embedding, nn.EmbeddingBag)) or "Embedding" in _kind(module)


def _kind(module: nn.Module) -> str:
    return type(module).__name__


def _heads(model: nn.Module) -> set[int]:
    """The ids of the modules that are output heads: by name, or else the last linear one."""
    named = set()
    for path, module in model.named_modules():
        *outer, own = path.split(".")
        if own in HEADS and not any(part.isdigit() for part in outer):  # "blocks.0.mlp.fc" is none
            named.add(id(module))
    output: Any = getattr(model, "get_output_embeddings", None)
    if callable(output):
        named.add(id(output()))
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if linear and not any(id(module) in named for module in linear):
        named.add(id(linear[-1]))
    return named


def _is_hidden(module: nn.Module, name: str, param: Tensor) -> bool:
    """Whether a module's own parameter is a hidden matrix, as far as shape and module tell."""
    if param.ndim < 2 or min(param.shape) == 1 and param.ndim == 2:
        return False
    if "Norm" in _kind(module) or "embed" in name.lower() or "token" in name.lower():
        return False
    if param.ndim > 2:
        return isinstance(module, CONVOLUTIONS) and module.groups == 1
    return True


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def split_parameters(
    model: nn.Module,
    *,
    muon: str | Iterable[str] = (),
    adamw: str | Iterable[str] = (),
    blocks: Mapping[str, int | Sequence[int]] | None = None,
    decay_vectors: bool = True,
) -> list[dict[str, Any]]:
    """Parameter groups for `MuonAdamW`: hidden matrices with use_muon=True, the rest without.

    Each parameter that requires a gradient is taken once, tied or not. To AdamW go parameters with
    fewer than two dimensions, embeddings, norms, kernels of transposed and of grouped convolutions,
    and the output head: modules called "lm_head", "head", "classifier" and the like outside of
    numbered blocks, what get_output_embeddings() returns, or, if there is neither, the last
    nn.Linear. A tied weight goes to AdamW if one of its places does. The rest goes to Muon.

    muon, adamw: names or patterns ("*.router.weight") that decide otherwise.
    blocks: patterns of fused weights and their blocks, {"*.qkv.weight": 3, "*.gate_up.weight": 2}:
        see `Muon`. Each pattern makes a group of its own.
    decay_vectors: False gives norms and biases a group with weight_decay 0.
    """
    muon = [muon] if isinstance(muon, str) else list(muon)
    adamw = [adamw] if isinstance(adamw, str) else list(adamw)
    blocks = dict(blocks or {})
    heads = _heads(model)
    names: dict[int, str] = {}
    params: dict[int, Tensor] = {}
    hidden: dict[int, bool] = {}
    aliases: dict[int, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for own, param in module.named_parameters(recurse=False, remove_duplicate=False):
            if not param.requires_grad:
                continue
            name = f"{path}.{own}" if path else own
            key = id(param)
            names.setdefault(key, name)
            params[key] = param
            aliases.setdefault(key, []).append(name)
            outer = id(module) in heads or _is_embedding(path, module)
            fits = not outer and _is_hidden(module, own, param)
            hidden[key] = hidden.get(key, True) and fits

    groups: dict[Any, dict[str, Any]] = {}
    unused = {*muon, *adamw, *blocks}
    for key, param in params.items():
        used = {pattern for pattern in unused if any(fnmatchcase(a, pattern) for a in aliases[key])}
        unused -= used
        name = names[key]
        wanted = any(_matches(alias, muon) for alias in aliases[key])
        refused = any(_matches(alias, adamw) for alias in aliases[key])
        if wanted and refused:
            raise ValueError(f"{name} matches a pattern of muon= and one of adamw=")
        if wanted and param.ndim < 2:
            raise ValueError(f"{name} has {param.ndim} dimensions: Muon needs a matrix")
        use_muon = wanted or (hidden[key] and not refused)
        if use_muon:
            pattern = next((p for p in blocks if any(_matches(a, [p]) for a in aliases[key])), None)
            place = ("muon", pattern)
            options: dict[str, Any] = {
                "use_muon": True,
                "blocks": blocks[pattern] if pattern else None,
            }
        elif param.ndim < 2 and not decay_vectors:
            place, options = ("vectors", None), {"use_muon": False, "weight_decay": 0.0}
        else:
            place, options = ("adamw", None), {"use_muon": False}
        groups.setdefault(place, {"params": [], **options})["params"].append((name, param))
    if unused:
        raise ValueError(f"no parameter of the model matches {sorted(unused)}")
    order = {"muon": 0, "adamw": 1, "vectors": 2}
    return [groups[place] for place in sorted(groups, key=lambda place: order[place[0]])]


class MuonAdamW(Optimizer):
    """Muon on parameter groups with use_muon=True, AdamW on the others; a library call for each.

    params: a model, which `split_parameters` divides, or parameter groups, each with `use_muon`.

    The update RMS of both is alike ("match_rms_adamw"), so they share lr and weight decay: those
    of an AdamW run carry over. State and options are those of `Muon` and `AdamW`; kernels of
    convolutions are flattened. A pair as state_dtype gives the momentum its first type; a
    dictionary may have "momentum_buffer", "exp_avg" and "exp_avg_sq". With process_group, or
    DTensors, the matrices are shared as in `Muon`; AdamW is computed by each rank, on what it holds
    of a parameter.
    """

    _extra: ClassVar = {"use_muon": None, **OURS, "flatten": True}
    _kinds: ClassVar = (AdamWRows, MuonRows)

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.1,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = KELLER,
        ns_steps: int = NS_STEPS,
        adjust_lr_fn: str | None = "match_rms_adamw",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        amsgrad: bool = False,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        track_stats: bool = False,
        process_group: Any = None,
        **ours: Any,
    ) -> None:
        if unknown := ours.keys() - OURS.keys():
            raise TypeError(f"MuonAdamW has no option {min(unknown)!r}")
        if isinstance(params, nn.Module):
            params = split_parameters(params)
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
            "betas": betas,
            "eps": eps,
            "amsgrad": amsgrad,
            **self._extra,
            **ours,
        }
        check_options({**defaults, "params": []})
        super().__init__(params, defaults)
        self._set_up(max_grad_norm, skip_nonfinite, track_stats)
        self.process_group = process_group

    def _check_group(self, group: dict) -> None:
        if group["use_muon"] is None:
            raise ValueError("each parameter group needs use_muon=True or False")
        check_options(group if group["use_muon"] else {**group, "params": []})
        if not (group["eps"] >= 0 and all(0 <= float(beta) < 1 for beta in group["betas"])):
            raise ValueError(f"eps {group['eps']} must be >= 0, betas {group['betas']} in [0, 1)")
        moments = (*AdamWRows.moments, *MuonRows.moments)
        amsgrad = group["amsgrad"] and not group["use_muon"]
        storage.check_options({**group, "amsgrad": amsgrad}, moments)

    def _rows_for(self, group: dict) -> type[Rows]:
        return MuonRows if group["use_muon"] else AdamWRows
