"""Sharded checkpoints over 4, 2 and 1 processes, under DDP, FSDP2 and plain."""

import re
from pathlib import Path

import pytest
import torch

from by_path import load
from forks import run

SCRIPT = Path(__file__).with_name("sharded_worker.py")
worker = load(SCRIPT)
WHOLE = slice(0, worker.ROWS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder, and what each process of 4, 1 and 2 found."""
    folder = tmp_path_factory.mktemp("sharded")
    run(SCRIPT, folder)
    found = {
        world: [torch.load(folder / f"{world}-{rank}.pt") for rank in range(world)]
        for world in worker.SHARDS
    }
    return folder, found


SAVED = ["ddp-4", "fsdp2-4", "ddp-2", "fsdp2-2"]


@pytest.mark.parametrize("source", SAVED)
def test_one_process_has_the_bits_that_several_saved(runs, source):
    """All of which had the same; and it ends where a run without a stop ends."""
    folder, found = runs
    training = worker.Training(None, seed=1)
    loaded = training.load(folder / source)
    for state in found[int(source[-1])]:
        assert worker.unequal(loaded, state[source], exact=True) == []
    if source.endswith("4"):
        trained = training.train(slice(0, worker.ROWS))
        assert worker.unequal(trained, found[1][0]["end"], exact=False) == []


@pytest.mark.parametrize("wrapper", ["ddp", "fsdp2"])
@pytest.mark.parametrize("source", ["ddp-4", "fsdp2-4", "plain-1"])
def test_two_processes_have_the_bits_that_four_or_one_saved_and_go_on(runs, source, wrapper):
    """After three more steps weights, moments, tables and τ are those of a run without a stop."""
    for state in runs[1][2]:
        assert state[f"loaded {source} {wrapper}"] == []
        assert state[f"trained {source} {wrapper}"] == []


def test_the_state_was_in_motion_when_it_was_saved(runs):
    """What does not move between the save and the end would prove nothing."""
    middle, end = (runs[1][1][0][when] for when in ("plain-1", "end"))
    still = [name for name, value in end.items() if torch.equal(middle[name], value)]
    assert [name.rpartition(".")[2] for name in still] == ["fingerprint"]
    assert len(end) > 150


@pytest.mark.parametrize("source", SAVED)
def test_each_process_writes_its_share(runs, source):
    """Of weights, moments and tables: not each of them all, and not the first for all."""
    folder, found = runs
    world = int(source[-1])
    sizes = [(folder / source / f"__{rank}_0.distcp").stat().st_size for rank in range(world)]
    held = sum(value.nbytes for value in found[world][0][source].values())
    assert sum(sizes) < 1.1 * held
    assert max(sizes) < 1.2 * held / world
    assert min(sizes) > 0.8 * held / world


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "refused load",
            "(ValueError|ElsewhereError: process 1): this state was saved with the cluster counts",
        ),
        ("refused save", "RuntimeError: the checkpoint in .*refused was not written: .*out of bou"),
    ],
)
def test_where_one_process_fails_all_do(runs, what, message):
    """The second is of other data; it has more rows in a table."""
    folder, found = runs
    for state in found[2]:
        assert re.match(message, state[what], re.DOTALL)
    assert not (folder / "refused").exists()
