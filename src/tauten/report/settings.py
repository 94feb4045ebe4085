"""Description of the runs: what they are, settings, protocol, versions."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from tauten.evaluation import TIES, geometry
from tauten.outcome import ALL
from tauten.outcome.metrics import MEAN_RECALL
from tauten.report.numbers import Numbers
from tauten.report.runs import Run, SeedRun
from tauten.report.schedule import schedule
from tauten.structure.cells import counted

PACKAGES = ("tauten", "torch", "transformers", "datasets", "numpy", "matplotlib")
UNINTERESTING = ("name", "output", "overwrite", "progress", "tensorboard", "report_to")
GEOMETRY = {
    "pairs": {
        "alignment": "alignment",
        "uniformity/x": "uniformity, images",
        "uniformity/y": "uniformity, texts",
        "tolerance/x": "tolerance, images",
        "tolerance/y": "tolerance, texts",
        "modality_gap": "modality gap",
    },
    "views": {"uniformity/x": "uniformity", "tolerance/x": "tolerance"},
}
CAUTION = (
    "Settings",
    "Published defaults of temperature and margin schedules were found on large data with large "
    "batches and need not suit a small set; settings that suit this set need not suit another.",
)


def describe(run: Run) -> str:
    """Return one sentence: the loss, the control, its range and mean, its period, the seeds."""
    rows = [row for seed in run.seeds for row in seed.history if "tau/mean" in row]
    values = schedule(run.first)
    mean = _time_mean(run) if values is None else values.over_time()
    how = f"a constant {run.knob}" if run.control == "constant" else f"{run.knob} by {run.control}"
    text = f"{run.family} with {how}"
    if mean is not None and run.control == "constant":
        text += f", {run.symbol} = {mean:.3g}"
    elif mean is not None:
        low = min(float(row.get("tau/min", row["tau/mean"])) for row in rows)
        high = max(float(row.get("tau/max", row["tau/mean"])) for row in rows)
        if values is not None:
            low, high = float(values.value.min()), float(values.value.max())
        text += f": {low:.3g} to {high:.3g} over time and samples, {mean:.3g} on average"
    if run.period:
        period = f"{run.period:.0f}" if run.period >= 10 else f"{run.period:.2g}"
        text += f", one oscillation every {counted(period, 'step')}"
    if run.first.steps:
        text += f"; {counted(f'{run.first.steps:,}', 'step')}"
    seeds = ", ".join(str(seed.seed) for seed in run.seeds)
    return f"{text}; {'seed' if len(run.seeds) == 1 else 'seeds'} {seeds}."


def _time_mean(run: Run) -> float | None:
    """Return the time average of the logged mean, by the trapezoid rule between logs."""
    means = []
    for seed in run.seeds:
        logged = {row["step"]: float(row["tau/mean"]) for row in seed.history if "tau/mean" in row}
        if logged:
            step, value = np.array(sorted(logged.items())).T
            span = step[-1] - step[0]
            means.append(float(np.trapezoid(value, step) / span) if span else float(value[0]))
    return sum(means) / len(means) if means else None


def settings(runs: Sequence[Run]) -> tuple[list[tuple[str, list[str]]], list[tuple[str, str]]]:
    """Return (settings in which the runs differ, one value per run), (settings common to all)."""
    flat = []
    for run in runs:
        part = {k: v for k, v in _flatten(run.first.config).items() if k not in UNINTERESTING}
        flat.append(part | {"seed": ", ".join(str(seed.seed) for seed in run.seeds)})
    differing, common = [], []
    for key in dict.fromkeys(key for part in flat for key in part):
        values = [part.get(key, "–") for part in flat]
        if len(set(values)) > 1:
            differing.append((key, values))
        else:
            common.append((key, values[0]))
    return differing, common


def protocol(numbers: Numbers, bootstrap: int, seed: int) -> list[tuple[str, str]]:
    """Return how the numbers were obtained, as (what, how)."""
    first = numbers.runs[0].first
    rows = [*_tested(first), *mean_recall(numbers)]
    within = numbers.task == "views"
    rows += [
        (
            "Intervals",
            "95 %, percentile bootstrap over the test images of each class, classes held fixed, as "
            f"recorded by the run; with several seeds over seeds and images, {bootstrap:,} "
            f"replicates, resampling seed {seed}; of linear probes of several seeds, where the "
            "outcome of each image is not recorded, normal, from the recorded intervals and the "
            "spread over seeds."
            if within
            else "95 % over test queries, as recorded by the run; with several seeds over seeds, "
            f"by Student's distribution, and queries, {bootstrap:,} replicates, resampling seed "
            f"{seed}.",
        ),
        (
            "Differences",
            f"Paired: both runs are resampled with the same {'images' if within else 'queries'}, "
            f"seed by seed, {bootstrap:,} replicates. Measurable means that the 95 % interval over "
            "two seeds or more excludes 0.",
        ),
    ]
    counts = first.samples.get("counts", ())
    if len(counts) and not within:
        how = "pairs; head, mid and tail are by the training count of a sample's class."
        rows.append(("Training", f"{len(counts):,} {how}"))
    rows += checkpoints(numbers.runs)
    recorded = first.results.get("protocol", {})
    if isinstance(recorded, Mapping):
        lines = {str(key).capitalize(): _text(how) for key, how in recorded.items() if how != TIES}
        rows += [(f"{what}, recorded", how) for what, how in lines.items()]
    return [*rows, CAUTION]


def _tested(first: SeedRun) -> list[tuple[str, str]]:
    if first.task == "views":
        test, known = len(first.test["test"]), len(first.test["train"])
        classes = len({*first.outcome.first.labels})
        how = f"{test:,} images of {classes:,} classes, classified by the features of {known:,} "
        return [("Test", f"{how}training images.")]
    n, m = len(first.test["x"]), len(first.test["y"])
    pairs = sum(len(matches) for matches in first.y_of_x)
    rows = [
        (
            "Test",
            f"{n:,} images and {m:,} captions, {pairs:,} matching pairs; every query is "
            "ranked against all candidates, exactly.",
        ),
        ("Ties", TIES),
        (
            "hit@K",
            "The fraction of queries with any match among the first K; papers on "
            "image-text models call it recall@K.",
        ),
    ]
    if "nDCG" in first.outcome.first.scores:
        rows.append(
            (
                "Graded relevancy",
                "nDCG and graded mAP count every candidate by how relevant it is, from 0 to 1. "
                "Graded mAP is mAP_official, in which partial relevancies count as in the "
                "evaluation of EPIC-KITCHENS-100; exact mAP is mAP_textbook, in which they do not.",
            )
        )
    return rows


def mean_recall(numbers: Numbers) -> list[tuple[str, str]]:
    """Return what mean recall is, and that of each run over both directions."""
    if MEAN_RECALL not in numbers.metrics:
        return []
    rows = []
    for run in numbers.runs:
        cells = [numbers.cells[run.name, d, ALL, MEAN_RECALL] for d in numbers.directions]
        value = sum(cell.estimate.value for cell in cells) / len(cells)
        rows.append(f"{run.name} {100 * value:.1f}")
    return [
        (
            "mean recall",
            "The mean of hit@1, hit@5 and hit@10. Over both directions, as checkpoints are chosen "
            f"and controls compared by default, percent: {', '.join(rows)}.",
        )
    ]


def missing_groups(run: Run) -> list[str]:
    """Say which of head, mid and tail no test query is of, and what to do about it."""
    groups = {name for names in run.first.groups.values() for name in names if name}
    data = run.first.config.get("data")
    if not groups or not isinstance(data, Mapping) or data.get("groups", "counts") != "counts":
        return []
    head, tail = (data.get(name, "?") for name in ("head", "tail"))
    of = {
        "head": f"{head} training samples or more",
        "mid": f"from {tail} to fewer than {head} training samples",
        "tail": f"fewer than {tail} training samples",
    }
    return [
        f"There is no {name}: no test query is of a class with {of[name]}. Choose the bounds with "
        "--data.head and --data.tail, or thirds of the classes with --data.groups thirds."
        for name in of
        if name not in groups
    ]


def checkpoints(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return the step that each run was tested at, where recorded."""
    rows = [
        f"{run.name} step {run.first.results['best_step']:,}"
        for run in runs
        if run.first.results.get("best_step") is not None
    ]
    return [("Checkpoint", f"Best on the validation split: {', '.join(rows)}.")] if rows else []


