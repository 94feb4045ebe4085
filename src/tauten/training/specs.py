"""Controls, losses and tasks by name, those of the package and those of plugins."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any, TypeVar

from tauten.spec import ControlSpec, LossSpec, Spec, named
from tauten.training.tasks.task import Task

Made = TypeVar("Made", bound=Spec)

#: modules that define the package's own specs
_MODULES = (
    "tauten.controls",
    "tauten.losses",
    "tauten.training.tasks.pairs",
    "tauten.training.tasks.views",
)
#: names the plugins of a command for the processes that it starts
PLUGINS = "TAUTEN_PLUGINS"


def control(kind: str = "constant", **options: Any) -> ControlSpec:
    """Return the options of a control.

    Args:
        kind: its name, see ``tauten.spec.ControlSpec.known``.
        options: that differ from their defaults.

    Raises:
        ValueError: an unknown name, or options that it does not have.
    """
    _load()
    return _made(named(ControlSpec, kind, "control.kind"), "control", options)


def loss(kind: str = "infonce", **options: Any) -> LossSpec:
    """Return the options of a loss.

    Args:
        kind: its name, see ``tauten.spec.LossSpec.known``.
        options: that differ from their defaults.

    Raises:
        ValueError: an unknown name, or options that it does not have.
    """
    _load()
    return _made(named(LossSpec, kind, "family"), "loss", options)


def task(kind: str) -> Task:
    """Return a task.

    Args:
        kind: its name, see ``tauten.training.tasks.task.Task.known``.

    Raises:
        ValueError: an unknown name.
    """
    _load()
    return named(Task, kind, "task")()


def known_controls() -> dict[str, type[ControlSpec]]:
    """Return all controls by name."""
    _load()
    return dict(ControlSpec.known)


def known_losses() -> dict[str, type[LossSpec]]:
    """Return all losses by name."""
    _load()
    return dict(LossSpec.known)


def load_plugin(name: str) -> None:
    """Import a module whose specs are to be known, such as ``my_losses.py``.

    Args:
        name: a Python file, or the name of an installed module.

    Raises:
        ValueError: no such file or module, or one that fails when it is imported.
    """
    path = Path(name)
    if path.suffix == ".py" and not path.is_file():
        raise ValueError(f"--plugin {name}: no such file")
    place = str(path.resolve()) if path.suffix == ".py" else name
    known = [part for part in os.environ.get(PLUGINS, "").split(os.pathsep) if part]
    _load()
    if place not in known:
        _import(place)
        os.environ[PLUGINS] = os.pathsep.join([*known, place])


def _import(place: str) -> None:
    path = Path(place)
    module = f"tauten_plugin_{path.stem}"
    if module in sys.modules:
        return
    try:
        if path.suffix != ".py":
            importlib.import_module(place)
            return
        spec = importlib.util.spec_from_file_location(module, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[module] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[module])
        except BaseException:
            del sys.modules[module]
            raise
    except Exception as error:
        raise ValueError(f"--plugin {place}: {type(error).__name__}: {error}") from error


def _load() -> None:
    """Import what defines the specs of the package, and the plugins of the command."""
    for module in _MODULES:
        importlib.import_module(module)
    for place in os.environ.get(PLUGINS, "").split(os.pathsep):
        if place:
            _import(place)


def _made(spec: type[Made], part: str, options: dict[str, Any]) -> Made:
    known = spec.option_names()
    foreign = [name for name in options if name not in known]
    if foreign:
        raise ValueError(
            f"{spec.kind} has no {', '.join(f'{part}.{name}' for name in foreign)}; it has "
            f"{', '.join(f'{part}.{name}' for name in known) or 'no options'}"
        )
    return spec(**options)


def chosen(spec: Spec) -> dict[str, Any]:
    """Return the options of a spec that are not at their defaults."""
    usual = type(spec)()
    return {n: value for n, value in vars(spec).items() if value != getattr(usual, n)}


def same_options(old: Spec, new: type[Made]) -> dict[str, Any]:
    """Return the options of a spec that another has too, where they are not at their defaults."""
    return {n: value for n, value in chosen(old).items() if n in new.option_names()}


def other_loss(before: LossSpec, kind: str, **options: Any) -> LossSpec:
    """Return the loss of another name, with the options of the one before that both have."""
    made = loss(kind)
    shared = same_options(before, type(made)) if kind != before.kind else vars(before)
    return loss(kind, **{**shared, **options})


def lost_options(before: LossSpec, after: LossSpec) -> dict[str, Any]:
    """Return the options of a loss, not at their defaults, that another loss does not have."""
    return {n: value for n, value in chosen(before).items() if n not in after.option_names()}


def other_control(
    before: ControlSpec, old: LossSpec, new: LossSpec, kind: str | None = None
) -> ControlSpec:
    """Return the control of another loss, with the options of the one before that both have.

    Margins and temperatures are of different size: where one takes the place of the other, options
    begin at their defaults.

    Args:
        before: the control of the loss before.
        old: that loss.
        new: the loss to be driven.
        kind: name of the control that is asked for; by default the only one that the loss takes, or
            that of before.
    """
    if kind is None:
        brought = before.kind == old.own_control()
        kind = new.own_control() or ("constant" if brought else before.kind)
    made = type(control(kind))
    if old.strength != new.strength:
        shared = same_options(before, made)
        shared = {name: value for name, value in shared.items() if name not in made.as_margin}
        return made(**shared, **(made.as_margin if new.strength == "margin" else {}))
    return before if kind == before.kind else made(**same_options(before, made))


def at_most(spec: Made, **limits: float) -> Made:
    """Return a spec whose options, of these that it has, are at most so large."""
    lower = {
        name: min(vars(spec)[name], limit) for name, limit in limits.items() if name in vars(spec)
    }
    return dataclasses.replace(spec, **lower)  # type: ignore[type-var]
