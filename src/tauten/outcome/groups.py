"""Names of the groups of queries that results are told for."""

from __future__ import annotations

from collections.abc import Iterable

from tauten.evaluation.classification import THIRDS

ALL = "all"
CLASSES = "classes"
"""The group of the mean over all classes."""
GROUPS = THIRDS
"""Groups by the training count of a query's class, from the most to the fewest samples."""


def in_order(names: Iterable[str]) -> list[str]:
    """Return the different names that are not empty: head, mid, tail, then others sorted."""
    different = {name for name in names if name}
    return [*(name for name in GROUPS if name in different), *sorted(different - set(GROUPS))]
