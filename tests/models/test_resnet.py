"""Sizes of the published networks, and of the maps that the two stems leave."""

import pytest
import torch

from tauten.models import ResNetTower


@pytest.mark.parametrize(
    ("depth", "stem", "millions"),
    [(18, "imagenet", 11.177), (50, "imagenet", 23.508), (18, "cifar", 11.169)],
)
def test_parameters_are_those_of_the_published_networks(depth, stem, millions):
    """Without the classifier: torchvision's 11.690 and 25.557 less 0.513 and 2.049 million."""
    tower = ResNetTower(depth, stem)
    found = sum(parameter.numel() for parameter in tower.parameters()) / 1e6
    assert found == pytest.approx(millions, abs=5e-4)


def test_the_stem_for_small_images_keeps_their_size():
    image = torch.rand(2, 3, 32, 32)
    assert ResNetTower(18, "cifar").model.embedder(image).shape[2:] == (32, 32)
    assert ResNetTower(18).model.embedder(image).shape[2:] == (8, 8)


def test_features_have_the_width_told_and_gradients():
    tower = ResNetTower(18, "cifar")
    found = tower(torch.rand(2, 3, 16, 16))
    assert found.shape == (2, tower.width)
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in tower.parameters())


def test_other_depths_are_refused():
    with pytest.raises(ValueError, match=r"\[18, 34, 50\]"):
        ResNetTower(20)
    with pytest.raises(ValueError, match="'tiny'"):
        ResNetTower(18, "tiny")
