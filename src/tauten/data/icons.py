"""A long-tailed set of pictures and names from the icons of the npm package ``@tabler/icons``.

Its ``icons.json`` names each icon, its category (41, the largest a hundred times the smallest) and
tags; its drawings are SVG, which the package ``resvg-py`` draws.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tauten.extras import need
from tauten.files import make_folder, replace_text, replacing

#: from the text of an SVG and a side in pixels to the bytes of a PNG on white
Draw = Callable[[str, int], bytes]
COLUMNS = ("file_name", "caption", "keywords", "label", "split")


def write_icons(
    package: Path | str, output: Path | str, size: int = 64, draw: Draw | None = None
) -> Path:
    """Write pictures and a table that ``tauten train --data`` reads.

    Outlines are the training split. Where an icon is drawn filled, too, that drawing is for
    validation or test, one half each, by a hash of its name: another drawing of a known concept.
    The caption is the name in words, the label the category.

    Args:
        package: the unpacked package, with ``icons.json`` and ``icons/outline``.
        output: folder for the pictures and ``metadata.csv``.
        size: side of a picture in pixels.
        draw: draws an SVG; by default with resvg-py.

    Returns:
        Path of the table.

    Raises:
        ValueError: no such package, a drawing that is missing, size < 1, or resvg-py missing.
    """
    package, output = Path(package), Path(output)
    if size < 1:
        raise ValueError(f"size must be 1 pixel or more, got {size}")
    icons = _listed(package)
    draw = _draw() if draw is None else draw
    make_folder(output)
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for name, icon in icons.items():
        for style in sorted(icon["styles"], reverse=True):
            source = package / "icons" / style / f"{name}.svg"
            if not source.exists():
                raise ValueError(f"{package} names the icon {name!r} but lacks {source.name}")
            file = f"{name}-{style}.png"
            with replacing(output / file) as picture:
                picture.write(draw(source.read_text(encoding="utf-8"), size))
            split = "train" if style == "outline" else _half(name)
            words = name.replace("-", " ")
            table.writerow((file, words, "|".join(icon["tags"]), icon["category"], split))
    replace_text(output / "metadata.csv", text.getvalue())
    return output / "metadata.csv"


def _listed(package: Path) -> dict[str, dict[str, Any]]:
    path = package / "icons.json"
    try:
        icons: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        for icon in icons.values():
            icon["tags"] = [str(tag) for tag in icon["tags"]]
            if not icon["category"] or "outline" not in icon["styles"]:
                raise ValueError("no category or no outline")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{package} is not the unpacked npm package @tabler/icons: no icons.json with the "
            "category, tags and styles of each icon; get it with 'npm pack @tabler/icons' and tar"
        ) from error
    if not icons:
        raise ValueError(f"{path} names no icon")
    return icons


def _half(name: str) -> str:
    return "val" if hashlib.sha256(name.encode()).digest()[0] % 2 else "test"


def _draw() -> Draw:
    need("drawing icons", "resvg_py")
    from resvg_py import svg_to_bytes

    def draw(svg: str, size: int) -> bytes:
        return bytes(
            svg_to_bytes(
                svg_string=svg, width=size, height=size, background="#fff", skip_system_fonts=True
            )
        )

    return draw
