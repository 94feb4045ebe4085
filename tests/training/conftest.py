"""A run small enough for tests."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tauten.training import Config, specs, train


def tiny(output: Path, **fields) -> Config:
    """A few optimiser steps on a few real pairs."""
    config = Config(output=output, progress=False, tensorboard=False, log_every=2)
    config.data.limit = 96
    config.model.channels, config.model.dim, config.model.text_width = (8,), 8, 8
    config.optim.batch_size, config.optim.epochs = 32, 2
    config.evaluation.every, config.evaluation.bootstrap = 1, 20
    config.loss = specs.loss(fields.pop("family", "infonce"))
    kind = fields.pop("control__kind", config.loss.own_control() or "constant")
    config.control = specs.control(kind)
    for path, value in fields.items():
        *parts, last = path.split("__")
        owner = config
        for part in parts:
            owner = getattr(owner, part)
        assert hasattr(owner, last), path
        setattr(owner, last, value)
    return config


@pytest.fixture(scope="session")
def make_config():
    return tiny


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A finished tiny run with MM-TS; not to be changed."""
    from tauten.training import train

    output = tmp_path_factory.mktemp("finished") / "run"
    return train(tiny(output, control__kind="mmts", tensorboard=True))


class StopHereError(Exception):
    """An end in the middle of a step."""


def interrupted(config: Config, monkeypatch, step: int) -> None:
    """Train until the training is broken in this step; its last checkpoint stays."""
    from tauten.training.loop.trainer import ContrastiveTrainer

    usual = ContrastiveTrainer.training_step

    def broken(trainer, *args, **kwargs):
        if trainer.state.global_step == step:
            raise StopHereError
        return usual(trainer, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(ContrastiveTrainer, "training_step", broken)
        with pytest.raises(StopHereError):
            train(config)


def synthetic_video(
    file: Path, seconds: float, fps: int = 4, side: int = 16, seed: int = 0
) -> Path:
    """A video of one colour a frame, drawn at random: of nothing."""
    av = pytest.importorskip("av", reason="video files need PyAV")
    file.parent.mkdir(parents=True, exist_ok=True)
    colors = np.random.default_rng(seed).integers(0, 256, (round(seconds * fps), 3))
    with av.open(str(file), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width = stream.height = side
        stream.pix_fmt, stream.bit_rate = "yuv420p", 1_000_000
        for color in colors:
            pixels = np.full((side, side, 3), color, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())
    return file


@pytest.fixture(scope="session")
def make_video():
    return synthetic_video


class Interrupted(BaseException):
    """Ends a run from within a step."""


@pytest.fixture
def check_resumed(monkeypatch):
    """Check that a run broken off in a step, and started again, ends with the bits of a whole one.

    The function takes the configurations of both, the module whose call is broken off, in which
    step, and the last step; it returns the tensors of the last checkpoint.
    """

    def check(whole: Config, cut: Config, module, step: int, last: int):
        calls, forward = [], module.forward

        def broken(self, *args, **kwargs):
            calls.append(1)
            if len(calls) == step:
                raise Interrupted
            return forward(self, *args, **kwargs)

        runs = [train(whole)]
        with monkeypatch.context() as patch:
            patch.setattr(module, "forward", broken)
            with pytest.raises(Interrupted):
                train(cut)
        torch.manual_seed(99)
        runs.append(train(cut))
        assert runs[0].test == runs[1].test
        first, second = (
            load_file(run.output / "checkpoints" / f"checkpoint-{last}" / "model.safetensors")
            for run in runs
        )
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
        histories = [(run.output / "history.jsonl").read_text() for run in runs]
        assert histories[0] == histories[1]
        return first

    return check
