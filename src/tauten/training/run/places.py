"""Places of data and models in a record: relative to the run, so that both can be moved together.

A record is made to be shared. What lies under the home folder is written from there, as ``~/...``,
where it has nothing else in common with the run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tauten.files import expanded
from tauten.training.stores.named import is_named

_SOURCES = ("source", "val", "test", "features")
_MODELS = ("image", "text")
_FILES = (".pt", ".pth")
#: what the names of a model and of data may begin with; a folder may follow
OPEN_CLIP, _HUB = "open_clip:", "hf:"
_NO_FILES = ("", "emoji_lt", "synthetic")


def portable(tree: dict[str, Any], run: Path) -> dict[str, Any]:
    """Return a configuration whose places are relative to the folder of its run."""
    return _changed(tree, lambda path: _relative(path, run), given=True) | {"output": "."}


def located(tree: dict[str, Any], run: Path) -> dict[str, Any]:
    """Return a configuration whose places are absolute, resolved against this folder."""
    absolute = _changed(tree, lambda path: _absolute(path, run), given=False)
    return absolute | {"output": _absolute(str(tree.get("output", ".")), run)}


def shown(source: str) -> str:
    """Return a source of data without the way to it: its name, or that of its file or folder."""
    if is_named(source):
        return source.partition(":")[0]
    if source.startswith(_HUB):
        return source.rpartition("/")[2] if _is_place(source.removeprefix(_HUB), True) else source
    return source if source in _NO_FILES else Path(os.path.abspath(source)).name  # noqa: PTH100


def _changed(tree: dict[str, Any], change: Callable[[str], str], given: bool) -> dict[str, Any]:
    data, model = dict(tree["data"]), dict(tree["model"])
    for name in _SOURCES:
        value = data.get(name)
        if isinstance(value, str) and value.startswith(_HUB):
            folder = value.removeprefix(_HUB)
            data[name] = _HUB + (change(folder) if _is_place(folder, given) else folder)
        elif isinstance(value, str) and value not in _NO_FILES:
            family, _, path = value.partition(":") if is_named(value) else ("", "", value)
            if path:
                data[name] = f"{family}:{change(path)}" if family else change(path)
    for name in _MODELS:
        value = model.get(name)
        if isinstance(value, str):
            kind = OPEN_CLIP if value.startswith(OPEN_CLIP) else ""
            place = value.removeprefix(kind)
            if _is_place(place, given):
                model[name] = kind + change(place)
    start = {"init": change(tree["init"])} if tree.get("init") else {}
    return tree | {"data": data, "model": model} | start


def _is_place(model: str, given: bool) -> bool:
    """Tell a file or folder from a name; one that was ``given`` may be a folder that is there."""
    there = given and os.sep in model and Path(model).exists()
    return there or model.startswith((".", "~", "/")) or model.endswith(_FILES)


def _relative(path: str, run: Path) -> str:
    absolute, folder = _absolute(path, Path()), _absolute(str(run), Path())
    home = str(Path.home())
    common = os.path.commonpath([absolute, folder])
    at_home = home != os.sep and os.path.commonpath([absolute, home]) == home
    if at_home and os.path.commonpath([common, home]) != home:
        return f"~/{os.path.relpath(absolute, home)}"
    if common == os.path.dirname(common):  # noqa: PTH120 - nothing in common but the root
        return absolute
    relative = os.path.relpath(absolute, folder)
    return relative if relative.startswith(".") else f"./{relative}"


def _absolute(path: str, folder: Path) -> str:
    return os.path.abspath(folder.absolute() / expanded(path))  # noqa: PTH100
