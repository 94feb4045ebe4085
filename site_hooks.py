"""Pages of the site: formulas of LaTeX become MathML, which browsers draw without a script."""

from __future__ import annotations

import re
from typing import Any

from latex2mathml.converter import convert

_BLOCK = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: as in docstrings, before a name
_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):(?=<code>)")
_LONG_NAME = re.compile(r"(?<=<td><code>)[\w/.:]{30,}(?=</code>)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page whose blocks of the language ``math`` are formulas."""
    return _BLOCK.sub(_drawn, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Return a page without roles of docstrings, whose long names in tables may be broken."""
    return _LONG_NAME.sub(_breakable, _ROLE.sub("", html))


def _drawn(block: re.Match[str]) -> str:
    formula = " ".join(convert(block[1], display="block").split())
    return f'<div class="formula">{formula}</div>\n'


def _breakable(name: re.Match[str]) -> str:
    return re.sub(r"(_|/|::)(?=\w)", r"\1<wbr>", name[0])
