"""A loss beside an accelerator."""

from types import SimpleNamespace

import pytest
import torch

import tauten as tt
from tauten.integrations.accelerate import RegisteredLoss


def accelerator():
    registered = []
    return SimpleNamespace(
        device=torch.device("cpu"),
        unwrap_model=lambda module: getattr(module, "module", module),
        register_for_checkpointing=registered.append,
        registered=registered,
        sync_gradients=True,
        optimizer_step_was_skipped=False,
    )


def test_the_loss_is_stepped_where_the_optimiser_was():
    accelerate, loss_fn = accelerator(), tt.InfoNCE(tt.Cosine(0.1, 0.2, 4))
    registered = RegisteredLoss(accelerate, loss_fn, labels=[0, 1, 2])
    accelerate.sync_gradients = False
    assert not registered.step()
    accelerate.sync_gradients, accelerate.optimizer_step_was_skipped = True, True
    assert not registered.step()
    accelerate.optimizer_step_was_skipped = False
    assert registered.step()
    assert loss_fn.steps == 1
    expected = float(tt.Cosine(0.1, 0.2, 4).at(torch.tensor([0]), 1))
    assert registered.temperatures()["tau/tail"] == pytest.approx(expected)
    assert registered.hyper_parameters() == {"loss_fn": repr(loss_fn)}


def test_a_prepared_loss_is_unwrapped():
    accelerate, loss_fn = accelerator(), tt.InfoNCE(0.07)
    prepared = torch.nn.Module()
    prepared.module = loss_fn
    registered = RegisteredLoss(accelerate, prepared)
    assert accelerate.registered == [loss_fn]
    assert registered.step()
    assert loss_fn.steps == 1
