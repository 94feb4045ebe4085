"""Text of users in pages and drawings: always text, never markup, formulas or broken ids."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_OPTION = re.compile(r"(?<!\S)--[a-z][\w.-]*\w")
_NO_ID = re.compile(r"[^A-Za-z0-9_.-]+")


def printable(text: str) -> str:
    r"""Return text with control characters and halves of characters spelled out, such as ``\x00``.

    Neither HTML nor SVG may hold them, and half a character cannot be written to a file.
    """
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def all_printable(tree: Any) -> Any:
    """Return plain values, and arrays of text, with every text in them :func:`printable`."""
    if isinstance(tree, str):
        return printable(tree)
    if isinstance(tree, Mapping):
        return {all_printable(key): all_printable(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [all_printable(value) for value in tree]
    if isinstance(tree, np.ndarray) and tree.dtype.kind == "U":
        shown = [printable(text) for text in tree.ravel().tolist()]
        return np.array(shown, dtype=np.str_).reshape(tree.shape)
    if isinstance(tree, np.ndarray) and tree.dtype.kind == "O":
        return np.array([printable(text) for text in tree] + [None], dtype=object)[:-1]
    return tree


def identifier(name: str) -> str:
    """Return a name that may stand in an id and in ``url(#...)``, different for different names."""
    plain = _NO_ID.sub("-", name)
    if plain == name:
        return name
    return f"{plain}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def options(text: str) -> Markup:
    """Return text whose options of the command line stand on one line each."""
    return Markup(_OPTION.sub(r'<code class="option">\g<0></code>', str(escape(text))))


def environment(*packages: str) -> Environment:
    """Return the templates of some packages, in which every value is escaped.

    Args:
        packages: names of packages with a folder ``templates``, the first goes first.
    """
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["options"] = options
    return made


def save_page(path: Path, page: str) -> Path:
    """Write a page, whole or not at all; return its path."""
    from tauten.files import replace_text

    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, printable(page))
    return path
