"""Accuracy by class and group, kNN, probes and zero-shot, against loops and scikit-learn."""

import numpy as np
import pytest
import torch

from tauten import evaluation


def blobs(sizes, seed, spread=0.6, dim=8):
    """Gaussian classes of these sizes around fixed centres."""
    centres = torch.randn(len(sizes), dim, generator=torch.Generator().manual_seed(99))
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    noise = torch.randn(len(labels), dim, generator=torch.Generator().manual_seed(seed))
    return centres[labels] + spread * noise, labels


def test_accuracy_by_hand():
    correct = [1, 1, 1, 0, 1, 0]
    labels = [0, 0, 0, 0, 1, 2]
    found = evaluation.accuracy(correct, labels, ["head", "tail", "tail"], bootstrap=0)
    assert found == {
        "accuracy": pytest.approx(4 / 6),
        "accuracy/class_mean": pytest.approx((0.75 + 1 + 0) / 3),
        "accuracy/class_mean/head": pytest.approx(0.75),
        "accuracy/class_mean/tail": pytest.approx(0.5),
        "accuracy/balancedness": pytest.approx(np.std([0.75, 0.5])),
        "accuracy/n": 6,
    }


def test_intervals_resample_within_classes():
    found = evaluation.accuracy([1] * 30 + [0] * 10, [0] * 30 + [1] * 10, ["a", "b"])
    assert [found["accuracy/low"], found["accuracy/high"]] == pytest.approx([0.75, 0.75])
    mixed = evaluation.accuracy([1, 0] * 20, [0] * 30 + [1] * 10, ["a", "b"])
    assert 0.3 < mixed["accuracy/low"] < 0.5 < mixed["accuracy/high"] < 0.7
    assert mixed["accuracy/balancedness/low"] >= 0 < mixed["accuracy/balancedness/high"]


def test_a_class_without_samples_counts_nowhere():
    found = evaluation.accuracy([1, 0], [0, 2], ["head", "mid", "tail"], bootstrap=0)
    assert found["accuracy/class_mean"] == 0.5
    assert "accuracy/class_mean/mid" not in found


@pytest.mark.parametrize(("number", "sizes"), [(10, (4, 3, 3)), (100, (34, 33, 33))])
def test_thirds_are_those_of_cifar(number, sizes):
    counts = torch.arange(number).flip(0) + 1
    groups = evaluation.thirds(counts)
    assert tuple(groups.count(name) for name in ("head", "mid", "tail")) == sizes
    assert groups[0] == "head"
    assert groups[-1] == "tail"


def test_equal_sizes_leave_the_later_class_behind():
    assert evaluation.thirds([5, 5, 5]) == ["head", "mid", "tail"]


def test_knn_is_scikit_learns():
    from sklearn.neighbors import KNeighborsClassifier

    gallery, of_gallery = blobs([40, 15, 5, 3], seed=0, spread=2.0)
    x, labels = blobs([10, 10, 10, 10], seed=1, spread=2.0)
    found = evaluation.knn(gallery, of_gallery, x, labels, ks=(1, 10), bootstrap=0, tile=7)
    told = evaluation.knn_predict(gallery, of_gallery, x, (1, 10), tile=7)
    unit = [torch.nn.functional.normalize(v, dim=1).numpy() for v in (gallery, x)]
    for k in (1, 10):
        predicted = KNeighborsClassifier(k).fit(unit[0], of_gallery.numpy()).predict(unit[1])
        assert told[k].tolist() == predicted.tolist()
        right = predicted == labels.numpy()
        by_class = [right[labels.numpy() == c].mean() for c in range(4)]
        assert found[f"knn@{k}/class_mean"] == pytest.approx(np.mean(by_class))
        assert 0.3 < found[f"knn@{k}"] < 1


def test_a_tie_of_votes_goes_to_the_lowest_class():
    gallery = torch.tensor([[1.0, 0.1], [1.0, -0.1]])
    found = evaluation.knn(gallery, [1, 0], [[1.0, 0.0]], [0], ks=(2,), bootstrap=0)
    assert found["knn@2"] == 1.0


def test_few_shot_is_balanced_and_repeats():
    labels = torch.tensor([0] * 9 + [1] * 4 + [2] * 6)
    chosen = evaluation.few_shot(labels)
    assert torch.bincount(labels[chosen]).tolist() == [4, 4, 4]
    assert torch.equal(chosen, evaluation.few_shot(labels))
    assert not torch.equal(chosen, evaluation.few_shot(labels, seed=1))
    with pytest.raises(ValueError, match=r"within 1\.\.4"):
        evaluation.few_shot(labels, 5)


@pytest.mark.parametrize("probe", ["svm_probe", "sgd_probe"])
def test_probes_find_separable_classes_and_no_others(probe):
    train, of_train = blobs([60, 30, 10], seed=0, spread=0.2)
    x, labels = blobs([20, 20, 20], seed=1, spread=0.2)
    found = getattr(evaluation, probe)(train, of_train, x, labels, bootstrap=0)
    name = "svm" if probe == "svm_probe" else "linear"
    assert found[name] > 0.9
    wrong = of_train[torch.randperm(100, generator=torch.Generator().manual_seed(3))]
    chance = getattr(evaluation, probe)(train, wrong, x, labels, bootstrap=0)
    assert chance[name] < 0.6


