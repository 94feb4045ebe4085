"""Mixed negatives: of what they are made, and what an anchor never meets."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from tauten.candidates import Keys, Mixer

N, M, D = 4, 12, 5


def unit(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, D, generator=generator, dtype=torch.float64), dim=1)


X, Y, KX, KY = unit(N, 0), unit(N, 1), unit(M, 2), unit(M, 3)
IDS = torch.tensor([0, 1, 2, 3, 0, 4, 5, 6, 7, 8, 9, 1])


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def test_each_is_between_two_of_the_hardest_keys_of_other_samples():
    mixtures, missing = Mixer(3, pairs=40, with_anchor=0).of(X, KY, [(IDS[:N], IDS)], drawn())
    assert mixtures.shape == (N, 40, D)
    assert not missing.any()
    for i in range(N):
        order = (X[i] @ KY.T).argsort(descending=True).tolist()
        hardest = KY[[j for j in order if IDS[j] != IDS[i]][:3]]
        made = {
            (a, b)
            for h in mixtures[i]
            for a in range(3)
            for b in range(a, 3)
            if _between(h, hardest[a], hardest[b])
        }
        assert made >= {(0, 1), (0, 2), (1, 2)}
        for h in mixtures[i]:
            assert any(_between(h, hardest[a], hardest[b]) for a, b in made)


def _between(h, a, b):
    """Return whether h is a combination of a and b with weights that are not negative."""
    weights = torch.linalg.lstsq(torch.stack([a, b], 1), h[:, None]).solution[:, 0]
    near = torch.allclose(torch.stack([a, b], 1) @ weights, h, atol=1e-9)
    return near and bool((weights >= -1e-9).all())


def test_those_with_the_anchor_are_harder_than_the_key_that_they_come_from():
    mixtures, _ = Mixer(1, pairs=0, with_anchor=30).of(X, KY, [(IDS[:N], IDS)], drawn())
    for i in range(N):
        others = KY[IDS[i] != IDS]
        parent = others[(X[i] @ others.T).argmax()]
        assert bool((mixtures[i] @ X[i] >= X[i] @ parent - 1e-12).all())
        for h in mixtures[i]:
            assert _between(h, X[i], parent)
            weights = torch.linalg.lstsq(torch.stack([X[i], parent], 1), h[:, None]).solution
            assert weights[0] <= weights[1] + 1e-9


def test_a_loss_meets_them_beside_the_queue_and_gives_them_no_gradient():
    x, y = X.clone().requires_grad_(), Y.clone().requires_grad_()
    keys = Keys(KX, KY, IDS)
    negatives = Mixer(4, pairs=3, with_anchor=2)(x, y, keys, drawn())
    assert negatives.for_x.shape == negatives.for_y.shape == (N, 5, D)
    assert not negatives.for_x.requires_grad
    found = tt.InfoNCE(0.2, reduction="none")(x, y, keys=keys, negatives=negatives)
    expected = []
    for anchors, there, mixtures in ((x, KY, negatives.for_x), (y, KX, negatives.for_y)):
        for i in range(N):
            meets = (IDS[i] != IDS) | (torch.arange(M) == i)
            logits = torch.cat([anchors[i] @ there[meets].T, mixtures[i] @ anchors[i]]) / 0.2
            expected.append(logits.logsumexp(0) - anchors[i] @ there[i] / 0.2)
    torch.testing.assert_close(found, (torch.stack(expected[:N]) + torch.stack(expected[N:])) / 2)


def test_an_anchor_without_other_keys_has_none():
    _, missing = Mixer(2, 3, 1).of(X[:2], KY[:2], [(IDS[:2] * 0, torch.tensor([0, 0]))], drawn())
    assert missing.all()
    labels = torch.tensor([0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    negatives = Mixer(2, 3, 1)(X[:2], Y[:2], Keys(KX, KY, torch.arange(M), labels=labels))
    parents = negatives.for_x[0, :3]
    torch.testing.assert_close(parents, KY[1].expand(3, D))


@pytest.mark.parametrize("options", [(0,), (1, -1), (1, 0, 0), (1, 2.5)])
def test_numbers_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError, match=r"hardest|pairs"):
        Mixer(*options)
