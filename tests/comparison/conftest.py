"""Grids small enough for tests."""

import pytest

from tauten.comparison import Grid, SyntheticConfig, synthetic

PAIRS = SyntheticConfig(concepts=12, pairs=240, queries=3, dim=6, width=10)


def small(output, **fields):
    """A grid whose trainings are a few steps on synthetic pairs."""
    settings = {"optim.epochs": 2, "optim.batch_size": 60, "model.dim": 8}
    given = {
        "recipe": "synthetic",
        "controls": ("constant", "mmts", "matched"),
        "seeds": (0, 1),
        "trials": 1,
        "synthetic": PAIRS,
        "settings": settings | fields.pop("settings", {}),
        "threads": 1,
        "progress": False,
    }
    return Grid(output, **(given | fields))


@pytest.fixture(scope="session")
def make_grid():
    return small


@pytest.fixture(scope="session")
def pairs():
    return synthetic(PAIRS)