def test_svm_probe_is_scikit_learns():
    from sklearn.svm import LinearSVC

    train, of_train = blobs([30, 12, 6], seed=0)
    x, labels = blobs([10, 10, 10], seed=1)
    unit = [torch.nn.functional.normalize(v, dim=1).numpy() for v in (train, x)]
    machine = LinearSVC(random_state=42).fit(unit[0], of_train.numpy())
    expected = (machine.predict(unit[1]) == labels.numpy()).mean()
    assert evaluation.svm_probe(train, of_train, x, labels)["svm"] == pytest.approx(expected)
    told = evaluation.svm_predict(train, of_train, x)
    assert told.tolist() == machine.predict(unit[1]).tolist()


def test_sgd_predictions_are_those_the_probe_is_scored_by():
    train, of_train = blobs([30, 12, 6], seed=0, spread=2.0)
    x, labels = blobs([10, 10, 10, 10], seed=1, spread=2.0)
    steps = {"epochs": 3, "milestones": (2,), "lr": 3.0, "seed": 4, "batch_size": 7}
    found = evaluation.sgd_probe(train, of_train, x, labels, bootstrap=0, **steps)
    told = evaluation.sgd_predict(train, of_train, x, least=4, **steps)
    assert told.shape == labels.shape
    assert found["linear"] == pytest.approx(float((told == labels).double().mean()))
    assert 0.2 < found["linear"] < 0.9
    other = evaluation.sgd_predict(train, of_train, x, least=4, **steps | {"seed": 5})
    assert not torch.equal(told, other)


def test_zero_shot_by_hand():
    named = torch.eye(3)
    x = torch.tensor([[0.9, 0.5, 0.0], [0.4, 0.6, 0.5], [1.0, 1.0, 0.0]])
    assert "top@1" in evaluation.zero_shot(x, [0, 0, 1], named, bootstrap=0)
    found = evaluation.zero_shot(x, [0, 0, 1], named, ks=(1, 2, 3), bootstrap=0)
    assert [found[f"top@{k}"] for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_class_embeddings_average_directions_of_prompts():
    seen = []

    def encode(texts):
        seen.extend(texts)
        return torch.tensor([[2.0, 0.0], [0.0, 5.0]] * (len(texts) // 2))

    vectors = evaluation.class_embeddings(encode, ["cat", "dog"], ["a {}", "the {}"])
    assert seen == ["a cat", "the cat", "a dog", "the dog"]
    assert vectors == pytest.approx(torch.full((2, 2), 0.5**0.5))


def test_what_does_not_fit_is_refused():
    x = torch.randn(4, 3)
    with pytest.raises(ValueError, match=r"integers up to 4, at least one, not \[5\]"):
        evaluation.knn(x, [0, 1, 0, 1], x, [0, 1, 0, 1], ks=(5,))
    with pytest.raises(ValueError, match="width 3 but x has width 2"):
        evaluation.knn(x, [0, 1, 0, 1], x[:, :2], [0, 1, 0, 1])
    with pytest.raises(ValueError, match="1 values that are not finite"):
        evaluation.knn(x.masked_fill(torch.eye(4, 3).bool() & (x < 9), 0), [0] * 4, bad(x), [0] * 4)
    with pytest.raises(ValueError, match="labels of shape"):
        evaluation.sgd_probe(x, [0, 1], x, [0, 1, 0, 1])
    with pytest.raises(ValueError, match="templates"):
        evaluation.class_embeddings(lambda texts: x, ["cat"], ["no place"])
    outside = r"labels name the classes 5, 7, .* has 4 rows, classes 0..3: give one row for each"
    with pytest.raises(ValueError, match=outside):
        evaluation.zero_shot(x, [0, 5, 7, 7], x)
    with pytest.raises(ValueError, match="x has width 3 but class_vectors has width 2"):
        evaluation.zero_shot(x, [0, 1, 2, 3], x[:, :2])
    with pytest.raises(ValueError, match=r"integers up to 4, at least one, not \[9\]"):
        evaluation.zero_shot(x, [0, 1, 2, 3], x, ks=(9,))
    with pytest.raises(ValueError, match="2 groups"):
        evaluation.accuracy([1, 0], [0, 3], ["head", "tail"])


def bad(x):
    x = x.clone()
    x[0, 0] = float("nan")
    return x


def test_accuracy_is_exact_to_float64():
    assert evaluation.accuracy([True] * 3, [0, 1, 2], bootstrap=0)["accuracy"] == pytest.approx(
        1, abs=1e-15
    )
    right = [1] * 54 + [0] * 146
    found = evaluation.accuracy(right, [i % 7 for i in range(200)], bootstrap=0)
    assert found["accuracy"] == pytest.approx(54 / 200, abs=1e-15)


def test_a_group_without_a_right_sample_has_an_interval():
    """Two classes of 10 with equal weight: as 20 samples, of which none is right."""
    right, labels = [1] * 20 + [0] * 20, [0] * 10 + [1] * 10 + [2] * 10 + [3] * 10
    found = evaluation.accuracy(right, labels, ["head", "head", "tail", "tail"], bootstrap=50)
    z2 = 1.959964**2
    assert found["accuracy/class_mean/tail/low"] == 0
    assert found["accuracy/class_mean/tail/high"] == pytest.approx(z2 / (20 + z2))
    assert found["accuracy/class_mean/head/low"] == pytest.approx(20 / (20 + z2))
    assert found["accuracy/class_mean/head/high"] == 1
