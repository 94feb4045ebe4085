"""The pairwise engine: reductions over the pair matrix, formed in one place only."""

from tauten.pairwise.dense import reduce_dense
from tauten.pairwise.engine import reduce_pairs
from tauten.pairwise.masks import PairMask
from tauten.pairwise.reduction import Reduction
from tauten.pairwise.terms import Active, Hinge, One, Scaled, Softplus, Term, Tilted
from tauten.pairwise.tiled import reduce_tiled

__all__ = [
    "Active",
    "Hinge",
    "One",
    "PairMask",
    "Reduction",
    "Scaled",
    "Softplus",
    "Term",
    "Tilted",
    "reduce_dense",
    "reduce_pairs",
    "reduce_tiled",
]
