"""Calls for worker processes."""

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

from tqdm import tqdm


def double(x):
    return 2 * x


def fail(message):
    raise ValueError(message)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def hold(path):
    """Hold a lock, which ends with this process, for longer than any test."""
    with Path(path).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        Path(f"{path}.held").touch()
        time.sleep(600)


if __name__ == "__main__":
    import workers

    from tauten.comparison.pool import Task, run_tasks

    held = [Task(path, workers.hold, (path,)) for path in sys.argv[1:]]
    run_tasks(held, 2, tqdm(disable=True))
