"""Pairings of controls and losses: refused with the reason, doubtful with a warning."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tauten.checks import finite, warn
from tauten.controls import Control


@dataclass(frozen=True)
class Refused:
    """A combination that means nothing."""

    reason: str


@dataclass(frozen=True)
class Doubtful:
    """A combination that runs, with a caveat."""

    reason: str


Verdict = Refused | Doubtful | None


@dataclass(frozen=True)
class Composition:
    """Verdicts of a loss, or of another user of a control, on the kinds of controls.

    Attributes:
        learned: one value for all, learned by the loss's gradient.
        learned_anchor: a value for each anchor, learned by the loss's gradient.
        dual: values learned by the robust objective.
        pair: values for each pair.
    """

    learned: Verdict = None
    learned_anchor: Verdict = None
    dual: Verdict = None
    pair: Verdict = None

    def of(self, control: Control) -> list[Verdict]:
        """Return the verdicts that apply to this control."""
        verdicts = [self.pair] if control.granularity == "pair" else []
        if control.learns == "dual":
            verdicts.append(self.dual)
        elif control.learns == "gradient":
            shared = control.learned_granularity == "global"
            verdicts.append(self.learned if shared else self.learned_anchor)
        return verdicts


class CompositionWarning(UserWarning):
    """A control drives a loss for which that is doubtful."""


#: of a loss that says nothing of its controls
ALONE = Composition(
    dual=Refused("it does not implement the robust objective, which alone teaches such a τ")
)

_NO_WEIGHT = Refused("the loss falls as its weights do, so a learned weight only shrinks")

#: of weights of anchors
WEIGHT = Composition(
    learned=_NO_WEIGHT,
    learned_anchor=_NO_WEIGHT,
    dual=Refused("the robust objective says nothing of weights"),
    pair=Refused("an anchor's loss has one weight; a pair's force is set by its temperature"),
)

_SHRINKS = Refused("the loss falls as the margin does, so a learned margin only shrinks")

#: of a margin that an anchor's positives must win by
MARGIN = Composition(
    learned=_SHRINKS,
    learned_anchor=_SHRINKS,
    dual=Refused("the robust objective says nothing of a margin"),
    pair=Refused("an anchor's positive has one margin; a pair's logit is set by its temperature"),
)


#: of a τ that the robust objective learns by gradient
NO_RADIUS = Refused("without ρ·τ the loss falls with τ without bound: give rho > 0")


def radius(control: Control, rho: float) -> float:
    """Return ρ of the robust objective: that of the control if it brings one, else the loss's.

    Raises:
        ValueError: a ρ below 0, or another one than the control's.
    """
    if finite("rho", rho) < 0:
        raise ValueError(f"rho must be >= 0 and finite, got {rho}")
    if control.rho and rho not in (0.0, control.rho):
        raise ValueError(f"{control!r} brings rho={control.rho:g}, but the loss got {rho:g}")
    return control.rho or rho


def check_composition(
    owner: str, role: str, control: Control, composition: Composition, *, cosine: bool = True
) -> None:
    """Refuse a control in this role, or warn of it, where they do not go together.

    Args:
        owner: name of the loss.
        role: "temperature", "margin", "weight" or "bias".
        control: the control that is to play the part.
        composition: what the loss says of controls.
        cosine: whether its similarities are cosines.

    Raises:
        ValueError: a combination that means nothing, with the reason.
    """
    if control.needs_cosine and not cosine:
        raise ValueError(
            f"{control!r} is defined for cosines in [-1, 1], but {owner} was given "
            "normalize=False, whose similarities have no bounds"
        )
    for verdict in composition.of(control):
        if isinstance(verdict, Refused):
            raise ValueError(f"{control!r} cannot be {owner}'s {role}: {verdict.reason}")
        if isinstance(verdict, Doubtful):
            warn(
                f"{control!r} as {owner}'s {role} is doubtful: {verdict.reason}",
                CompositionWarning,
            )


def check_range(name: str, control: Control, floor: float, *, strict: bool) -> None:
    """Refuse a control that can leave the finite numbers above the floor."""
    low, high = control.range()
    if not (math.isfinite(low) and math.isfinite(high)) or low < floor or (strict and low == floor):
        bound = f"> {floor:g}" if strict else f">= {floor:g}"
        raise ValueError(
            f"{name} must stay finite and {bound}, but {control!r} reaches "
            f"[{low:g}, {high:g}]; raise its lower end (for mmts: shift low > alpha / 2) "
            "or clamp it"
        )
