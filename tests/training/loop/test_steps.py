"""The trainer takes the steps that are counted; a training ends once, wherever it was stopped."""

import json
import math
import os
import shutil
import signal

import pytest
from safetensors.torch import load_file

from tauten.training import train
from tauten.training.loop.monitor import Monitor
from tauten.training.loop.steps import Steps
from tauten.training.options.config import EvaluationConfig, OptimConfig


def history(run):
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def same(one, other, step):
    """Weights and state, history, and the checkpoints that are kept."""
    first, second = (
        load_file(run / "checkpoints" / f"checkpoint-{step}" / "model.safetensors")
        for run in (one, other)
    )
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.numpy().tobytes() == second[name].numpy().tobytes(), name
    assert (one / "history.jsonl").read_text() == (other / "history.jsonl").read_text()
    kept = [sorted(path.name for path in (run / "checkpoints").iterdir()) for run in (one, other)]
    assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("size", "batch", "accumulation", "epochs", "expected"),
    [
        (400, 50, 1, 4.0, (8, 32)),
        (400, 50, 5, 8.0, (2, 16)),
        (31 * 4 + 3, 4, 4, 3.0, (8, 24)),
        (100, 30, 5, 2.5, (1, 2)),
        (100, 10, 1, 3.55, (10, 36)),
        (100, 10, 1, 0.01, (10, 1)),
    ],
)
def test_a_rest_of_batches_is_a_step(size, batch, accumulation, epochs, expected):
    optim = OptimConfig(batch_size=batch, accumulation=accumulation, epochs=epochs)
    found = Steps.of(size, optim, EvaluationConfig(every=1.0))
    assert (found.per_epoch, found.total) == expected
    assert found.between == min(expected)


def uneven(make_config, output, **fields):
    """Five batches an epoch, two of them a step: three steps an epoch."""
    return make_config(
        output,
        **{
            "data__limit": 80,
            "optim__batch_size": 16,
            "optim__accumulation": 2,
            "log_every": 1,
            **fields,
        },
    )


def test_schedules_by_epoch_follow_the_epochs_of_the_trainer(tmp_path, make_config):
    """TS holds a value for an epoch, and counts epochs from 1; four epochs are one period."""
    config = uneven(make_config, tmp_path / "run", control__kind="cosine", control__every="epoch")
    config.optim.epochs, config.control.oscillations = 4, 1
    config.control.low, config.control.high = 0.1, 0.5
    run = train(config)
    lines = [line for line in history(run.output) if "loss" in line]
    assert run.total_steps == 12
    assert lines[-1]["epoch"] == 4.0
    assert [line["epoch"] for line in lines] == pytest.approx(
        [epoch + done for epoch in range(4) for done in (0.4, 0.8, 1.0)]
    )
    expected = [0.3 + 0.2 * math.cos(2 * math.pi * (step // 3 + 1) / 4) for step in range(12)]
    assert [line["tau/mean"] for line in lines] == pytest.approx(expected, abs=1e-6)
    evaluated = [line["step"] for line in history(run.output) if "val/mean_recall" in line]
    assert evaluated == [3, 6, 9, 12]


def test_a_line_of_history_has_the_temperature_of_its_step(tmp_path, make_config):
    config = make_config(tmp_path / "run", control__kind="cosine", log_every=1)
    config.control.low, config.control.high, config.control.oscillations = 0.1, 0.3, 1.0
    lines = [line for line in history(train(config).output) if "loss" in line]
    expected = [0.2 + 0.1 * math.cos(2 * math.pi * step / 6) for step in range(6)]
    assert [line["tau/mean"] for line in lines] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("checkpoint", ["whole", "sharded"])
def test_a_finished_training_trains_no_further_step(tmp_path, make_config, monkeypatch, checkpoint):
    """With part of an epoch at the end, killed before the results, and killed again."""

    def config(name):
        return uneven(make_config, tmp_path / name, optim__epochs=1.5, checkpoint=checkpoint)

    whole = train(config("whole"))
    with monkeypatch.context() as patched:
        from tauten.training.tasks import results

        def die(*_, **__):
            raise OSError("killed")

        patched.setattr(results, "_write", die)
        for _ in range(2):
            with pytest.raises(OSError, match="killed"):
                train(config("run"))
    again = train(config("run"))
    assert whole.total_steps == again.total_steps == 4
    assert (again.best_step, again.test, again.val) == (whole.best_step, whole.test, whole.val)
    if checkpoint == "whole":
        same(whole.output, again.output, 4)
    (again.output / "results.json").unlink()
    assert train(config("run")).test == whole.test
    assert (again.output / "checkpoints" / "checkpoint-4").is_dir()
    for name in ("samples.npz", "embeddings.npz"):
        assert (whole.output / name).read_bytes() == (again.output / name).read_bytes()


class Stopped:
    """Sends the process a signal at some steps, once each."""

    def __init__(self, monkeypatch, at):
        self.left = dict(at)
        original = Monitor.on_step_end

        def step_end(monitor, args, state, control, **kwargs):
            if state.global_step in self.left:
                os.kill(os.getpid(), self.left.pop(state.global_step))
            return original(monitor, args, state, control, **kwargs)

        monkeypatch.setattr(Monitor, "on_step_end", step_end)


def test_a_stop_saves_the_step_and_the_same_command_goes_on_from_it(
    tmp_path, make_config, monkeypatch
):
    def config(name):
        made = uneven(make_config, tmp_path / name, control__kind="mmts", optim__epochs=3)
        made.log_every, made.evaluation.every = 4, 2
        return made

    whole = train(config("whole")).output
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    Stopped(monkeypatch, {2: signal.SIGINT, 3: signal.SIGTERM, 5: signal.SIGINT})
    run = tmp_path / "run"
    for step, error in ((2, KeyboardInterrupt), (3, SystemExit), (5, KeyboardInterrupt)):
        with pytest.raises(error) as stopped:
            train(config("run"))
        assert (run / "checkpoints" / f"checkpoint-{step}").is_dir()
        if error is KeyboardInterrupt:
            assert f"stopped at step {step}" in str(stopped.value)
        else:
            assert stopped.value.code == 143
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(config("run"))
    same(whole, run, 9)
    shutil.rmtree(run)


def test_a_stop_at_the_last_step_leaves_only_the_results_to_write(
    tmp_path, make_config, monkeypatch
):
    Stopped(monkeypatch, {6: signal.SIGINT})
    config = make_config(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt, match="stopped at step 6"):
        train(config)
    assert train(config).total_steps == 6
