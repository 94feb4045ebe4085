"""Documented functions of a Python library: a docstring and the code that it is about.

Built from the source files of an installed Python, so that it needs no download. The same files
give the same samples; another Python version has other functions.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tauten.data.check import Finding
from tauten.data.readers.checks import Reader
from tauten.data.readers.entries import Collection, Entry

#: folders that are not the library: tests, applications, what was installed beside it
_APART = frozenset(
    (
        *("test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo", "ensurepip"),
        *("pydoc_data", "site-packages", "dist-packages", "__pycache__"),
    )
)
_PARTS = re.compile(r"_+|(?<=[a-z0-9])(?=[A-Z])")
_NAME = re.compile(r"[^\W\d]\w*")
#: docstrings with fewer words say too little
_WORDS = 3
#: shares of the functions
_TEST, _VAL = 0.12, 0.08


def read_python_functions(root: Path) -> Collection:
    """Read the functions and methods with a docstring under a folder of Python files.

    Left out are special methods, docstrings of fewer than three words, functions without a body,
    and what is there twice. The text is the docstring's first paragraph, and the caption the code
    without its docstring and comments, its names split into words at ``_`` and capitals. The class
    is the top-level module. A hash of the docstring says which split it is in.

    Raises:
        ValueError: no such function.
    """
    documented, unread = [], []
    for file in sorted(root.rglob("*.py")):
        place = file.relative_to(root)
        if _APART.isdisjoint(place.parts):
            try:
                documented += list(_functions(file, place))
            except (SyntaxError, ValueError):
                unread.append(str(place))
    docs = Counter(entry.media for entry in documented)
    codes = Counter(entry.captions for entry in documented)
    single = [e for e in documented if docs[e.media] == 1 and codes[e.captions] == 1]
    if not single:
        raise ValueError(f"{root} has no Python file with documented functions")
    splits: dict[str, list[Entry]] = {"train": [], "val": [], "test": []}
    for entry in single:
        splits[_split(str(entry.media))].append(entry)
    notes = (
        Finding("functions left out, there twice", len(documented) - len(single)),
        Finding("files that do not parse", len(unread)),
    )
    version = ".".join(map(str, sys.version_info[:2]))
    return Collection("python_functions", f"parsed by Python {version}", splits, notes)


def _functions(file: Path, place: Path) -> Iterator[Entry]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old escapes in texts
        tree = ast.parse(file.read_bytes())
    module = place.parts[0].removesuffix(".py")
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
        special = node.name.startswith("__") and node.name.endswith("__")
        if special or len(text.split()) < _WORDS or len(node.body) < 2:
            continue
        node.body = node.body[1:]
        code = _NAME.sub(_spaced, ast.unparse(node))
        yield Entry(f"{place.as_posix()}:{node.lineno}", text, (code,), module)


def _spaced(name: re.Match[str]) -> str:
    return " ".join(_PARTS.sub(" ", name[0]).split()) or name[0]


def _split(text: str) -> str:
    at = int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
    return "test" if at < _TEST else "val" if at < _TEST + _VAL else "train"


def standard_library() -> Path:
    """Return the folder of the running Python's standard library."""
    return Path(sysconfig.get_path("stdlib"))


PYTHON_FUNCTIONS = Reader(
    name="python_functions",
    about="documented functions of the standard library, with their code: a long tail of modules",
    source="the installed Python",
    read=read_python_functions,
    usual=standard_library,
)
