"""Queries of pairs whose candidates are relevant to a degree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from tauten.comparison.queries import METRICS, Queries
from tauten.evaluation import multi_instance_scores
from tauten.files import opened_arrays

#: per query, as the evaluation of EPIC-KITCHENS-100 has them
GRADED = {"nDCG": "nDCG", "mAP": "mAP_official"}


@dataclass(frozen=True)
class GradedQueries(Queries):
    """Ranks, and what graded relevancies make of them.

    ``nDCG`` and ``mAP`` of an x are the mean of both directions: its own value, and the mean of its
    y's; see :func:`tauten.evaluation.multi_instance_retrieval`.

    Attributes:
        graded: (N,) float64 of each of the two.
    """

    METRICS: ClassVar[tuple[str, ...]] = (*METRICS, *GRADED)

    graded: Mapping[str, Tensor]

    @staticmethod
    def of_graded(
        x: Tensor,
        y: Tensor,
        y_of_x: Sequence[Sequence[int]],
        groups: Sequence[str],
        relevancy: Tensor,
    ) -> GradedQueries:
        """Score embeddings by the relevancies (N, M) of each x and y.

        Raises:
            ValueError: a query without a candidate of relevancy 1.
        """
        plain = Queries.of(x, y, y_of_x, groups)
        similarity = x @ y.T
        both = {}
        of_x = multi_instance_scores(similarity, relevancy)
        of_y = multi_instance_scores(similarity.T, relevancy.T)
        for name, key in GRADED.items():
            both[name] = (of_x[key] + plain.mean_over_own(of_y[key])) / 2
            if bool(both[name].isnan().any()):
                bad = int(both[name].isnan().sum())
                raise ValueError(f"{bad} of {len(x)} queries have no candidate of relevancy 1")
        own = {field.name: getattr(plain, field.name) for field in fields(plain)}
        return GradedQueries(**own, graded=both)

    def scores(self, metric: str) -> Tensor:
        """Return (N,) float64, also of ``nDCG`` and ``mAP``; see :meth:`Queries.scores`."""
        return self.graded[metric] if metric in GRADED else super().scores(metric)

    def arrays(self) -> dict[str, Any]:
        """Return the arrays of :class:`Queries`, and the graded scores by name."""
        return super().arrays() | {name: value.numpy() for name, value in self.graded.items()}

    @staticmethod
    def load(path: Path) -> GradedQueries:
        """Load what :meth:`save` wrote."""
        plain = Queries.load(path)
        own = {field.name: getattr(plain, field.name) for field in fields(plain)}
        with opened_arrays(path) as stored:
            return GradedQueries(
                **own, graded={name: torch.from_numpy(stored[name]) for name in GRADED}
            )
