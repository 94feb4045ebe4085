import json
import logging
import pickle

import pyarrow.parquet as pq
import pytest
import torch
from torch import distributed

import tauten as tt
from tauten.data import PairStream, ShardPairs, class_counts, images, index_shards, load_pairs
from tauten.data.streaming import _Batches


@pytest.fixture
def pairs(shards, tmp_path):
    return ShardPairs(index_shards(shards, tmp_path / "found.jsonl"), image_size=8)


@pytest.fixture
def rows(table, tmp_path):
    return ShardPairs(index_shards(table, tmp_path / "found.jsonl"), image_size=8)


@pytest.fixture
def damaged(tmp_path, members, write_tar):
    """20 samples in two tars; those at 2, 3 and 11 cannot be used."""
    samples = [dict(sample) for sample in members[:20]]
    for i, extension, content in ((2, ".png", b""), (3, ".json", b"{"), (11, ".png", b"x")):
        name = next(name for name in samples[i] if name.endswith(extension))
        samples[i][name] = content
    paths = [
        write_tar(tmp_path / "one.tar", samples[:8]),
        write_tar(tmp_path / "two.tar", samples[8:]),
    ]
    return ShardPairs(index_shards(paths, tmp_path / "found.jsonl"), image_size=8)


SMALL = {"buffer": 12, "run": 3, "seed": 1}


def stream(pairs, batch_size=6, **settings):
    return PairStream(pairs, batch_size=batch_size, **(SMALL | settings))


def ids(batches):
    return [batch["index"].tolist() for batch in batches]


def flat(batches):
    return [i for batch in batches for i in batch["index"].tolist()]


def assert_same(mine, other):
    assert len(mine) == len(other)
    for a, b in zip(mine, other, strict=True):
        assert list(a) == list(b)
        for name in a:
            if isinstance(a[name], torch.Tensor):
                assert torch.equal(a[name], b[name])
            else:
                assert a[name] == b[name]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_is_each_sample_once_in_the_order_of_seed_and_epoch(pairs, workers):
    found = stream(pairs, workers=workers)
    whole = pairs.batch(range(40))[0]
    for epoch in (0, 1):
        assert found.epoch == epoch
        batches = list(found)
        assert [len(batch["index"]) for batch in batches] == [6] * 6 + [4]
        assert flat(batches) == found.order(epoch).ids(0, 40).tolist()
        assert sorted(flat(batches)) == list(range(40))
        for batch in batches:
            assert torch.equal(batch["image"], whole["image"][batch["index"]])
            assert batch["caption"] == [whole["caption"][i] for i in batch["index"]]
    assert found.order(0).ids(0, 40).tolist() != found.order(1).ids(0, 40).tolist()


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_ranks_share_the_epoch_and_give_as_many_batches(pairs, world_size, drop_last):
    ranks = [
        stream(pairs, batch_size=4, rank=r, world_size=world_size, drop_last=drop_last)
        for r in range(world_size)
    ]
    found = [list(rank) for rank in ranks]
    assert {len(batches) for batches in found} == {len(ranks[0])}
    stretch = 4 * world_size
    together = [flat(part) for part in zip(*found, strict=True)]
    order = ranks[0].order(0).ids(0, 40).tolist()
    expected = [order[start : start + stretch] for start in range(0, 40, stretch)]
    if drop_last and len(expected[-1]) < stretch:
        del expected[-1]
    assert together == expected
    for part in zip(*found, strict=True):
        sizes = [len(batch["index"]) for batch in part]
        assert max(sizes) - min(sizes) <= 1


def test_a_rank_may_have_no_row_in_the_last_batch(pairs):
    found = [list(stream(pairs, batch_size=13, rank=r, world_size=3)) for r in range(3)]
    assert [len(batches[-1]["index"]) for batches in found] == [0, 0, 1]
    empty = found[0][-1]
    assert empty["image"].shape == (0, 3, 8, 8)
    assert empty["caption"] == []


@pytest.mark.parametrize("kind", ["pairs", "rows", "damaged"])
def test_resumed_after_any_batch_the_rest_is_the_same(kind, request):
    source = request.getfixturevalue(kind)
    whole = stream(source)
    states, batches = [whole.state_dict()], []
    for _ in range(2):
        for batch in whole:
            batches.append(batch)
            states.append(whole.state_dict())
        skipped = whole.skipped
    for given, state in enumerate(states):
        resumed = stream(source)
        resumed.load_state_dict(json.loads(json.dumps(state)))
        rest = []
        while resumed.epoch < 2:
            rest += resumed
        assert_same(rest, batches[given:])
        if rest:
            assert resumed.skipped == skipped


