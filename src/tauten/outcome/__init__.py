"""Results of an evaluation for each query, written once and read by report and comparison."""

from typing import TYPE_CHECKING

from tauten.lazy import attach

if TYPE_CHECKING:
    from tauten.outcome.files import OUTCOME, load, of_run, save
    from tauten.outcome.groups import ALL, CLASSES, GROUPS
    from tauten.outcome.made import of_pairs, of_views
    from tauten.outcome.metrics import GRADED, PAIRS, VIEWS, Metrics
    from tauten.outcome.outcome import Outcome, Queries, weighted_mean

__all__ = [
    "ALL",
    "CLASSES",
    "GRADED",
    "GROUPS",
    "OUTCOME",
    "PAIRS",
    "VIEWS",
    "Metrics",
    "Outcome",
    "Queries",
    "load",
    "of_pairs",
    "of_run",
    "of_views",
    "save",
    "weighted_mean",
]

__getattr__ = attach(__name__, __file__)
