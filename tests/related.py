"""Pairs with labels and ignored pairs, and the candidates of each anchor in float64."""

import torch
from torch.nn import functional as F

N, D = 6, 5
INDEX = torch.tensor([5, 0, 3, 2, 4, 1])
LABELS = torch.tensor([0, 1, 0, 2, 1, 0])
TILES = ["dense", (2, 3)]


def drawn_pair():
    generator = torch.Generator().manual_seed(5)
    x, y = torch.randn(2, N, D, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), (0.5 * x.detach() + y).requires_grad_()


def relations():
    ignore = torch.zeros(N, N, dtype=torch.bool)
    ignore[1, 2] = ignore[3, 5] = ignore[0, 5] = True
    return [{}, {"labels": LABELS}, {"ignore": ignore}, {"labels": LABELS, "ignore": ignore}]


def sides(pair, relation):
    """Similarities, positives and candidates of the anchors of each side."""
    s = F.normalize(pair[0], dim=1) @ F.normalize(pair[1], dim=1).T
    positive = torch.eye(N, dtype=torch.bool)
    if "labels" in relation:
        positive = LABELS[:, None] == LABELS
    kept = ~relation.get("ignore", torch.zeros(N, N, dtype=torch.bool))
    return [(s, positive & kept, kept), (s.T, positive.T & kept.T, kept.T)]


def check(found, expected, pair):
    """Compare the losses of the anchors, and the gradients of a sum of them."""
    weight = torch.linspace(-1, 2, N, dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    ours = torch.autograd.grad(found @ weight, pair)
    theirs = torch.autograd.grad(expected @ weight, pair)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