def test_a_worker_that_gets_a_copy_makes_the_same_batches(pairs):
    found = stream(pairs)
    copy = pickle.loads(pickle.dumps(_Batches(found, found.order(0))))
    assert_same([copy[number][0] for number in range(7)], list(found))


@pytest.mark.parametrize("given", [0, 1, 5, 7])
def test_resumed_with_workers_the_rest_is_the_same(pairs, given):
    whole = list(stream(pairs))
    first = stream(pairs, workers=2)
    iterator = iter(first)
    assert_same([next(iterator) for _ in range(given)], whole[:given])
    resumed = stream(pairs, workers=1)
    resumed.load_state_dict(first.state_dict())
    assert resumed.position == min(40, 6 * given)
    assert resumed.remaining == 7 - given
    assert_same(list(resumed), whole[given:])


@pytest.mark.parametrize(("world_size", "batch_size"), [(1, 5), (2, 3), (3, 8), (1, 40)])
def test_another_number_of_ranks_takes_over(pairs, world_size, batch_size):
    ranks = [stream(pairs, batch_size=4, rank=r, world_size=2) for r in range(2)]
    iterators = [iter(rank) for rank in ranks]
    before = flat(next(iterator) for _ in range(2) for iterator in iterators)
    state = ranks[0].state_dict()
    assert state == ranks[1].state_dict()
    after = []
    for r in range(world_size):
        rank = stream(pairs, batch_size=batch_size, rank=r, world_size=world_size)
        rank.load_state_dict(state)
        after += flat(rank)
    assert len(before) == 16
    assert sorted(before + after) == list(range(40))


def test_an_iteration_that_is_left_goes_on(pairs):
    whole = list(stream(pairs))
    found = stream(pairs)
    first = []
    for batch in found:
        first.append(batch)
        if len(first) == 3:
            break
    assert (found.epoch, found.position, found.remaining) == (0, 18, 4)
    assert_same(first + list(found), whole)
    assert (found.epoch, found.position, len(found)) == (1, 0, 7)


def test_the_global_generator_is_left_alone(pairs):
    for workers in (0, 1):
        torch.manual_seed(0)
        expected = torch.get_rng_state()
        list(stream(pairs, workers=workers))
        assert torch.equal(torch.get_rng_state(), expected)


def test_samples_that_cannot_be_used_are_left_out_and_counted(damaged, caplog):
    found = stream(damaged, batch_size=4)
    order = found.order(0).ids(0, 20).tolist()
    with caplog.at_level(logging.WARNING):
        batches = list(found)
    expected = [
        [i for i in order[start : start + 4] if i not in (2, 3, 11)] for start in range(0, 20, 4)
    ]
    assert ids(batches) == expected
    assert found.skipped.count == 3
    assert found.skipped.kinds == {"unreadable image": 2, "unreadable .json": 1}
    wanted = [i for i in order if i in (2, 3, 11)]
    named = [
        {2: "one.tar, sample 2", 3: "one.tar, sample 3", 11: "two.tar, sample 3"}[i] for i in wanted
    ]
    assert all(n in text for n, text in zip(named, found.skipped.first, strict=True))
    assert "epoch 0: skipped 3 samples" in caplog.text
    list(found)
    assert found.skipped.count == 3


def test_a_state_is_not_changed_by_what_goes_on_from_it(damaged):
    first = stream(damaged, batch_size=4)
    next(iter(first))
    state = first.state_dict()
    before = json.dumps(state)
    for _ in range(2):
        resumed = stream(damaged, batch_size=4)
        resumed.load_state_dict(state)
        list(resumed)
    assert json.dumps(state) == before


def test_skipped_samples_are_counted_as_batches_are_given(damaged):
    found = stream(damaged, batch_size=1, shuffle=False, workers=2)
    counts = []
    for _ in found:
        counts.append(found.skipped.count)
    assert counts == [0] * 2 + [1] + [2] * 8 + [3] * 9


def test_ten_problems_are_named(tmp_path, members, write_tar):
    broken = [{name: b"" for name in sample} for sample in members[:15]]
    path = write_tar(tmp_path / "x.tar", [*broken, *members[15:16]])
    pairs = ShardPairs(index_shards(path, tmp_path / "x.jsonl"), image_size=8)
    found = stream(pairs, batch_size=4)
    assert flat(found) == [15]
    assert found.skipped.count == 15
    assert len(found.skipped.first) == 10


