"""Scores of two views: neighbours, means over classes, and differences of them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tauten.comparison.contrasts import contrasts, estimates
from tauten.evaluation import knn
from tauten.outcome import load, of_pairs, of_run, of_views, save

SIZES = {"owl": 30, "oak": 20, "sea": 4, "ant": 2}
GROUP = {"owl": "head", "oak": "head", "sea": "tail", "ant": "tail"}


def features(seed=0, spread=0.7):
    """Classes around random centres, with other sizes in the two splits."""
    draw = np.random.default_rng(seed)
    centre = {name: draw.normal(size=6) for name in SIZES}
    found = {}
    for split, share in (("train", 2), ("test", 1)):
        labels = [name for name, size in SIZES.items() for _ in range(size * share)]
        rows = [centre[name] + spread * draw.normal(size=6) for name in labels]
        found[split] = np.array(rows, dtype=np.float32)
        found[f"{split}_labels"] = np.array(labels)
        found[f"{split}_groups"] = np.array([GROUP[name] for name in labels])
    return found


def outcome(found):
    return of_run(Path("nowhere"), found, (1, 10))


def test_metrics_are_those_of_the_evaluation():
    found = features()
    names = sorted(SIZES)
    place = [
        torch.tensor([names.index(n) for n in found[f"{s}_labels"]]) for s in ("train", "test")
    ]
    groups = [GROUP[name] for name in names]
    wanted = knn(found["train"], place[0], found["test"], place[1], (1, 10), groups, bootstrap=0)
    told = outcome(found).metrics()
    for rule in ("knn@1", "knn@10"):
        assert told["all"][rule] == pytest.approx(wanted[rule], abs=1e-7)
        assert 0.3 < told["all"][rule] < 1
        mean = f"{rule}/class_mean"
        assert told["all"][mean] == pytest.approx(wanted[mean], abs=1e-12)
        assert abs(told["all"][mean] - told["all"][rule]) > 0.01
        for group in ("head", "tail"):
            assert told[group][mean] == pytest.approx(wanted[f"{mean}/{group}"], abs=1e-12)
    assert (told["tail"]["n"], set(told)) == (6.0, {"all", "head", "tail"})


def test_a_class_without_training_images_is_never_right():
    found = features()
    found["test_labels"] = np.array(["yak", *found["test_labels"][1:]])
    assert not outcome(found).scores("knn@10")[0]


def test_kept_whole(tmp_path):
    made = outcome(features())
    save(made, tmp_path / "outcome.npz")
    again = load(tmp_path / "outcome.npz")
    assert again.same_queries(made)
    assert again.metrics() == made.metrics()
    ranks = of_pairs(torch.eye(3), torch.eye(3), [[0], [1], [2]], ["tail"] * 3)
    assert not ranks.same_queries(made)
    with pytest.raises(ValueError, match="there are knn@1, knn@1/class_mean, knn@10"):
        made.scores("mean_recall")


def test_differences_of_means_over_classes():
    """One class of two images gains everything: a sixth of all, half of its group."""
    labels = [name for name, size in SIZES.items() for _ in range(size)]
    groups = [GROUP[name] for name in labels]
    none = torch.zeros(len(labels), dtype=torch.bool)
    gained = torch.tensor([name == "ant" for name in labels])

    def runs(right):
        return {
            seed: of_views({"knn@1": right, "knn@10": right}, labels, groups) for seed in (0, 1)
        }

    variants = {"a": runs(gained), "b": runs(none)}
    found = {c.group: c for c in contrasts(variants, [("a", "b")], "knn@1/class_mean", 400)}
    assert {group: c.value for group, c in found.items()} == pytest.approx(
        {"all": 1 / 4, "head": 0.0, "tail": 1 / 2}
    )
    assert found["tail"].low < 1 / 2 < found["tail"].high
    assert found["all"].high - 1 / 4 == pytest.approx((found["tail"].high - 1 / 2) / 2, rel=0.3)
    plain = {c.group: c.value for c in contrasts(variants, [("a", "b")], "knn@1", 50)}
    assert plain == pytest.approx({"all": 2 / 56, "head": 0.0, "tail": 2 / 6})
    means = estimates(variants, "knn@1/class_mean", bootstrap=50)
    assert means["a", "all"].value == pytest.approx(1 / 4)
    assert means["a", "tail"].value == pytest.approx(1 / 2)


def test_replicates_of_a_mean_over_classes_are_those_of_drawn_images():
    """The literal loop: draw images of each group, weigh each by 1 over its class, compare."""
    labels = [name for name, size in SIZES.items() for _ in range(size)]
    groups = [GROUP[name] for name in labels]
    right = torch.tensor(np.random.default_rng(3).random(len(labels)) < 0.5)
    none = torch.zeros(len(labels), dtype=torch.bool)
    variants = {
        name: {0: of_views({"knn@1": hit, "knn@10": hit}, labels, groups)}
        for name, hit in (("a", right), ("b", none))
    }
    draw, replicates = np.random.default_rng(0), []
    rows = [i for i, group in enumerate(groups) if group == "head"]
    weight = np.array([1 / SIZES[labels[i]] for i in rows])
    hit = right.numpy()[rows]
    for _ in range(4000):
        chosen = draw.integers(len(rows), size=len(rows))
        replicates.append((weight * hit)[chosen].sum() / weight[chosen].sum())
    (found,) = (
        c for c in contrasts(variants, [("a", "b")], "knn@1/class_mean", 4000) if c.group == "head"
    )
    assert found.low == pytest.approx(np.quantile(replicates, 0.025), abs=0.015)
    assert found.high == pytest.approx(np.quantile(replicates, 0.975), abs=0.015)
