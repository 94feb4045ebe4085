"""Weights of the terms that a training adds to its loss."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated

from tauten.spec import SELDOM, Level, When

if TYPE_CHECKING:
    from tauten.training.tasks.added import AddedTerms

_PAIRS = When("task", ("pairs",))


@dataclass
class TermsConfig:
    """Terms that are added to the loss, each with its weight; 0 leaves it out."""

    alignment: Annotated[Level, _PAIRS, SELDOM] = 0.0
    """mean squared distance of the two sides of each pair"""
    uniformity: Annotated[Level, _PAIRS, SELDOM] = 0.0
    """how unevenly each side covers the sphere, mean of both sides"""
    cross_uniformity: Annotated[Level, _PAIRS, SELDOM] = 0.0
    """how near sides lie that do not match; lowering it closes the gap between modalities"""
    cross_correlation: Annotated[Level, _PAIRS, SELDOM] = 0.0
    """how much components differ across the sides and are alike within (Barlow Twins); 0.025 in
    BarLIP"""
    koleo: Annotated[Level, _PAIRS, SELDOM] = 0.0
    """minus the mean log distance to the nearest other row, mean of both sides"""

    def weights(self) -> dict[str, float]:
        """Return the weights of the terms that are not left out."""
        each = ((option.name, getattr(self, option.name)) for option in fields(self))
        return {name: float(weight) for name, weight in each if weight}

    def build(self) -> AddedTerms | None:
        """Return the weighted sum of the terms; None where all are left out."""
        from tauten.training.tasks.added import AddedTerms

        weights = self.weights()
        return AddedTerms(weights) if weights else None
