import itertools
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tauten.data.catalogue import Catalogue, Shard
from tauten.data.epoch_order import EpochOrder


def catalogue(*shards: int | list[int]) -> Catalogue:
    """Tars of so many samples, parquet files of row groups of so many."""
    found = []
    for number, content in enumerate(shards):
        if isinstance(content, int):
            path, bounds = f"{number}.tar", 1024 * np.arange(content + 1)
        else:
            path, bounds = f"{number}.parquet", np.cumsum([0, *content])
        found.append(Shard(Path(path), 0, 0, bounds, str(number)))
    return Catalogue(found)


EXPECTED = [1, 7, 8, 9, 0, 10, 11, 4, 2, 5, 6, 3]
SETS = [(1,), (10,), (3, 0, 17), (5, [2, 0, 4], 9), ([1, 4, 4], [3]), (40, 23, 37)]


@pytest.mark.parametrize("shards", SETS)
@pytest.mark.parametrize(("run", "buffer"), [(1, 1), (1, 7), (4, 4), (4, 11), (16, 100)])
def test_each_sample_once_and_runs_whole_in_a_window(shards, run, buffer):
    buffer = max(buffer, 4)
    found = catalogue(*shards)
    order = EpochOrder(found, seed=3, epoch=2, buffer=buffer, run=run)
    ids = order.ids(0, len(order)).tolist()
    assert sorted(ids) == list(range(len(found)))

    expected_runs, first = [], 0
    for shard in shards:
        sizes = shard if isinstance(shard, list) else [run] * (shard // run) + [shard % run]
        for size in sizes:
            expected_runs += [set(range(first, first + size))] * (size > 0)
            first += size
    bounds = order.bounds.tolist()
    for start, stop in itertools.pairwise(bounds):
        window = set(ids[start:stop])
        assert 0 < len(window) <= buffer
        assert window == set().union(*(part for part in expected_runs if part & window))


def test_any_stretch_is_the_whole_order_cut():
    order = EpochOrder(catalogue(11, [3, 2], 7), seed=0, epoch=0, buffer=6, run=2)
    whole = EpochOrder(catalogue(11, [3, 2], 7), seed=0, epoch=0, buffer=6, run=2).ids(0, 23)
    stretches = [(a, b) for a in range(24) for b in range(a, 24)]
    for a, b in [*stretches, *reversed(stretches)]:
        assert np.array_equal(order.ids(a, b), whole[a:b])


def test_the_order_is_the_same_on_every_machine():
    order = EpochOrder(catalogue(7, 5), seed=12, epoch=3, buffer=6, run=2)
    assert order.ids(0, 12).tolist() == EXPECTED
    again = pickle.loads(pickle.dumps(order))
    assert again.ids(0, 12).tolist() == EXPECTED


def test_the_order_by_its_definition():
    seed, epoch = 5, 1
    runs = [[0, 1, 2], [3, 4, 5], [6], [7, 8, 9], [10, 11]]

    def shuffled(items, purpose):
        keys = np.random.Philox(key=seed, counter=[0, purpose, epoch, 0]).random_raw(len(items))
        return [items[i] for i in sorted(range(len(items)), key=lambda i: keys[i])]

    windows: list[list[int]] = [[]]
    for run in shuffled(runs, 0):
        if len(windows[-1]) + len(run) > 5:
            windows.append([])
        windows[-1] += run
    expected = [i for n, window in enumerate(windows, 1) for i in shuffled(window, n)]
    order = EpochOrder(catalogue(7, 5), seed=seed, epoch=epoch, buffer=5, run=3)
    assert order.ids(0, 12).tolist() == expected


def test_seeds_and_epochs_give_other_orders():
    found = catalogue(50)
    orders = [
        tuple(EpochOrder(found, seed=s, epoch=e, buffer=20, run=5).ids(0, 50).tolist())
        for s in range(4)
        for e in range(4)
    ]
    assert len(set(orders)) == 16


def test_single_samples_are_shuffled_evenly():
    firsts = Counter(
        int(EpochOrder(catalogue(4), seed=0, epoch=e, buffer=2, run=1).ids(0, 1)[0])
        for e in range(400)
    )
    assert all(70 < firsts[i] < 130 for i in range(4))


def test_without_shuffle_ids_come_in_order():
    order = EpochOrder(catalogue(7, [3, 2]), seed=0, epoch=4, buffer=4, run=2, shuffle=False)
    assert order.ids(0, 12).tolist() == list(range(12))
    assert order.ids(5, 9).tolist() == [5, 6, 7, 8]


def test_what_is_refused():
    found = catalogue(7, [3, 5])
    for settings, message in (
        ({"seed": -1}, "at least 0, got -1 and 0"),
        ({"epoch": -1}, "at least 0, got 0 and -1"),
        ({"run": 0}, "got run = 0"),
        ({"run": 9, "buffer": 8}, "got run = 9, buffer = 8"),
        ({"buffer": 4}, "a row group has 5 rows, more than the buffer of 4"),
    ):
        with pytest.raises(ValueError, match=message):
            EpochOrder(found, **({"seed": 0, "epoch": 0, "buffer": 8, "run": 2} | settings))
