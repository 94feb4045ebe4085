"""What a family of losses asks of its control."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tauten.training.config import ControlConfig, ControlKind, Family

#: families whose control is a margin, not a temperature
MARGINS = ("maxmargin", "sms")
_OF_FASTCLIP: dict[str, ControlKind] = {
    "v0": "learnable",
    "v1": "constant",
    "v2": "individual",
    "v3": "learnable",
}
#: AVION's constant, ends of that mean, and the schedule of MM-TS on EPIC-KITCHENS-100
_OF_MARGIN: dict[str, Any] = {
    **{"value": 0.2, "low": 0.1, "high": 0.3},
    **{"alpha": 0.2, "shift_low": 0.17, "shift_high": 0.3},
}


def own_control(family: Family, version: str) -> ControlKind | None:
    """Return the only control of a family that brings it with it; version is that of fastclip."""
    if family == "isogclr":
        return "individual"
    if family == "fastclip":
        return _OF_FASTCLIP[version]
    return None


def control_for(
    control: ControlConfig, before: Family, family: Family, version: str
) -> ControlConfig:
    """Return the control of another family: the kind that it needs, and values of its scale.

    Margins begin with AVION's constant and MM-TS's schedule on EPIC-KITCHENS-100, temperatures with
    the defaults of a configuration.

    Args:
        control: of the family before.
        before: that family.
        family: the new one.
        version: of fastclip.
    """
    kind = own_control(family, version)
    if kind is None:
        kind = "constant" if own_control(before, version) else control.kind
    if (before in MARGINS) == (family in MARGINS):
        return replace(control, kind=kind)
    values: dict[str, Any] = {name: getattr(type(control)(), name) for name in _OF_MARGIN}
    if family in MARGINS:
        values = _OF_MARGIN
    return replace(control, kind=kind, **values)
