"""Losses of two views as losses of pairs: those of lists of views, and in training."""

import pytest
import torch

import cases
import tauten as tt
from tauten.training import specs

N, D = 5, 4
INDEX = torch.tensor([4, 0, 3, 2, 1])
TAU = tt.ClusterShift([1, 3, 9, 27, 81], 0.1, 0.5)
PAIRED = {"mvinfonce": tt.PairedMVInfoNCE, "mvdhel": tt.PairedMVDHEL}
LISTED = {"mvinfonce": tt.MVInfoNCE, "mvdhel": tt.MVDHEL}


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(5)
    x, y = torch.randn(2, N, D, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), (0.5 * x.detach() + y).requires_grad_()


@pytest.mark.parametrize("tile", ["dense", (2, 3)])
@pytest.mark.parametrize("name", PAIRED)
def test_it_is_the_loss_of_a_list_of_two_views(pair, name, tile):
    weight = torch.linspace(-1, 2, N, dtype=torch.float64)
    found = PAIRED[name](TAU, reduction="none", tile=tile).double()(*pair, INDEX)
    expected = LISTED[name](TAU, reduction="none").double()(list(pair), INDEX)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    ours = torch.autograd.grad(found @ weight, pair)
    theirs = torch.autograd.grad(expected @ weight, pair)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_duplicates_are_left_out_across_and_within_the_sides(pair):
    """Rows 0 and 3 show one sample: nowhere are they negatives of each other."""
    same = torch.tensor([0, 1, 2, 0, 4])
    out = (same[:, None] == same) & ~torch.eye(N, dtype=torch.bool)
    x, y = (side / side.norm(dim=1, keepdim=True) for side in pair)
    own = torch.eye(N, dtype=torch.bool)
    inside = [(z @ z.T / 0.2).masked_fill(out | own, -torch.inf) for z in (x, y)]
    across = [(s / 0.2).masked_fill(out, -torch.inf) for s in (x @ y.T, y @ x.T)]
    together = torch.cat([*inside, *across], dim=1).logsumexp(1)
    aligned = (x * y).sum(1) / 0.2
    mv = together - aligned - torch.tensor(2.0).log()
    torch.testing.assert_close(tt.PairedMVInfoNCE(0.2).double()(*pair, same=same), mv.mean())
    dhel = inside[0].logsumexp(1) + inside[1].logsumexp(1) - aligned
    torch.testing.assert_close(tt.PairedMVDHEL(0.2).double()(*pair, same=same), dhel.mean())


@pytest.mark.parametrize("name", PAIRED)
def test_other_relations_are_refused(pair, name):
    x, y = pair
    for call in (
        lambda f: f(x, y[:3]),
        lambda f: f(x, y, labels=torch.zeros(N, dtype=torch.long)),
        lambda f: f(x, y, ignore=torch.zeros(N, N, dtype=torch.bool)),
        lambda f: f(x, y, positives=torch.arange(N).roll(1)),
    ):
        with pytest.raises(ValueError, match="pair"):
            call(PAIRED[name](0.1))


@pytest.mark.parametrize("name", PAIRED)
def test_its_forces_are_those_across_the_sides(pair, name):
    x, y = (side.detach() for side in pair)
    loss_fn = PAIRED[name](0.3)
    found = tt.forces(loss_fn, x, y).pairs
    if name == "mvdhel":  # a constant pull, and within the sides all that repels
        torch.testing.assert_close(found, -torch.eye(N, dtype=found.dtype) / 0.3)
        return
    step = 1e-6
    s = torch.nn.functional.normalize(x, dim=1) @ torch.nn.functional.normalize(y, dim=1).T
    moved = {}
    for sign in (1, -1):
        leaf = s.clone()
        leaf[0, 1] += sign * step
        inside = [
            loss_fn.within(loss_fn.batch(x, y), torch.tensor(1 / 0.3), d) for d in ("x2y", "y2x")
        ]
        parts = [(leaf / 0.3).logsumexp(1), (leaf / 0.3).logsumexp(0), *inside]
        moved[sign] = (torch.stack(parts).logsumexp(0) - leaf.diagonal() / 0.3).sum()
    assert float(found[0, 1]) == pytest.approx(float(moved[1] - moved[-1]) / (2 * step), rel=1e-4)


@pytest.mark.parametrize("name", PAIRED)
def test_training_gives_it_the_two_views_as_sides(name):
    from tauten.training.tasks.view_module import ViewBatch

    a, b = cases.embeddings()
    batch = ViewBatch.of_sides(a, b, cases.INDEX)
    loss_fn = specs.loss(name).build(specs.control("mmts"), cases.context()).double()
    assert loss_fn.within_sides
    found = loss_fn(batch.x, batch.y, batch.ids, **batch.relation())
    expected = LISTED[name](specs.control("mmts").build(cases.context())).double()
    torch.testing.assert_close(found, expected([a, b], cases.INDEX))
    assert len(batch.first(3).y) == 3
