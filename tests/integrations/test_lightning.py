"""The callback of Lightning, called as its trainer calls it."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import tauten as tt


class Logger:
    """A logger that keeps what it is given."""

    def __init__(self):
        self.options = {}

    def log_hyperparams(self, options):
        self.options |= options


class Module(nn.Module):
    """The part of a LightningModule that the callback meets."""

    device = torch.device("cpu")

    def __init__(self, **parts):
        super().__init__()
        self.lines = []
        for name, part in parts.items():
            setattr(self, name, part)

    def log_dict(self, values, **options):
        self.lines.append((values, options))


def trainer(every=2, scaler=None):
    precision = SimpleNamespace(scaler=scaler)
    return SimpleNamespace(
        global_step=0, log_every_n_steps=every, loggers=[Logger()], precision_plugin=precision
    )


def begin(callback, trainer, module):
    callback.setup(trainer, module, "fit")
    callback.on_train_start(trainer, module)


def batches(callback, trainer, module, steps):
    """Go through batches after which the trainer's step is the given one."""
    for step in steps:
        trainer.global_step = step
        callback.on_train_batch_end(trainer, module, None, None, 0)


def test_each_loss_is_stepped_once_per_optimiser_step(stand_ins):
    first, second = tt.InfoNCE(tt.Cosine(0.1, 0.2, 4)), tt.InfoNCE(0.07)
    module, train = Module(loss_fn=first, other=nn.ModuleList([second])), trainer()
    callback = stand_ins("lightning").LossCallback(labels=[0, 1, 2])
    begin(callback, train, module)
    batches(callback, train, module, [0, 1, 1, 2, 2, 3])  # two batches for each step
    assert (first.steps, second.steps) == (3, 3)
    (values, options), (of_other, _) = module.lines
    assert of_other["other.0/tau/mean"] == pytest.approx(0.07)
    assert options == {"on_step": True, "on_epoch": False}
    # the second step is logged with the temperature that it was made with, that of step 1
    tau = tt.Cosine(0.1, 0.2, 4).at(torch.tensor([0]), 1)
    assert values["tau/mean"] == pytest.approx(float(tau))
    assert {"tau/head", "tau/mid", "tau/tail"} <= set(values)
    assert {"loss_fn": repr(first), "other.0/loss_fn": repr(second)} == train.loggers[0].options


def test_a_step_that_the_scaler_leaves_out_is_none(stand_ins):
    scaler = SimpleNamespace(scale=8.0, get_scale=lambda: scaler.scale)
    module, train = Module(loss_fn=tt.InfoNCE(0.07)), trainer(scaler=scaler)
    callback = stand_ins("lightning").LossCallback()
    begin(callback, train, module)
    batches(callback, train, module, [1])
    scaler.scale = 4.0
    batches(callback, train, module, [2])
    batches(callback, train, module, [3])
    assert module.loss_fn.steps == 2


def test_the_state_of_a_loss_apart_is_the_callbacks(stand_ins):
    make = lambda: tt.InfoNCE(tt.Cosine(0.1, 0.2, 4))  # noqa: E731
    module, train = Module(), trainer()
    callback = stand_ins("lightning").LossCallback(make())
    begin(callback, train, module)
    batches(callback, train, module, [1, 2, 3])
    other = stand_ins("lightning").LossCallback(make())
    other.load_state_dict(callback.state_dict())
    assert other.loss_fn.steps == other.loss_fn.strength.steps == 3
    assert stand_ins("lightning").LossCallback().state_dict() == {}


def test_what_would_not_be_trained_is_refused(stand_ins):
    callback = stand_ins("lightning").LossCallback
    with pytest.raises(ValueError, match="Module has no loss of tauten"):
        begin(callback(), trainer(), Module())
    with pytest.raises(ValueError, match="parameters that are learned: make it an attribute"):
        callback(tt.InfoNCE(tt.Learnable(0.07, 0.01, 1.0)))
