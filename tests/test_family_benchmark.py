"""The benchmark of the family steps every loss and every term that there is."""

from pathlib import Path

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

import tauten as tt
from by_path import load
from tauten.losses import __all__ as losses

#: modules that are no objective by themselves, and iSogCLR, whose spec builds what it is
BESIDE = {"ContrastiveLoss", "PairGate", "iSogCLR"}


@pytest.fixture(scope="module")
def contenders():
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "contenders.py"
    return load(path).contenders()


def objectives():
    """Return the names of all losses and terms that are modules."""
    homes = [(tt, losses), (tt.terms, tt.terms.__all__)]
    every = {name: getattr(home, name) for home, names in homes for name in names}
    return {
        name
        for name, made in every.items()
        if isinstance(made, type) and issubclass(made, torch.nn.Module)
    } - BESIDE


def test_every_loss_and_every_term_is_measured(contenders):
    stepped = set()
    hook = register_module_forward_hook(
        lambda module, *_: stepped.update(base.__name__ for base in type(module).__mro__)
    )
    try:
        for make in contenders.values():
            make(16, 8)()
    finally:
        hook.remove()
    assert objectives() - stepped == set()
    assert {"isogclr", "swav, 2 crops", "term PixelConsistency"} <= contenders.keys()
