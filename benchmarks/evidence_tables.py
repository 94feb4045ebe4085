"""Writes the tables of docs/evidence.md and docs/evidence_tables.md from docs/evidence/*.csv.

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
    metric: str | None = None,
    first: str = "",
) -> str:
    """A row for each pair of variants, a column for each group.

    Args:
        name: of the csv, without "_differences".
        label: of a row for (a, b), or None to leave it out.
        metric: whose differences; None for all that there are.
        first: title of the first column.
    """
    rows: dict[str, dict[str, str]] = {}
    for row in read(f"{name}_differences"):
        told = label(row["a"], row["b"])
        if told is not None and metric in (None, row["metric"]):
            rows.setdefault(told, {})[row["group"]] = difference(row)
    body = [[told, *(found.get(g, "–") for g in (ALL, *GROUPS))] for told, found in rows.items()]
    return pipes([first, ALL, *GROUPS], body)


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


def searched() -> str:
    """What was tried, on validation: both targets, and class mAP by group."""
    rows: dict[str, dict[str, Row]] = {}
    for row in read("study_search"):
        if row["split"] == "val":
            rows.setdefault(f"{row['rule']} {row['setting']}", {})[row["group"]] = row
    body = [
        [
            key,
            percent(float(found[ALL]["mean_recall"])),
            *(percent(float(found[group]["class_map"])) for group in (ALL, *GROUPS)),
        ]
        for key, found in rows.items()
    ]
    return pipes(["validation, seed 0", "mean recall", "class mAP", *GROUPS], body)


def chosen() -> str:
    """The best setting of each rule on validation for each target, and out of how many."""
    tried: dict[str, set[str]] = {}
    for row in read("study_search"):
        tried.setdefault(row["rule"], set()).add(row["setting"])
    found: dict[str, dict[str, str]] = {}
    for row in read("study_chosen"):
        found.setdefault(row["rule"], {})[row["target"]] = row["setting"]
    body = [
        [rule, str(len(tried[rule])), own["instances"], own["classes"]]
        for rule, own in found.items()
    ]
    return pipes(["rule", "tried", "for pairs", "for classes"], body)


def rules(target: str, metric: str) -> Callable[[], str]:
    """Rules minus the best constant for a target, in a metric."""

    def made() -> str:
        constant = f"constant {_constant(target)}"
        return differences(
            "study_rules", lambda a, b: a if b == constant else None, metric, f"minus {constant}"
        )

    return made


def _constant(target: str) -> str:
    """Return the best constant for a target."""
    (setting,) = (
        row["setting"]
        for row in read("study_chosen")
        if (row["rule"], row["target"]) == ("constant", target)
    )
    return setting


def parts(metric: str) -> Callable[[], str]:
    """The parts of a wide shift minus its mean, in a metric."""
    names = {
        "MM-TS 0.089 to 0.485 plain": "true sizes (MM-TS)",
        "MM-TS reversed 0.089 to 0.485 plain": "sizes reversed",
        "MM-TS 0.089 to 0.485 equalized": "shape only",
        "part weight only": "weight only",
        "part shuffled": "sizes exchanged between classes",
        "part noise": "sizes exchanged between samples",
    }
    return lambda: differences(
        "study_parts", lambda a, b: names.get(a), metric, "minus the constant of its mean"
    )


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


RECALL, CLASSES = "mean_recall", "class_map"
TABLES: dict[str, Callable[[], str]] = {
    "searched": searched,
    "chosen": chosen,
    "rules-instances": rules("instances", RECALL),
    "rules-instances-classes": rules("instances", CLASSES),
    "rules-classes": rules("classes", CLASSES),
    "rules-classes-instances": rules("classes", RECALL),
    "parts-instances": parts(RECALL),
    "parts-classes": parts(CLASSES),
    "levels-rules-instances": lambda: levels("study_rules", RECALL),
    "levels-rules-classes": lambda: levels("study_rules", CLASSES),
    "levels-rules-across": lambda: levels("study_rules", "class_map_across"),
    "levels-rules-within": lambda: levels("study_rules", "class_map_within"),
    "levels-parts-instances": lambda: levels("study_parts", RECALL),
    "levels-parts-classes": lambda: levels("study_parts", CLASSES),
    "frozen-tuned": _grid("emoji_frozen", "tuned"),
    "frozen-default": _grid("emoji_frozen", "default"),
    "end-to-end-tuned": _grid("emoji_end_to_end", "tuned"),
    "end-to-end-default": _grid("emoji_end_to_end", "default"),
    "video-default": _grid("emoji_video", "default"),
    "views-default": _grid("caltech98_views", "default"),
    "confirm-emoji": lambda: differences("confirm_emoji", _both),
    "confirm-photos": lambda: differences("confirm_photos", _both),
    "published": published,
}
PAGES = ("evidence", "evidence_tables")


def filled(page: str) -> str:
    """A page with its tables as the csv files have them."""
    return BLOCK.sub(lambda match: f"{match[1]}\n{TABLES[match[2]]()}\n\n{match[3]}", page)


def main() -> None:
    """Fill both pages."""
    for name in PAGES:
        path = DOCS / f"{name}.md"
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
