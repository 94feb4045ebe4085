"""Writes the tables of docs/evidence.md and docs/evidence_tables.md from docs/evidence/*.csv.

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from evidence_read import (
    CLASSES,
    DOCS,
    NEAREST,
    NEIGHBOURS,
    PARTED,
    PARTS,
    RECALL,
    STUDIES,
    TARGETS,
    WORDS,
    Row,
    constant_of,
    difference,
    metrics_of,
    pipes,
    read,
)
from evidence_sets import on_sets, parts_on_sets

from tauten.comparison.tables import percent
from tauten.outcome import ALL, GROUPS

BLOCK = re.compile(r"(<!-- table (\S+) -->\n)(?:(?!<!--).)*(<!-- end -->)", re.DOTALL)
Table = Callable[[], str]


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
    """What was tried, on validation: both metrics, and the one of classes by group."""
    other, own = metrics_of(study)
    rows: dict[str, dict[str, Row]] = {}
    for row in read(f"{study}_search"):
        if row["split"] == "val":
            rows.setdefault(f"{row['rule']} {row['setting']}", {})[row["group"]] = row
    body = [
        [
            key,
            percent(float(found[ALL][other])),
            *(percent(float(found[group][own])) for group in (ALL, *GROUPS)),
        ]
        for key, found in rows.items()
    ]
    return pipes(["validation, seed 0", WORDS[other], WORDS[own], *GROUPS], body)


def chosen(study: str) -> str:
    """The best setting of each rule on validation for each target, both values, and out of how
    many.
    """
    tried: dict[str, dict[str, Row]] = {}
    for row in read(f"{study}_search"):
        if (row["split"], row["group"]) == ("val", ALL):
            tried.setdefault(row["rule"], {})[row["setting"]] = row
    found: dict[str, dict[str, str]] = {}
    for row in read(f"{study}_chosen"):
        own = tried[row["rule"]][row["setting"]]
        both = " / ".join(percent(float(own[metric])) for metric in metrics_of(study))
        found.setdefault(row["rule"], {})[TARGETS[row["target"]]] = f"{row['setting']}: {both}"
    body = [[rule, str(len(tried[rule])), *own.values()] for rule, own in found.items()]
    return pipes(["rule", "tried", *found["constant"]], body)


def rules(study: str, target: str, other: str, metric: str) -> Table:
    """Rules chosen for a target minus the best constant for one, in a metric."""

    def made() -> str:
        constant = f"constant {constant_of(study, other)}"
        return differences(
            f"{study}_rules",
            lambda a, b: a if b == constant else None,
            metric,
            f"minus {constant}",
            target,
        )

    return made


def between(study: str, metric: str) -> Table:
    """Rules chosen for both minus the constants between the best for pairs and for classes."""
    known = {constant_of(study, target) for target in TARGETS}

    def label(a: str, b: str) -> str | None:
        return None if b.removeprefix("constant ") in known else f"{a} − {b}"

    return lambda: differences(f"{study}_rules", label, metric, family="both")


def parts(study: str, metric: str) -> Table:
    """The parts of a wide shift minus its mean, in a metric."""
    return lambda: differences(
        f"{study}_parts", lambda a, b: PARTS.get(a), metric, "minus the constant of its mean"
    )


def directions(metric: str) -> Table:
    """MM-TS minus its mirror image on synthetic pairs, in a metric."""
    return lambda: differences(
        "synthetic", lambda a, b: a.removeprefix("MM-TS "), metric, "MM-TS minus reversed"
    )


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
    }
    if RECALL in metrics_of(study):
        told = {"pairs": RECALL, "classes": CLASSES}
        found |= {
            "pairs": rules(study, "instances", "instances", RECALL),
            "pairs-classes": rules(study, "instances", "instances", CLASSES),
            "classes": rules(study, "classes", "classes", CLASSES),
            "classes-pairs": rules(study, "classes", "classes", RECALL),
            "both": rules(study, "both", "both", RECALL),
            "both-classes": rules(study, "both", "both", CLASSES),
            "price": rules(study, "classes", "instances", RECALL),
            "price-classes": rules(study, "classes", "instances", CLASSES),
            "levels-across": lambda: levels(f"{study}_rules", "class_map_across"),
            "levels-within": lambda: levels(f"{study}_rules", "class_map_within"),
        }
        if constant_of(study, "both") != constant_of(study, "instances"):
            found["both-price"] = rules(study, "both", "instances", RECALL)
            found["both-price-classes"] = rules(study, "both", "instances", CLASSES)
        if between(study, RECALL)().count("\n") > 1:
            found["between"] = between(study, RECALL)
            found["between-classes"] = between(study, CLASSES)
    else:
        told = {"nearest": NEAREST, "classes": NEIGHBOURS}
        found |= {name: rules(study, "classes", "classes", of) for name, of in told.items()}
    for name, metric in told.items():
        found[f"levels-{name}"] = partial(levels, f"{study}_rules", metric)
        if study in PARTED:
            found[f"parts-{name}"] = parts(study, metric)
            found[f"levels-parts-{name}"] = partial(levels, f"{study}_parts", metric)
    return {f"{study}-{name}": made for name, made in found.items()}


TABLES: dict[str, Table] = {
    **{name: made for study in STUDIES for name, made in of_study(study).items()},
    "sets-pairs": lambda: on_sets("instances", 0),
    "sets-classes": lambda: on_sets("classes", 1),
    "sets-classes-head": lambda: on_sets("classes", 1, "head"),
    "sets-classes-tail": lambda: on_sets("classes", 1, "tail"),
    "sets-both-pairs": lambda: on_sets("both", 0),
    "sets-both-classes": lambda: on_sets("both", 1),
    "sets-parts-pairs": lambda: parts_on_sets(0),
    "sets-parts-classes": lambda: parts_on_sets(1),
    "sets-parts-classes-head": lambda: parts_on_sets(1, "head"),
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
