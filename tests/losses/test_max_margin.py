"""Adaptive max-margin: the margin of a control times the relevancy of each positive."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tauten as tt

N, D = 6, 5
INDEX = torch.tensor([5, 0, 3, 2, 2, 1])
RELEVANCE = torch.tensor([1.0, 0.5, 0.25, 0.0, 0.75, 1.0], dtype=torch.float64)
TILES = ["dense", 1, (2, 4)]
CONTROLS = {
    "adaptive MI-MM": lambda: tt.Constant(0.4),
    "mmts": lambda: tt.mmts([2, 50, 3617, 10, 400, 53], 0.2, (0.17, 0.3), period=8),
    "cosine": lambda: tt.Cosine(0.1, 0.5, 8),
}


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(N, D, generator=generator, dtype=torch.float64)
    y = 0.7 * x + torch.randn(N, D, generator=generator, dtype=torch.float64)
    return F.normalize(x, dim=1), F.normalize(y, dim=1)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("name", CONTROLS)
def test_relevance_times_any_control_equals_the_loop(pair, name, tile, oracles):
    control = CONTROLS[name]()
    loss_fn = tt.MaxMargin(control, tile=tile, reduction="none")
    for _ in range(3):
        loss_fn.step()
    margin = (control.double().at(INDEX).double() * RELEVANCE).numpy()
    expected = oracles.max_margin((pair[0] @ pair[1].T).numpy(), margin)
    found = loss_fn(*pair, INDEX, relevance=RELEVANCE)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("tile", TILES)
def test_relevance_times_a_margin_of_each_pair(pair, tile):
    s = pair[0] @ pair[1].T
    margin = 0.2 + 0.2 * (1 + torch.cos(torch.pi * (1 + s)))
    won = s.diagonal()[:, None]
    terms = (RELEVANCE[:, None] * margin - won + s).relu()
    back = (RELEVANCE[:, None] * margin.T - won + s.T).relu()
    off = 1 - torch.eye(N, dtype=torch.float64)
    expected = ((terms + back) * off).sum(1) / (2 * (N - 1))
    loss_fn = tt.MaxMargin(tt.DySTreSS(0.2, 0.6), tile=tile, reduction="none")
    torch.testing.assert_close(loss_fn(*pair, relevance=RELEVANCE), expected, rtol=1e-6, atol=1e-9)


def test_full_relevance_changes_nothing(pair):
    ones = torch.ones(N, dtype=torch.float64)
    plain = tt.MaxMargin(0.2)(*pair)
    assert torch.equal(tt.MaxMargin(0.2)(*pair, relevance=ones), plain)


@pytest.mark.parametrize("tile", ["dense", (2, 4)])
def test_gradcheck(pair, tile):
    loss_fn = tt.MaxMargin(0.4, tile=tile)
    inputs = tuple(part.clone().requires_grad_() for part in pair)
    assert torch.autograd.gradcheck(
        lambda x, y: loss_fn(x, y, relevance=RELEVANCE), inputs, eps=1e-6, atol=1e-7
    )
