"""The relation of a batch: who is positive, negative or ignored for whom, and how much."""

from tauten.pairwise.sinkhorn import Marginal, sinkhorn
from tauten.relations.checks import Ids
from tauten.relations.geodesic import geodesics
from tauten.relations.pair_weights import PairWeights
from tauten.relations.relation import Relation, relate
from tauten.relations.weights import Codes, Given, Kernel, Teacher, Weights, as_weights

__all__ = [
    "Codes",
    "Given",
    "Ids",
    "Kernel",
    "Marginal",
    "PairWeights",
    "Relation",
    "Teacher",
    "Weights",
    "as_weights",
    "geodesics",
    "relate",
    "sinkhorn",
]