def test_strict_ends_at_the_first(damaged):
    found = stream(damaged, shuffle=False, strict=True)
    with pytest.raises(ValueError, match=r"one\.tar, sample 2 .*: unreadable image"):
        list(found)
    assert found.position == 0


def test_data_without_a_usable_sample_are_refused_at_once(shards, tmp_path):
    pairs = ShardPairs(index_shards(shards, tmp_path / "found.jsonl"), caption="text")
    with pytest.raises(ValueError, match=r"none of 8 samples .* can be used; first: .* no caption"):
        stream(pairs)


def test_a_state_of_other_data_or_another_order_is_refused(pairs, damaged):
    state = stream(pairs).state_dict()
    with pytest.raises(ValueError, match="of other data: 40 samples, .*; these are 20"):
        stream(damaged).load_state_dict(state)
    for setting in ({"seed": 2}, {"buffer": 13}, {"run": 4}, {"shuffle": False}):
        with pytest.raises(ValueError, match="of another order"):
            stream(pairs, **setting).load_state_dict(state)
    with pytest.raises(ValueError, match="no state of a PairStream: it has no epoch, .*skipped"):
        stream(pairs).load_state_dict({"samples": 40})


def test_what_is_refused(pairs, rows):
    for source, settings, message in (
        (pairs, {"batch_size": 0}, "got 0 and 0"),
        (pairs, {"workers": -1}, "got 6 and -1"),
        (pairs, {"rank": 0}, "belong together"),
        (pairs, {"rank": 2, "world_size": 2}, "rank 2 is not one of 2"),
        (pairs, {"batch_size": 41, "drop_last": True}, "40 samples are fewer than one batch"),
        (rows, {"buffer": 6}, "a row group has 7 rows"),
    ):
        with pytest.raises(ValueError, match=message):
            stream(source, **settings)


def test_ranks_that_stream_different_things_are_refused(pairs, monkeypatch):
    def gather(states, mine):
        states[:] = [mine, mine | {"position": 6}]

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_gather_object", gather)
    found = stream(pairs)
    assert (found.rank, found.world_size) == (1, 2)
    with pytest.raises(ValueError, match="position is 0 on rank 0 and 6 on rank 1"):
        next(iter(found))


def test_parquet_holds_one_window_at_most_and_reads_a_group_once(rows, monkeypatch):
    read, held = [], []
    whole = pq.ParquetFile.read_row_group

    def record(self, number, **settings):
        read.append(number)
        return whole(self, number, **settings)

    found = stream(rows, batch_size=3, buffer=15)
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", record)
    for _ in found:
        held.append(sum(map(len, found.pairs._files._groups.values())))
    assert max(held) <= 15
    assert sorted(read) == [0, 1, 2, 3, 4, 5]
    assert rows.held == 8192


def test_controls_and_tables_of_the_streamed_ids(pairs):
    counts = class_counts(pairs.column("label"))
    loss_fn = tt.InfoNCE(tt.ClusterShift(counts, 0.05, 0.09))
    table = tt.SampleTable(len(pairs), {"loss": 0.0})
    for batch in stream(pairs):
        x = batch["image"].flatten(1).float()
        loss = loss_fn(x, x.flip(1), batch["index"])
        table.write(batch["index"], {"loss": loss.detach().expand(len(x))})
    assert table.visits.tolist() == [1] * 40


@pytest.mark.parametrize("name", ["emoji_lt-val.tar", "caltech98_lt-test.tar"])
def test_real_shards(shared_data, tmp_path, name):
    path = shared_data / name
    found = index_shards(path, tmp_path / "found.jsonl", progress=False)
    # caltech98_lt has classes and no captions
    caption = "caption" if name.startswith("emoji") else "cls"
    pairs = ShardPairs(found, image_size=32, caption=caption)
    whole = load_pairs(path, caption=caption)
    pixels, captions = images(whole, 32), whole["caption"][:]
    first = PairStream(pairs, batch_size=100, buffer=300, run=50)
    seen = []
    for batch in first:
        seen.append(batch)
        if len(seen) == 4:
            break
    rest = PairStream(pairs, batch_size=100, buffer=300, run=50, workers=2)
    rest.load_state_dict(first.state_dict())
    seen += rest
    assert sorted(flat(seen)) == list(range(len(whole)))
    assert flat(seen) == first.order(0).ids(0, len(whole)).tolist()
    for batch in seen:
        assert torch.equal(batch["image"], pixels[batch["index"]])
        assert batch["caption"] == [captions[i] for i in batch["index"]]
