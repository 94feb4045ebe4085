"""A configuration as a tree of plain values, and back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

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

_PARTS: dict[str, Any] = {
    "control": ControlConfig,
    "data": DataConfig,
    "model": ModelConfig,
    "loss": LossConfig,
    "optim": OptimConfig,
    "evaluation": EvaluationConfig,
}
_NAMES = {kind: name for name, kind in _PARTS.items()}


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
        ValueError: a field that this version does not know, or of another type; a section that is
            none.
    """
    parts = _PARTS
    if not isinstance(tree, dict):
        raise ValueError(f"not a configuration: {tree!r:.80}")
    tree = dict(tree)
    try:
        for name, kind in parts.items():
            if name in tree:
                tree[name] = _part(kind, _section(name, tree[name]))
        if "output" in tree:
            tree["output"] = Path(tree["output"])
        _check_types(Config, {name: tree[name] for name in tree if name not in parts}, "")
        return Config(**tree)
    except TypeError as error:
        raise ValueError(f"not a configuration of this version: {error}") from error


def _section(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"not a configuration: {name} is {value!r:.80}, not a section of fields")
    return dict(value)


def _check_types(kind: Any, fields: dict[str, Any], where: str) -> None:
    """Refuse values of another type than the field has; unknown fields are left to ``kind``."""
    hints = get_type_hints(kind)
    for name, value in fields.items():
        if name in hints and not _is(value, hints[name]):
            wanted = getattr(hints[name], "__name__", str(hints[name]))
            if get_origin(hints[name]) is not None:
                wanted = str(hints[name]).replace("typing.", "")
            raise ValueError(
                f"not a configuration: {where}{name} is {value!r:.80} ({type(value).__name__}), "
                f"it must be {wanted}"
            )


def _is(value: Any, hint: Any) -> bool:
    origin, options = get_origin(hint), get_args(hint)
    if origin is Literal:
        return any(type(value) is type(option) and value == option for option in options)
    if origin in (Union, UnionType):
        return any(_is(value, option) for option in options)
    if origin is tuple:
        every = options[0] if options[-1] is Ellipsis else None
        return (
            isinstance(value, (list, tuple))
            and (every is not None or len(value) == len(options))
            and all(_is(item, every or options[place]) for place, item in enumerate(value))
        )
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint) if isinstance(hint, type) else True


def _part(kind: Any, fields: dict[str, Any]) -> Any:
    if kind is ModelConfig:
        if "channels" in fields:
            fields["channels"] = tuple(fields["channels"])
        for name, inner in (("augmentation", AugmentationConfig), ("views", ViewConfig)):
            if name in fields:
                section = _section(f"model.{name}", fields[name])
                _check_types(inner, section, f"model.{name}.")
                fields[name] = inner(**section)
    _check_types(kind, fields, f"{_NAMES[kind]}.")
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
