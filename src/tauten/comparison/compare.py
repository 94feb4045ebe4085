"""The whole of a comparison: train the grid, compare, write tables and page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tauten.comparison import tables
from tauten.comparison.grid import Grid
from tauten.comparison.page import write_page
from tauten.comparison.summary import Summary, summarise, write_csv
from tauten.comparison.train import train_grid
from tauten.files import replace_text

MARKDOWN, LATEX = "comparison.md", "comparison.tex"


@dataclass(frozen=True)
class Comparison:
    """A finished comparison.

    Attributes:
        summary: all numbers.
        text: the table for the terminal.
        page: path of the HTML page.
    """

    summary: Summary
    text: str
    page: Path


def compare(grid: Grid, metric: str | None = None, bootstrap: int = 2000) -> Comparison:
    """Train a grid of controls, compare them, and write what was found.

    Started again it goes on from finished cells. Into ``grid.output`` it writes ``cells/`` and
    ``tuning/``, a folder for each training; ``cells.csv``, ``differences.csv``, ``comparison.md``,
    ``comparison.tex``, ``comparison.html``; ``failed.json`` if anything failed.

    Call it under ``if __name__ == "__main__":`` where ``grid.processes`` is above 1.

    Args:
        grid: what is compared, and how.
        metric: compared on the test split, one of ``grid.tested.names``; by default mean_recall,
            and of two views knn@10/class_mean.
        bootstrap: replicates.

    Raises:
        ValueError: a grid that cannot be run, a folder with other cells, an unknown metric, or a
            baseline of which no cell finished.
    """
    known = grid.tested
    metric = metric or known.main
    if metric not in known.names:
        raise ValueError(f"unknown metric {metric!r}; there are {', '.join(known.names)}")
    if bootstrap < 1:
        raise ValueError(f"bootstrap must be at least 1 replicate, not {bootstrap}")
    summary = summarise(grid, train_grid(grid, metric), metric, bootstrap)
    write_csv(summary)
    replace_text(grid.output / MARKDOWN, tables.markdown(summary))
    replace_text(grid.output / LATEX, tables.latex(summary))
    return Comparison(summary, tables.text(summary), write_page(summary))
