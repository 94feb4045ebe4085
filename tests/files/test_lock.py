"""One process at a time in a folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tauten.files import Lock

HOLD = """
import sys
from tauten.files import Lock
with Lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of a folder."""
    source = str(Path(__file__).parents[2] / "src")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_with_the_number_of_the_first(holder, tmp_path):
    with (
        pytest.raises(ValueError, match=f"process {holder.pid} on .* writes to .*run"),
        Lock(tmp_path / "run"),
    ):
        pass
    holder.communicate("")
    with Lock(tmp_path / "run"):
        pass


def test_a_killed_process_holds_nothing(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / ".lock").exists()
    with Lock(tmp_path / "run"):
        (tmp_path / "run" / "file").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["file"]


def test_the_same_process_is_refused_too(tmp_path):
    with (
        Lock(tmp_path),
        pytest.raises(ValueError, match=rf"this process \({os.getpid()}\) writes to"),
        Lock(tmp_path),
    ):
        pass
    with Lock(tmp_path):
        pass


def test_a_folder_that_nothing_was_written_to_is_removed(tmp_path):
    with Lock(tmp_path / "runs" / "a"):
        assert (tmp_path / "runs" / "a" / ".lock").exists()
    assert list(tmp_path.iterdir()) == []
