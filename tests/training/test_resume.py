"""SIGKILL at seeded random steps and in the middle of every kind of write."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("interrupted.py")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("interrupted")
    source = str(Path(__file__).parents[2] / "src")
    paths = [source, os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(root)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return root, json.loads(done.stdout.splitlines()[-1])


def test_the_kills_were_kills(runs):
    _, ends = runs
    assert ends["whole"] == [0]
    assert ends["killed"] == [-9] * 10 + [0]


@pytest.mark.parametrize("name", ["best", "checkpoint-40"])
def test_weights_and_state_are_bit_identical(runs, name):
    root, _ = runs
    whole, killed = (
        load_file(root / run / "checkpoints" / name / "model.safetensors")
        for run in ("whole", "killed")
    )
    assert whole.keys() == killed.keys()
    assert any("running" in key for key in whole)
    for key, value in whole.items():
        assert value.numpy().tobytes() == killed[key].numpy().tobytes(), key


def test_history_is_the_same_line_by_line(runs):
    root, _ = runs
    whole, killed = ((root / run / "history.jsonl").read_text() for run in ("whole", "killed"))
    assert whole == killed
    steps = [json.loads(line)["step"] for line in whole.splitlines() if "loss" in line]
    assert len(steps) == len(set(steps)) >= 10
    assert steps[-1] == 40


def test_metrics_are_the_same(runs):
    root, _ = runs
    found = []
    for run in ("whole", "killed"):
        results = json.loads((root / run / "results.json").read_text())
        assert results.pop("wall_s") > 0
        found.append(results)
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["samples.npz", "embeddings.npz"])
def test_tau_and_embeddings_are_the_same(runs, name):
    root, _ = runs
    with np.load(root / "whole" / name) as whole, np.load(root / "killed" / name) as killed:
        assert set(whole.files) == set(killed.files)
        for key in whole.files:
            assert whole[key].tobytes() == killed[key].tobytes(), key


def test_nothing_half_done_is_left(runs):
    root, _ = runs
    kept = sorted(path.name for path in (root / "killed" / "checkpoints").iterdir())
    assert kept == sorted(path.name for path in (root / "whole" / "checkpoints").iterdir())
    assert {name.split("-")[0] for name in kept} == {"best", "checkpoint"}
    assert not list((root / "killed").glob(".*"))
