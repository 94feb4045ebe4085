"""Configurations in files: that of a run, or one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tauten.files import expanded, read_yaml
from tauten.training.options.config import Config
from tauten.training.options.config_tree import changed
from tauten.training.run.names import CONFIG, MARK
from tauten.training.run.run_folder import RunFolder


def read_config(place: str | Path) -> Config:
    """Read a configuration from a file, such as the ``config.yaml`` of a run.

    A file of one's own has the options in sections, ``optim: {epochs: 20}``, as ``tauten recipes
    NAME`` prints them. Those that it does not have are those of the recipe that it names in
    ``recipe``, else the usual ones. Its places are relative to the current folder, those of a run
    to the run.

    Args:
        place: the file, in YAML or JSON, or the folder of a run.

    Raises:
        ValueError: no such file, or one that is no configuration.
    """
    path = expanded(place)
    path = path / CONFIG if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"--config {place}: no such file; give a run's {CONFIG}, or one's own")
    tree: Any = read_yaml(path)
    if not isinstance(tree, dict) or not all(isinstance(name, str) for name in tree):
        raise ValueError(f"--config {place} has no sections of options, such as optim and data")
    if MARK in tree:
        if path.name != CONFIG:
            raise ValueError(
                f"--config {place} is the record of a run under another name, and its places are "
                f"relative to the run: give the run's {CONFIG}, or keep only what stands under "
                "config and is to differ from a recipe"
            )
        config = RunFolder(path.parent).config()
        config.overwrite = False
        return config
    try:
        return _own(tree, path)
    except ValueError as error:
        raise ValueError(f"--config {place}: {error}") from error


def _own(tree: dict[str, Any], path: Path) -> Config:
    """Return the configuration of one's own file."""
    recipe = tree.pop("recipe", None)
    base = Config(name=path.stem)
    if recipe is not None:
        from tauten.recipes import get

        base = get(str(recipe))()
    base.output = Path("runs") / path.stem
    return changed(base, dict(_flat(tree)))


def _flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the values of a tree by their names, such as optim.lr."""
    values: list[tuple[str, Any]] = []
    for name, value in tree.items():
        nested = isinstance(value, dict)
        values += _flat(value, f"{prefix}{name}.") if nested else [(f"{prefix}{name}", value)]
    return values
