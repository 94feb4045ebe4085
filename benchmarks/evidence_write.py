"""Writes docs/evidence/*.csv from finished trainings, and the tables of a comparison."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evidence_job import Found, Study
from evidence_settings import Setting

from tauten.comparison.contrasts import Contrast, contrasts
from tauten.comparison.summary import CELLS, COLUMNS, CONTRASTS

EVIDENCE = Path(__file__).resolve().parents[1] / "docs" / "evidence"
METRICS = (
    *("mean_recall", "hit@1", "class_map", "class_map_across", "class_map_within"),
    *("knn@1/class_mean", "knn@10/class_mean", "n"),
)
#: of the validation and test split, and of two views
KEPT = ("mean_recall", "hit@1", "x2y/hit@5", "n", "knn@1/class_mean", "knn@10/class_mean")
#: seeds without which nothing is compared
FEWEST = 2
#: of rules and of the constant that is subtracted: targets, other than the same for both
BESIDE = (("classes", "instances"), ("both", "instances"))


def write(study: Study) -> None:
    """Write what a study has found so far; what has fewer than :data:`FEWEST` seeds is left out."""
    _search(study)
    chosen = study.chosen()
    table(
        f"{study.name}_chosen",
        ("rule", "target", "setting", "settings"),
        [(*key, s.name, options(s)) for key, s in chosen.items()],
    )
    best = {target: chosen["constant", target].key for target in study.targets}
    families = {
        (target, best[other]): [
            (setting.key, best[other])
            for (rule, own), setting in chosen.items()
            if own == target and rule != "constant"
        ]
        for target, other in (*((t, t) for t in best), *(b for b in BESIDE if {*b} <= {*best}))
    }
    between = study.between()
    for one in between:
        families["both", one.key] = [(a, one.key) for a, _ in families["both", best["both"]]]
    rules = {setting.key: setting for setting in (*chosen.values(), *between)}
    _compared(study, "rules", list(rules.values()), families)
    parts = [s for s in study.causes if _seeds(study, s) >= FEWEST]
    mean = next((part for part in parts if part.name == "mean"), None)
    if mean is None:
        print(f"{study.name}: the shift is not taken apart")
        return
    families = {("parts", mean.key): [(s.key, mean.key) for s in parts if s != mean]}
    _compared(study, "parts", parts, families)


def _seeds(study: Study, setting: Setting) -> int:
    return sum(bool(study.finished([setting], seed)) for seed in study.seeds)


def _search(study: Study) -> None:
    """Write validation and test metrics of all that was tried with the first seed."""
    rows, first = [], study.seeds[0]
    for setting in study.finished(study.tried, first):
        for split in ("val", "test"):
            found = study.found(setting, first, split)
            rows += [
                (setting.rule, setting.name, split, group, *metrics.values(), options(setting))
                for group, metrics in found.items()
            ]
    names = ("rule", "setting", "split", "group", *study.metrics, "settings")
    table(f"{study.name}_search", names, rows)


def _compared(
    study: Study,
    kind: str,
    settings: Sequence[Setting],
    families: Mapping[tuple[str, str], Sequence[tuple[str, str]]],
) -> None:
    """Write the cells of settings and their differences, corrected within each family."""
    found: Found = {key: of for key, of in study.queries(settings).items() if len(of) >= FEWEST}
    rows: list[Sequence[Any]] = []
    for setting in (s for s in settings if s.key in found):
        for seed, outcome in found[setting.key].items():
            data = study.cell(setting, seed).data
            for group, metrics in outcome.metrics().items():
                place = (data, setting.rule, force(setting), seed, group)
                own = options(setting), setting.name
                rows += [(*place, m, repr(metrics[m]), *own) for m in METRICS if m in metrics]
    name = f"{study.name}_{kind}"
    table(name, COLUMNS, rows)
    compared = [
        (family, metric, contrast)
        for (family, _), pairs in families.items()
        for metric in study.metrics
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
