"""Plots that follow the page's colours: matplotlib figures as inline SVG with CSS variables."""

from __future__ import annotations

import html
import io
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from markupsafe import Markup
from matplotlib.figure import Figure

from tauten.report.markup import identifier

PLAIN = ("ink", "muted", "grid", "paper")
RUNS = ("run1", "run2", "run3", "run4", "run5", "run6")
GROUPS = ("head", "mid", "tail", "group4", "group5", "group6")
KINDS = ("good", "bad")
DECILES = tuple(f"decile{k}" for k in range(10))
_NAMES = (*PLAIN, *RUNS, *GROUPS, *KINDS, *DECILES)
TOKENS = {name: f"#0a0b{i:02x}" for i, name in enumerate(_NAMES, 16)}
"""Stand-in colours for matplotlib; each becomes the CSS variable of that name."""

SIZE = (4.1, 2.75)
CURVE, POINTS = 3, 120
"""Points from which on a line is a curve, and how many of them are told at most."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")

_TAG = re.compile(r"<[^>]*>")
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    # names of runs, classes and groups are text, whatever signs are in them
    "text.parse_math": False,
    "font.size": 8.5,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.borderaxespad": 0.2,
    "text.color": TOKENS["ink"],
    "axes.labelcolor": TOKENS["ink"],
    "axes.edgecolor": TOKENS["muted"],
    "xtick.color": TOKENS["muted"],
    "ytick.color": TOKENS["muted"],
    "xtick.labelcolor": TOKENS["ink"],
    "ytick.labelcolor": TOKENS["ink"],
    "grid.color": TOKENS["grid"],
    "grid.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "lines.linewidth": 1.5,
    "axes.prop_cycle": cycler(color=[TOKENS[name] for name in RUNS]),
}


@contextmanager
def figure(size: tuple[float, float] = SIZE) -> Iterator[Figure]:
    """Open a figure in the style of the page; draw and convert it inside the block."""
    with mpl.rc_context(_STYLE):
        yield Figure(figsize=size, layout="constrained")


@dataclass(frozen=True)
class Panel:
    """One plot with its heading and what a reader should know to read it."""

    title: str
    picture: Markup
    note: str = ""


@dataclass
class Plot:
    """A plot while it is drawn.

    Attributes:
        drawing: The figure.
        axes: Its axes, one of several below each other.
        said: Parts of the words for readers who do not see it.
        note: Shown below it.
    """

    drawing: Figure
    axes: Any
    said: list[str] = field(default_factory=list)
    note: str = ""


@contextmanager
def plotted(
    panels: list[Panel],
    title: str,
    name: str,
    size: tuple[float, float] = SIZE,
    *,
    alt: str = "",
    rows: int = 1,
) -> Iterator[Plot]:
    """Draw a plot inside the block; it is put to the panels if anything was said of it.

    Args:
        panels: List to put it to.
        title: Heading.
        name: Keeps ids unique on the page.
        size: In inches.
        alt: What it shows, before what is said; default: the heading.
        rows: Axes below each other.
    """
    with figure(size) as drawing:
        of_rows = drawing.subplots(rows, sharex=True, squeeze=False)[:, 0]
        plot = Plot(drawing, of_rows if rows > 1 else of_rows[0])
        yield plot
        if plot.said:
            if of_rows[0].get_legend_handles_labels()[0]:
                legend_above(of_rows[0])
            words = f"{alt or title}: {'; '.join(plot.said)}"
            panels.append(Panel(title, svg(drawing, name, words), plot.note))


def shorten(text: str, most: int = 28) -> str:
    """Return the text, or its beginning and an ellipsis where there is no room for more signs."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def legend_above(axes: Any) -> None:
    """Draw a legend over the axes, in as many columns as its labels leave room for."""
    handles, labels = axes.get_legend_handles_labels()
    labels = [shorten(label, 52) for label in labels]
    longest = max((len(label) for label in labels), default=0)
    columns = max(1, min(4, int(250 / (24 + 4.6 * longest))))
    axes.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        columnspacing=1.2,
    )


