"""Python programs in processes of their own, without their slow imports.

Each is a fork of one server, which has imported torch, transformers and tauten once (``warm.py``)
and has done nothing else. One thread only: threads do not survive a fork. Use ``subprocess`` where
imports, threads or memory of a fresh interpreter are what is tested.
"""

import multiprocessing
import os
import runpy
import sys
import tempfile
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import NamedTuple

import torch

TESTS = Path(__file__).resolve().parent
#: seconds after which a program hangs, on however slow a machine
PATIENCE = 1200
#: the command line
CLI = "import sys; from tauten.cli import main; sys.exit(main())"


class Done(NamedTuple):
    """How a program ended: its exit code, or minus the signal, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


@cache
def server():
    """Start the server, which finds what this process finds, and return its context."""
    context, before = multiprocessing.get_context("forkserver"), dict(os.environ)
    context.set_forkserver_preload(["warm"])
    paths = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
    os.environ.update(PYTHONPATH=paths, OMP_NUM_THREADS="1")
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


def _execute(program, words, out, cwd, env):
    """Run the program as the interpreter would, in this fork."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{out}/{name}", os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(env)
    if cwd is not None:
        os.chdir(cwd)
    if isinstance(program, Path):
        sys.argv[:] = [str(program), *words]
        sys.path.insert(0, str(program.parent))
        runpy.run_path(str(program), run_name="__main__")
    else:
        sys.argv[:] = ["-c", *words]
        exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})


class Fork:
    """A started program, a script or lines of Python, with its words and this environment."""

    def __init__(self, program, *words, cwd=None, env=None):
        self.out = tempfile.TemporaryDirectory()
        env = dict(os.environ if env is None else env)
        arguments = (program, [str(word) for word in words], self.out.name, cwd, env)
        self.process = server().Process(target=_execute, args=arguments)
        self.process.start()

    def wait(self, timeout=PATIENCE):
        """Return how it ended; end it where it does not by itself."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        out, err = (Path(self.out.name, name).read_text("utf-8") for name in ("out", "err"))
        self.out.cleanup()
        return Done(self.process.exitcode, out, err)


def run(program, *words, timeout=PATIENCE, **options):
    """Run a program in a fork to its end; it must succeed."""
    done = Fork(program, *words, **options).wait(timeout)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done


def run_all(program, words, timeout=PATIENCE, **options):
    """Run a program in several forks at once, one for each tuple of words; all must succeed."""
    forks = [Fork(program, *each, **options) for each in words]
    done = [fork.wait(timeout) for fork in forks]
    assert [one.returncode for one in done] == [0] * len(done), [one.stderr for one in done]
    return done


def found_by(program, folder, processes):
    """Return what each of several processes saved: the program is told rank, store and file."""
    files = [folder / f"{rank}.pt" for rank in range(processes)]
    run_all(program, [(rank, folder / "store", file) for rank, file in enumerate(files)])
    return [torch.load(file) for file in files]
