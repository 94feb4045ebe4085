"""Terms that are added to the loss of a batch of pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tauten.terms import Alignment, CrossCorrelation, CrossUniformity, KoLeo, Uniformity


class _OfEachSide(nn.Module):
    """Mean of a term of one side over both."""

    def __init__(self, term: nn.Module) -> None:
        super().__init__()
        self.term = term

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        mean: Tensor = (self.term(x) + self.term(y)) / 2
        return mean


#: by the name of the weight
_TERMS: dict[str, Callable[[], nn.Module]] = {
    "alignment": Alignment,
    "uniformity": lambda: _OfEachSide(Uniformity()),
    "cross_uniformity": CrossUniformity,
    "cross_correlation": CrossCorrelation,
    "koleo": lambda: _OfEachSide(KoLeo()),
}


class AddedTerms(nn.Module):
    """Weighted sum of terms of the two sides of a batch.

    Args:
        weights: of each term, by its name.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.weights = dict(weights)
        self.terms = nn.ModuleDict({name: _TERMS[name]() for name in weights})

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the sum, a scalar.

        Args:
            x: (N, d) embeddings of one side.
            y: (N, d) embeddings of the other; x[i] and y[i] match.
        """
        parts = [self.weights[name] * term(x, y) for name, term in self.terms.items()]
        return torch.stack(parts).sum()
