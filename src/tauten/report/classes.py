"""Results of each class: how often its queries are right, how many samples it has, and its τ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tauten.report.numbers import Numbers
from tauten.report.runs import Array, Run
from tauten.report.words import metric_name

BANDS = 8
"""Bands of classes of like size that a line goes through."""


@dataclass(frozen=True)
class ByClass:
    """Results by class, the largest first.

    Shape suffixes: C classes.

    Attributes:
        names: (C,) of the classes that have test queries.
        groups: (C,) their groups.
        counts: (C,) training samples; 0 where there are none or they are not known.
        queries: (C,) test queries.
        share: (C,) mean over queries and seeds by (run, metric).
        strength: (C,) temperature or margin at the last step by run, mean over the samples of
            classes of that size; none where it is not recorded.
    """

    names: Sequence[str]
    groups: Sequence[str]
    counts: Array
    queries: Array
    share: Mapping[tuple[str, str], Array]
    strength: Mapping[str, Array]

    @property
    def metrics(self) -> list[str]:
        """The metrics, in column order."""
        return list(dict.fromkeys(metric for _, metric in self.share))

    def rows(self, numbers: Numbers) -> list[list[str]]:
        """Return headings, and a row for each class, for a table."""
        several = len(numbers.runs) > 1
        ends = {run.name: f", {numbers.label(run)}" if several else "" for run in numbers.runs}
        letter = {run.name: run.symbol for run in numbers.runs}
        head = ["class", "group", "training", "test"]
        head += [f"{letter[name]}{ends[name]}" for name in self.strength]
        head += [f"{metric_name(metric)}{ends[name]}" for name, metric in self.share]
        body = [
            [
                name,
                self.groups[c] or "–",
                f"{self.counts[c]:,}" if self.counts.any() else "–",
                f"{self.queries[c]:,}",
                *("–" if np.isnan(v[c]) else f"{v[c]:.3g}" for v in self.strength.values()),
                *(f"{100 * share[c]:.1f}" for share in self.share.values()),
            ]
            for c, name in enumerate(self.names)
        ]
        return [head, *body]


def by_class(numbers: Numbers) -> ByClass | None:
    """Return the results of each class; None where classes are not recorded alike."""
    first = numbers.runs[0].first
    same = (seed.labels == first.labels for run in numbers.runs for seed in run.seeds)
    if not first.labels or not all(same):
        return None
    labels = first.labels
    sizes, group = Counter(labels), dict(zip(labels, first.outcome.groups, strict=True))
    trained = _trained(numbers.runs[0])
    names = sorted({*labels} - {""}, key=lambda name: (-trained.get(name, 0), name))
    at = {name: place for place, name in enumerate(names)}
    of_query = torch.tensor([at.get(label, len(names)) for label in labels])
    known = [seed.outcome.known.names for run in numbers.runs for seed in run.seeds]
    wanted = [m for m in numbers.fractions if "@" in m and all(m in each for each in known)]
    share = {}
    for run in numbers.runs:
        for metric in wanted:
            score = torch.stack([seed.outcome.scores(metric) for seed in run.seeds]).mean(dim=0)
            total = torch.bincount(of_query, score, minlength=len(names))[: len(names)]
            share[run.name, metric] = (total / torch.tensor([sizes[n] for n in names])).numpy()
    counts = np.array([trained.get(name, 0) for name in names])
    strength = {
        run.name: strengths for run in numbers.runs if (strengths := _strength(run, counts)).size
    }
    queries = np.array([sizes[name] for name in names])
    return ByClass(names, [group[name] for name in names], counts, queries, share, strength)


def _trained(run: Run) -> dict[str, int]:
    stored = run.first.samples
    if len(stored.get("label_names", ())):
        names, counts = stored["label_names"].tolist(), stored["label_counts"].tolist()
        return dict(zip(names, counts, strict=True))
    return Counter(run.first.test.get("train_labels", np.array([])).tolist())


def _strength(run: Run, counts: Array) -> Array:
    """Return (C,) means of the last values over samples of classes of the same size."""
    stored = run.first.samples
    last, of_sample = (stored.get(name, np.zeros(0)) for name in ("tau_final", "counts"))
    if len(last) == 1:
        return np.full(len(counts), last[0])
    if not len(last) or len(last) != len(of_sample):
        return np.zeros(0)
    size, where = np.unique(of_sample, return_inverse=True)
    mean = dict(zip(size.tolist(), np.bincount(where, last) / np.bincount(where), strict=True))
    return np.array([mean.get(count, np.nan) for count in counts.tolist()])
