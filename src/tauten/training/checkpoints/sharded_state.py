"""Contents of a checkpoint: a module and its optimiser, by names that no wrapper changes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from tauten.files import error_line, need
from tauten.state import SampleTable
from tauten.training.checkpoints.shares import contents

MODULE, OPTIMIZER = "module.", "optimizer."
PLAIN = "plain.pt"


class Saved(NamedTuple):
    """Contents of a checkpoint.

    Attributes:
        tensors: sizes and types by name; None for what is no tensor.
        groups: the optimiser's groups, their parameters by name; None without an optimiser.
        rest: what is no tensor in the optimiser's state, by parameter and key.
        extra: of the caller.
    """

    tensors: dict[str, TensorStorageMetadata | None]
    groups: list[dict[str, Any]] | None
    rest: dict[str, dict[str, Any]]
    extra: dict[str, Any]


def open_saved(folder: Path) -> Saved:
    """Return what lies in a folder.

    Raises:
        ValueError: a file is damaged, or holds more than plain values.
    """
    tensors = {
        name: entry if isinstance(entry, TensorStorageMetadata) else None
        for name, entry in contents(folder).state_dict_metadata.items()
    }
    path = folder / PLAIN
    try:
        plain = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} is damaged or no file of plain values: {error_line(error)}"
        ) from error
    need(plain, {"groups": (list, type(None)), "rest": dict, "extra": dict}, path)
    return Saved(tensors, plain["groups"], plain["rest"], plain["extra"])


def collect(
    module: nn.Module, optimizer: Optimizer | None, extra: Mapping[str, Any] | None
) -> tuple[dict[str, Any], bytes]:
    """Return all tensors by name, and the file of what is none.

    Raises:
        ValueError: see :func:`tauten.training.checkpoints.sharded.save_sharded`.
    """
    names = names_of(module)
    state = {names[key]: value for key, value in module.state_dict().items()}
    groups: list[dict[str, Any]] | None = None
    rest: dict[str, dict[str, Any]] = {}
    if optimizer is not None:
        parameters = [name for name, _ in parameters_of(module, optimizer)]
        saved = optimizer.state_dict()
        for at, values in saved["state"].items():
            name = parameters[at]
            for key, value in values.items():
                if isinstance(value, Tensor):
                    state[_entry(name, key)] = value
                else:
                    rest.setdefault(name, {})[key] = value
        groups = [_named(group, parameters) for group in saved["param_groups"]]
    file = io.BytesIO()
    torch.save({"groups": groups, "rest": rest, "extra": dict(extra or {})}, file)
    try:
        torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    except Exception as error:
        raise ValueError(
            "extra and the optimiser's options must be tensors, numbers, strings and containers "
            f"of them: {str(error).splitlines()[0]}"
        ) from error
    return state, file.getvalue()


# ---- names


def names_of(module: nn.Module) -> dict[str, str]:
    """Return the name in a checkpoint of each entry of the module's state."""
    clean = _cleaner(module)
    return {key: f"{MODULE}{clean(key)}" for key in module.state_dict()}


def parameters_of(module: nn.Module, optimizer: Optimizer) -> list[tuple[str, Tensor]]:
    """Return the optimiser's parameters with their names, in the order of its own state.

    Raises:
        ValueError: parameters that are not the module's.
    """
    clean = _cleaner(module)
    known = {parameter: clean(name) for name, parameter in module.named_parameters()}
    ours = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    unknown = [tuple(parameter.shape) for parameter in ours if parameter not in known]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(ours)} parameters of the optimiser are not the module's, of "
            f"shapes {unknown[:3]}: pass the module that holds them all, and make the optimiser "
            "after fully_shard"
        )
    return [(known[parameter], parameter) for parameter in ours]


def large_of(module: nn.Module) -> set[str]:
    """Return entries of the module's state that are parameters or belong to tables."""
    names = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    for table in _tables(module):
        names |= {f"{table}values", f"{table}visits"}
    return names


def _tables(module: nn.Module) -> dict[str, SampleTable]:
    """Return tables by the beginning of their entries' names."""
    return {
        f"{name}." if name else "": part
        for name, part in module.named_modules(remove_duplicate=False)
        if isinstance(part, SampleTable)
    }


def _cleaner(module: nn.Module) -> Callable[[str], str]:
    """Return a function that strips what data parallelism and ``torch.compile`` put in names."""
    wrapped = {}
    for name, part in module.named_modules():
        if isinstance(part, FullyShardedDataParallel):
            raise ValueError(
                "FullyShardedDataParallel flattens its parameters; use fully_shard (FSDP2) instead"
            )
        outer = f"{name}." if name else ""
        if isinstance(part, DistributedDataParallel):
            wrapped[f"{outer}module."] = outer
        elif isinstance(getattr(part, "_orig_mod", None), nn.Module):
            wrapped[f"{outer}_orig_mod."] = outer

    def clean(key: str) -> str:
        for inner in sorted(wrapped, key=len, reverse=True):
            if key.startswith(inner):
                key = wrapped[inner] + key[len(inner) :]
        return key

    return clean


