"""Average precision of the same class, query by query, and what a comparison makes of it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tauten.comparison.contrasts import contrasts, estimates
from tauten.outcome import load, of_pairs, save
from tauten.outcome.metrics import CLASS_MAP, OF_CLASSES

OWN = [[0, 1], [2], [3], [4], [5], [2, 6]]
LABELS = ["a", "a", "b", "b", "c", ""]
GROUPS = ["head", "head", "mid", "mid", "tail", "tail"]
OF_Y = ["a", "a", "a", "b", "b", "c", ""]


@pytest.fixture
def sides():
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(n, 5, generator=generator) for n in (6, 7)]


def precision(query, candidates, of_query, of_candidates, left_out=None):
    """AP of one query, candidate by candidate; NaN without a candidate of its class."""
    order = sorted(
        (j for j in range(len(candidates)) if j != left_out),
        key=lambda j: -float(query @ candidates[j] / candidates[j].norm()),
    )
    places = [r for r, j in enumerate(order, 1) if of_query and of_candidates[j] == of_query]
    return np.mean([k / r for k, r in enumerate(places, 1)]) if places else math.nan


def literal(x, y):
    """(across, within) of each x with its y's."""
    found = []
    for i, own in enumerate(OWN):
        across = [precision(x[i], y, LABELS[i], OF_Y)]
        across += [np.nanmean([precision(y[j], x, OF_Y[j], LABELS) for j in own] or [math.nan])]
        within = [precision(x[i], x, LABELS[i], LABELS, i)]
        within += [np.nanmean([precision(y[j], y, OF_Y[j], OF_Y, j) for j in own])]
        found.append([np.nanmean(across), np.nanmean(within)])
    return np.array(found)


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_each_query_has_the_precision_of_the_formula(sides, tmp_path):
    made = of_pairs(*sides, OWN, GROUPS, labels=LABELS)
    wanted = literal(*sides)
    for place, name in enumerate(CLASS_MAP):
        assert made.scores(name).tolist() == pytest.approx(wanted[:, place].tolist(), nan_ok=True)
    whole = wanted.mean(axis=1)
    assert made.scores("class_map").tolist() == pytest.approx(whole.tolist(), nan_ok=True)
    assert made.members("all", "class_map").tolist() == np.flatnonzero(~np.isnan(whole)).tolist()
    assert made.members("all", "hit@1").tolist() == list(range(6))
    assert made.metrics()["all"]["class_map"] == pytest.approx(np.nanmean(whole))
    assert made.metrics()["head"]["class_map"] == pytest.approx(whole[:2].mean())
    save(made, tmp_path / "outcome.npz")
    again = load(tmp_path / "outcome.npz")
    assert again.known == made.known
    assert again.metrics() == made.metrics()


def test_without_classes_there_is_no_such_metric(sides):
    made = of_pairs(*sides, OWN, GROUPS)
    assert not {*OF_CLASSES} & {*made.known.names}
    first = made.sides["x2y"]
    shown = replace(first, scores={**first.scores, "unseen/recall@20": torch.ones(len(OWN))})
    made = replace(made, sides={**made.sides, "x2y": shown})
    with pytest.raises(ValueError, match="unknown metric 'class_map'; .*, unseen/recall@20"):
        made.scores("class_map")


def test_a_comparison_leaves_out_queries_without_another_of_their_class(sides):
    x, y = sides
    runs = {
        name: {seed: of_pairs(x + step * seed * x.flip(0), y + step, OWN, GROUPS, labels=LABELS)
               for seed in (0, 1)}
        for name, step in (("a", 0.3), ("b", 0.0))
    }  # fmt: skip
    kept = runs["b"][0].members("all", "class_map")
    assert 0 < len(kept) < 6
    found = {one.group: one for one in contrasts(runs, [("a", "b")], "class_map", 50)}
    own = estimates(runs, "class_map", 50)
    gains = [runs["a"][s].scores("class_map") - runs["b"][s].scores("class_map") for s in (0, 1)]
    for group, one in found.items():
        rows = [i for i in kept.tolist() if group in ("all", GROUPS[i])]
        assert one.queries == len(rows)
        assert one.value == pytest.approx(float(torch.stack(gains)[:, rows].mean()))
        assert one.corrected_low <= one.value <= one.corrected_high
        assert own["a", group].queries == len(rows)
    assert {*found} == {group for _, group in own}
