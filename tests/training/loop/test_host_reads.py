"""How often a training step asks the host for a number, which on a GPU waits for the device."""

import pytest
import torch

from hostreads import HostReads, the_cpu_waits
from tauten.losses import NonFiniteLossError
from tauten.models import DualEncoder
from tauten.training import train
from tauten.training.loop.monitor import Monitor
from tauten.training.loop.trainer import ContrastiveTrainer
from tauten.training.stores.pairs import PairStore

MASK = torch.tensor([True, False, True])
NUMBERS = torch.tensor([1.0, 2.0, 2.0])
WAYS = {
    "float": lambda: float(NUMBERS[0]),
    "bool": lambda: bool(MASK.any()),
    "if": lambda: 1 if NUMBERS.sum() > 0 else 0,
    "item": lambda: NUMBERS[0].item(),
    "tolist": lambda: NUMBERS.tolist(),
    "numpy": lambda: NUMBERS.numpy(),
    "cpu": lambda: NUMBERS.cpu(),
    "equal": lambda: torch.equal(NUMBERS, NUMBERS),
    "allclose": lambda: torch.allclose(NUMBERS, NUMBERS),
    "mask": lambda: NUMBERS[MASK],
    "masked": lambda: NUMBERS.clone().__setitem__(MASK, torch.zeros(2)),
    "select": lambda: NUMBERS.masked_select(MASK),
    "nonzero": lambda: MASK.nonzero(),
    "unique": lambda: NUMBERS.unique(),
    "bincount": lambda: torch.bincount(NUMBERS.long()),
    "format": lambda: f"{NUMBERS[0]:g}",
    "range": lambda: range(int(NUMBERS[1])),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_counter_sees(way):
    with HostReads() as reads:
        NUMBERS * 2 + NUMBERS.sum()
        assert reads.places == []
        WAYS[way]()
    assert reads.places


@pytest.fixture
def as_a_gpu():
    with the_cpu_waits():
        yield


def counted(config, monkeypatch):
    """Return the places of the reads of each step without a line of history."""
    steps, reads = [], HostReads()
    before = {
        "step": ContrastiveTrainer.training_step,
        "end": Monitor.on_step_end,
        "batch": PairStore.batch,
        "pre": Monitor.on_pre_optimizer_step,
    }

    def step(trainer, *args, **kwargs):
        reads.places.clear()
        return before["step"](trainer, *args, **kwargs)

    def end(monitor, args, state, control, **kwargs):
        control = before["end"](monitor, args, state, control, **kwargs)
        if not control.should_log:
            steps.append(list(reads.places))
        return control

    def batch(store, *args, **kwargs):
        with reads.pause():
            return before["batch"](store, *args, **kwargs)

    monkeypatch.setattr(ContrastiveTrainer, "training_step", step)
    monkeypatch.setattr(Monitor, "on_step_end", end)
    monkeypatch.setattr(PairStore, "batch", batch)
    with reads:
        train(config)
    return steps


MOST = {("infonce", "mmts"): 1, ("isogclr", "individual"): 2}


@pytest.mark.parametrize(("family", "control"), MOST)
def test_a_training_step_reads_few_numbers(
    make_config, tmp_path, as_a_gpu, monkeypatch, family, control
):
    config = make_config(tmp_path / "run", family=family, control__kind=control)
    config.device, config.log_every, config.evaluation.bootstrap = "cpu", 1000, 0
    config.optim.max_grad_norm = 1.0
    steps = counted(config, monkeypatch)
    assert len(steps) > 2
    for places in steps:
        assert 0 < len(places) <= MOST[family, control], "\n\n".join(places)


def test_what_a_tower_returned_is_refused_before_the_optimiser_steps(
    make_config, tmp_path, as_a_gpu, monkeypatch
):
    stepped, before = [], torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda *a, **k: (stepped.append(1), before(*a, **k))[1]
    )
    config = make_config(tmp_path / "run", control__kind="mmts")
    config.device = "cpu"
    monkeypatch.setattr(DualEncoder, "forward", spoilt(DualEncoder.forward, at=2))
    with pytest.raises(NonFiniteLossError, match="the image tower returned NaN"):
        train(config)
    assert len(stepped) == 1


def spoilt(forward, at):
    """Return the forward pass of an encoder whose ``at``-th batch of training has a NaN."""
    count = []

    def found(encoder, images, texts):
        x, y = forward(encoder, images, texts)
        count.extend([1] if encoder.training else [])
        return (x * float("nan") if encoder.training and len(count) == at else x), y

    return found
