"""Distances to classes need some class with more than one sample."""

from __future__ import annotations

import pytest
import torch

from tauten.evaluation import mahalanobis


@pytest.mark.parametrize("size", [1, 3])
def test_classes_of_one_sample_each_have_no_covariance(size):
    rows, samples = torch.randn(size, 4), torch.randn(5, 4)
    with pytest.raises(ValueError, match=f"{size} classes of one sample each"):
        mahalanobis(rows, torch.arange(size), samples)
    twice = mahalanobis(torch.cat([rows, torch.randn(1, 4)]), [*range(size), 0], samples)
    assert twice.shape == (5,)
    assert (twice > 0).any()
