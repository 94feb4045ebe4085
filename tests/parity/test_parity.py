"""Several processes equal one: losses, gradients of embeddings and controls, tables."""

import json
from pathlib import Path

import pytest

from forks import run, run_all

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with what every case is on one process."""
    folder = tmp_path_factory.mktemp("parity")
    run(HERE / "worker.py", 0, 1, folder)
    return folder


@pytest.mark.parametrize(("world", "at_least"), [(2, 500), (4, 150)])
def test_every_loss_and_control_on_uneven_shards(folder, world, at_least):
    """Shards of 5 and 3 rows; of 3, none, 1 and 4. Dense, tiled, ring and where each process takes
    the whole batch, to 1e-9 in float64."""
    run_all(HERE / "worker.py", [(rank, world, folder) for rank in range(world)])
    found = json.loads((folder / f"{world}.json").read_text())
    assert found["cases"] > at_least
    assert found["pooled"] > 20
    assert found["problems"] == []


def test_ddp_beside_ddp_fsdp2_and_accumulation_train_the_weights_of_one_process(tmp_path):
    out = tmp_path / "found.json"
    run_all(HERE / "wrapped.py", [(rank, 2, tmp_path / "store", out) for rank in range(2)])
    assert json.loads(out.read_text()) == {"cases": 51, "problems": []}
