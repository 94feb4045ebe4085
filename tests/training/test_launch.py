"""Several processes train what one trains; killed ones go on; errors end all with one message."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import forks

TESTS = Path(__file__).parents[1]
SCRIPT = TESTS / "parity" / "launched.py"
STEPS = {
    "mmts": 8,
    "accumulation": 4,
    "isogclr": 8,
    "learned": 8,
    "tempnet": 8,
    "transformer": 8,
    "shards": 8,
    "views": 8,
    "queue": 8,
    "modalities": 8,
    "protected": 8,
}


def environment():
    paths = [str(TESTS.parent / "src"), str(SCRIPT.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}


def run(*words):
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=forks.PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("launched")
    ends = json.loads(forks.run(SCRIPT, root).stdout.splitlines()[-1])
    return root, ends


def state(run, step):
    return load_file(run / "checkpoints" / f"checkpoint-{step}" / "model.safetensors")


def history(run):
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def same_training(first, second, step, within=1e-9, saved="", partly="nothing"):
    """Final weights, temperatures, tables and step; every line of history, but for what the first
    process says of its own part; all metrics.
    """
    one, other = state(first, step), state(second, step)
    assert {name for name in one if name.startswith(saved)} == other.keys()
    for name, value in other.items():
        torch.testing.assert_close(one[name], value, rtol=within, atol=within, msg=name)
    assert len(history(first)) == len(history(second)) > step // 3
    for line, found in zip(history(first), history(second), strict=True):
        one, other = (
            {name: value for name, value in of.items() if not name.startswith(partly)}
            for of in (line, found)
        )
        assert one == pytest.approx(other, rel=within, abs=within)
    results = [json.loads((run / "results.json").read_text()) for run in (first, second)]
    for split in ("val", "test"):
        assert results[1][split] == pytest.approx(results[0][split], rel=1e-6)
    for name in ("best_step", "total_steps", "control", "protocol"):
        assert results[0][name] == results[1][name]
    assert results[0]["total_steps"] == step


@pytest.mark.parametrize("case", STEPS)
def test_two_processes_train_the_weights_tables_and_metrics_of_one(runs, case):
    """In float64. Batch normalisation; τ by schedule, gradient, table and network; SigLIP's bias;
    a transformer; accumulated and clipped gradients; a queue of pairs; missing
    modalities; protected groups.
    """
    root, ends = runs
    assert ends[f"{case}.1"][0][0] == [0], ends[f"{case}.1"]
    assert ends[f"{case}.2"][0][0] == [0, 0], ends[f"{case}.2"]
    partly = "force/" if case == "views" else "nothing"
    same_training(root / f"{case}.1", root / f"{case}.2", STEPS[case], partly=partly)


def test_four_processes_do_too(runs):
    root, ends = runs
    assert ends["mmts.4"][0][0] == [0] * 4, ends["mmts.4"]
    same_training(root / "mmts.1", root / "mmts.4", 8)


def test_the_penalty_of_protected_groups_was_at_work(runs):
    root, _ = runs
    column = "protect/excess/country-flag"
    excess = [line[column] for line in history(root / "protected.2") if column in line]
    assert max(excess) > 0


@pytest.mark.parametrize("world", [1, 2])
def test_chunks_are_the_plain_step(runs, world):
    root, ends = runs
    assert ends[f"chunk.{world}"][0][0] == [0] * world, ends[f"chunk.{world}"]
    same_training(root / "transformer.1", root / f"chunk.{world}", 8)


@pytest.mark.parametrize(
    ("case", "before", "later"), [("mmts", 2, 1), ("mmts", 1, 2), ("queue", 2, 1)]
)
def test_a_killed_training_goes_on_with_another_number_of_processes(runs, case, before, later):
    root, ends = runs
    name = f"{case}.{before}to{later}"
    (died, _), (ended, messages) = ends[name]
    assert died[-1] == -9
    assert ended == [0] * later, messages
    same_training(root / f"{case}.1", root / name, 8)


def test_processes_stop_together_and_go_on_from_there(runs):
    root, ends = runs
    (stopped, messages), (ended, _) = ends["mmts.stopped"]
    assert stopped == [1, 1]
    for said in messages:
        assert "stopped at step 5, whose checkpoint is saved" in said
    assert ended == [0, 0]
    same_training(root / "mmts.1", root / "mmts.stopped", 8)


def test_sharded_checkpoints_go_on_with_another_number_of_processes(runs):
    """Tables and moments are in the shards, so history and weights of later steps tell of them."""
    root, ends = runs
    (died, _), (ended, messages) = ends["sharded"]
    assert died[-1] == -9
    assert ended == [0], messages
    same_training(root / "isogclr.1", root / "sharded", 8, saved="encoder.")
    assert (root / "sharded" / "checkpoints" / "checkpoint-8" / "sharded" / ".metadata").exists()
    assert not (root / "sharded" / "checkpoints" / "best" / "sharded").exists()


def test_torchrun_goes_on_after_kills_with_the_same_bits(runs):
    """Through ``torchrun`` and the command line, where captions, pixels and dropout are drawn."""
    root, ends = runs
    whole, killed = root / "drawn.whole", root / "drawn.killed"
    deaths = [codes for codes, _ in ends["drawn.killed"]]
    assert deaths == [[1, -9], [-9, 1], [-9, 1], [1, -9], [-9, 1]], ends["drawn.killed"]
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        from launched import DRAWN
    finally:
        sys.path.pop(0)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    done = run(*launcher, "-m", "tauten.cli", *DRAWN, "--output", killed)
    assert done.stdout.count("run: ") == 1
    assert "Traceback" not in done.stderr
    one, other = state(whole, 8), state(killed, 8)
    for name, value in one.items():
        assert value.numpy().tobytes() == other[name].numpy().tobytes(), name
    assert (whole / "history.jsonl").read_text() == (killed / "history.jsonl").read_text()
    last = killed / "checkpoints" / "checkpoint-8"
    generators = [torch.load(last / f"rng_state_{r}.pth", weights_only=False) for r in (0, 1)]
    assert not torch.equal(generators[0]["cpu"], generators[1]["cpu"])
    assert not list(killed.glob(".*")) + list((killed / "checkpoints").glob(".*"))


def test_batch_normalisation_of_uneven_shards_is_that_of_the_whole_batch(runs):
    _, ends = runs
    codes, messages = ends["batch_norm"][0]
    assert codes == [0, 0], messages


def test_a_finished_run_refuses_another_configuration_with_one_message(runs):
    _, ends = runs
    codes, (first, second) = ends["drawn.whole"][1]
    assert codes == [1, 1]
    assert "tauten: " in first
    assert "seed" in first
    assert "tauten: " not in second


def test_a_batch_that_cannot_be_shared_is_refused_with_one_message(runs):
    root, ends = runs
    codes, (first, second) = ends["uneven"][0]
    assert codes == [1, 1]
    assert "--optim.batch-size=9" in first
    assert "tauten: " not in second
    assert not (root / "uneven").exists()


def test_a_failure_of_the_first_process_ends_the_others(runs):
    _, ends = runs
    codes, (first, second) = ends["disk"][0]
    assert codes == [1, 1]
    assert "tauten: no space left on device" in first
    assert "tauten: " not in second


def test_nan_on_one_process_is_recorded_with_the_whole_batch(runs):
    root, ends = runs
    codes, (first, second) = ends["nan"][0]
    assert codes == [1, 1]
    assert "training stopped at step 1: the image tower returned NaN" in first
    assert "tauten: " not in second
    failure = json.loads((root / "nan" / "failure.json").read_text())
    assert len(set(failure["index"])) == 16
    assert failure["step"] == 1
