"""A configuration as a tree of plain values, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from tauten.models.augmentation_options import AugmentationConfig, ViewConfig
from tauten.training.options.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
)
from tauten.training.options.option_types import described, fits
from tauten.training.options.protect import ProtectConfig
from tauten.training.options.term_weights import TermsConfig
from tauten.training.options.upgrade import upgraded
from tauten.training.specs import control, loss, same_options

#: sections of a configuration but for control and loss, whose kinds are chosen
SECTIONS: dict[str, Any] = {
    "data": DataConfig,
    "model": ModelConfig,
    "optim": OptimConfig,
    "evaluation": EvaluationConfig,
    "terms": TermsConfig,
    "protect": ProtectConfig,
}
_NAMES = {kind: name for name, kind in SECTIONS.items()}


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config tree as plain numbers, strings, lists and dicts."""
    plain = _plain(dataclasses.asdict(config))
    assert isinstance(plain, dict)
    if isinstance(config, Config):
        plain = {"family": config.family, **plain}
        plain["control"] = {"kind": config.control.kind, **plain["control"]}
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_dict(tree: dict[str, Any]) -> Config:
    """Return the config of which :func:`to_dict` made this tree.

    Raises:
        ValueError: a field that this version does not know, or of another type; a section that is
            none.
    """
    if not isinstance(tree, dict):
        raise ValueError(f"not a configuration: {tree!r:.80}")
    for name in ("control", "loss"):
        _section(name, tree.get(name, {}))
    tree = upgraded(tree)
    try:
        for name, kind in SECTIONS.items():
            if name in tree:
                tree[name] = _part(kind, _section(name, tree[name]))
        tree["loss"] = loss(tree.pop("family", "infonce"), **tree.get("loss", {}))
        tree["control"] = control(**tree.get("control", {}))
        if "output" in tree:
            tree["output"] = Path(tree["output"])
        _check_types(Config, {name: tree[name] for name in tree if name not in SECTIONS}, "")
        for name, value in tree.items():
            tree[name] = tuple(value) if isinstance(value, list) else value
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
        if name in hints and not fits(value, hints[name]):
            raise ValueError(
                f"not a configuration: {where}{name} is {value!r:.80} ({type(value).__name__}), "
                f"it must be {described(hints[name])}"
            )


def _part(kind: Any, fields: dict[str, Any]) -> Any:
    for name, value in fields.items():
        fields[name] = tuple(value) if isinstance(value, list) else value
    if kind is ModelConfig:
        for name, inner in (("augmentation", AugmentationConfig), ("views", ViewConfig)):
            if name in fields:
                section = _section(f"model.{name}", fields[name])
                _check_types(inner, section, f"model.{name}.")
                fields[name] = inner(**section)
    _check_types(kind, fields, f"{_NAMES[kind]}.")
    return kind(**fields)


def changed(config: Config, settings: Mapping[str, Any]) -> Config:
    """Return a configuration with other settings.

    Another ``family`` or ``control.kind`` starts from its own defaults. Of the loss before it keeps
    the options that both have.

    Args:
        config: to change; it stays as it is.
        settings: values by the name of the option, such as ``{"optim.lr": 1e-3}``.

    Raises:
        ValueError: a setting that there is not, or one that the configuration refuses.
    """
    tree, rest = to_dict(config), dict(settings)
    made = config.loss
    family, kind = rest.pop("family", made.kind), rest.pop("control.kind", config.control.kind)
    if family != made.kind:
        made = loss(family)
        made = dataclasses.replace(made, **same_options(config.loss, type(made)))
        tree["family"], tree["loss"] = family, dataclasses.asdict(made)
    if kind != config.control.kind:
        tree["control"] = {"kind": kind, **dataclasses.asdict(control(kind))}
    for path, value in rest.items():
        *parts, last = path.split(".")
        owner: Any = tree
        for part in parts:
            owner = owner.get(part) if isinstance(owner, dict) else None
        if not isinstance(owner, dict) or last not in owner:
            raise ValueError(f"there is no setting {path!r}; an example is optim.epochs")
        owner[last] = value
    try:
        return from_dict(tree)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("not a configuration: ")) from error


def completed(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the tree, with fields that an earlier version lacked at their defaults.

    Raises:
        ValueError: as :func:`from_dict`.
    """
    return to_dict(from_dict(tree))


def differences(ours: dict[str, Any], theirs: dict[str, Any], path: str = "") -> list[str]:
    """Return where two config trees differ, as "optim.lr: 0.1, was 0.2"."""
    lines: list[str] = []
    for name in sorted({*ours, *theirs}):
        here, there = ours.get(name), theirs.get(name)
        where = f"{path}{name}"
        if isinstance(here, dict) and isinstance(there, dict):
            lines += differences(here, there, f"{where}.")
        elif here != there:
            lines.append(f"{where}: {here!r}, was {there!r}")
    return lines
