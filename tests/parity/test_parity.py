"""Several processes equal one: losses, gradients of embeddings and controls, tables."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("worker.py")


@pytest.mark.parametrize(("world", "at_least"), [(2, 500), (4, 150)])
def test_every_loss_and_control_on_uneven_shards(tmp_path, world, at_least):
    """Shards of 5 and 3 rows; of 3, none, 1 and 4. Dense, tiled and ring, to 1e-9 in float64."""
    out = tmp_path / "found.json"
    processes = [
        subprocess.Popen([sys.executable, WORKER, str(rank), str(world), tmp_path / "store", out])
        for rank in range(world)
    ]
    assert [process.wait(timeout=400) for process in processes] == [0] * world
    found = json.loads(out.read_text())
    assert found["cases"] > at_least
    assert found["problems"] == []
