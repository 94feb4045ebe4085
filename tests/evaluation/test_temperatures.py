"""Temperatures by thirds of the classes, from the labels of the samples alone."""

import pytest
import torch

import tauten as tt
from tauten.evaluation import TauProbe, temperatures

LABELS = [7] * 6 + [2] * 3 + [5]


def test_labels_give_groups_and_counts():
    loss_fn = tt.InfoNCE(tt.ClusterShift([6] * 6 + [3] * 3 + [1], 0.1, 0.6))  # 0.1 for each count
    line = TauProbe.of_labels(loss_fn, LABELS).summary()
    expected = {"head": 0.6, "mid": 0.3, "tail": 0.1, "min": 0.1, "max": 0.6}
    expected["mean"] = (6 * 0.6 + 3 * 0.3 + 0.1) / 10
    assert {name: line[f"tau/{name}"] for name in expected} == pytest.approx(expected)
    assert line["tau/spearman"] == pytest.approx(1.0)


def test_two_classes_have_no_thirds():
    line = TauProbe.of_labels(tt.InfoNCE(0.1), [0, 1, 1]).summary()
    assert "tau/head" not in line
    assert line["tau/mean"] == pytest.approx(0.1)


def test_without_labels_the_last_batch_is_read():
    loss_fn = tt.InfoNCE(tt.ClusterShift([1, 2, 3, 4, 5], 0.1, 0.5))
    probe = TauProbe.of_labels(loss_fn)
    assert probe.summary() == {}
    loss_fn(torch.eye(2), torch.eye(2), torch.tensor([1, 3]))
    expected = {"tau/mean": 0.3, "tau/min": 0.2, "tau/max": 0.4}
    assert probe.summary() == pytest.approx(expected)


def test_of_many_samples_some_are_read(monkeypatch):
    monkeypatch.setattr(temperatures, "MOST", 3)
    probe = TauProbe.of_labels(tt.InfoNCE(tt.ClusterShift([1, 2, 3, 4, 5], 0.1, 0.5)), range(5))
    assert probe.index.tolist() == [0, 2, 4]
    assert probe.summary()["tau/mean"] == pytest.approx(0.3)


@pytest.mark.parametrize("labels", [[], [[0, 1]], [0.5, 1.5]])
def test_other_labels_are_refused(labels):
    with pytest.raises(ValueError, match="labels"):
        TauProbe.of_labels(tt.InfoNCE(0.1), labels)
