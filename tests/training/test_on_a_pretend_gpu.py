"""Whole trainings on a pretend CUDA device: nothing mixes devices, and steps hardly wait."""

import json
import math

import pytest

from pretend_gpu import PretendGPU
from tauten.training import train
from tauten.training.loop.monitor import Monitor
from tauten.training.loop.trainer import ContrastiveTrainer

VIEWS = {"task": "views", "evaluation__metric": "knn@10/class_mean", "model__grid": 2}
#: options of a training, and how often at most a step without a line of history waits
TRAININGS = {
    "mmts": ({"control__kind": "mmts"}, 1),
    "isogclr": ({"family": "isogclr"}, 2),
    "tempnet": ({"family": "sogclr", "control__kind": "tempnet", "loss__rho": 7.0}, 2),
    "queue": ({"loss__queue": 48, "loss__momentum": 0.9, "loss__distill": 0.4}, 3),
    "views": (VIEWS | {"control__kind": "mmts", "loss__queue": 48}, 2),
}


def waits_of_steps(gpu, monkeypatch):
    """Return a list of the places where each step without a line of history will wait."""
    steps, step, end = [], ContrastiveTrainer.training_step, Monitor.on_step_end

    def begun(trainer, *args, **kwargs):
        gpu.waits.clear()
        return step(trainer, *args, **kwargs)

    def ended(monitor, args, state, control, **kwargs):
        control = end(monitor, args, state, control, **kwargs)
        if not control.should_log and state.global_step > 2:  # the first find what they have
            steps.append(list(gpu.waits))
        return control

    monkeypatch.setattr(ContrastiveTrainer, "training_step", begun)
    monkeypatch.setattr(Monitor, "on_step_end", ended)
    return steps


def history(config):
    lines = (config.output / "history.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_is_that_of_main_memory_and_hardly_waits(
    name, make_config, tmp_path, monkeypatch
):
    fields, most = TRAININGS[name]
    configs = {}
    for device in ("cpu", "cuda"):
        config = configs[device] = make_config(tmp_path / device, **fields)
        config.device, config.log_every, config.evaluation.bootstrap = device, 4, 0
        config.optim.max_grad_norm = 1.0
    train(configs["cpu"])
    with PretendGPU() as gpu:
        steps = waits_of_steps(gpu, monkeypatch)
        train(configs["cuda"])
    assert steps
    for places in steps:
        assert 0 < len(places) <= most, "\n".join(places)
    lines = [history(config) for config in configs.values()]
    assert len(lines[0]) == len(lines[1])
    for here, there in zip(*lines, strict=True):
        assert here.keys() == there.keys()
        for key in here:
            assert math.isclose(here[key], there[key], rel_tol=1e-3, abs_tol=1e-5), key
