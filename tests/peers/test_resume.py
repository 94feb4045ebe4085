"""Trainings of real peers: one undisturbed, one that is killed and goes on; their losses agree."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

HERE = Path(__file__).parent
#: share by which losses and temperatures may differ from those of an undisturbed training
TOLERANCE = 1e-6
#: seconds of one training
PATIENCE = 300
PACKAGES = {"open_clip": "open_clip_torch", "sentence_transformers": "sentence-transformers"}
#: peer, loss, more of its environment, optimiser steps in all, the step that is killed
CASES = [
    ("open_clip", "tables", {}, 18, 9),
    ("open_clip", "learned", {"ACCUMULATE": "2"}, 9, 5),
    ("sentence_transformers", "tables", {}, 8, 5),
    ("sentence_transformers", "learned", {"CACHED": "1"}, 8, 5),
    ("lightning", "tables", {"PROCESSES": "2"}, 18, 9),
    ("lightning", "tables", {"PROCESSES": "2", "APART": "1"}, 18, 9),
    ("transformers", "tables", {}, 8, 5),
    ("transformers", "learned", {"PROCESSES": "2"}, 8, 5),
    ("accelerate", "tables", {}, 9, 5),
    ("accelerate", "learned", {}, 9, 5),
]


def run(peer, out, killed=False, **environment):
    out.mkdir(exist_ok=True)
    command = [sys.executable, str(HERE / "run.py"), peer]
    if "PROCESSES" in environment:
        number = ["--standalone", "--nproc-per-node", environment["PROCESSES"]]
        command[1:1] = ["-m", "torch.distributed.run", *number]
    environment = {**os.environ, "OUT": str(out), "PYTHONPATH": str(HERE), **environment}
    with (out / "output.txt").open("w+") as output:
        started = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            code = started.wait(timeout=PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)  # what a killed process left running
    assert (code != 0) == killed, (out / "output.txt").read_text()[-8000:]


def losses(out, rank=0):
    """Return the losses by step, the later ones of a step that was made twice."""
    lines = (out / f"losses-{rank}.jsonl").read_text().splitlines()
    steps = {}
    for line in map(json.loads, lines):
        steps.setdefault(line["step"], []).append((line["loss"], line["tau"]))
    return steps


def logged(out):
    """Return the values of each scalar in TensorBoard's files under a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    values = {}
    for file in sorted(out.rglob("events.out.tfevents.*")):
        events = EventAccumulator(str(file))
        events.Reload()
        for name in events.Tags()["scalars"]:
            values.setdefault(name, []).extend(e.value for e in events.Scalars(name))
        for name in events.Tags()["tensors"]:
            tensors = events.Tensors(name)
            values.setdefault(name, []).extend(t.tensor_proto for t in tensors)
    return values


@pytest.mark.parametrize(("peer", "loss", "more", "steps", "kill"), CASES)
def test_a_killed_training_goes_on_as_if_nothing_had_happened(
    peer, loss, more, steps, kill, tmp_path, record_property, capsys
):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(peer, whole, LOSS=loss, **more)
    run(peer, broken, killed=True, LOSS=loss, KILL=str(kill), **more)
    before = losses(broken)
    run(peer, broken, LOSS=loss, **more)
    expected, after = losses(whole), losses(broken)
    assert sorted(expected) == sorted(after) == list(range(steps))
    assert max(before) == kill - 1 or len(before[kill]) < len(expected[kill])
    again = [step for step in after if len(after[step]) > len(before.get(step, []))]
    assert again, "nothing was trained after the kill"
    assert min(again) > 0, "the training began anew"
    worst = 0.0
    for step, values in expected.items():
        resumed = after[step][-len(values) :]
        for pair, other in zip(values, resumed, strict=True):
            both = zip(pair, other, strict=True)
            worst = max(worst, *(abs(a - b) / max(abs(a), TOLERANCE) for a, b in both))
    version = metadata.version(PACKAGES.get(peer, peer))
    options = "".join(f" {key}={value}" for key, value in more.items())
    with capsys.disabled():
        print(
            f"\n{peer} {version} {loss}{options}: killed in step {kill} of {steps}, resumed at "
            f"{min(again)}, largest relative difference {worst:.1e}"
        )
    assert worst <= TOLERANCE
    names = set(logged(whole))
    for group in ("mean", "head", "mid", "tail"):
        assert any(name.endswith(f"tau/{group}") for name in names), sorted(names)
