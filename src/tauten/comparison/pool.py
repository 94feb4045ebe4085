"""Tasks on worker processes, of which one may fail or die without the others."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from tqdm import tqdm

#: seconds that an idle process has to end by itself
_PATIENCE = 10.0


@dataclass(frozen=True)
class Task:
    """A call that a worker makes; function and arguments must be picklable.

    Attributes:
        name: unique.
        function: function of a module, to be called.
        arguments: arguments of the call.
        units: how much of the progress bar it is.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    units: int = 1


@dataclass(frozen=True)
class Failure:
    """A task that failed, and the reason.

    Attributes:
        task: its name.
        error: one line.
        traceback: the whole story; "" where the process died.
    """

    task: str
    error: str
    traceback: str = ""


def run_tasks(tasks: Sequence[Task], processes: int, bar: tqdm[Any]) -> dict[str, Any]:
    """Run the tasks and return their results by name; a :class:`Failure` for each that failed.

    With one process the tasks run in this one. Workers are started afresh (no fork), and end with
    this process, however it ends.

    Args:
        tasks: in the order in which they are started.
        processes: workers, at most as many as tasks are started.
        bar: advanced by the units of each finished task.

    Raises:
        ValueError: processes < 1.
    """
    if processes < 1:
        raise ValueError(f"processes must be 1 or more, got {processes}")
    results: dict[str, Any] = {}
    if processes == 1:
        for task in tasks:
            results[task.name] = _call(task)
            bar.update(task.units)
        return results
    pending = deque(tasks)
    workers = [_Worker() for _ in range(min(processes, len(tasks)))]
    try:
        while pending or any(worker.task for worker in workers):
            for worker in workers:
                if worker.task is None and pending:
                    worker.give(pending.popleft())
            busy = {worker.connection: worker for worker in workers if worker.task}
            for ready in wait(list(busy)):
                worker = busy[ready]  # type: ignore[index]
                task, outcome = worker.take()
                results[task.name] = outcome
                bar.update(task.units)
                if not worker.alive:
                    workers[workers.index(worker)] = _Worker()
    finally:
        for worker in workers:
            worker.end()
    return results


class _Worker:
    """A process that makes one call at a time."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.task: Task | None = None
        self.alive = True

    def give(self, task: Task) -> None:
        self.task = task
        # a broken connection shows when the answer is taken
        with contextlib.suppress(OSError):
            self.connection.send(task)

    def take(self) -> tuple[Task, Any]:
        """Return the finished task and what came of it."""
        assert self.task is not None
        task, self.task = self.task, None
        try:
            return task, self.connection.recv()
        except (EOFError, OSError):
            self.alive = False
            self.process.join()
            code = self.process.exitcode
            died = f"killed by signal {-code}" if code and code < 0 else f"exit code {code}"
            return task, Failure(task.name, f"its process died ({died}), perhaps out of memory")

    def end(self) -> None:
        """Let an idle process finish by itself; stop one that is at work."""
        self.connection.close()
        if self.task is None:
            self.process.join(_PATIENCE)
        self.process.terminate()
        self.process.join()


def _serve(connection: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            connection.send(_call(task))
        except (OSError, KeyboardInterrupt):
            return


def _end_with_parent() -> None:
    """End this process, in the middle of a task, when the one that started it has ended.

    A killed parent can neither close its workers nor tell them.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call(task: Task) -> Any:
    try:
        return task.function(*task.arguments)
    except Exception as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        return Failure(task.name, line, traceback.format_exc())
