"""Rows that cannot be scaled as they are, in batches that take the fast way."""

import pytest
import torch

import tauten as tt

LOSSES = {
    "infonce": lambda: tt.InfoNCE(0.1),
    "margin": lambda: tt.MaxMargin(0.2),
    "siglip": lambda: tt.SigLIP(0.1),
    "dcl": lambda: tt.DCL(0.1),
    "equalized": lambda: tt.InfoNCE(tt.Cosine(0.1, 0.2, 10), force="equalized"),
    "isogclr": lambda: tt.iSogCLR(6, tau_init=0.1),
}


def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 4, generator=generator), torch.randn(6, 4, generator=generator)


@pytest.mark.parametrize("name", LOSSES)
def test_lengths_do_not_matter(name):
    x, y = batch()
    index = torch.arange(6)
    factors = torch.tensor([1.0, 2.0**80, 1.0, 2.0**-80, 1.0, 1.0]).unsqueeze(1)
    plain, loss_fn = LOSSES[name](), LOSSES[name]()
    long = (x * factors).requires_grad_()
    short = x.clone().requires_grad_()
    for _ in range(2):  # what the first batch leaves in tables and means is counted once
        expected, got = plain(short, y, index), loss_fn(long, y, index)
        assert torch.allclose(expected, got, rtol=1e-5)
        plain.step()
        loss_fn.step()
    expected.backward()
    got.backward()
    assert torch.allclose(long.grad * factors, short.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_of_zeros_gets_no_gradient(name):
    x, y = batch()
    x[2] = 0.0
    x.requires_grad_()
    LOSSES[name]()(x, y, torch.arange(6)).backward()
    assert torch.isfinite(x.grad).all()
    assert (x.grad[2] == 0).all()
    assert (x.grad[0] != 0).any()


@pytest.mark.parametrize("name", LOSSES)
def test_the_row_that_is_not_finite_is_named(name):
    x, y = batch()
    y[4, 1] = torch.nan
    with pytest.raises(tt.NonFiniteLossError, match="y has NaN or infinite embeddings in 1 of 6"):
        LOSSES[name]()(x, y, torch.arange(6))


@pytest.mark.parametrize("length", [0.0, 2.0**-80, 2.0**80])
def test_a_pair_alone_has_finite_gradients_whatever_its_lengths(length):
    x, y = (side[:1].clone() for side in batch())
    x = (x * length).requires_grad_()
    y.requires_grad_()
    tt.InfoNCE(0.1)(x, y).backward()  # without a negative there is nothing to learn
    assert (x.grad == 0).all()
    assert (y.grad == 0).all()


@pytest.mark.parametrize("tile", ["auto", 4])
@pytest.mark.parametrize("loss", [tt.MVInfoNCE, tt.MVDHEL])
def test_a_row_of_zeros_in_a_view_gets_no_gradient(loss, tile):
    x, y = batch()
    x[2] = 0.0
    x.requires_grad_()
    loss(0.1, tile=tile)([x, y]).backward()
    assert torch.isfinite(x.grad).all()
    assert (x.grad[2] == 0).all()
    assert (x.grad[0] != 0).any()
