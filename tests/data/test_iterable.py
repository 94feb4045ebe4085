import logging

import pytest
from datasets.distributed import split_dataset_by_node

from tauten.data import PairStream, ShardPairs, images, index_shards


@pytest.fixture
def stream(shards, table, tmp_path):
    found = index_shards([*shards, table], tmp_path / "found.jsonl")
    pairs = ShardPairs(found, image_size=8, columns=["label"])
    return PairStream(pairs, batch_size=8, seed=2, buffer=12, run=3)


@pytest.mark.parametrize("epoch", [0, 3])
def test_the_samples_come_in_the_order_of_the_stream(stream, emoji, epoch):
    rows = list(stream.as_dataset(epoch))
    assert [row["index"] for row in rows] == stream.order(epoch).ids(0, 80).tolist()
    for row in rows:
        source = emoji[row["index"] % 40]
        assert (row["caption"], row["label"]) == (source["caption"], source["label"])
        assert row["image"].tobytes() == source["image"].tobytes()


@pytest.mark.parametrize("given", [0, 5, 12, 40, 80])
def test_its_own_state_resumes_it(stream, given):
    whole = [row["index"] for row in stream.as_dataset()]
    first = stream.as_dataset()
    before = [row["index"] for _, row in zip(range(given), first, strict=False)]
    resumed = stream.as_dataset()
    resumed.load_state_dict(first.state_dict())
    assert before + [row["index"] for row in resumed] == whole


def test_nodes_share_it(stream):
    nodes = [split_dataset_by_node(stream.as_dataset(), rank, 3) for rank in range(3)]
    found = [row["index"] for node in nodes for row in node]
    assert sorted(found) == list(range(80))


def test_unusable_samples_are_left_out_with_a_word(tmp_path, members, write_tar, caplog):
    samples = [dict(sample) for sample in members[:3]]
    samples[1] = dict.fromkeys(samples[1], b"")
    path = write_tar(tmp_path / "x.tar", samples)
    pairs = ShardPairs(index_shards(path, tmp_path / "x.jsonl"))
    with caplog.at_level(logging.WARNING):
        found = list(PairStream(pairs, batch_size=2, shuffle=False).as_dataset())
    assert [row["index"] for row in found] == [0, 2]
    assert "skipped" in caplog.text
    assert "sample 1" in caplog.text


def test_types_must_be_known(tmp_path, members, write_tar):
    pairs = ShardPairs(
        index_shards(write_tar(tmp_path / "x.tar", members), tmp_path / "x.jsonl"),
        columns=["label", "verb"],
    )
    with pytest.raises(ValueError, match="has no value in verb: name the columns"):
        PairStream(pairs, batch_size=2).as_dataset()


def test_pictures_are_decoded_by_datasets(shards, tmp_path, emoji):
    pairs = ShardPairs(index_shards(shards, tmp_path / "x.jsonl"), columns=[])
    (row,) = PairStream(pairs, batch_size=2, shuffle=False).as_dataset().skip(6).take(1)
    assert sorted(row) == ["caption", "image", "index"]
    assert images(emoji.select([6]))[0].permute(1, 2, 0).numpy().tobytes() == row["image"].tobytes()
