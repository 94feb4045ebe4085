"""The processes that train together: the first one writes, and an error of one ends all.

Without a launcher there is one process, and everything here does nothing.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from torch import Tensor, distributed

from tauten.messages import own_device

Made = TypeVar("Made")

#: how long processes wait for the first one, which may cluster millions of captions alone
PATIENCE = timedelta(hours=12)


class ElsewhereError(ValueError):
    """Another process cannot go on; that one says why."""


def join() -> None:
    """Enter the group that ``torchrun`` or ``accelerate launch`` told of, if one of them did."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        PartialState(cpu=on_cpu(), timeout=PATIENCE)


def on_cpu() -> bool:
    """Return whether there is no GPU, or the launcher was asked not to use it."""
    asked = os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("true", "1", "yes")
    return asked or not torch.cuda.is_available()


def leave() -> None:
    """Leave the group together, once nothing uses it any more."""
    if distributed.is_available() and distributed.is_initialized():
        gc.collect()
        barrier()
        distributed.destroy_process_group()


def count() -> int:
    """Return the number of processes."""
    together = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if together else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if count() > 1 else 0


@contextlib.contextmanager
def command() -> Iterator[None]:
    """Run a block as a command of all processes; the one that fails says why.

    The others wait with their exit, because a launcher ends all processes when one has ended.
    """
    join()
    try:
        yield
    except ElsewhereError:
        linger()
        sys.exit(1)
    except SystemExit as error:
        if error.code and rank() > 0:
            linger()
        raise
    leave()


def linger() -> None:
    """Wait for another process to say why it failed."""
    time.sleep(10)


def barrier() -> None:
    """Wait for all."""
    if count() > 1:
        distributed.barrier()


def gather(part: Any) -> list[Any]:
    """Return the values of all processes, in order, on each of them."""
    if count() == 1:
        return [part]
    everyone: list[Any] = [None] * count()
    distributed.all_gather_object(everyone, part)
    return everyone


def collect(part: Any) -> list[Any] | None:
    """Return the values of all processes, in order, on the first; None on the others."""
    if count() == 1:
        return [part]
    everyone = [None] * count() if rank() == 0 else None
    distributed.gather_object(part, everyone)
    return everyone


def any_of(flags: Tensor) -> Tensor:
    """Return (n,) bool, which of these flags any process has set."""
    if count() == 1:
        return flags
    raised = flags.int()
    distributed.all_reduce(raised, distributed.ReduceOp.MAX)
    return raised.bool()


def total(number: int) -> int:
    """Return the sum of a number over all processes, on each of them."""
    if count() == 1:
        return number
    whole = torch.tensor(number, device=own_device())
    distributed.all_reduce(whole)
    return int(whole)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Run a block on all processes, none waiting; an error of one ends it on all.

    Raises:
        ElsewhereError: on all but the first process that failed, which raises its own error.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as caught:
        if count() == 1:
            raise
        error = caught
    reasons = gather(None if error is None else str(error))
    failed = [number for number, reason in enumerate(reasons) if reason is not None]
    if failed and failed[0] == rank() and error is not None:
        raise error
    if failed:
        raise ElsewhereError(f"process {failed[0]}: {reasons[failed[0]]}") from error


def first(make: Callable[[], Made]) -> Made:
    """Run on the first process and return the result on all; an error there is raised on all."""
    if count() == 1:
        return make()
    made: list[Any] = [None]
    with together():
        if rank() == 0:
            made = [make()]
    distributed.broadcast_object_list(made, src=0)
    result: Made = made[0]
    return result


@contextlib.contextmanager
def losing() -> Iterator[None]:
    """Say of a broken connection that another process has ended.

    Raises:
        ElsewhereError: a message to or from another process failed.
    """
    try:
        yield
    except RuntimeError as error:
        if count() > 1 and _is_connection(str(error)):
            raise ElsewhereError("another process ended; its own message says why") from error
        raise


def _is_connection(message: str) -> bool:
    return any(sign in message for sign in ("gloo/transport", "NCCL", "Connection "))
