"""Tiny models, trained for a few steps or saved with random weights."""

import numpy as np
import pytest
import torch

from ..models.conftest import saved_as  # noqa: F401
from ..training.conftest import tiny


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A finished tiny run; not to be changed."""
    from tauten.training import train

    return train(tiny(tmp_path_factory.mktemp("inference") / "run")).output


@pytest.fixture(scope="session")
def stored(run):
    """The embeddings that the trainer itself wrote for its test split."""
    from tauten.files import read_arrays

    return read_arrays(run / "embeddings.npz")


@pytest.fixture
def folder_of_pairs(tmp_path):
    """Twelve pictures with their captions beside them, and the pictures."""
    from tauten.data import emoji_lt

    folder, pictures = tmp_path / "pairs", []
    folder.mkdir()
    for row in emoji_lt("val").select(range(12)):
        row["image"].save(folder / f"{row['id']}.png")
        (folder / f"{row['id']}.txt").write_text(row["caption"])
        pictures.append((f"{row['id']}.png", row["caption"]))
    return folder, sorted(pictures)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    np.random.default_rng(0)
