"""Outcomes in files, also as earlier versions left them."""

import numpy as np
import pytest
import torch

from tauten.outcome import load, of_pairs, of_run, of_views, save

X = torch.eye(3)
Y = torch.tensor([[1.0, 0.1, 0.0], [0.1, 1.0, 0.0], [0.2, 1.0, 0.0], [0.0, 0.3, 0.2]])
OWN, GROUPS = [[0, 1], [2], [3, 1]], ["head", "tail", "mid"]


def test_the_queries_of_an_earlier_cell(tmp_path):
    made = of_pairs(X, Y, OWN, GROUPS)
    best = {name: made.sides[way].ranks.best.numpy() for name, way in (("x", "x2y"), ("y", "y2x"))}
    pairs = {"owner": [0, 0, 1, 2, 2], "target": [0, 1, 2, 3, 1]}
    graded = {"nDCG": np.array([0.1, 0.2, 0.3]), "mAP": np.array([0.4, 0.5, 0.6])}
    for more in ({}, graded):
        arrays = {name: np.array(rows, np.int32) for name, rows in (best | pairs).items()}
        np.savez(tmp_path / "queries.npz", **arrays, groups=GROUPS, **more)
        found = load(tmp_path / "queries.npz")
        assert found.same_queries(made)
        for metric in found.known.names[:10]:
            assert torch.equal(found.scores(metric), made.scores(metric))
        assert [name for name in ("nDCG", "mAP") if name in found.known.names] == list(more)
    assert found.scores("mAP").tolist() == [0.4, 0.5, 0.6]
    assert found.metrics()["tail"]["nDCG"] == 0.2


def test_the_images_of_an_earlier_cell(tmp_path):
    right = {"knn@1": np.array([True, False]), "knn@10": np.array([True, True])}
    np.savez(tmp_path / "queries.npz", **right, labels=["a", "b"], groups=["head", "tail"])
    found = load(tmp_path / "queries.npz")
    assert found.metrics()["tail"]["knn@1"] == 0
    assert found.metrics()["all"]["knn@10/class_mean"] == 1


def test_embeddings_of_an_earlier_run(tmp_path):
    padded = np.array([[0, 1], [2, -1], [3, 1]])
    stored = {"x": X.numpy(), "y": Y.numpy(), "y_of_x": padded, "group_of_x": GROUPS}
    found = of_run(tmp_path, stored, ())
    assert found.metrics() == of_pairs(X, Y, OWN, GROUPS).metrics()
    assert found.sides["y2x"].groups == ["head", "head", "tail", "mid"]
    other = {"group_of_y": ["tail"] * 4}
    assert of_run(tmp_path, stored | other, ()).sides["y2x"].groups == ["tail"] * 4


@pytest.mark.parametrize("lost", ["x2y/ranks", "owner", "y2x/labels", "x2y/groups"])
def test_what_does_not_fit_is_damaged(tmp_path, lost):
    save(of_pairs(X, Y, OWN, GROUPS), tmp_path / "outcome.npz")
    with np.load(tmp_path / "outcome.npz") as stored:
        arrays = dict(stored)
    np.savez(tmp_path / "outcome.npz", **arrays | {lost: arrays[lost][:1]})
    with pytest.raises(ValueError, match="outcome.npz is damaged"):
        load(tmp_path / "outcome.npz")


def test_scores_of_other_lengths_are_damaged(tmp_path):
    save(of_views({"knn@1": torch.ones(2)}, ["a"] * 3, ["head"] * 3), tmp_path / "outcome.npz")
    with pytest.raises(ValueError, match="knn@1 has shape"):
        load(tmp_path / "outcome.npz")


def test_images_are_drawn_within_classes_and_classes_weigh_alike():
    labels, groups = ["b", "a", "b", "b"], ["head", "tail", "head", "head"]
    found = of_views({"knn@1": torch.tensor([1, 0, 1, 0])}, labels, groups)
    assert found.group_names() == ["all", "classes", "head", "tail"]
    for group, share, number in (
        ("all", [1 / 4] * 4, 4),
        ("classes", [1 / 6, 1 / 2, 1 / 6, 1 / 6], 4),
        ("head", [1 / 3, 0, 1 / 3, 1 / 3], 3),
    ):
        drawn = found.drawn("", group)
        assert drawn.strata.of.tolist() == [1, 0, 1, 1]
        assert drawn.strata.share.tolist() == pytest.approx(share)
        assert drawn.number == number


def test_captions_of_one_image_are_drawn_together():
    found = of_pairs(X, Y, OWN, GROUPS)
    assert found.group_names() == ["all", "head", "mid", "tail"]
    assert found.drawn("y2x", "all").clusters.tolist() == [0, 0, 1, 2]
    drawn = found.drawn("y2x", "head")
    assert (drawn.rows.tolist(), drawn.clusters.tolist()) == ([0, 1], [0, 0])
    assert found.drawn("x2y", "mid").rows.tolist() == [2]
    assert found.drawn("x2y", "mid").clusters is None