def versions() -> str:
    """Return versions that wrote this page."""
    packages = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(packages)


def geometry_table(runs: Sequence[Run]) -> list[list[str]]:
    """Return headings, and a row for each run, of the embedding geometry, mean over seeds."""
    names, rows, shown = GEOMETRY[runs[0].task], list[list[str]](), list[str]()
    for run in runs:
        each = [_geometry(seed) for seed in run.seeds]
        mean = {key: sum(part[key] for part in each) / len(each) for key in each[0]}
        shown = [key for key in names if key in mean]
        rows.append([run.name, *(f"{mean[key]:.3f}".replace("-", "−") for key in shown)])
    return [["run", *(names[key] for key in shown)], *rows]


def _geometry(seed: SeedRun) -> dict[str, float]:
    search = next(iter(seed.searches.values()))
    if seed.task == "views":
        labels = list(seed.outcome.first.labels)
        return geometry(search.queries, search.queries, labels)
    labels = seed.test.get("label_of_x", np.array([])).tolist()
    of_class = labels if _one_class_per_y(seed) else None
    return geometry(search.queries, search.candidates, of_class, y_of_x=seed.y_of_x)


def _one_class_per_y(seed: SeedRun) -> bool:
    if not any(str(label) for label in seed.test.get("label_of_x", ())):
        return False
    pairs = {(j, str(seed.test["label_of_x"][i])) for i, row in enumerate(seed.y_of_x) for j in row}
    return len(pairs) == len({j for j, _ in pairs}) == len(seed.test["y"])


def _flatten(tree: Any, path: str = "") -> dict[str, str]:
    if isinstance(tree, Mapping):
        parts = [
            _flatten(value, f"{path}.{key}" if path else str(key)) for key, value in tree.items()
        ]
        return {key: value for part in parts for key, value in part.items()}
    return {path: _text(tree)}


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_text(item)}" for key, item in value.items())
    return "–" if value is None else str(value)
