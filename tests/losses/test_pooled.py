"""Which losses and controls let each process take a whole small batch."""

import pytest
import torch

import tauten as tt
from tauten.losses.pooled import meet


class Own(tt.InfoNCE):
    def anchor_losses(self, batch, directions):
        return super().anchor_losses(batch, directions)


class Told(tt.InfoNCE):
    def batch(self, x, y=None, index=None, **relation):
        return super().batch(x, y, index, **relation)


class Renamed(tt.InfoNCE):
    extra = 1


class Declared(Own):
    pools = True


@pytest.mark.parametrize(
    ("kind", "pools"),
    [
        (tt.InfoNCE, True),
        (tt.DCL, True),
        (tt.SigLIP, True),
        (tt.iSogCLR, True),
        (Renamed, True),
        (Declared, True),
        (Own, False),
        (Told, False),
        (tt.SupCon, False),
        (tt.NUCLR, False),
        (tt.MaxMargin, False),
    ],
)
def test_a_loss_that_may_be_given_more_than_embeddings_and_ids_is_not_pooled(kind, pools):
    assert kind.pools is pools


@pytest.mark.parametrize(
    ("control", "of_ids"),
    [
        (tt.Constant(0.1), True),
        (tt.Learnable(0.1, 0.01, 1.0), True),
        (tt.mmts([1, 2, 3], 0.02, (0.1, 0.3), 7), True),
        (tt.ClusterShift(([1, 2], [3, 4]), 0.1, 0.3), True),
        (tt.Individual(4, rho=0.5), True),
        (tt.TempNet(4, 0.5, (0.1, 0.5), prototypes=5), False),
        (tt.DySTreSS(0.15, 0.3), False),
        (tt.MACL(0.2), False),
        (tt.TeMo(0.1, 0.3) + tt.Cosine(-0.02, 0.02, 9), False),
        (tt.PairDistance(torch.randn(4, 2)), False),
    ],
)
def test_a_control_of_more_than_ids_is_not_pooled(control, of_ids):
    assert control.of_ids is of_ids


class AskedError(Exception):
    """A loss has told others of its part in the usual way."""


@pytest.mark.parametrize(
    "options", [{"ranks": "gather"}, {"tile": "dense"}, {"reduction": "none"}, {}]
)
def test_what_is_asked_for_is_done(options, monkeypatch):
    """Options that name another way, and relations beyond ids, take it."""
    loss_fn = tt.InfoNCE(0.1, **options)
    x = torch.randn(3, 4)
    relation = {} if options else {"ignore": torch.zeros(3, 3, dtype=torch.bool)}

    def asked(*args):
        raise AskedError

    monkeypatch.setattr(loss_fn, "_ranks", asked)
    with pytest.raises(AskedError):
        meet(loss_fn, x, x + 1, None, relation, plain=True)