def _entry(name: str, key: str) -> str:
    return f"{OPTIMIZER}{name}/{key}"


def _parts(entry: str) -> tuple[str, str]:
    name, _, key = entry.removeprefix(OPTIMIZER).rpartition("/")
    return name, key


def _named(group: Mapping[str, Any], parameters: list[str]) -> dict[str, Any]:
    return {**group, "params": [parameters[at] for at in group["params"]]}


# ---- what fits


def check_module(saved: Saved, module: nn.Module) -> None:
    """Refuse a module of other names, shapes or types; rows of tables are left to the tables.

    Raises:
        ValueError: what differs.
    """
    names, state, tables = names_of(module), module.state_dict(), _tables(module)
    there = {name for name in saved.tensors if name.startswith(MODULE)}
    lacking, foreign = (
        sorted(name.removeprefix(MODULE) for name in side)
        for side in (set(names.values()) - there, there - set(names.values()))
    )
    if lacking or foreign:
        raise ValueError(
            "the checkpoint is of another module: "
            f"{len(lacking)} names are not in it ({', '.join(lacking[:3]) or 'none'}), "
            f"{len(foreign)} are in it alone ({', '.join(foreign[:3]) or 'none'})"
        )
    rows = {f"{table}{name}" for table in tables for name in ("values", "visits")}
    for key, value in state.items():
        entry = saved.tensors[names[key]]
        if not isinstance(value, Tensor) or entry is None:
            continue
        first = 1 if key in rows else 0
        was, now = tuple(entry.size[first:]), tuple(value.shape[first:])
        if was != now:
            raise ValueError(f"{key} was saved with shape {was}, the module has {now}")
        if entry.properties.dtype != value.dtype:
            raise ValueError(
                f"{key} was saved as {entry.properties.dtype}, the module has {value.dtype}: "
                "convert the module first, for loading changes no bits"
            )


def fit_tables(saved: Saved, module: nn.Module) -> None:
    """Give tables that grow the number of rows that was saved.

    Raises:
        ValueError: a table of fixed size was saved for a data set of another size.
    """
    clean = _cleaner(module)
    for name, table in sorted(_tables(module).items(), key=lambda item: not item[1].fixed):
        entry = saved.tensors[f"{MODULE}{clean(name)}visits"]
        assert entry is not None
        if entry.size[0] != len(table):
            blank = torch.zeros(1, dtype=torch.int32).expand(entry.size[0])
            table.load_state_dict({"visits": blank}, strict=False)


def moments_like(saved: Saved, module: nn.Module, optimizer: Optimizer | None) -> dict[str, Tensor]:
    """Return empty tensors for the optimiser's state, sharded as its parameters.

    Raises:
        ValueError: no optimiser was saved, or one with other groups.
    """
    if optimizer is None:
        return {}
    if saved.groups is None:
        raise ValueError("the checkpoint holds no optimiser's state: pass optimizer=None")
    parameters = parameters_of(module, optimizer)
    names = [name for name, _ in parameters]
    ours = [_named(group, names)["params"] for group in optimizer.state_dict()["param_groups"]]
    theirs = [group["params"] for group in saved.groups]
    if ours != theirs:
        raise ValueError(
            f"the optimiser was saved with {len(theirs)} groups of {[len(g) for g in theirs]} "
            f"parameters, this one has {len(ours)} of {[len(g) for g in ours]}, or in another order"
        )
    of, empty = dict(parameters), {}
    for entry, like in saved.tensors.items():
        if entry.startswith(OPTIMIZER) and like is not None:
            parameter, dtype = of[_parts(entry)[0]], like.properties.dtype
            empty[entry] = (
                torch.empty_like(parameter, dtype=dtype, requires_grad=False)
                if like.size == parameter.shape
                else torch.empty(like.size, dtype=dtype)
            )
    return empty


def optimizer_state(
    saved: Saved, module: nn.Module, optimizer: Optimizer, moments: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Return the argument of the optimiser's ``load_state_dict``."""
    assert saved.groups is not None
    at = {name: place for place, (name, _) in enumerate(parameters_of(module, optimizer))}
    state: dict[int, dict[str, Any]] = {}
    for entry, value in moments.items():
        name, key = _parts(entry)
        state.setdefault(at[name], {})[key] = value
    for name, values in saved.rest.items():
        state.setdefault(at[name], {}).update(values)
    groups = [{**group, "params": [at[name] for name in group["params"]]} for group in saved.groups]
    return {"state": state, "param_groups": groups}
