"""A configuration as a tree of plain values, and back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tauten.models.augmentation import AugmentationConfig
from tauten.models.view_augmentation import ViewConfig
from tauten.training.config import (
    Config,
    ControlConfig,
    DataConfig,
    EvaluationConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
)


def to_dict(config: Any) -> dict[str, Any]:
    """A config tree as plain numbers, strings, lists and dicts."""
    plain = _plain(dataclasses.asdict(config))
    assert isinstance(plain, dict)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_dict(tree: dict[str, Any]) -> Config:
    """The config of which :func:`to_dict` made this tree.

    Raises:
        ValueError: a field that this version does not know.
    """
    parts: dict[str, Any] = {
        "control": ControlConfig,
        "data": DataConfig,
        "model": ModelConfig,
        "loss": LossConfig,
        "optim": OptimConfig,
        "evaluation": EvaluationConfig,
    }
    tree = dict(tree)
    try:
        for name, kind in parts.items():
            if name in tree:
                tree[name] = _part(kind, dict(tree[name]))
        if "output" in tree:
            tree["output"] = Path(tree["output"])
        return Config(**tree)
    except TypeError as error:
        raise ValueError(f"not a configuration of this version: {error}") from error


def _part(kind: Any, fields: dict[str, Any]) -> Any:
    if kind is ModelConfig:
        if "channels" in fields:
            fields["channels"] = tuple(fields["channels"])
        if "augmentation" in fields:
            fields["augmentation"] = AugmentationConfig(**fields["augmentation"])
        if "views" in fields:
            fields["views"] = ViewConfig(**fields["views"])
    return kind(**fields)


def completed(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with the fields that it lacks, as one of an earlier version does, at their defaults.

    Raises:
        ValueError: as :func:`from_dict`.
    """
    return to_dict(from_dict(tree))


def differences(ours: dict[str, Any], theirs: dict[str, Any], path: str = "") -> list[str]:
    """Where two config trees differ, as "optim.lr: 0.1, was 0.2"."""
    found: list[str] = []
    for name in sorted({*ours, *theirs}):
        here, there = ours.get(name), theirs.get(name)
        where = f"{path}{name}"
        if isinstance(here, dict) and isinstance(there, dict):
            found += differences(here, there, f"{where}.")
        elif here != there:
            found.append(f"{where}: {here!r}, was {there!r}")
    return found
