"""Checkpoints that all processes write together and that any number of processes reads.

Weights, the optimiser's state and the tables per sample are tensors of one
``torch.distributed.checkpoint``. Shards (FSDP2) are written by the processes that hold them. Of
what every process holds, weights under data parallelism and tables, each writes its share of the
rows. The rest is one small file of the first process.

All processes call each function, with modules of the same names.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tauten.files import replacing, sync_folder
from tauten.training import checkpoints, processes
from tauten.training.checkpoints.sharded_state import (
    PLAIN,
    Saved,
    check_module,
    collect,
    fit_tables,
    large_of,
    moments_like,
    names_of,
    open_saved,
    optimizer_state,
)
from tauten.training.checkpoints.shares import read, write


def save_sharded(
    folder: Path | str,
    module: nn.Module,
    optimizer: Optimizer | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Save a training; the folder is whole or not there.

    It is written beside its place and moved there with one rename when all processes are done. A
    checkpoint that was in its place is replaced.

    Args:
        folder: of the checkpoint, on a file system that all processes share.
        module: plain, in ``DistributedDataParallel``, or sharded by ``fully_shard``; with the loss,
            whose tables are equal on all processes.
        optimizer: of the module's parameters.
        extra: tensors, numbers, strings and containers of them: schedulers, data positions, random
            generators. That of the first process is saved; gather what differs between processes.

    Raises:
        ValueError: a folder with files that are no checkpoint, an ``extra`` that could not be
            loaded, parameters of the optimiser that are not the module's, FSDP1.
        RuntimeError: a process could not write.
    """
    folder = Path(folder)
    staged = folder.parent / f"{checkpoints.STAGING}-{folder.name}" / folder.name

    def prepare() -> None:
        _check_replaceable(folder)
        shutil.rmtree(staged.parent, ignore_errors=True)
        staged.mkdir(parents=True)

    processes.first(prepare)
    write_state(staged, module, optimizer, extra)
    processes.first(lambda: _publish(staged, folder))


def load_sharded(
    folder: Path | str, module: nn.Module, optimizer: Optimizer | None = None
) -> dict[str, Any]:
    """Load what :func:`save_sharded` saved, on any number of processes and in any wrapper.

    Every value has the bits that were saved. A checkpoint that is refused with a ValueError leaves
    everything as it was.

    Args:
        folder: of the checkpoint.
        module: as for :func:`save_sharded`, of the same names, shapes and types.
        optimizer: with the parameters in the same groups, or None to leave its state out.

    Returns:
        The ``extra`` that was saved, on every process.

    Raises:
        ValueError: a missing, truncated or changed file, which is named; a file with more than
            plain values; a module, data set or optimiser that the checkpoint is not of; on one
            process or on another.
        RuntimeError: a process could not read.
    """
    folder = Path(folder)
    processes.first(lambda: checkpoints.check(folder))
    return read_state(folder, module, optimizer)


def write_state(
    folder: Path,
    module: nn.Module,
    optimizer: Optimizer | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write the files of a checkpoint into a folder; arguments as for :func:`save_sharded`."""
    with processes.together():
        state, rest = collect(module, optimizer, extra)
    write(folder, state)
    processes.first(lambda: _write_plain(folder / PLAIN, rest))


def _write_plain(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)


def read_state(
    folder: Path, module: nn.Module, optimizer: Optimizer | None = None
) -> dict[str, Any]:
    """Read what :func:`write_state` wrote; as :func:`load_sharded`."""
    with processes.together():
        saved = open_saved(folder)
        check_module(saved, module)
        moments = moments_like(saved, module, optimizer)
        names, large = names_of(module), large_of(module)

    # what is small is read beside the module's own, so that a module can compare and refuse it
    buffers = {key: value for key, value in module.state_dict().items() if key not in large}
    filled = {names[key]: value for key, value in _copies(buffers, torch.empty_like).items()}
    read(folder, filled)
    with processes.together():
        small = {key: filled[names[key]] for key in buffers}
        _load_small(saved, module, small, _copies(buffers, torch.clone))

    # the rest is read in place, and loaded so that the modules learn of it
    state = {key: value for key, value in module.state_dict().items() if key in large}
    read(folder, {names[key]: value for key, value in state.items()} | moments)
    module.load_state_dict(state, strict=False)
    if optimizer is not None:
        optimizer.load_state_dict(optimizer_state(saved, module, optimizer, moments))
    return saved.extra


def _copies(state: Mapping[str, Any], copy: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    return {key: copy(v) if isinstance(v, Tensor) else v for key, v in state.items()}


def _load_small(
    saved: Saved, module: nn.Module, small: Mapping[str, Any], before: Mapping[str, Any]
) -> None:
    """Load what is small and size the tables, or leave the module as it was before."""
    try:
        module.load_state_dict(small, strict=False)
        fit_tables(saved, module)
    except Exception:
        module.load_state_dict(before, strict=False)
        raise


def _publish(staged: Path, folder: Path) -> None:
    """Seal a checkpoint and move it to its place; one that was there is moved aside until then."""
    checkpoints.seal(staged)
    before = folder.parent / f"{checkpoints.STAGING}.before-{folder.name}"
    if folder.exists():
        shutil.rmtree(before, ignore_errors=True)
        folder.rename(before)
    staged.rename(folder)
    staged.parent.rmdir()
    sync_folder(folder.parent)
    shutil.rmtree(before, ignore_errors=True)


def _check_replaceable(folder: Path) -> None:
    replaceable = (folder / checkpoints.MARKER).exists() or not folder.exists()
    if not replaceable and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} holds something that is no checkpoint; choose another")
