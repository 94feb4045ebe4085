"""What a loss asks of its numbers where each read waits for the device."""

import pytest
import torch

import tauten as tt
from hostreads import HostReads, the_cpu_is_free, the_cpu_waits
from tauten.reads import Questions

N = 8
X, Y = torch.randn(2, N, 4, generator=torch.Generator().manual_seed(0))
IDS = torch.arange(N)
LOSSES = {
    "constant": lambda: tt.InfoNCE(0.1),
    "mmts": lambda: tt.InfoNCE(tt.mmts(range(1, N + 1), 0.04, (0.05, 0.2), 10)),
    "learnable": lambda: tt.InfoNCE(tt.Learnable(0.1, 0.01, 1.0)),
    "max-margin": lambda: tt.MaxMargin(0.2),
    "siglip": lambda: tt.SigLIP(0.1, -1.0),
    "tiled": lambda: tt.InfoNCE(0.1, tile=3),
    "isogclr": lambda: tt.iSogCLR(N, tau_init=0.1),
}


@pytest.fixture(autouse=True)
def as_a_gpu():
    with the_cpu_waits():
        yield


def learned(make, *, waits):
    """Return the values of two batches and the state after their steps."""
    loss_fn, values = make(), []
    for x in (X, X + 0.1):
        if waits:
            with HostReads() as reads:
                value = loss_fn(x, Y, IDS)
            assert len(reads.places) == 1, "\n\n".join(reads.places)
        else:
            value = loss_fn(x, Y, IDS)
        values.append(value.detach())
        loss_fn.step()
    return values, loss_fn.state_dict()


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_reads_once(name):
    with the_cpu_is_free():
        expected, state = learned(LOSSES[name], waits=False)
    values, found = learned(LOSSES[name], waits=True)
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(found, state)


@pytest.mark.parametrize("name", ["mmts", "isogclr"])
@pytest.mark.parametrize("unknown", [-1, N])
def test_unknown_ids_are_named(name, unknown):
    ids = IDS.clone()
    ids[3] = unknown
    with pytest.raises(ValueError, match=f"1 unknown sample ids: {unknown}; the table has 8"):
        LOSSES[name]()(X, Y, ids)


@pytest.mark.parametrize("name", LOSSES)
def test_rows_that_are_not_finite_are_named(name):
    x = X.clone()
    x[2, 1] = torch.inf
    with pytest.raises(tt.NonFiniteLossError, match="x has NaN or infinite embeddings in 1 of 8"):
        LOSSES[name]()(x, Y, IDS)


def test_rows_of_zeros_have_cosines_of_zero():
    x = X.clone()
    x[2] = 0
    cosines = (
        torch.nn.functional.normalize(x.double()) @ torch.nn.functional.normalize(Y.double()).T
    )
    logits = cosines / 0.1
    sides = (logits.logsumexp(1) + logits.logsumexp(0)) / 2 - logits.diagonal()
    asked = Questions()
    with asked.collect():
        later = tt.InfoNCE(0.1)(x, Y)
    asked.answer()
    for value in (tt.InfoNCE(0.1)(x, Y), later):
        torch.testing.assert_close(value.double(), sides.mean(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["isogclr", "mmts"])
def test_a_step_may_ask_for_all_its_losses_at_once(name):
    loss_fn, asked = LOSSES[name](), Questions()
    with HostReads() as reads:
        with asked.collect():
            for x in (X, X + 0.1):
                loss_fn(x, Y, IDS)
        assert reads.places == []
        for _ in range(2):  # the second time nothing is left
            asked.answer()
            assert len(reads.places) == 1
    with asked.collect():
        loss_fn(X * torch.nan, Y, IDS)
    with pytest.raises(tt.NonFiniteLossError, match="x has NaN or infinite embeddings in 8 of 8"):
        asked.answer()
    loss_fn.step()  # of the two batches before, and not of the one that was refused
    other = LOSSES[name]()
    for x in (X, X + 0.1):
        other(x, Y, IDS)
    other.step()
    torch.testing.assert_close(loss_fn.state_dict(), other.state_dict())


def test_an_error_drops_what_was_asked():
    asked = Questions()

    def fails():
        with asked.collect():
            tt.InfoNCE(0.1)(X * torch.nan, Y)
            raise KeyError("x")

    with pytest.raises(KeyError):
        fails()
    asked.answer()
