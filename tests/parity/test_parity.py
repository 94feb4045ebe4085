"""Several processes equal one: losses, gradients of embeddings and controls, tables."""

import json
from pathlib import Path

import pytest

from forks import run_all

HERE = Path(__file__).parent


def run(script, world, tmp_path):
    out = tmp_path / "found.json"
    run_all(HERE / script, [(rank, world, tmp_path / "store", out) for rank in range(world)], 400)
    return json.loads(out.read_text())


@pytest.mark.parametrize(("world", "at_least"), [(2, 500), (4, 150)])
def test_every_loss_and_control_on_uneven_shards(tmp_path, world, at_least):
    """Shards of 5 and 3 rows; of 3, none, 1 and 4. Dense, tiled and ring, to 1e-9 in float64."""
    found = run("worker.py", world, tmp_path)
    assert found["cases"] > at_least
    assert found["problems"] == []


def test_ddp_beside_ddp_fsdp2_and_accumulation_train_the_weights_of_one_process(tmp_path):
    found = run("wrapped.py", 2, tmp_path)
    assert found["cases"] == 45
    assert found["problems"] == []
