"""The streaming top-k equals sorting the whole matrix."""

import pytest
import torch
from torch.nn import functional as F

from tauten.pairwise import PairMask, nearest
from tauten.pairwise.nearest import topk_pairs


def draw(n, m, d=5):
    generator = torch.Generator().manual_seed(n * m)
    return (
        torch.randn(n, d, generator=generator, dtype=torch.float64),
        torch.randn(m, d, generator=generator, dtype=torch.float64),
    )


@pytest.mark.parametrize(("n", "m", "k"), [(1, 1, 1), (7, 9, 3), (9, 7, 7), (20, 31, 5)])
def test_tiles_find_the_largest_of_each_row(monkeypatch, n, m, k):
    monkeypatch.setattr(nearest, "_ROWS", 4)
    monkeypatch.setattr(nearest, "_COLS", 3)
    x, y = draw(n, m)
    values, columns = topk_pairs(x, y, k)
    s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T
    torch.testing.assert_close(values, s.sort(dim=1, descending=True).values[:, :k])
    torch.testing.assert_close(values, s.gather(1, columns))


def test_masked_pairs_are_left_out_and_rows_without_candidates_say_so(monkeypatch):
    monkeypatch.setattr(nearest, "_COLS", 2)
    x, y = draw(4, 4)
    out = torch.zeros(4, 4, dtype=torch.bool)
    out[2, [0, 1, 3]] = True
    mask = PairMask(torch.arange(4), own=True, ignore=out)
    values, columns = topk_pairs(x, y, 2, mask)
    s = (F.normalize(x, dim=1) @ F.normalize(y, dim=1).T).masked_fill(
        out | torch.eye(4, dtype=torch.bool), -torch.inf
    )
    torch.testing.assert_close(values, s.topk(2, dim=1).values)
    assert columns[2].tolist() == [-1, -1]
    assert not (columns == torch.arange(4)[:, None]).any()


def test_similarities_of_rows_as_they_are():
    x, y = draw(6, 8)
    values, _ = topk_pairs(x, y, 2, cosine=False)
    torch.testing.assert_close(values, (x @ y.T).topk(2, dim=1).values)


def test_bad_input_is_refused():
    x, y = draw(3, 4)
    for k in (0, 5, 1.5, True):
        with pytest.raises(ValueError, match="k must be a whole number from 1 to the 4 rows of y"):
            topk_pairs(x, y, k)
    with pytest.raises(ValueError, match=r"x and y must be \(N, d\) and \(M, d\)"):
        topk_pairs(x, y[:, :2], 1)
