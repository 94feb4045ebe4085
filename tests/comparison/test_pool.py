"""Tasks on processes: one that fails or dies does not stop the rest."""

import contextlib
import fcntl
import importlib.util
import io
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from tqdm import tqdm

import forks
from tauten.comparison import pool
from tauten.comparison.pool import Failure, Task, run_tasks

# pytest imports test files by path: workers need a module that they can find by name
_PATH = Path(__file__).with_name("workers.py")


@pytest.fixture
def workers(monkeypatch):
    monkeypatch.syspath_prepend(str(_PATH.parent))
    spec = importlib.util.spec_from_file_location("workers", _PATH)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "workers", module)
    spec.loader.exec_module(module)
    return module


def run(workers, processes, *more):
    tasks = [*more, *(Task(f"double {k}", workers.double, (k,)) for k in range(4))]
    tasks.insert(2, Task("bad", workers.fail, ("no\nway",), units=3))
    with tqdm(total=7 + len(more), file=io.StringIO()) as bar:
        found = run_tasks(tasks, processes, bar)
        assert bar.n == 7 + len(more)
    assert [found[f"double {k}"] for k in range(4)] == [0, 2, 4, 6]
    bad = found["bad"]
    assert isinstance(bad, Failure)
    assert bad.error == "ValueError: no way"
    assert "in fail" in bad.traceback
    return found


def test_a_failure_stays_alone(workers):
    run(workers, 1)


def test_a_killed_process_is_replaced(workers, monkeypatch):
    """In forks, which have nothing to import."""
    server = forks.server()
    monkeypatch.setattr(pool.multiprocessing, "get_context", lambda kind: server)
    found = run(workers, 2, Task("die", workers.die, ()))
    assert "killed by signal 9" in found["die"].error


def test_processes_are_checked():
    with pytest.raises(ValueError, match="got 0"):
        run_tasks([], 0, tqdm(disable=True))


def wait_for(condition):
    """Wait until it holds; fail after a time that no machine should need."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ended(path):
    """Whether no process holds the lock any more."""
    with path.open("w") as file, contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path, number):
    paths = [tmp_path / name for name in ("a", "b")]
    parent = forks.Fork(_PATH, *paths)
    try:
        wait_for(lambda: all(Path(f"{path}.held").exists() for path in paths))
        assert not any(map(ended, paths))
        os.kill(parent.process.pid, number)
        assert parent.wait().returncode == -number
        wait_for(lambda: all(map(ended, paths)))
    finally:
        parent.process.kill()
