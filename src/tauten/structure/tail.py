"""A picture of the long tail."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tauten.files import replacing
from tauten.structure.extras import require

_LINE = "#1f5fa8"
_INK = "#222222"
_GRID = "#d9d9d9"


def plot_tail(
    counts: Tensor | Sequence[int],
    path: str | Path,
    title: str = "Cluster sizes",
    noun: str = "cluster",
) -> None:
    """Draw sizes against rank, largest first, with a logarithmic size axis.

    Args:
        counts: (k,) size of each cluster or class, each at least 1. Any order.
        path: picture to write; the suffix sets the format (.png, .svg, .pdf).
        title: heading of the plot.
        noun: what has the size, for the axis label.

    Raises:
        ValueError: no counts, or a count below 1.
    """
    sizes = torch.as_tensor(counts).flatten().sort(descending=True).values.tolist()
    if not sizes:
        raise ValueError("there are no counts to draw")
    if sizes[-1] < 1:
        raise ValueError(f"counts must be at least 1, smallest is {sizes[-1]}")
    figures, ticker = require("matplotlib.figure"), require("matplotlib.ticker")
    figure = figures.Figure(figsize=(8, 4.5), dpi=150, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("white")
    edges = [rank + 0.5 for rank in range(len(sizes) + 1)]
    axes.stairs(sizes, edges, fill=True, color=_LINE, alpha=0.25)
    axes.stairs(sizes, edges, baseline=None, color=_LINE, linewidth=1.6)
    axes.set_yscale("log")
    axes.set_ylim(0.8, sizes[0] * 1.6)
    axes.set_xlim(0.5, len(sizes) + 0.5)
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda size, _: f"{size:,.10g}"))
    axes.yaxis.set_minor_formatter(_minor(ticker, sizes[0]))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.set_xlabel(f"rank of the {noun}, largest first", color=_INK, fontsize=11)
    axes.set_ylabel(f"samples in the {noun} (log scale)", color=_INK, fontsize=11)
    axes.set_title(f"{title}\n", color=_INK, fontsize=13, loc="left", parse_math=False)
    axes.tick_params(colors=_INK, labelsize=10)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    median = float(torch.tensor(sizes, dtype=torch.float64).quantile(0.5))
    summary = axes.text(
        0.0,
        1.02,
        f"{sum(sizes):,} samples, {len(sizes):,} {_plural(noun)}: largest {sizes[0]:,}, "
        f"median {median:,.10g}, smallest {sizes[-1]:,}, ratio {sizes[0] / sizes[-1]:,.4g}",
        transform=axes.transAxes,
        va="bottom",
        color=_INK,
        fontsize=9.5,
    )
    summary.set_in_layout(False)
    kind = Path(path).suffix.removeprefix(".") or "png"
    with replacing(path) as file:
        figure.savefig(file, format=kind)


def _minor(ticker: Any, largest: int) -> Any:
    return ticker.FuncFormatter(_minor_label) if largest < 1000 else ticker.NullFormatter()


def _minor_label(size: float, _: int) -> str:
    return f"{size:,.10g}" if size > 1 and f"{size:e}"[0] in "25" else ""


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"
