from collections import Counter

import numpy as np
import pytest

from tauten.data import emoji_lt
from tauten.data.long_tail import (
    balanced,
    exponential_counts,
    long_tailed,
    pareto_counts,
    read_indices,
)

PUBLISHED = [
    (4500, 10, 11_165, [4500, 2697, 1617, 969, 581, 348, 208, 125, 75, 45]),
    (450, 100, 9_754, None),
    (5000, 10, 12_406, None),
    (500, 100, 10_847, None),
]


@pytest.mark.parametrize(("largest", "classes", "total", "sizes"), PUBLISHED)
def test_sizes_of_the_published_splits(largest, classes, total, sizes):
    counts = exponential_counts(largest, classes)
    assert sum(counts) == total
    assert counts == [int(largest * 0.01 ** (k / (classes - 1))) for k in range(classes)]
    assert sizes is None or counts == sizes


def test_exponential_sizes_of_ratio_one_are_equal():
    assert exponential_counts(7, 3, ratio=1) == [7, 7, 7]


@pytest.mark.parametrize("values", [(0, 10, 100), (5000, 1, 100), (5000, 10, 0.5), (50, 10, 100)])
def test_impossible_exponential_sizes_are_refused(values):
    with pytest.raises(ValueError, match=r"need largest|would be empty"):
        exponential_counts(*values)


def test_pareto_sizes_follow_their_quantiles_between_the_ends():
    counts = pareto_counts(1280, 5, 1000)
    assert (counts[0], counts[-1]) == (1280, 5)
    assert counts == sorted(counts, reverse=True)
    q = [((k + 0.5) / 1000) ** (-1 / 6) for k in range(1000)]
    literal = [5 + 1275 * (x - q[-1]) / (q[0] - q[-1]) for x in q]
    assert counts == [round(x) for x in literal]
    heavier = pareto_counts(1280, 5, 1000, power=1)
    assert sum(heavier) < sum(counts), "more of the samples are in the head"


@pytest.mark.parametrize(
    "values", [(5, 10, 3, 6.0), (10, 0, 3, 6.0), (10, 5, 1, 6.0), (9, 5, 3, 0)]
)
def test_impossible_pareto_sizes_are_refused(values):
    with pytest.raises(ValueError, match="need 1 <= smallest <= largest"):
        pareto_counts(*values)


def test_a_subset_has_exactly_the_sizes_and_repeats_with_the_seed():
    labels = np.arange(300) % 3
    chosen = long_tailed(labels, [50, 20, 5], seed=4)
    assert Counter(labels[chosen].tolist()) == {0: 50, 1: 20, 2: 5}
    assert len(set(chosen.tolist())) == 75
    assert np.array_equal(chosen, long_tailed(labels, [50, 20, 5], seed=4))
    assert not np.array_equal(chosen, long_tailed(labels, [50, 20, 5], seed=5))


def test_classes_may_take_the_sizes_in_random_order():
    labels = np.arange(300) % 3
    heads = {
        Counter(labels[long_tailed(labels, [50, 20, 5], seed=s, shuffle_classes=True)].tolist())
        .most_common(1)[0][0]
        for s in range(12)
    }  # fmt: skip
    assert heads == {0, 1, 2}


def test_labels_need_not_count_from_zero():
    labels = [7, 3, 7, 3, 7]
    chosen = long_tailed(labels, [1, 2])
    assert sorted(labels[i] for i in chosen) == [3, 7, 7]


def test_a_real_long_tail_is_made_longer():
    train = emoji_lt("train")
    names = sorted(set(train["group"]))
    labels = np.array([names.index(name) for name in train["group"]])
    sizes = np.bincount(labels)
    counts = exponential_counts(int(sizes.min()), len(names), ratio=10)
    assert np.bincount(labels[long_tailed(labels, counts)]).tolist() == counts


def test_balanced_draws_the_same_of_each():
    labels = np.array([0] * 9 + [1] * 4 + [2] * 30)
    assert np.bincount(labels[balanced(labels, 4)]).tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([5, 5], "2 counts for 3 classes"),
        ([101, 5, 5], "class 0 has 100 samples, 101 were"),
        ([5, 5, -1], "class 2 has 100 samples, -1 were"),
    ],
)
def test_what_cannot_be_drawn_is_refused(counts, words):
    with pytest.raises(ValueError, match=words):
        long_tailed(np.arange(300) % 3, counts)


def test_published_positions_are_read_from_npy_and_text(tmp_path):
    np.save(tmp_path / "a.npy", np.array([5, 0, 3]))
    (tmp_path / "a.txt").write_text("5\n0 3\n")
    for name in ("a.npy", "a.txt"):
        assert read_indices(tmp_path / name, 6).tolist() == [5, 0, 3]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.array([0, 6]), r"1 positions outside 0\.\.5: \[6\]"),
        (np.array([-1, 2]), "outside"),
        (np.array([1, 1]), "1 positions appear twice"),
        (np.array([0.5]), "expected whole numbers"),
        (np.array([[1]]), "expected whole numbers"),
        (np.array([object()]), "is not a list of positions"),
    ],
)
def test_other_positions_are_refused(tmp_path, content, words):
    np.save(tmp_path / "a.npy", content, allow_pickle=True)
    with pytest.raises(ValueError, match=words):
        read_indices(tmp_path / "a.npy", 6)


def test_missing_and_broken_files_of_positions(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.npy"):
        read_indices(tmp_path / "a.npy", 6)
    (tmp_path / "a.txt").write_text("1 two")
    with pytest.raises(ValueError, match="not a list of positions"):
        read_indices(tmp_path / "a.txt", 6)
