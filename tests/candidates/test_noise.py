"""Noise that makes views of embeddings."""

import pytest
import torch

from tauten.candidates import SignNoise

Z = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_noise_has_its_length_and_keeps_the_signs():
    views = [SignNoise(0.2)(Z, torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    for view in views:
        torch.testing.assert_close((view - Z).norm(dim=1), torch.full((5,), 0.2).double())
        assert torch.equal(view.sign(), Z.sign())
    assert not torch.equal(*views)


def test_noise_is_that_of_the_formula():
    found = SignNoise(0.3)(Z, torch.Generator().manual_seed(1))
    u = torch.rand(5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(found, Z + 0.3 * Z.sign() * u / u.norm(dim=1, keepdim=True))


def test_a_gradient_passes_and_evaluation_adds_nothing():
    z = Z.clone().requires_grad_()
    view = SignNoise(0.2)
    (grad,) = torch.autograd.grad(view(z).sum(), z)
    assert torch.equal(grad, torch.ones_like(z))
    assert view.eval()(z) is z
    assert SignNoise(0.0)(z) is z


def test_a_length_below_zero_is_refused():
    with pytest.raises(ValueError, match="eps must be >= 0, got -0.1"):
        SignNoise(-0.1)
