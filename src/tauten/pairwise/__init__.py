"""The pairwise engine: reductions over the pair matrix, formed in one place only."""

from tauten.pairwise.dense import reduce_dense
from tauten.pairwise.engine import reduce_pairs
from tauten.pairwise.masks import PairMask
from tauten.pairwise.numbers import Number, PairNumber, combine, reciprocal
from tauten.pairwise.reduction import Reduction
from tauten.pairwise.terms import (
    Active,
    Hinge,
    Offset,
    One,
    Scaled,
    Softplus,
    Term,
    Tilted,
    Weight,
)
from tauten.pairwise.tiled import reduce_tiled

__all__ = [
    "Active",
    "Hinge",
    "Number",
    "Offset",
    "One",
    "PairMask",
    "PairNumber",
    "Reduction",
    "Scaled",
    "Softplus",
    "Term",
    "Tilted",
    "Weight",
    "combine",
    "reciprocal",
    "reduce_dense",
    "reduce_pairs",
    "reduce_tiled",
]
