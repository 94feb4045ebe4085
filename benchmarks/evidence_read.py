"""Reads docs/evidence/*.csv: rows, differences in points, and what a rule or metric is called."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from tauten.comparison.tables import MARKS, points

DOCS = Path(__file__).resolve().parents[1] / "docs"
EVIDENCE = DOCS / "evidence"
Row = dict[str, str]
#: the sets that were studied: the beginning of their files' and tables' names
SETS = {"study": "emoji_lt", "icons": "icons", "clips": "emoji_video", "views": "caltech98_lt"}
STUDIES = tuple(name for name in SETS if (EVIDENCE / f"{name}_search.csv").exists())
#: those of which a shift was taken apart
PARTED = tuple(name for name in STUDIES if (EVIDENCE / f"{name}_parts.csv").exists())
RECALL, CLASSES = "mean_recall", "class_map"
NEAREST, NEIGHBOURS = "knn@1/class_mean", "knn@10/class_mean"
#: metrics in words
WORDS = {RECALL: "mean recall", CLASSES: "class mAP", NEAREST: "kNN@1", NEIGHBOURS: "kNN@10"}
#: the wide shift and its parts
PARTS = {
    "MM-TS 0.089 to 0.485 plain": "true sizes (MM-TS)",
    "MM-TS reversed 0.089 to 0.485 plain": "sizes reversed",
    "MM-TS 0.089 to 0.485 equalized": "shape only",
    "part weight only": "weight only",
    "part noise": "sizes exchanged between samples",
    "part shuffled": "sizes exchanged between classes",
}
#: what settings are chosen for
TARGETS = {"instances": "for pairs", "classes": "for classes", "both": "for both"}


def read(name: str) -> list[Row]:
    """The rows of a table of docs/evidence."""
    with (EVIDENCE / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def metrics_of(study: str) -> list[str]:
    """What a study compares; the last is of classes."""
    return [name for name in read(f"{study}_search")[0] if name in WORDS]


def difference(row: Row) -> str:
    """A difference in points with its simultaneous interval, marked where that excludes 0."""
    value, low, high = (
        points(float(row[name])) for name in ("value", "corrected_low", "corrected_high")
    )
    return f"{value} [{low}, {high}]{MARKS[row['verdict']]}"  # type: ignore[index]


def constant_of(study: str, target: str) -> str:
    """Return the best constant for a target."""
    (setting,) = (
        row["setting"]
        for row in read(f"{study}_chosen")
        if (row["rule"], row["target"]) == ("constant", target)
    )
    return setting


def rule_of(key: str) -> str:
    """Return the rule of a rule and setting."""
    found = re.match(r"(.+?) (?=[\d(ρ]|from )", key)
    return found[1] if found else key


def own_family(study: str, target: str, metric: str) -> list[Row]:
    """Return the differences of rules chosen for a target to the constant chosen for it."""
    if target not in {row["target"] for row in read(f"{study}_chosen")}:
        return []
    constant = f"constant {constant_of(study, target)}"
    asked = {"family": target, "b": constant, "metric": metric}
    return [row for row in read(f"{study}_rules_differences") if asked.items() <= row.items()]


def pipes(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of markdown."""
    rule = "|" + " --- |" * len(header)
    return "\n".join([f"| {' | '.join(header)} |", rule, *(f"| {' | '.join(r)} |" for r in rows)])
