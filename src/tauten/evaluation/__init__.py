"""Numbers with their protocol: exact retrieval, EK-100 retrieval, embedding geometry, intervals."""

from tauten.evaluation.bootstrap import Difference, Estimate, bootstrap_mean, paired_bootstrap
from tauten.evaluation.correlation import spearman
from tauten.evaluation.geometry import geometry
from tauten.evaluation.multi_instance import multi_instance_retrieval
from tauten.evaluation.ranks import QueryRanks, ranks
from tauten.evaluation.retrieval import TIES, retrieval

__all__ = [
    "TIES",
    "Difference",
    "Estimate",
    "QueryRanks",
    "bootstrap_mean",
    "geometry",
    "multi_instance_retrieval",
    "paired_bootstrap",
    "ranks",
    "retrieval",
    "spearman",
]
