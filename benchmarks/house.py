"""Sizes of the source: lines, wide interfaces, circles of imports, and the way of one dense loss.

    python benchmarks/house.py

It prints the lines of each room of ``src/tauten``; the files that import ``Config``, and those of
comparison, report and command line that touch the grid of a comparison; the first circle among
imports at the top of modules, if there is one; and through how many files one call of a dense
``InfoNCE`` goes, and how often it moves from one file to another.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FrameType
from typing import Any

SOURCE = Path(__file__).resolve().parents[1] / "src" / "tauten"
#: rooms that may read what a comparison was asked for
GRID_ROOMS = ("comparison", "report", "cli")


def modules() -> dict[str, Path]:
    """Return the file of each module of tauten, by the module's name."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ("tauten", *path.relative_to(SOURCE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room(module: str) -> str:
    """Return the room of a module: "losses" for ``tauten.losses.infonce``."""
    return (*module.split("."), "tauten")[1]


@cache
def tree(path: Path) -> ast.Module:
    """Return the parsed source of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def _is_typing(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _statements(node: ast.AST, *, everywhere: bool) -> Iterator[ast.stmt]:
    """Yield the import statements that run when a module is loaded, or all that there are."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif everywhere or not (
            _is_typing(child) or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        ):
            yield from _statements(child, everywhere=everywhere)


@cache
def _homes(package: Path) -> Mapping[str, str]:
    """Return where the names of a package come from that are imported at first use."""
    blocks = [node for node in tree(package).body if _is_typing(node)]
    inner = [node for block in blocks for node in ast.walk(block)]
    imports = [node for node in inner if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def imported(module: str, *, everywhere: bool = False) -> set[str]:
    """Return the modules of tauten that a module imports.

    Args:
        module: its name.
        everywhere: whether to count imports inside functions and those for type checkers too.
    """
    known = modules()
    found = set()
    for node in _statements(tree(known[module]), everywhere=everywhere):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        source = str(node.module)
        for alias in node.names:
            if f"{source}.{alias.name}" in known:
                found.add(f"{source}.{alias.name}")
            elif source in known:
                found.add(_homes(known[source]).get(alias.name, source))
    return {name for name in found if name in known} - {module}


def circle() -> list[str]:
    """Return the modules of a circle of imports, or [] where there is none."""
    try:
        TopologicalSorter({name: imported(name) for name in modules()}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def lines() -> Counter[str]:
    """Return the number of lines of each room."""
    found: Counter[str] = Counter()
    for name, path in modules().items():
        found[room(name)] += len(path.read_text(encoding="utf-8").splitlines())
    return found


def importing(name: str) -> list[str]:
    """Return the modules that import an object of this name from tauten."""
    found = []
    for module, path in modules().items():
        statements = _statements(tree(path), everywhere=True)
        froms = [node for node in statements if isinstance(node, ast.ImportFrom)]
        if any(alias.name == name for node in froms for alias in node.names):
            found.append(module)
    return found


def touching_the_grid() -> list[str]:
    """Return the modules that name ``Grid`` or read an attribute ``grid``."""
    return [
        module
        for module, path in modules().items()
        if room(module) in GRID_ROOMS and _touches(tree(path))
    ]


def _touches(parsed: ast.Module) -> bool:
    drawn = {id(node.func) for node in ast.walk(parsed) if isinstance(node, ast.Call)}
    for node in ast.walk(parsed):
        if isinstance(node, ast.Attribute) and id(node) not in drawn and node.attr == "grid":
            return True
        if isinstance(node, ast.Attribute) and node.attr == "Grid":
            return True
        if isinstance(node, ast.Name | ast.alias | ast.ClassDef):
            name = node.id if isinstance(node, ast.Name) else node.name
            if name == "Grid":
                return True
    return False


def way() -> list[str]:
    """Return the files of tauten that one call of a dense InfoNCE enters, in their order."""
    import torch

    import tauten as tt

    x, y = torch.randn(64, 32), torch.randn(64, 32)
    loss_fn = tt.InfoNCE(0.1)
    loss_fn(x, y)
    entered: list[str] = []

    def profile(frame: FrameType, event: str, _: Any) -> None:
        file, before = frame.f_code.co_filename, frame.f_back
        ours = file.startswith(str(SOURCE))
        if event == "call" and ours and before and before.f_code.co_filename != file:
            entered.append(str(Path(file).relative_to(SOURCE)))

    sys.setprofile(profile)
    try:
        loss_fn(x, y)
    finally:
        sys.setprofile(None)
    return entered


def main() -> None:
    """Print all figures."""
    counted = lines()
    for name, number in counted.most_common():
        print(f"{name:12}{number:8,}")
    print(f"{'all':12}{counted.total():8,} lines")
    users = importing("Config")
    rooms = ", ".join(f"{name} {n}" for name, n in Counter(map(room, users)).most_common())
    print(f"files that import Config: {len(users)} ({rooms})")
    grids = touching_the_grid()
    print(f"files that touch the grid of a comparison: {len(grids)} ({', '.join(grids)})")
    print(f"circle of imports: {' → '.join(circle()) or 'none'}")
    entered = way()
    print(f"one dense InfoNCE: {len(set(entered))} files, {len(entered)} moves between files")


if __name__ == "__main__":
    main()
