"""Sentences and figures in words: a difference inside its interval is no measurable difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tauten.evaluation import Estimate
from tauten.report.numbers import LOWER_IS_BETTER, Cell, Numbers
from tauten.report.runs import Run

MINUS = "−"
SAME = "no measurable difference"
NAMES = {
    "mean_recall": "mean recall",
    "class_map_across": "class mAP",
    "class_map_within": "class mAP within",
    "median_rank": "median rank",
    "mean_rank": "mean rank",
    "mAP_official": "graded mAP",
    "mAP_textbook": "exact mAP",
    "linear_lt": "linear LT",
    "linear_fs": "linear FS",
}
WORDING = {
    "pairs": {
        "control": "temperature or margin",
        "table": "Percent, except ranks, with 95 % intervals.",
        "groups": "{} by the training count of the query's class, with 95 % intervals of each run "
        "by itself.",
        "similarity": "Cosines of test pairs: of matching pairs, of each image's most similar "
        "wrong caption, and of all wrong pairs.",
        "geometry": "Alignment: mean squared distance of matching pairs, 0 is best. Uniformity: "
        "log mean exp(−2 distance²), lower is more uniform. Tolerance: mean cosine within a class. "
        "Modality gap: distance of the two centroids.",
        "examples": "The first five images for captions drawn by a fixed seed from each group, "
        "before looking at the outcome.",
        "right": "right",
        "wrong": "wrong",
    },
    "views": {
        "control": "temperature",
        "table": "Accuracies in percent with 95 % intervals. kNN@K: vote of the K nearest training "
        "images. Linear probes: LT learns from the whole training split, FS from as many images of "
        "each class as its rarest has.",
        "groups": "Accuracy by the training count of the test image's class, with 95 % intervals "
        "of each run by itself.",
        "similarity": "Cosines of features: of each test image and the nearest training image of "
        "its own class, the nearest of another class, and all of other classes.",
        "geometry": "Of the test images. Uniformity: log mean exp(−2 distance²), lower is more "
        "uniform. Tolerance: mean cosine within a class.",
        "examples": "Test images drawn by a fixed seed from each group, before looking at the "
        "outcome, and the five training images that each run finds nearest.",
        "right": "same class",
        "wrong": "another class",
    },
}
ONE_SEED = "one seed: no verdict"
BADGES = {
    "same": SAME,
    "better": "measurably better",
    "worse": "measurably worse",
    "unknown": ONE_SEED,
}


@dataclass(frozen=True)
class Verdict:
    """The outcome of one comparison.

    Attributes:
        run: Name of the run.
        baseline: Name of its baseline.
        title: What is compared.
        kind: "same", "better", "worse", "mixed", or "unknown" from one seed.
        badge: The kind in words.
        sentences: The reasons, one sentence each.
    """

    run: str
    baseline: str
    title: str
    kind: str
    badge: str
    sentences: Sequence[str]


def metric_name(metric: str) -> str:
    """Format a metric as a column heading."""
    return NAMES.get(metric, metric.replace("knn@", "kNN@"))


def number(metric: str, value: float) -> str:
    """Format a value of a metric: fractions in percent, ranks as they are."""
    if metric in LOWER_IS_BETTER:
        return f"{value:.0f}" if value >= 20 else f"{value:.1f}".removesuffix(".0")
    return f"{100 * value:.1f}".replace("-", MINUS)


def interval(metric: str, estimate: Estimate) -> str:
    """Format both ends of an interval."""
    low, high = number(metric, estimate.low), number(metric, estimate.high)
    return f"{low} to {high}" if MINUS in low else f"{low}–{high}"


def signed(metric: str, value: float) -> str:
    """Format a difference with its sign."""
    scaled = value if metric in LOWER_IS_BETTER else 100 * value
    text = f"{abs(scaled):.1f}"
    return text if float(text) == 0 else f"{'+' if scaled > 0 else MINUS}{text}"


def with_ends(metric: str, gain: Estimate) -> str:
    """Format a difference with its sign and its interval."""
    value, low, high = (signed(metric, end) for end in (gain.value, gain.low, gain.high))
    return f"{value} ({low} to {high})"


def verdicts(numbers: Numbers, primary: str) -> list[Verdict]:
    """Return one verdict for each run that has a baseline, on one metric in every direction."""
    lines = []
    for run, base in numbers.compared():
        cells = {
            d: numbers.cells[run.name, d, numbers.overall, primary] for d in numbers.directions
        }
        outcomes = {cell.verdict for cell in cells.values()}
        found_any = sorted(outcomes - {"same"}) or ["same"]
        kind = found_any[0] if len(found_any) == 1 else "mixed"
        sentences = [_resolution(cells)]
        sentences += [
            _direction(numbers, run, base, direction, cell, primary)
            for direction, cell in cells.items()
        ]
        sentences.append(_groups(numbers, run, primary))
        name = numbers.label(run, within_family=True)
        title = f"{run.family}: {name} against a constant {base.knob}"
        said, badge = [s for s in sentences if s], _badge(numbers, cells)
        lines.append(Verdict(run.name, base.name, title, kind, badge, said))
    return lines


def _badge(numbers: Numbers, cells: dict[str, Cell]) -> str:
    """Return the outcome of all directions: once if they agree, else each with its direction."""
    outcomes = [cell.verdict for cell in cells.values()]
    if len(set(outcomes)) == 1:
        return BADGES[outcomes[0]]
    parts = [f"{BADGES[cell.verdict]} {numbers.directions[d].lower()}" for d, cell in cells.items()]
    return ", ".join(parts)


def _direction(
    numbers: Numbers, run: Run, base: Run, direction: str, cell: Cell, metric: str
) -> str:
    assert cell.difference is not None
    gain = cell.difference
    ours = number(metric, cell.estimate.value)
    other = numbers.cells[base.name, direction, numbers.overall, metric].estimate
    theirs = number(metric, other.value)
    outcome = {
        "same": f": {SAME}",
        "better": ": a measurable gain",
        "worse": ": a measurable loss",
        "unknown": " over test queries",
    }
    value, _, ends = with_ends(metric, gain).partition(" (")
    return (
        f"{numbers.directions[direction]}, {metric_name(metric)}: {ours} % against {theirs} %, a "
        f"difference of {value} points (95 % interval {ends}{outcome[cell.verdict]}."
    )


def _groups(numbers: Numbers, run: Run, metric: str) -> str:
    groups = numbers.by_count
    if not groups:
        return ""
    shown = []
    for direction, name in numbers.directions.items():
        for group in groups:
            cell = numbers.cells[run.name, direction, group, metric]
            if cell.verdict == "unknown":
                return ""
            if cell.measurable and cell.difference is not None:
                gain = cell.difference
                value, _, ends = with_ends(metric, gain).partition(" ")
                shown.append(f"{group}, {name.lower()}, {value} points {ends}")
    if not shown:
        return f"By class frequency ({', '.join(groups)}): {SAME} in any group."
    return f"By class frequency, measurable: {'; '.join(shown)}; in the other groups {SAME}."


def _resolution(cells: dict[str, Cell]) -> str:
    gains = [cell.difference for cell in cells.values() if cell.difference is not None]
    half = max(gain.high - gain.low for gain in gains) / 2
    seeds = gains[0].seeds
    if seeds == 1:
        return (
            "One seed: the interval covers the choice of test queries, not of the seed, so there "
            "is no verdict. Train both with two seeds or more."
        )
    return (
        f"{seeds} seeds, paired: the interval covers test queries and seeds. A difference of less "
        f"than about {100 * half:.1f} points would not show here."
    )


def false_alarms(numbers: Numbers) -> str:
    """Say how many measurable differences chance alone would give in the table."""
    count = sum(cell.verdict not in ("", "unknown") for cell in numbers.cells.values())
    if not count:
        return ""
    return (
        f"The table makes {count} comparisons at 95 %: if nothing differed at all, about "
        f"{max(1, round(count / 20))} would still be marked. Believe patterns, not single marks."
    )
