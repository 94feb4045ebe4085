"""The number of negatives of each anchor, where pairs that share an id are none."""

import pytest
import torch

import tauten as tt

IDS = torch.tensor([0, 1, 0, 2, 3, 1, 4, 4, 0])
OTHER = torch.tensor([0, 0, 1, 1, 2, 3, 3, 4, 5])


def counted(of_rows, of_cols):
    """Return the number of others that each row, and each column, shares no id with."""
    size = range(len(IDS))
    apart = [
        [i != j and all(a[i] != b[j] for a, b in zip(of_rows, of_cols, strict=True)) for j in size]
        for i in size
    ]
    table = torch.tensor(apart, dtype=torch.float32)
    return {"x2y": table.sum(1), "y2x": table.sum(0)}


@pytest.mark.parametrize("tile", ["dense", (3, 4)])
@pytest.mark.parametrize(
    ("same", "sides", "symmetric"),
    [
        ((IDS, OTHER), ([IDS, OTHER], [IDS, OTHER]), True),
        (((IDS, OTHER),), ([IDS], [OTHER]), False),
    ],
)
def test_rows_and_columns_have_theirs(tile, same, sides, symmetric):
    x, y = torch.randn(2, len(IDS), 4, generator=torch.Generator().manual_seed(0))
    batch = tt.InfoNCE(0.1, tile=tile).batch(x, y, same=same)
    assert batch.relation.symmetric is symmetric
    for direction, expected in counted(*sides).items():
        assert torch.equal(batch.negatives(direction), expected)