def svg(drawing: Figure, name: str, alt: str) -> Markup:
    """Return the figure as an inline SVG element.

    Args:
        drawing: The figure; colours out of TOKENS follow the page.
        name: Keeps ids unique on the page; any text.
        alt: What it shows, for readers who do not see it.
    """
    prefix, buffer = identifier(name), io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        # the page is shown in the reader's fonts, which have signs that matplotlib's lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    view = re.search(r'viewBox="([^"]*)"', text)
    assert view is not None
    # what stands between tags is text and stays as it is
    text = _TAG.sub(lambda tag: _own(tag[0], prefix), text)
    body = text[text.index(">") + 1 :]
    body = re.sub(r"\n\s*", " ", body)
    label = html.escape(alt, quote=True)
    curves = _curves(drawing, [float(part) for part in view[1].split()[2:]])
    lines = html.escape(json.dumps(curves, separators=(",", ":")), quote=True)
    data = f' data-lines="{lines}"' if curves else ""
    return Markup(f'<svg viewBox="{view[1]}" role="img" aria-label="{label}"{data}>{body}')


def _curves(drawing: Figure, size: Sequence[float]) -> list[dict[str, Any]]:
    """Return the named lines of a drawing, for a script that tells values under the pointer.

    Each point is its place in the picture, and its two values as text.
    """
    curves = []
    for axes in drawing.axes:
        lines = []
        for line in axes.lines:
            name, points = str(line.get_label()), np.asarray(line.get_xydata(), dtype=float)
            if name.startswith("_") or len(points) < CURVE:
                continue
            sampled = np.linspace(0, len(points) - 1, min(len(points), POINTS)).round().astype(int)
            points = points[sampled][np.isfinite(points[sampled]).all(axis=1)]
            places = _places(drawing, axes.transData.transform(points), size)
            labels = [
                [*place, f"{x:,.6g}", f"{y:.4g}"]
                for place, (x, y) in zip(places, points, strict=True)
            ]
            tokens = {stand_in: token for token, stand_in in TOKENS.items()}
            token = tokens.get(str(line.get_color()), "ink")
            lines.append({"name": name, "color": f"var(--{token})", "points": labels})
        if lines:
            (left, bottom), (right, top) = _places(drawing, axes.bbox.get_points(), size)
            box = [left, top, right, bottom]
            curves.append({"x": axes.get_xlabel() or "training step", "box": box, "lines": lines})
    return curves


def _places(drawing: Figure, pixels: Any, size: Sequence[float]) -> list[list[float]]:
    """Return places in the picture of points in pixels; there y points down."""
    width, height = size
    share = drawing.transFigure.inverted().transform(pixels)
    return [[round(width * x, 1), round(height * (1 - y), 1)] for x, y in share.tolist()]


def _own(tag: str, prefix: str) -> str:
    """Return a tag with ids of this figure and the page's colours and fonts."""
    tag = re.sub(r"font-family: [^;\"]*(;|(?=\"))", "", tag)
    tag = re.sub(r'\bid="(?![hmp][0-9a-f]{10}")[^"]*"', "", tag)
    tag = tag.replace(' id="', f' id="{prefix}-')
    tag = tag.replace('xlink:href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    for token, stand_in in TOKENS.items():
        tag = tag.replace(stand_in, f"var(--{token})")
    return tag


def picture(drawing: Figure, name: str) -> str:
    """Render the figure as the text of an SVG file, in the page's light colours.

    Args:
        drawing: The figure, drawn inside :func:`figure`.
        name: What its ids are made from.
    """
    style = (files("tauten.report") / "templates" / "style.css").read_text(encoding="utf-8")
    light = style[: style.index("@media")]
    colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", light))
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        drawing.savefig(buffer, format="svg", metadata={"Date": None}, facecolor=TOKENS["paper"])
    text = re.sub(r"[ \t]+$", "", buffer.getvalue(), flags=re.MULTILINE)
    for token, stand_in in TOKENS.items():
        text = text.replace(stand_in, colors[token])
    return text
