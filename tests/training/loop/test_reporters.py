"""Loggers of transformers have the options of a run, its temperatures and its metrics."""

import json

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from tauten.training import train
from tauten.training.loop.reporters import Reporters


class StandIn(TrainerCallback):
    """A logger that keeps what it is called with."""

    calls: list = []  # noqa: RUF012

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.calls.append(
            ("options", model.config.to_dict(), json.loads(model.config.to_json_string()))
        )

    def on_log(self, args, state, control, model=None, logs=None, **kwargs):
        self.calls.append(("line", state.global_step, logs))

    def on_train_end(self, args, state, control, **kwargs):
        self.calls.append(("end",))


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setattr(StandIn, "calls", [])
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "stand-in", StandIn)
    return StandIn.calls


def test_a_logger_has_all_of_a_run(stand_in, make_config, tmp_path):
    config = make_config(tmp_path / "run", control__kind="mmts", report_to=("stand-in",))
    config.optim.epochs, config.evaluation.bootstrap = 1, 0
    result = train(config)
    (first, options, as_json), *lines, last = stand_in
    assert (first, last) == ("options", ("end",))
    assert options["control.kind"] == as_json["control.kind"] == "mmts"
    assert options["optim.batch_size"] == 32
    training = [(step, line) for _, step, line in lines if "loss" in line]
    assert [step for step, _ in training] == [1, 2, 3]
    history = [json.loads(line) for line in (config.output / "history.jsonl").open()]
    for (_, line), written in zip(training, history, strict=False):
        assert {"tau/tail", "tau/spearman", "force/attraction/tail"} <= set(line)
        assert line == {k: v for k, v in written.items() if k not in ("step", "epoch")}
    ((step, validation),) = [(s, line) for _, s, line in lines if "eval_x2y/hit@1" in line]
    assert step == 3
    assert validation["eval_x2y/hit@1"] == history[-1]["val/x2y/hit@1"]
    step, test = lines[-1][1:]
    assert step == 3
    assert test == {f"test_{name}": value for name, value in result.test.items()}

    del stand_in[:]
    assert train(config).test == result.test  # finished: nothing is reported again
    assert stand_in == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorboard", "report_to=tensorboard is not for a logger: --tensorboard"),
        ("wand", "report_to: wand is not supported, only .*wandb"),
    ],
)
def test_other_names_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        Reporters((name,), {})


def test_a_logger_that_is_not_installed_is_named(monkeypatch):
    def missing():
        raise RuntimeError("Logger requires logger to be installed: pip install logger")

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "logger", missing)
    with pytest.raises(ImportError, match="report_to: .* pip install logger"):
        Reporters(("logger",), {})


def test_without_loggers_nothing_is_called():
    reporters = Reporters((), {})
    reporters.log({"loss": 1.0})
    reporters.close()
    assert reporters.callbacks == []
