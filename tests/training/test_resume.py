"""SIGKILL at seeded random steps and in the middle of every kind of write."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import forks

SCRIPT = Path(__file__).with_name("interrupted.py")
STEPS = {"mmts": 40, "tempnet": 20, "fastclip": 20}
# what only this method keeps in its state
KEPT = {"mmts": "running", "tempnet": "networks.x2y.prototypes", "fastclip": "gamma._step"}

every_method = pytest.mark.parametrize("method", list(STEPS))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("interrupted")
    return root, json.loads(forks.run(SCRIPT, root).stdout.splitlines()[-1])


def pair(root, method):
    return root / method / "whole", root / method / "killed"


def test_the_kills_were_kills(runs):
    _, ends = runs
    assert ends["mmts"] == {"whole": [0], "killed": [-9] * 10 + [0]}
    assert ends["tempnet"] == ends["fastclip"] == {"whole": [0], "killed": [-9, -9, 0]}


@pytest.mark.parametrize("name", ["best", "last"])
@every_method
def test_weights_and_state_are_bit_identical(runs, method, name):
    root, _ = runs
    name = f"checkpoint-{STEPS[method]}" if name == "last" else name
    whole, killed = (
        load_file(run / "checkpoints" / name / "model.safetensors") for run in pair(root, method)
    )
    assert whole.keys() == killed.keys()
    assert any(KEPT[method] in key for key in whole)
    for key, value in whole.items():
        assert value.numpy().tobytes() == killed[key].numpy().tobytes(), key


@every_method
def test_history_is_the_same_line_by_line(runs, method):
    root, _ = runs
    whole, killed = ((run / "history.jsonl").read_text() for run in pair(root, method))
    assert whole == killed
    steps = [json.loads(line)["step"] for line in whole.splitlines() if "loss" in line]
    assert len(steps) == len(set(steps)) >= STEPS[method] // 4
    assert steps[-1] == STEPS[method]


@every_method
def test_metrics_are_the_same(runs, method):
    root, _ = runs
    found = []
    for run in pair(root, method):
        results = json.loads((run / "results.json").read_text())
        assert results.pop("wall_s") > 0
        assert len(results.pop("run")) == 16
        assert len(results.pop("seal")["files"]) >= 3
        found.append(results)
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["samples.npz", "embeddings.npz"])
@every_method
def test_tau_and_embeddings_are_the_same(runs, method, name):
    root, _ = runs
    first, second = pair(root, method)
    with np.load(first / name) as whole, np.load(second / name) as killed:
        assert set(whole.files) == set(killed.files)
        for key in whole.files:
            assert whole[key].tobytes() == killed[key].tobytes(), key


@every_method
def test_nothing_half_done_is_left(runs, method):
    root, _ = runs
    whole, killed = pair(root, method)
    kept = sorted(path.name for path in (killed / "checkpoints").iterdir())
    assert kept == sorted(path.name for path in (whole / "checkpoints").iterdir())
    assert {name.split("-")[0] for name in kept} == {"best", "checkpoint"}
    assert not list(killed.glob(".*"))
