"""Packages whose names are imported when they are first used (PEP 562).

Such a package lists its imports once, under ``if TYPE_CHECKING:``, where editors and type checkers
find them, and ends in ``__getattr__ = attach(__name__, __file__)``.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any


def attach(package: str, file: str) -> Callable[[str], Any]:
    """Return ``__getattr__`` for the package in this file."""

    @cache
    def homes() -> dict[str, str]:
        blocks = [
            node.body
            for node in ast.parse(Path(file).read_text(encoding="utf-8")).body
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        ]
        imports = [node for block in blocks for node in block if isinstance(node, ast.ImportFrom)]
        return {alias.name: str(node.module) for node in imports for alias in node.names}

    def get(name: str) -> Any:
        if name.startswith("_") or name not in homes():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes()[name]), name)

    return get
