"""Weights of anchors by class size, or by the temperatures of a schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tauten.controls import ClusterShift, Control, Learnable
from tauten.controls.mmts import MatchedSpec, sample_mean
from tauten.losses.dro import DRO
from tauten.spec import SELDOM, Context, ControlSpec, LossSpec, Range, When

SizeWeight = Literal["none", "inverse_fourth_root", "inverse_root", "inverse_count"]
Weight = Literal["none", "inverse_tau", "inverse_fourth_root", "inverse_root", "inverse_count"]
#: of class size, of the weights that go by it
POWERS = {"inverse_fourth_root": 0.25, "inverse_root": 0.5, "inverse_count": 1.0}


@dataclass
class SizeWeighted(LossSpec):
    """A loss whose anchors may weigh by the size of their class."""

    weight: SizeWeight = "none"
    """each anchor weighs n^-1/4, n^-1/2 or 1/n, n the size of its class, times a constant that
    makes the mean 1"""
    dro: Annotated[float, Range(0.0, 1e3), SELDOM] = 0.0
    """λ of the robust mean, in which hard anchors weigh e^(loss/λ) (IR-DRO); 0 for the mean"""
    dro_rho: Annotated[float, Range(0.0, 1e3), When("loss.dro")] = 0.0
    """with dro: how far the weights may diverge from equal ones, which teaches λ from dro on
    (SCDRO); 0 for a constant λ"""

    def keywords(self, control: ControlSpec, context: Context) -> dict[str, Any]:
        return {**super().keywords(control, context), **self.weighting(control, context)}

    def weighting(self, control: ControlSpec, context: Context) -> dict[str, Any]:
        """Return the keywords for the weight of each anchor.

        Raises:
            ValueError: classes that are not known.
        """
        options: dict[str, Any] = {}
        if self.weight in POWERS:
            options["weight"] = _rarity(context, self.weight)
        if self.dro:
            ends = min(1e-3, self.dro), max(1e3, self.dro)
            level = Learnable(self.dro, *ends) if self.dro_rho else self.dro
            options["reduction"] = DRO(level, self.dro_rho)
        return options


@dataclass
class Weighted(SizeWeighted):
    """A loss whose anchors may also weigh by the temperatures of a schedule."""

    weight: Weight = "none"  # type: ignore[assignment]
    """inverse_tau (control.kind matched): each anchor weighs 1/τ_i of the mmts schedule, times its
    mean, while its temperature stays constant; inverse_fourth_root, inverse_root, inverse_count:
    each anchor weighs n^-1/4, n^-1/2 or 1/n, n the size of its class, times a constant that makes
    the mean 1"""

    def check(self, control: ControlSpec) -> None:
        super().check(control)
        if self.weight == "inverse_tau" and not isinstance(control, MatchedSpec):
            raise ValueError(
                "loss.weight=inverse_tau weighs a constant temperature's anchors by a schedule: it "
                f"needs control.kind=matched, got {control.kind}"
            )

    def weighting(self, control: ControlSpec, context: Context) -> dict[str, Any]:
        if self.weight == "inverse_tau":
            self.check(control)
            assert isinstance(control, MatchedSpec)
            schedule = control.schedule(context)
            mean = sample_mean(schedule, context.counts, context.total_steps)
            return {**super().weighting(control, context), "weight": mean / schedule}
        return super().weighting(control, context)


def _rarity(context: Context, name: str) -> Control:
    """Return weights n^-p, n the size of the sample's class, over their mean."""
    counts = context.class_sizes(f"loss.weight={name}")
    sizes = counts.double() ** POWERS[name]
    table = ClusterShift(context.of_sides(sizes), float(sizes.min()), float(sizes.max()))
    return 1 / sample_mean(1 / table, counts, 1) / table
