"""Writes docs/evidence/*.csv from finished trainings, and the tables of a comparison."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import evidence_settings as tried
from evidence_job import Found, Study
from evidence_settings import Setting

from tauten.comparison.contrasts import Contrast, contrasts
from tauten.comparison.summary import CELLS, COLUMNS, CONTRASTS
from tauten.outcome import ALL, GROUPS

EVIDENCE = Path(__file__).resolve().parents[1] / "docs" / "evidence"
TARGETS = ("instances", "classes", "both")
#: what is compared: the first is for instances, the second for classes, their sum for both
COMPARED = ("mean_recall", "class_map")
METRICS = ("mean_recall", "hit@1", "class_map", "class_map_across", "class_map_within", "n")
#: of the validation and test split, and of two views
KEPT = ("mean_recall", "hit@1", "x2y/hit@5", "n", "knn@1/class_mean", "knn@10/class_mean")
#: seeds without which nothing is compared
FEWEST = 2
#: of rules and of the constant that is subtracted: the target that each was chosen for
FAMILIES = (
    ("instances", "instances"),
    ("classes", "classes"),
    ("both", "both"),
    ("classes", "instances"),
)


def write(
    study: Study,
    name: str,
    settings: Sequence[Setting],
    seeds: Sequence[int],
    chosen: Mapping[tuple[str, str], Setting],
) -> None:
    """Write what the study has found so far.

    Args:
        study: with finished trainings.
        name: with which its files begin.
        settings: that were tried with the first seed.
        seeds: that count; what has fewer than :data:`FEWEST` of them is left out.
        chosen: best setting on validation by (rule, target).
    """
    _search(study, name, settings)
    table(
        f"{name}_chosen",
        ("rule", "target", "setting", "settings"),
        [(*key, s.name, options(s)) for key, s in chosen.items()],
    )
    best = {target: chosen["constant", target].key for target in TARGETS}
    families = {
        (target, best[other]): [
            (setting.key, best[other])
            for (rule, own), setting in chosen.items()
            if own == target and rule != "constant"
        ]
        for target, other in FAMILIES
    }
    rules = {setting.key: setting for setting in chosen.values()}
    _compared(study, f"{name}_rules", list(rules.values()), seeds, families)
    parts = [s for s in tried.causes() if _seeds(study, s, seeds) >= FEWEST]
    if len(parts) < len(tried.causes()):
        print(f"{name}: the shift is not taken apart")
        return
    mean = next(part for part in parts if part.name == "mean")
    families = {("parts", mean.key): [(s.key, mean.key) for s in parts if s != mean]}
    _compared(study, f"{name}_parts", parts, seeds, families)


def _seeds(study: Study, setting: Setting, seeds: Sequence[int]) -> int:
    return sum(bool(study.finished([setting], seed)) for seed in seeds)


def _search(study: Study, name: str, settings: Sequence[Setting]) -> None:
    """Write validation and test metrics of all that was tried with the first seed."""
    rows = []
    for setting in study.finished(settings, 0):
        for split in ("val", "test"):
            found = study.metrics(setting, 0, split)
            rows += [
                (setting.rule, setting.name, split, group, *found[group], options(setting))
                for group in (ALL, *GROUPS)
            ]
    names = ("rule", "setting", "split", "group", *COMPARED, "settings")
    table(f"{name}_search", names, rows)


def _compared(
    study: Study,
    name: str,
    settings: Sequence[Setting],
    seeds: Sequence[int],
    families: Mapping[tuple[str, str], Sequence[tuple[str, str]]],
) -> None:
    """Write the cells of settings and their differences, corrected within each family."""
    found: Found = {
        key: of for key, of in study.queries(settings, seeds).items() if len(of) >= FEWEST
    }
    rows: list[Sequence[Any]] = []
    for setting in (s for s in settings if s.key in found):
        for seed, outcome in found[setting.key].items():
            data = study.cell(setting, seed).data
            for group, metrics in outcome.metrics().items():
                place = (data, setting.rule, force(setting), seed, group)
                own = options(setting), setting.name
                rows += [(*place, m, repr(metrics[m]), *own) for m in METRICS if m in metrics]
    table(name, COLUMNS, rows)
    compared = [
        (family, metric, contrast)
        for (family, _), pairs in families.items()
        for metric in COMPARED
        for contrast in contrasts(found, [p for p in pairs if found.keys() >= {*p}], metric)
    ]
    fields = list(Contrast.__dataclass_fields__)
    table(
        f"{name}_differences",
        ["family", "metric", *fields, "verdict"],
        [[*keys, *(getattr(c, f) for f in fields), c.verdict] for *keys, c in compared],
    )
    print(name, {key: len(of) for key, of in found.items()})


def force(setting: Setting) -> str:
    """Return the force of its loss."""
    return str(setting.settings.get("loss.force", "plain"))


def options(setting: Setting) -> str:
    """Return its options as text."""
    return json.dumps(dict(setting.settings), sort_keys=True, ensure_ascii=False)


def collect(output: Path, name: str) -> None:
    """Copy the tables of a finished ``tauten compare``: metrics that are kept, no folder."""
    with (output / CELLS).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    data, metric = rows[0].index("data"), rows[0].index("metric")
    kept = [row for row in rows[1:] if row[metric] in KEPT]
    for row in kept:
        row[data] = row[data].partition(":")[0]
    table(name, rows[0], kept)
    with (output / CONTRASTS).open(encoding="utf-8", newline="") as file:
        found = list(csv.reader(file))
    table(f"{name}_differences", found[0], found[1:])


def table(name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a csv into docs/evidence."""
    path = EVIDENCE / f"{name}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    print(path)
