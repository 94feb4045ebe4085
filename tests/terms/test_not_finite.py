"""A term of embeddings that are not finite is not finite, and gradients at corners are."""

from __future__ import annotations

import pytest
import torch

import tauten as tt


def bad():
    rows = torch.randn(4, 5)
    rows[2, 1] = float("nan")
    return rows


@pytest.mark.parametrize(
    "term",
    [
        lambda: tt.terms.Alignment(1.0)(bad(), torch.randn(4, 5)),
        lambda: tt.terms.Distillation(1.0)(bad(), torch.randn(4, 5)),
        lambda: tt.terms.TripletQueries(squared=False)(bad(), torch.tensor([[0, 2, 1]])),
        lambda: tt.terms.MixedPairs()(bad(), torch.randn(4, 3, 5), torch.rand(4, 3)),
    ],
)
def test_a_nan_is_not_hidden(term):
    assert not torch.isfinite(term())


def test_pixels_at_right_angles_have_a_gradient():
    pixels = torch.eye(2).unsqueeze(0).requires_grad_()
    spread = tt.terms.PixelPropagation(torch.nn.Identity(), 0.5)(pixels)
    torch.testing.assert_close(spread.detach(), torch.eye(2).unsqueeze(0))
    spread.sum().backward()
    assert torch.isfinite(pixels.grad).all()


def test_centres_of_no_box_and_of_no_pixels_are_refused():
    with pytest.raises(ValueError, match="finite"):
        tt.terms.pixel_centres(torch.full((1, 4), float("nan")), 3, 3)
    with pytest.raises(ValueError, match="rows must be a whole number, at least 1, got 0"):
        tt.terms.pixel_centres(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), 0, 3)
