"""Terms that a training adds to its loss."""

import pytest
import torch
from torch import nn

import tauten as tt
from tauten.training import Config, from_dict, to_dict
from tauten.training.options.term_weights import TermsConfig
from tauten.training.tasks.module import ContrastiveModule

X, Y = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Given(nn.Module):
    """An encoder of embeddings."""

    dim = 4

    def forward(self, images, texts):
        return images, texts["ids"]


def test_the_loss_of_a_batch_has_them():
    weights = TermsConfig(0.5, 0.2, 0.3, cross_correlation=0.025, koleo=0.1)
    module = ContrastiveModule(Given(), tt.InfoNCE(0.1), terms=weights.build())
    index = torch.arange(6)
    found = module(X, {"ids": Y}, index, (index, index))["loss"]
    spread, far = tt.terms.Uniformity(), tt.terms.KoLeo()
    expected = (
        tt.InfoNCE(0.1)(X, Y)
        + 0.5 * tt.terms.Alignment()(X, Y)
        + 0.2 * (spread(X) + spread(Y)) / 2
        + 0.3 * tt.terms.CrossUniformity()(X, Y)
        + 0.025 * tt.terms.CrossCorrelation()(X, Y)
        + 0.1 * (far(X) + far(Y)) / 2
    )
    torch.testing.assert_close(found, expected)
    assert TermsConfig().build() is None


def test_they_are_part_of_the_configuration():
    config = Config()
    config.terms.koleo = 0.25
    tree = to_dict(config)
    assert from_dict(tree).terms.weights() == {"koleo": 0.25}
    tree.pop("terms")  # of an earlier version
    assert from_dict(tree).terms.weights() == {}
    with pytest.raises(ValueError, match=r"terms\.koleo must be"):
        Config(terms=TermsConfig(koleo=-1.0))
    with pytest.raises(ValueError, match=r"leave out terms\.koleo=0\.2"):
        Config(task="views", terms=TermsConfig(koleo=0.2))
