"""Reads of the host, as ``hostreads`` counts them, and refusals that wait for a step's read."""

import pytest
import torch

from hostreads import HostReads, the_cpu_waits
from tauten.losses import NonFiniteLossError
from tauten.models import DualEncoder
from tauten.training import train

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
