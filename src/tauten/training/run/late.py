"""Options that do not touch the training: a run that has begun, or ended, takes new values."""

from __future__ import annotations

import copy
from typing import Any

#: shown names, and replicates of the intervals of the final metrics
LATE = ("name", "evaluation.bootstrap")


def without_late(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration's tree without these options."""
    left = copy.deepcopy(tree)
    for name in LATE:
        owner, last = _owner(left, name)
        owner.pop(last, None)
    return left


def take_late(stored: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Write the wanted values of these options into a stored tree; returns those that changed."""
    changed = []
    for name in LATE:
        (owner, last), (source, _) = _owner(stored, name), _owner(wanted, name)
        if owner.get(last) != source[last]:
            owner[last] = source[last]
            changed.append(name)
    return changed


def _owner(tree: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    *parts, last = name.split(".")
    for part in parts:
        tree = tree.setdefault(part, {})
    return tree, last
