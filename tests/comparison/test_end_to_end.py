"""Cells that are whole training runs."""

import pytest

from tauten.comparison import Grid, compare


@pytest.fixture(scope="module")
def tiny_settings():
    return {
        "data.limit": 96,
        "model.channels": [8],
        "model.dim": 8,
        "model.text_width": 8,
        "optim.batch_size": 32,
        "optim.epochs": 1,
        "evaluation.every": 1,
    }


def test_emoji_end_to_end(tmp_path, tiny_settings):
    grid = Grid(
        tmp_path,
        controls=("constant", "shuffled"),
        seeds=(0,),
        trials=2,
        settings=tiny_settings,
        threads=1,
        progress=False,
    )
    assert grid.runner == "train"
    found = compare(grid, bootstrap=50)
    trained = found.summary.trained
    assert not trained.failures
    assert len(trained.results) in (2, 3, 4)
    first = trained.results["cells/constant/default-seed0"]
    assert first.steps == 3
    assert first.metrics["all"]["n"] == 96
    assert not (tmp_path / "cells" / "constant" / "default-seed0" / "run" / "checkpoints").exists()
    assert {trial.share for trial in trained.trials["mmts"]} == {1.0}
    assert compare(grid, bootstrap=50).text == found.text
