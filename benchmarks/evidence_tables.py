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
Table = Callable[[], str]
#: the sets that were studied: the beginning of their files' and tables' names
STUDIES = ("study", "icons")
#: those of which a shift was taken apart
PARTED = ("study",)
RECALL, CLASSES = "mean_recall", "class_map"


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
    family: str | None = None,
) -> str:
    """A row for each pair of variants, a column for each group.

    Args:
        name: of the csv, without "_differences".
        label: of a row for (a, b), or None to leave it out.
        metric: whose differences; None for all that there are.
        first: title of the first column.
        family: of comparisons that were corrected together; None for all that there are.
    """
    rows: dict[str, dict[str, str]] = {}
    for row in read(f"{name}_differences"):
        told = label(row["a"], row["b"])
        asked = metric in (None, row["metric"]) and family in (None, row.get("family"))
        if told is not None and asked:
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
        [
            key,
            str(len(of[ALL])),
            *(percent(sum(of[g]) / len(of[g])) if g in of else "–" for g in (ALL, *GROUPS)),
        ]
        for key, of in values.items()
    ]
    return pipes([metric, "seeds", ALL, *GROUPS], body)


def searched(study: str) -> str:
    """What was tried, on validation: both targets, and class mAP by group."""
    rows: dict[str, dict[str, Row]] = {}
    for row in read(f"{study}_search"):
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


def chosen(study: str) -> str:
    """The best setting of each rule on validation for each target, both values, and out of how
    many.
    """
    tried: dict[str, dict[str, Row]] = {}
    for row in read(f"{study}_search"):
        if (row["split"], row["group"]) == ("val", ALL):
            tried.setdefault(row["rule"], {})[row["setting"]] = row
    found: dict[str, list[str]] = {}
    for row in read(f"{study}_chosen"):
        own = tried[row["rule"]][row["setting"]]
        both = " / ".join(percent(float(own[metric])) for metric in (RECALL, CLASSES))
        found.setdefault(row["rule"], []).append(f"{row['setting']}: {both}")
    body = [[rule, str(len(tried[rule])), *own] for rule, own in found.items()]
    return pipes(["rule", "tried", "for pairs", "for classes", "for both"], body)


def rules(study: str, target: str, other: str, metric: str) -> Table:
    """Rules chosen for a target minus the best constant for one, in a metric."""

    def made() -> str:
        constant = f"constant {_constant(study, other)}"
        return differences(
            f"{study}_rules",
            lambda a, b: a if b == constant else None,
            metric,
            f"minus {constant}",
            target,
        )

    return made


def _constant(study: str, target: str) -> str:
    """Return the best constant for a target."""
    (setting,) = (
        row["setting"]
        for row in read(f"{study}_chosen")
        if (row["rule"], row["target"]) == ("constant", target)
    )
    return setting


def parts(study: str, metric: str) -> Table:
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
        f"{study}_parts", lambda a, b: names.get(a), metric, "minus the constant of its mean"
    )


def directions(metric: str) -> Table:
    """MM-TS minus its mirror image on synthetic pairs, in a metric."""
    return lambda: differences(
        "synthetic", lambda a, b: a.removeprefix("MM-TS "), metric, "MM-TS minus reversed"
    )


def pipes(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of markdown."""
    rule = "|" + " --- |" * len(header)
    return "\n".join([f"| {' | '.join(header)} |", rule, *(f"| {' | '.join(r)} |" for r in rows)])


def _grid(name: str, setting: str) -> Table:
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


def of_study(study: str) -> dict[str, Table]:
    """The tables of a study by name."""
    found: dict[str, Table] = {
        "searched": lambda: searched(study),
        "chosen": lambda: chosen(study),
        "pairs": rules(study, "instances", "instances", RECALL),
        "pairs-classes": rules(study, "instances", "instances", CLASSES),
        "classes": rules(study, "classes", "classes", CLASSES),
        "classes-pairs": rules(study, "classes", "classes", RECALL),
        "both": rules(study, "both", "both", RECALL),
        "both-classes": rules(study, "both", "both", CLASSES),
        "price": rules(study, "classes", "instances", RECALL),
        "price-classes": rules(study, "classes", "instances", CLASSES),
        "levels-pairs": lambda: levels(f"{study}_rules", RECALL),
        "levels-classes": lambda: levels(f"{study}_rules", CLASSES),
        "levels-across": lambda: levels(f"{study}_rules", "class_map_across"),
        "levels-within": lambda: levels(f"{study}_rules", "class_map_within"),
    }
    if study in PARTED:
        found |= {
            "parts-pairs": parts(study, RECALL),
            "parts-classes": parts(study, CLASSES),
            "levels-parts-pairs": lambda: levels(f"{study}_parts", RECALL),
            "levels-parts-classes": lambda: levels(f"{study}_parts", CLASSES),
        }
    return {f"{study}-{name}": made for name, made in found.items()}


TABLES: dict[str, Table] = {
    **{name: made for study in STUDIES for name, made in of_study(study).items()},
    "synthetic-pairs": directions(RECALL),
    "synthetic-classes": directions(CLASSES),
    "synthetic-levels": lambda: levels("synthetic", RECALL),
    "synthetic-levels-classes": lambda: levels("synthetic", CLASSES),
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
