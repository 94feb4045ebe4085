"""What docs/evidence.md rests on: trains its studies and writes docs/evidence/*.csv.

    python benchmarks/evidence.py all --output runs/evidence [--photos ../shared/data]
    python benchmarks/evidence.py collect --output runs/frozen --name compare_emoji_frozen
    python benchmarks/evidence_figures.py

Heads with a hidden layer of 512 are trained on fixed features, of emoji_lt and with --photos FOLDER
also of caltech98_lt, whose captions are "a photo of a NAME". Studies: ``sensitivity``, one factor
at a time; ``probe``, the pieces of a schedule in 12 epochs; ``search``, compositions, one seed, on
the validation split; ``confirm``, the best of them on the test split, and on the photos. Started
again it goes on from finished trainings. ``collect`` copies the tables of a ``tauten compare``.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from evidence_data import by_clusters, prepared, put, sizes, validation
from evidence_job import METRICS, Found, Job, table, write
from evidence_settings import (
    CLUSTERS,
    PUBLISHED,
    Setting,
    compositions,
    constant,
    constants,
    probe,
    second_compositions,
    sensitivity,
)

from tauten.comparison.contrasts import contrasts
from tauten.comparison.features import Features
from tauten.comparison.summary import CELLS, CONTRASTS
from tauten.outcome import Outcome

#: metrics of two views that are kept
OF_VIEWS = ("knn@1/class_mean", "knn@10/class_mean")
STUDIES = ("search", "probe", "sensitivity", "confirm")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("study", choices=("all", "collect", *STUDIES))
    parser.add_argument("--output", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--features", type=Path, help="of emoji_lt, made before")
    parser.add_argument("--photos", type=Path, help="folder of caltech98_lt")
    parser.add_argument("--seeds", type=int, default=3, help="of probe and sensitivity")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--name", help="of the tables that collect writes")
    given = parser.parse_args()
    if given.study == "collect":
        collect(given.output, given.name)
        return
    emoji = prepared(given.output / "emoji.npz", given.features)
    for study in STUDIES if given.study == "all" else (given.study,):
        STUDY[study](given, emoji)


def run_sensitivity(given: argparse.Namespace, emoji: Features) -> None:
    """``sensitivity.csv``: differences to the constant of the same mean and batch size."""
    root = given.output / "sensitivity"
    counts = {"classes": sizes(emoji)}
    put(emoji, root / "classes")
    for k in CLUSTERS:
        clustered = by_clusters(emoji, k)
        put(clustered, root / str(k))
        counts[str(k)] = sizes(clustered)
    settings = sensitivity(counts)
    job = Job(root, "emoji", settings, range(given.seeds), given.processes)
    found = job.run()
    pairs = [(s.key, f"constant {_batch(s) or '0.1'}") for s in settings if s.control == "mmts"]
    write("sensitivity", job, found, contrasts(found, pairs, "mean_recall"))


def _batch(setting: Setting) -> str:
    return setting.name if setting.name.startswith("batch") else ""


def run_probe(given: argparse.Namespace, emoji: Features) -> None:
    """``probe.csv``: what a schedule is made of, in a short training."""
    root = given.output / "probe"
    put(emoji, root / "classes")
    settings = probe()
    job = Job(root, "emoji", settings, range(given.seeds), given.processes)
    found, (first, second) = job.run(), settings[:2]
    parts = [s.key for s in settings if s.control in ("ics", "weight-only", "shape-only")]
    schedules = [s.key for s in settings if s.control in ("ts", "anneal")]
    pairs = [(key, second.key) for key in parts] + [(key, first.key) for key in schedules]
    pairs.append((schedules[0], schedules[1]))
    write("probe", job, found, contrasts(found, pairs, "mean_recall"))


def run_search(given: argparse.Namespace, emoji: Features) -> None:
    """``search.csv``: compositions beside the best constant, on the validation split, one seed."""
    job = _searched(given, emoji)
    found = job.run()
    best = best_constant(found)
    pairs = [(key, best) for key in found if key != best]
    write("search", job, found, contrasts(found, pairs, "mean_recall"))


def _searched(given: argparse.Namespace, emoji: Features) -> Job:
    root = given.output / "search"
    put(validation(emoji), root / "classes")
    settings = [*constants(), *compositions(sizes(emoji)), *second_compositions()]
    return Job(root, "emoji", settings, (0,), given.processes, split="validation")


def run_confirm(given: argparse.Namespace, emoji: Features) -> None:
    """``confirm_emoji.csv``, ``confirm_photos.csv``: the best of the search with five new seeds.

    Best is what gains most over the best constant where it gains least, over all or tail queries:
    three compositions and two published rules.
    """
    search = _searched(given, emoji)
    found = search.run()
    chosen = best_compositions(found, 3) + best_compositions(found, 2, published=True)
    names = {best_constant(found), f"constant {constant()['control.value']:g}", *chosen}
    settings = [setting for setting in search.settings if setting.key in names]
    _confirm(given, "emoji", emoji, settings, best_constant(found))
    if given.photos is None:
        return
    photos = prepared(given.output / "photos.npz", None, given.photos)
    root = given.output / "search_photos"
    put(validation(photos), root / "classes")
    tuned = Job(root, "photos", constants(), (0,), given.processes)
    best = best_constant(tuned.run())
    kept = {setting.key: setting for setting in [*constants(), *settings]}
    _confirm(given, "photos", photos, [kept[key] for key in kept if key in names | {best}], best)


def _confirm(
    given: argparse.Namespace, data: str, features: Features, settings: list[Setting], best: str
) -> None:
    root = given.output / f"confirm_{data}"
    put(features, root / "classes")
    job = Job(root, data, settings, (1, 2, 3, 4, 5), given.processes)
    found = job.run()
    rules = [f"composition {name}" for name in PUBLISHED if f"composition {name}" in found]
    ours = [key for key in found if key.startswith("composition") and key not in rules]
    pairs = [(key, best) for key in found if key != best]
    pairs += [(key, rule) for key in ours for rule in rules]
    write(f"confirm_{data}", job, found, contrasts(found, pairs, "mean_recall"))


STUDY = {
    "search": run_search,
    "probe": run_probe,
    "sensitivity": run_sensitivity,
    "confirm": run_confirm,
}


def best_constant(found: Found) -> str:
    """Of the constants the one with the highest mean recall over all queries."""
    return max((k for k in found if k.startswith("constant")), key=lambda k: _mean(found[k], "all"))


def best_compositions(found: Found, number: int, published: bool = False) -> list[str]:
    """Those with the highest of the smaller of two differences: over all and over tail queries."""
    best = best_constant(found)

    def least(key: str) -> float:
        return min(_mean(found[key], g) - _mean(found[best], g) for g in ("all", "tail"))

    names = {f"composition {name}" for name in PUBLISHED}
    ours = [k for k in found if k.startswith("composition") and (k in names) == published]
    return sorted(ours, key=least, reverse=True)[:number]


def _mean(runs: dict[int, Outcome], group: str) -> float:
    return sum(q.metrics()[group]["mean_recall"] for q in runs.values()) / len(runs)


def collect(output: Path, name: str) -> None:
    """The tables of a finished ``tauten compare``: metrics that are kept, data without folder."""
    with (output / CELLS).open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file)]
    data, metric = rows[0].index("data"), rows[0].index("metric")
    kept = [row for row in rows[1:] if row[metric] in (*METRICS, *OF_VIEWS)]
    for row in kept:
        row[data] = row[data].partition(":")[0]
    table(name, rows[0], kept)
    with (output / CONTRASTS).open(encoding="utf-8", newline="") as file:
        found = list(csv.reader(file))
    table(f"{name}_differences", found[0], found[1:])


if __name__ == "__main__":
    main()
