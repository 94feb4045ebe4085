"""Writes docs/evidence/study_*.csv from finished trainings, and the tables of a comparison."""

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
TARGETS = {"instances": "mean_recall", "classes": "class_map"}
METRICS = ("mean_recall", "hit@1", "class_map", "class_map_across", "class_map_within", "n")
#: of the validation and test split, and of two views
KEPT = ("mean_recall", "hit@1", "x2y/hit@5", "n", "knn@1/class_mean", "knn@10/class_mean")
SEARCH, CHOSEN = "study_search", "study_chosen"


def write(study: Study, seeds: Sequence[int], chosen: Mapping[tuple[str, str], Setting]) -> None:
    """Write what the study has found so far.

    Args:
        study: with finished trainings.
        seeds: that count; those in which something is missing are left out.
        chosen: best setting on validation by (rule, target).
    """
    _search(study)
    table(
        CHOSEN,
        ("rule", "target", "setting", "settings"),
        [(*key, s.name, _told(s)) for key, s in chosen.items()],
    )
    best = [chosen["constant", target] for target in TARGETS]
    done = [seed for seed in seeds if len(study.finished(best, seed)) == len(best)]
    rules = {
        setting.key: setting
        for setting in chosen.values()
        if all(study.finished([setting], seed) for seed in done)
    }
    families = [
        [(key, constant.key) for key in rules if not key.startswith("constant ")]
        for constant in best
    ]
    _compared(study, "study_rules", list(rules.values()), seeds, families)
    parts = tried.causes()
    mean = next(part for part in parts if part.name == "mean")
    _compared(study, "study_parts", parts, seeds, [[(s.key, mean.key) for s in parts if s != mean]])


def _search(study: Study) -> None:
    """Write validation and test metrics of all that was tried with the first seed."""
    rows = []
    for setting in study.finished(tried.searched(), 0):
        for split in ("val", "test"):
            found = study.metrics(setting, 0, split)
            rows += [
                (setting.rule, setting.name, split, group, *found[group], _told(setting))
                for group in (ALL, *GROUPS)
            ]
    names = ("rule", "setting", "split", "group", *TARGETS.values(), "settings")
    table(SEARCH, names, rows)


def _compared(
    study: Study,
    name: str,
    settings: Sequence[Setting],
    seeds: Sequence[int],
    families: Sequence[Sequence[tuple[str, str]]],
) -> None:
    """Write the cells of settings and their differences, corrected within each family."""
    whole = [s for s in seeds if len(study.finished(settings, s)) == len(settings)]
    found: Found = study.queries(settings, whole)
    rows: list[Sequence[Any]] = []
    for seed in whole:
        for setting in settings:
            data = study.cell(setting, seed).data
            for group, metrics in found[setting.key][seed].metrics().items():
                place = (data, setting.rule, _force(setting), seed, group)
                own = _told(setting), setting.name
                rows += [(*place, m, repr(metrics[m]), *own) for m in METRICS]
    table(name, COLUMNS, rows)
    compared = [
        (metric, contrast)
        for pairs in families
        for metric in TARGETS.values()
        for contrast in contrasts(found, pairs, metric)
    ]
    fields = list(Contrast.__dataclass_fields__)
    table(
        f"{name}_differences",
        ["metric", *fields, "verdict"],
        [[metric, *(getattr(c, f) for f in fields), c.verdict] for metric, c in compared],
    )
    print(f"{name}: seeds {whole}")


def _force(setting: Setting) -> str:
    return str(setting.settings.get("loss.force", "plain"))


def _told(setting: Setting) -> str:
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
