"""Calls for worker processes."""

import os
import signal


def double(x):
    return 2 * x


def fail(message):
    raise ValueError(message)


def die():
    os.kill(os.getpid(), signal.SIGKILL)
