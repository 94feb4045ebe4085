"""The numbers of a report: every metric with its interval, and the paired difference to the
constant baseline of the same family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tauten.evaluation import Difference, Estimate
from tauten.outcome import ALL, CLASSES
from tauten.outcome.metrics import CLASS_MAP
from tauten.report.runs import KNN, Run
from tauten.structure.cells import counted

DIRECTIONS = {"x2y": "Image to text", "y2x": "Text to image", "": "Mean over classes"}
LOWER_IS_BETTER = ("median_rank", "mean_rank")
GRADED = ("nDCG", "mAP_official", "mAP_textbook")
"""Metrics with graded relevancies."""


@dataclass(frozen=True)
class Cell:
    """One number of the table.

    Attributes:
        estimate: Value (mean over seeds) and interval.
        difference: Paired difference to the baseline, or None where there is none.
        better: Sign of the difference that is good, 1 or -1.
    """

    estimate: Estimate
    difference: Difference | None
    better: int

    @property
    def measurable(self) -> bool:
        """True where the value is better or worse than its baseline."""
        return self.verdict in ("better", "worse")

    @property
    def verdict(self) -> str:
        """ "better", "worse", "same" (no measurable difference), "unknown" (from one
        seed, which tells nothing of others) or "" (not compared)."""
        if self.difference is None:
            return ""
        if self.difference.seeds < 2:
            return "unknown"
        if not self.difference.measurable:
            return "same"
        return "better" if self.difference.value * self.better > 0 else "worse"


@dataclass(frozen=True)
class Numbers:
    """All numbers of a report.

    Attributes:
        runs: The runs, in order of presentation.
        baselines: Name of the baseline of each run that is not one.
        metrics: Metric names, such as "hit@1", in column order.
        groups: Group names, "all" first.
        cells: By (run, direction, group, metric).
        queries: Number of queries by (direction, group).
        notes: What a reader must know about them.
    """

    runs: Sequence[Run]
    baselines: dict[str, str]
    metrics: Sequence[str]
    groups: Sequence[str]
    cells: dict[tuple[str, str, str, str], Cell]
    queries: dict[tuple[str, str], int]
    notes: Sequence[str]

    @property
    def task(self) -> str:
        """ "pairs" or "views"."""
        return self.runs[0].task

    @property
    def directions(self) -> Mapping[str, str]:
        """Names of what is searched by what."""
        return {way: DIRECTIONS[way] for way in self.runs[0].first.outcome.sides}

    @property
    def overall(self) -> str:
        """The group that a verdict is about."""
        return CLASSES if CLASSES in self.groups else ALL

    @property
    def fractions(self) -> list[str]:
        """The metrics that a verdict may be about."""
        kind = KNN if self.task == "views" else ""
        return [n for n in self.metrics if n.startswith(kind) and n not in LOWER_IS_BETTER]

    @property
    def main(self) -> str:
        """The metric of the verdict unless told otherwise."""
        if self.task == "views":
            return self.fractions[-1] if self.fractions else ""
        return GRADED[1] if GRADED[1] in self.metrics else "hit@1"

    @property
    def by_count(self) -> list[str]:
        """The groups that go by the training count of a class."""
        return [group for group in self.groups if group not in (ALL, CLASSES)]

    def heading(self, direction: str, group: str) -> str:
        """Return the heading of a group's rows."""
        if self.task == "pairs":
            return f"{self.directions[direction]}, {'all queries' if group == ALL else group}"
        if group == ALL:
            return "All test images"
        side = self.runs[0].first.outcome.first
        inside = zip(side.labels, side.groups, strict=True)
        size = len({label for label, name in inside if group in (CLASSES, name)})
        classes = counted(f"{size:,}", "class", "classes")
        return f"Mean over {classes}{'' if group == CLASSES else f' of {group}'}"

    def run(self, name: str) -> Run:
        """Return the run of that name."""
        return next(run for run in self.runs if run.name == name)

    def label(self, run: Run, within_family: bool = False) -> str:
        """Return a run in a legend: its loss and control,
        or its name where these do not tell it apart.
        """
        alike = [r for r in self.of_family(run.family) if r.control == run.control]
        if len(alike) > 1:
            return run.name
        if within_family or len(self.families) == 1:
            return run.control
        return f"{run.family}, {run.control}"

    @property
    def families(self) -> list[str]:
        """Families in order of presentation."""
        return list(dict.fromkeys(run.family for run in self.runs))

    def of_family(self, family: str) -> list[Run]:
        """Return the runs of one family."""
        return [run for run in self.runs if run.family == family]

    def compared(self) -> Iterator[tuple[Run, Run]]:
        """Yield (run, its baseline) for every run that has one."""
        for run in self.runs:
            if run.name in self.baselines:
                yield run, self.run(self.baselines[run.name])


def key(direction: str, group: str, metric: str) -> str:
    """Return the name of a number in results.json."""
    if not direction:
        return metric + {ALL: "", CLASSES: "/class_mean"}.get(group, f"/class_mean/{group}")
    name = f"{direction}/{metric}"
    if metric in CLASS_MAP:
        name = f"class/{CLASS_MAP[metric][direction]}/mAP"
    if metric in GRADED:
        name = f"multi_instance/{metric}/{direction}"
    return name if group == ALL else f"{name}/{group}"
