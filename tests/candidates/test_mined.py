"""Mined negatives against sorting the whole matrix of cosines."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from tauten.candidates import OwnNegatives, mined_negatives
from tauten.pairwise import nearest


def drawn(rows, columns):
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 5, generator=generator)
    sides = (
        centres[torch.arange(n) % 3] + 0.4 * torch.randn(n, 5, generator=generator)
        for n in (rows, columns)
    )
    return tuple(side.double() for side in sides)


def literal(x, y, k, at, skip, share, margin, out):
    s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T
    found = []
    for i in range(len(x)):
        order = [j for j in s[i].argsort(descending=True).tolist() if j != at[i] and not out[i, j]]
        limit = (
            float("inf") if share is None and not margin else (share or 1) * s[i, at[i]] - margin
        )
        kept = [j for j in order[skip:] if s[i, j] <= limit][:k]
        found.append(kept + [-1] * (k - len(kept)))
    return torch.tensor(found)


@pytest.mark.parametrize(
    ("k", "skip", "share", "margin"),
    [(1, 0, None, 0.0), (3, 2, None, 0.0), (4, 0, 0.9, 0.0), (2, 1, None, 0.3), (30, 0, 0.95, 0.1)],
)
def test_they_are_the_most_similar_that_are_far_enough_from_the_positive(
    monkeypatch, k, skip, share, margin
):
    monkeypatch.setattr(nearest, "_ROWS", 4)
    monkeypatch.setattr(nearest, "_COLS", 5)
    x, y = drawn(11, 26)
    at = torch.arange(11) * 2
    ids = torch.arange(11) % 4, torch.arange(26) % 4
    out = ids[0][:, None] == ids[1]
    rows, cosines = mined_negatives(x, y, k, at, skip=skip, share=share, margin=margin, same=[ids])
    assert torch.equal(rows, literal(x, y, k, at, skip, share, margin, out))
    s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T
    told = s.gather(1, rows.clamp(min=0)).masked_fill(rows < 0, -torch.inf)
    torch.testing.assert_close(cosines.double(), told, rtol=1e-5, atol=1e-6)


def test_what_is_mined_goes_into_a_loss_as_own_negatives():
    x, y = drawn(8, 8)
    rows, _ = mined_negatives(x, y, 3, share=0.95)
    own = OwnNegatives(y[rows.clamp(min=0)], missing_x=rows < 0)
    loss = tt.InfoNCE(0.1, directions="x2y").double()(x, y, negatives=own)
    s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / 0.1
    told = 0
    for i in range(8):
        hard = [s[i, j] for j in rows[i].tolist() if j >= 0]
        told = (
            told + (torch.cat([s[i], torch.stack(hard)]) if hard else s[i]).logsumexp(0) - s[i, i]
        )
    torch.testing.assert_close(loss, told / 8)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 0}, "k must be at least 1|k must be"),
        ({"k": 1, "share": 1.5}, r"share in \(0, 1\], got 0.0 and 1.5"),
        ({"k": 1, "margin": -0.1}, "margin must be >= 0"),
        ({"k": 1, "skip": -1}, "skip must be"),
        ({"k": 1, "y_of_x": torch.arange(7) + 3}, r"\(7,\) rows of y in 0 .. 8"),
        ({"k": 1, "y_of_x": [0] * 7}, r"y_of_x must be a vector \(N,\) of rows of y, got list"),
        ({"k": 1, "same": [(torch.arange(7), torch.arange(7))]}, r"\(7,\) and \(9,\)"),
        ({"k": 1, "same": (torch.arange(7), torch.arange(9))}, r"list of pairs of id vectors"),
        ({"k": 1, "same": torch.arange(7)}, r"list of pairs of id vectors"),
    ],
)
def test_what_does_not_fit_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        mined_negatives(*drawn(7, 9), **options)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v.index_fill(0, torch.tensor([2, 4]), torch.nan), "in 2 of . rows: 2, 4; leave"),
        (lambda v: v.long(), "must be a tensor of floating numbers, got torch.int64"),
        (lambda v: v.numpy(), "must be a tensor of floating numbers, got ndarray"),
        (lambda v: v[:, :0], r"\(N, d\) and \(M, d\)"),
    ],
)
@pytest.mark.parametrize("at", [0, 1])
def test_embeddings_that_have_no_cosines_are_refused(at, change, said):
    sides = list(drawn(7, 9))
    sides[at] = change(sides[at])
    with pytest.raises(ValueError, match=said):
        mined_negatives(*sides, 2)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_rows_of_any_length_have_their_cosines(scale):
    x, y = (side.float() for side in drawn(7, 9))
    rows, cosines = mined_negatives(x * scale, y * scale, 3)
    expected = literal(x, y, 3, range(7), 0, None, 0.0, torch.zeros(7, 9, dtype=torch.bool))
    assert torch.equal(rows, expected)
    s = F.normalize(x.double(), dim=1) @ F.normalize(y.double(), dim=1).T
    torch.testing.assert_close(cosines.double(), s.gather(1, rows), rtol=1e-5, atol=1e-6)
