"""Float16 with scaled losses: what is left out where gradients overflow.

accelerate scales losses on a GPU alone, so that torch's own scaler is put in its place here.
"""

import json
import math
from itertools import pairwise

import pytest
import torch

from tauten.candidates import MomentumEncoder
from tauten.losses import ContrastiveLoss
from tauten.training import train
from tauten.training.loop.compute import check_device
from tauten.training.loop.trainer import ContrastiveTrainer
from tauten.training.run.run_folder import RunFolder

from ..conftest import interrupted

#: float16 ends at 2 ** 16: with this scale gradients overflow at first
TOO_LARGE = 2.0**18


@pytest.fixture
def scaled(monkeypatch):
    """Let trainings in float16 run on the CPU; returns the scale that they start with."""
    start = {"scale": TOO_LARGE}
    made = ContrastiveTrainer.create_accelerator_and_postprocess

    def create(trainer):
        made(trainer)
        scaler = torch.amp.GradScaler("cpu", init_scale=start["scale"], growth_interval=10**6)
        trainer.accelerator.scaler, trainer.accelerator.native_amp = scaler, True

    monkeypatch.setattr(ContrastiveTrainer, "create_accelerator_and_postprocess", create)
    monkeypatch.setattr("tauten.training.session.check_device", lambda *_: None)
    return start


def half(make_config, output, **fields):
    config = make_config(output, control__kind="mmts", optim__precision="fp16", **fields)
    config.log_every = 1
    config.control.oscillations = 1
    config.device = "cpu"
    config.evaluation.bootstrap = 0
    return config


def test_a_step_that_is_left_out_moves_nothing(make_config, tmp_path, scaled, monkeypatch):
    seen = []
    before = ContrastiveLoss.step, MomentumEncoder.update
    monkeypatch.setattr(
        ContrastiveLoss, "step", lambda loss, **k: (seen.append("loss"), before[0](loss, **k))
    )
    monkeypatch.setattr(MomentumEncoder, "update", lambda *a: (seen.append("slow"), before[1](*a)))
    config = half(make_config, tmp_path / "run")
    config.loss.queue, config.optim.epochs = 32, 3
    config.optim.max_grad_norm = 1.0
    train(config)
    lines = [line for line in RunFolder(config.output).history.read() if "loss" in line]
    counted = [0, *(line["steps_left_out"] for line in lines)]
    lost = [after - before for before, after in pairwise(counted)]
    assert lost[0] == 1
    assert set(lost) == {0, 1}
    assert seen.count("loss") == seen.count("slow") == lost.count(0)
    for (line, after), was_lost in zip(pairwise(lines), lost, strict=False):
        assert (after["tau/mean"] == line["tau/mean"]) == bool(was_lost)
        assert math.isfinite(line["grad_norm"]) == (not was_lost)
    assert lines[0]["learning_rate"] == lines[1]["learning_rate"] == 0.0


def test_the_scale_goes_on_after_an_interruption(make_config, tmp_path, scaled, monkeypatch):
    scaled["scale"] = TOO_LARGE * 2
    whole, broken = (half(make_config, tmp_path / name) for name in ("whole", "broken"))
    result = train(whole)
    interrupted(broken, monkeypatch, step=4)
    scaled["scale"] = 1.0  # which the checkpoint replaces
    assert train(broken).test == result.test
    first, second = ((config.output / "history.jsonl").read_text() for config in (whole, broken))
    assert first == second
    assert (
        broken.output / "checkpoints" / f"checkpoint-{result.total_steps}" / "scaler.pt"
    ).exists()
    assert not (broken.output / "checkpoints" / "best" / "scaler.pt").exists()


def test_gradients_are_those_without_a_scale(make_config, tmp_path, scaled):
    losses = []
    for scale in (2.0**8, 1.0):
        scaled["scale"] = scale
        config = half(make_config, tmp_path / str(scale))
        train(config)
        lines = [line for line in RunFolder(config.output).history.read() if "loss" in line]
        assert lines[-1]["steps_left_out"] == 0
        losses.append([(line["loss"], line["grad_norm"]) for line in lines])
    for scaled_line, plain in zip(*losses, strict=True):
        assert scaled_line == pytest.approx(plain, rel=0.05)


def test_gradients_that_no_scale_mends_end_the_run(make_config, tmp_path, scaled, monkeypatch):
    scaled["scale"] = 4.0
    stepped = ContrastiveTrainer._finite_grad_norm

    def broken(trainer):
        next(trainer.contrastive.parameters()).grad.fill_(torch.inf)
        return stepped(trainer)

    monkeypatch.setattr(ContrastiveTrainer, "_finite_grad_norm", broken)
    config = half(make_config, tmp_path / "run")
    with pytest.raises(ValueError, match="NaN or infinite in 1 parameters: .*float16 ends at"):
        train(config)
    assert json.loads((config.output / "failure.json").read_text())["step"] == 2


def test_float16_without_a_gpu_is_refused(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = make_config(tmp_path, optim__precision="fp16")
    with pytest.raises(ValueError, match="optim.precision=fp16 needs a GPU: on a CPU accelerate"):
        check_device(config.device, config.optim.precision)
