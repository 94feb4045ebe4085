"""Facts that the specs state of a run's control and loss, by the names in its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tauten.spec import ControlSpec, LossSpec
from tauten.training.options.upgrade import upgraded
from tauten.training.specs import control, known_controls, known_losses


def control_of(config: Mapping[str, Any]) -> ControlSpec | None:
    """Return the control of a configuration; None where it has none that is known."""
    section = config.get("control")
    if not isinstance(section, Mapping):
        return None
    try:
        return control(**upgraded({"control": dict(section)})["control"])
    except (TypeError, ValueError):
        return None


def control_name(config: Mapping[str, Any]) -> str:
    """Return the control as tables show it."""
    section = config.get("control", "constant")
    kind = str(section.get("kind", "constant") if isinstance(section, Mapping) else section)
    known = known_controls().get("mmts" if kind.lower() == "mm-ts" else kind.lower())
    return known.title if known is not None and known.title else kind


def loss_of(config: Mapping[str, Any]) -> type[LossSpec] | None:
    """Return the loss of a configuration; None where it is not known, as that of a plugin."""
    return known_losses().get(str(config.get("family", "")).lower())
