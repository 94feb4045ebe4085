"""The symmetric multi-similarity loss against a literal loop, and what it refuses."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tauten as tt

N, D, TIE, SLACK = 7, 5, 1.1 / 240, 0.1
COUNTS = [1, 3, 9, 27, 81, 243, 729]
INDEX = torch.tensor([6, 0, 3, 2, 2, 5, 1])
TILES = ["dense", 1, 3, (2, 4)]


def h(delta, margin, gap):
    if delta > TIE:
        return max(0.0, delta * margin - gap)
    if delta < -TIE:
        return max(0.0, gap - delta * margin)
    return max(0.0, abs(delta * margin - gap) - SLACK)


def loop(s, rel, margin, ignore=None):
    """Per-anchor SMS; margin[i, j] and backward[j, i] are those of anchor i."""
    n = len(s)
    out = np.zeros(n)
    forward, backward = margin
    for i in range(n):
        for j in range(n):
            if j == i:
                continue
            if ignore is None or not ignore[i, j]:
                out[i] += h(rel[i, i] - rel[i, j], forward[i, j], s[i, i] - s[i, j])
            if ignore is None or not ignore[j, i]:
                out[i] += h(rel[i, i] - rel[j, i], backward[j, i], s[i, i] - s[j, i])
    return out / (2 * (n - 1))


def of_anchors(margin):
    rows = np.repeat(np.asarray(margin)[:, None], N, axis=1)
    return rows, rows.T


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(N, D, generator=generator, dtype=torch.float64)
    y = 0.7 * x + torch.randn(N, D, generator=generator, dtype=torch.float64)
    return F.normalize(x, dim=1), F.normalize(y, dim=1)


@pytest.fixture
def rel():
    """Many ties with the positive, and candidates that are more relevant than it."""
    generator = torch.Generator().manual_seed(4)
    steps = torch.tensor([0.0, 0.25, 0.5, 0.5 + 0.9 / 240, 1.0], dtype=torch.float64)
    return steps[torch.randint(5, (N, N), generator=generator)]


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("ignored", [False, True])
def test_it_equals_the_loop(pair, rel, tile, ignored):
    ignore = torch.zeros(N, N, dtype=torch.bool)
    ignore[1, 4] = ignore[5, 0] = ignored
    found = tt.SMS(0.6, tile=tile, reduction="none")(*pair, relevancy=rel, ignore=ignore)
    margins = of_anchors(np.full(N, 0.6))
    expected = loop((pair[0] @ pair[1].T).numpy(), rel.numpy(), margins, ignore.numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_every_case_of_the_loop_occurs(rel):
    wanted = rel.diagonal()[:, None] - rel
    off = ~torch.eye(N, dtype=torch.bool)
    for case in (wanted > TIE, wanted < -TIE, (wanted.abs() <= TIE) & (wanted != 0)):
        assert bool((case & off).any())


@pytest.mark.parametrize("tile", TILES)
def test_a_scheduled_margin_is_the_anchors(pair, rel, tile):
    margin = tt.mmts(COUNTS, alpha=0.2, shift=(0.3, 0.6), period=10)
    loss_fn = tt.SMS(margin, tile=tile, reduction="none")
    for _ in range(3):
        loss_fn.step()
    margins = of_anchors(margin.double().at(INDEX).double().numpy())
    expected = loop((pair[0] @ pair[1].T).numpy(), rel.numpy(), margins)
    np.testing.assert_allclose(loss_fn(*pair, INDEX, relevancy=rel), expected, rtol=1e-6)


@pytest.mark.parametrize("tile", TILES)
def test_a_margin_may_differ_from_pair_to_pair(pair, rel, tile):
    s = (pair[0] @ pair[1].T).numpy()
    margin = 0.2 + 0.2 * (1 + np.cos(np.pi * (1 + s)))
    found = tt.SMS(tt.DySTreSS(0.2, 0.6), tile=tile, reduction="none")(*pair, relevancy=rel)
    np.testing.assert_allclose(found, loop(s, rel.numpy(), (margin, margin)), rtol=1e-6)


@pytest.mark.parametrize("tile", TILES)
def test_codes_in_a_table_are_the_matrix_of_the_batch(pair, tile):
    table = torch.rand(4, 6, generator=torch.Generator().manual_seed(1))
    rows, cols = torch.tensor([3, 0, 0, 2, 1, 3, 3]), torch.tensor([5, 1, 0, 0, 2, 4, 3])
    by_code = tt.SMS(0.6, table=table, tile=tile, reduction="none")
    by_matrix = tt.SMS(0.6, tile=tile, reduction="none")(
        *pair, relevancy=table[rows[:, None], cols]
    )
    assert torch.equal(by_code(*pair, relevancy=(rows, cols)), by_matrix)
    assert "table" not in by_code.state_dict()


def test_positives_may_lie_anywhere(pair, rel):
    order = torch.tensor([2, 0, 1, 6, 3, 5, 4])
    straight = tt.SMS(0.6, reduction="none")(*pair, relevancy=rel)
    x, y, back = pair[0], pair[1][order], order.argsort()
    moved = tt.SMS(0.6, reduction="none")(x, y, relevancy=rel[:, order], positives=back)
    torch.testing.assert_close(moved, straight)


@pytest.mark.parametrize("directions", ["both", "x2y", "y2x"])
def test_with_nothing_else_relevant_it_is_max_margin(pair, directions):
    eye = torch.eye(N, dtype=torch.float64)
    plain = tt.MaxMargin(0.6, directions=directions, reduction="none")(*pair)
    found = tt.SMS(0.6, directions=directions, reduction="none")(*pair, relevancy=eye)
    torch.testing.assert_close(found, plain)


def test_the_three_cases_by_hand():
    """x2y of one anchor, positive at s = 0.5 with relevancy 0.5."""
    x = torch.eye(3)
    s = torch.tensor([[0.5, 0.4, 0.9], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    for relevancy, at_04, at_09 in [
        (0.0, 0.5 * 0.6 - 0.1, 0.5 * 0.6 + 0.4),
        (0.5, 0.0, 0.4 - 0.1),
        (1.0, 0.1 + 0.5 * 0.6, 0.0),
    ]:
        for column, expected in ((1, at_04), (2, at_09)):
            rel = torch.full((3, 3), 0.5)
            rel[0, column] = relevancy
            ignore = torch.ones(3, 3, dtype=torch.bool)
            ignore[0, column] = False
            ignore.fill_diagonal_(False)
            loss_fn = tt.SMS(0.6, normalize=False, directions="x2y", reduction="none")
            found = loss_fn(s, x, relevancy=rel, ignore=ignore)[0]
            assert float(found) == pytest.approx(expected / 2, abs=1e-6)


class PerSample(tt.Control):
    """A learned value for each sample, to differentiate through."""

    granularity = "anchor"
    needs_index = True

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.linspace(0.3, 0.9, N, dtype=torch.float64))

    def values(self, index, step):
        return self.table[index]

    def range(self):
        return 0.05, 1.0


@pytest.mark.parametrize("tile", ["dense", (2, 3)])
@pytest.mark.parametrize("coded", [False, True])
def test_gradcheck(pair, rel, tile, coded):
    margin = PerSample()
    loss_fn = tt.SMS(margin, tile=tile, table=rel if coded else None).double()
    relevancy = (torch.arange(N), torch.arange(N)) if coded else rel

    def value(x, y, values):
        return torch.func.functional_call(
            loss_fn, {"strength.table": values}, (x, y, INDEX), {"relevancy": relevancy}
        )

    inputs = tuple(part.detach().clone().requires_grad_() for part in (*pair, margin.table))
    assert torch.autograd.gradcheck(value, inputs, eps=1e-6, atol=1e-7)


def test_a_candidate_that_is_more_relevant_is_pulled_and_not_pushed():
    x, y = torch.eye(3)[:2], torch.eye(3)[:2]
    rel = torch.tensor([[0.5, 1.0], [0.0, 0.5]])
    found = tt.forces(tt.SMS(0.6), x, y, relevancy=rel)
    assert float(found.pairs[0, 1]) < 0
    assert float(found.pairs[0, 0]) > 0


def test_what_is_refused(pair, rel):
    codes = (torch.arange(N), torch.arange(N))
    loss_fn, coded = tt.SMS(0.6), tt.SMS(0.6, table=rel)
    for call, message in [
        (lambda: loss_fn(*pair), "SMS needs relevancy="),
        (lambda: loss_fn(*pair, relevancy=rel[:3]), r"relevancy must be a matrix \(7, 7\)"),
        (lambda: loss_fn(*pair, relevancy=2 * rel), r"relevancy must be in \[0, 1\]"),
        (lambda: loss_fn(*pair, relevancy=rel * torch.nan), r"relevancy must be in \[0, 1\]"),
        (lambda: loss_fn(*pair, relevancy=codes), "need SMS.*table="),
        (lambda: coded(*pair, relevancy=(codes[0], codes[1] + 1)), "codes of columns.* 0 .. 6"),
        (lambda: coded(*pair, relevancy=(codes[0] - 1, codes[1])), "codes of rows.* -1 .. 5"),
        (lambda: coded(*pair, relevancy=(codes[0][:2], codes[1])), r"codes of rows must be \(7,\)"),
        (
            lambda: loss_fn(*pair, relevancy=rel, labels=INDEX),
            "SMS compares each negative with one positive",
        ),
        (lambda: loss_fn(pair[0][:1], pair[1][:1], relevancy=rel[:1, :1]), "at least 2 pairs"),
        (lambda: tt.SMS(0.6, table=3 * rel), r"table must be in \[0, 1\]"),
        (lambda: tt.SMS(0.6, force="equalized"), r"force must be one of \['plain'\]"),
        (lambda: tt.SMS(0.6, slack=-0.1), "slack and tie must be >= 0"),
        (lambda: tt.SMS(tt.Cosine(-0.1, 0.5, 9)), "SMS's margin must stay finite and >= 0"),
        (lambda: tt.SMS(tt.Learnable(0.5, 0.1, 0.9)), "a learned margin only shrinks"),
        (lambda: tt.SMS(tt.Individual(9, rho=1.0)), "hinges have no partition"),
        (lambda: tt.SMS(tt.mmts(COUNTS, 0.1, (0.3, 0.6), 9))(*pair, relevancy=rel), "pass index="),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
