"""Writes the tables of docs/evidence.md from docs/evidence/*.csv.

    python benchmarks/evidence_tables.py

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tauten.comparison.tables import MARKS, percent, points
from tauten.outcome import ALL, GROUPS

DOCS = Path(__file__).resolve().parents[1] / "docs"
EVIDENCE = DOCS / "evidence"
BLOCK = re.compile(r"(<!-- table (\S+) -->\n)(?:(?!<!--).)*(<!-- end -->)", re.DOTALL)
Row = dict[str, str]


def read(name: str) -> list[Row]:
    """The rows of a table of docs/evidence."""
    with (EVIDENCE / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def difference(row: Row) -> str:
    """A difference in points with its simultaneous interval, marked where that excludes 0."""
    value, low, high = (
        points(float(row[name])) for name in ("value", "corrected_low", "corrected_high")
    )
    return f"{value} [{low}, {high}]{MARKS[row['verdict']]}"  # type: ignore[index]


def differences(
    name: str,
    label: Callable[[str, str], str | None],
    groups: Sequence[str] = (ALL, *GROUPS),
    first: str = "",
) -> str:
    """A row for each pair of variants.

    Args:
        name: of the csv, without "_differences".
        label: of a row for (a, b), or None to leave it out.
        groups: columns.
        first: title of the first column.
    """
    rows: dict[str, dict[str, str]] = {}
    for row in read(f"{name}_differences"):
        told = label(row["a"], row["b"])
        if told is not None:
            rows.setdefault(told, {})[row["group"]] = difference(row)
    body = [[told, *(found.get(group, "–") for group in groups)] for told, found in rows.items()]
    return pipes([first, *groups], body)


def levels(name: str, metric: str) -> str:
    """The mean of a metric over seeds, in percent, by setting and group."""
    values: dict[str, dict[str, list[float]]] = {}
    for row in read(name):
        if row["metric"] == metric:
            key = f"{row['control']} {row['setting']}"
            values.setdefault(key, {}).setdefault(row["group"], []).append(float(row["value"]))
    body = [
        [key, *(percent(sum(found[g]) / len(found[g])) for g in (ALL, *GROUPS))]
        for key, found in values.items()
    ]
    return pipes([metric, ALL, *GROUPS], body)


def pipes(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of markdown."""
    rule = "|" + " --- |" * len(header)
    return "\n".join([f"| {' | '.join(header)} |", rule, *(f"| {' | '.join(r)} |" for r in rows)])


def _grid(name: str, setting: str) -> Callable[[], str]:
    """Controls minus the baseline of a grid."""
    baseline = "matched"

    def label(a: str, b: str) -> str | None:
        kept = a.endswith(f"({setting})") and b.startswith(f"{baseline} ")
        return f"`{a.split(' (')[0]}`" if kept else None

    return lambda: differences(f"compare_{name}", label, first=f"minus `{baseline}`, {setting}")


def _parts(name: str) -> Callable[[], str]:
    """The schedule minus what takes it apart."""

    def label(a: str, b: str) -> str | None:
        if not a.startswith("mmts ") or b.startswith("matched "):
            return None
        return f"{a[6:-1]}: minus `{b.split(' (')[0]}`"

    return lambda: differences(f"compare_{name}", label, first="`mmts`")


def _both(a: str, b: str) -> str:
    return f"{a} − {b}".replace("composition ", "")


def published() -> str:
    """Numbers of others."""
    header = ["of", "on", "metric", "without", "with"]
    body = [
        [
            row["work"],
            row["data"],
            row["metric"],
            f"{row['without']} {row['value_without']}",
            f"{row['with']} {row['value_with']}",
        ]
        for row in read("published")
    ]
    return pipes(header, body)


TABLES: dict[str, Callable[[], str]] = {
    "frozen-tuned": _grid("emoji_frozen", "tuned"),
    "frozen-default": _grid("emoji_frozen", "default"),
    "frozen-parts": _parts("emoji_frozen"),
    "end-to-end-tuned": _grid("emoji_end_to_end", "tuned"),
    "end-to-end-default": _grid("emoji_end_to_end", "default"),
    "end-to-end-parts": _parts("emoji_end_to_end"),
    "video-default": _grid("emoji_video", "default"),
    "video-parts": _parts("emoji_video"),
    "views-default": _grid("caltech98_views", "default"),
    "views-parts": _parts("caltech98_views"),
    "probe": lambda: differences("probe", _both),
    "probe-levels": lambda: levels("probe", "x2y/hit@5"),
    "sensitivity": lambda: differences("sensitivity", lambda a, b: a.removeprefix("mmts ")),
    "search": lambda: differences("search", lambda a, b: a.removeprefix("composition ")),
    "confirm-emoji": lambda: differences("confirm_emoji", _both),
    "published": published,
    "confirm-photos": lambda: differences("confirm_photos", _both),
}


def filled(page: str) -> str:
    """A page with its tables as the csv files have them."""
    return BLOCK.sub(lambda match: f"{match[1]}\n{TABLES[match[2]]()}\n\n{match[3]}", page)


if __name__ == "__main__":
    path = DOCS / "evidence.md"
    path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
    print(path)
