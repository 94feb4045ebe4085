"""The few numbers of an evaluation that are read first, as a table of plain text."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tauten.outcome.groups import ALL, in_order
from tauten.outcome.metrics import CLASS_MEAN, INSTANCE, MEAN_RECALL, OF_CLASSES, OF_RELEVANCY, WAYS

_ENDS = ("/low", "/high")
_ABOUT = "x2y: image (or first text) to caption, y2x: caption to image, n: queries"


def table(metrics: Mapping[str, float]) -> str:
    """Return the main metrics, one a row: of all queries with its interval, and of each group.

    Of pairs these are hit@K both ways, of graded pairs also nDCG and mAP, then the means of the
    whole; of two views the accuracies over all images and as the mean over classes, and without
    classes whether the other view of an image is found.

    Args:
        metrics: flat, fractions, as of :func:`tauten.evaluation.retrieval` or of a run's
            ``results.json``.

    Returns:
        Lines in percent; empty where there are no such metrics.
    """
    names = [name for name in metrics if not name.endswith(_ENDS)]
    of_views = [name for name in names if name + CLASS_MEAN in metrics]
    if of_views:
        groups = _groups(names, f"{of_views[0]}{CLASS_MEAN}/")
        columns = {ALL: "", "class mean": CLASS_MEAN}
        columns |= {group: f"{CLASS_MEAN}/{group}" for group in groups}
        return _lines(metrics, of_views, columns, "")
    instances = [name for name in names if name.startswith(INSTANCE)]
    if instances:
        return _lines(metrics, instances, {ALL: ""}, "")
    rows = [name for way in WAYS for name in names if re.fullmatch(rf"{way}/hit@\d+", name)]
    if not rows:
        return ""
    groups = _groups(names, f"{rows[0]}/")
    kinds = [f"multi_instance/{kind}/{way}" for kind in OF_RELEVANCY.values() for way in WAYS]
    rows += [name for name in (*kinds, MEAN_RECALL, OF_CLASSES[0]) if name in metrics]
    rows += [f"{way}/n" for way in WAYS]
    return _lines(metrics, rows, {ALL: ""} | {group: f"/{group}" for group in groups}, _ABOUT)


def everything(metrics: Mapping[str, float]) -> str:
    """Return every metric, one a line, with its interval if it has one; all as they are."""
    lines = []
    for name, value in metrics.items():
        if name.endswith(_ENDS):
            continue
        low, high = (metrics.get(name + end) for end in _ENDS)
        interval = "" if low is None else f"  [{low:.4f}, {high:.4f}]"
        lines.append(f"{name:28}{value:10.4f}{interval}")
    return "\n".join(lines)


def number(metrics: Mapping[str, float]) -> int:
    """Return how many metrics there are, ends of intervals not counted."""
    return sum(not name.endswith(_ENDS) for name in metrics)


def _groups(names: list[str], before: str) -> list[str]:
    """Return the groups that there are numbers of, head before mid before tail."""
    ends = [name.removeprefix(before) for name in names if name.startswith(before)]
    return in_order(end for end in ends if "/" not in end)


def _lines(
    metrics: Mapping[str, float], rows: list[str], columns: Mapping[str, str], about: str
) -> str:
    cells = [["percent", *columns]]
    for name in rows:
        show = _whole if name.endswith("/n") else _percent
        whole = show(metrics, name) + _interval(metrics, name)
        cells.append([name, whole, *(show(metrics, name + end) for end in [*columns.values()][1:])])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return "\n".join([*lines, about] if about else lines)


def _percent(metrics: Mapping[str, float], name: str) -> str:
    return f"{100 * metrics[name]:.1f}" if name in metrics else "–"


def _whole(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.0f}" if name in metrics else "–"


def _interval(metrics: Mapping[str, float], name: str) -> str:
    low, high = (metrics.get(name + end) for end in _ENDS)
    return "" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
