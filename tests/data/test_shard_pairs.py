import io
import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

from tauten.data import ShardPairs, UnusableSampleError, images, index_shards, load_pairs


@pytest.fixture
def indexed(tmp_path):
    return lambda paths: index_shards(paths, tmp_path / "found.jsonl")


@pytest.mark.parametrize("size", [16, (20, 24)])
def test_samples_of_tars_are_those_of_load_pairs(shards, tmp_path, indexed, size):
    whole = load_pairs(str(tmp_path / "*.tar"))
    pixels = images(whole, size)
    pairs = ShardPairs(indexed(shards), image_size=size)
    assert len(pairs) == len(whole) == 40
    ids = [39, 0, 17, 5, 16, 20]
    batch, problems = pairs.batch(ids)
    assert problems == []
    assert batch["index"].tolist() == ids
    assert torch.equal(batch["image"], pixels[ids])
    rows = whole.select(ids)
    for name in ("caption", "label", "id"):
        assert batch[name] == rows[name][:]
    assert set(batch) == set(whole.column_names)
    for place, index in enumerate(ids):
        one = pairs[index]
        assert one["index"] == index
        assert torch.equal(one["image"], batch["image"][place])
        assert one["caption"] == batch["caption"][place]


def test_samples_of_parquet_are_those_of_load_pairs(table, indexed):
    whole = load_pairs(table)
    pairs = ShardPairs(indexed(table), image_size=32)
    batch, problems = pairs.batch(range(40))
    assert problems == []
    assert torch.equal(batch["image"], images(whole))
    assert {n: batch[n] for n in ("caption", "label", "keywords")} == whole.select_columns(
        ["caption", "label", "keywords"]
    )[:]
    few, _ = ShardPairs(indexed(table), columns=["label"]).batch([3])
    assert sorted(few) == ["caption", "image", "index", "label"]


def test_bytes_are_the_file_s(shards, members, indexed):
    batch, _ = ShardPairs(indexed(shards)).batch([18, 2])
    assert batch["image"] == [
        content for i in (18, 2) for name, content in members[i].items() if name.endswith(".png")
    ]


def test_a_first_side_that_is_no_picture(tmp_path, write_tar, indexed):
    def npy(values):
        content = io.BytesIO()
        np.save(content, np.array(values))
        return content.getvalue()

    samples = [{f"{n}.npy": npy([n, n + 1]), f"{n}.txt": b"t"} for n in range(3)]
    samples[1]["1.npy"] = b"no array"
    pairs = ShardPairs(indexed(write_tar(tmp_path / "x.tar", samples)), image="npy", media="raw")
    batch, problems = pairs.batch([0, 1, 2])
    assert batch["image"] == [[0, 1], [2, 3]]
    assert batch["index"].tolist() == [0, 2]
    assert [problem.kind for problem in problems] == ["unreadable .npy"]


@pytest.fixture
def damaged(tmp_path, members, write_tar):
    """Ten samples of which those at 1 to 7 cannot be used."""
    samples = [dict(sample) for sample in members[:10]]

    def replace(i, extension, content=None):
        name = next(name for name in samples[i] if name.endswith(extension))
        if content is None:
            del samples[i][name]
        else:
            samples[i][name] = content

    picture = next(iter(samples[1].values()))
    replace(1, ".png", picture[: len(picture) // 2])
    replace(2, ".png", b"not a picture")
    replace(3, ".json", b"{")
    replace(4, ".txt")
    replace(5, ".txt", b"  ")
    replace(6, ".png")
    samples[7]["two.png"], samples[7]["two.jpg"] = picture, picture
    samples[7]["two.txt"] = b"t"
    samples[7] = {name: c for name, c in samples[7].items() if name.startswith("two")}
    return write_tar(tmp_path / "damaged.tar", samples)


def test_samples_that_cannot_be_used_are_named(damaged, indexed):
    for size in (None, 16):
        pairs = ShardPairs(indexed(damaged), image_size=size)
        batch, problems = pairs.batch(range(10))
        assert batch["index"].tolist() == [0, 8, 9]
        assert len(batch["image"]) == len(batch["caption"]) == 3
        assert [problem.kind for problem in problems] == [
            "unreadable image",
            "unreadable image",
            "unreadable .json",
            "no caption",
            "no caption",
            "no image",
            "several images",
        ]
        with pytest.raises(UnusableSampleError, match=r"damaged\.tar, sample 3 \(.*json: "):
            pairs[3]
        assert pairs[9]["index"] == 9
    empty, _ = pairs.batch([1, 2])
    assert empty["image"].shape == (0, 3, 16, 16)
    assert empty["index"].shape == (0,)
    assert empty["index"].dtype == torch.int64
    assert empty["caption"] == []


def test_a_column_of_all_samples(shards, table, damaged, emoji, indexed):
    labels, captions = emoji["label"][:], emoji["caption"][:]
    for found in (indexed(shards), indexed(table)):
        pairs = ShardPairs(found)
        assert pairs.column("label") == labels
        assert pairs.column("caption") == captions
    pairs = ShardPairs(indexed(damaged))
    assert pairs.column("label", missing="?") == [
        *labels[:3],
        "?",
        *labels[4:7],
        "?",
        *labels[8:10],
    ]
    without = [4, 5, 7]
    assert pairs.column("caption") == [
        None if i in without[:2] else "t" if i == 7 else captions[i] for i in range(10)
    ]
    with pytest.raises(ValueError, match="none of the 10 samples has a column 'verb'"):
        pairs.column("verb")
    with pytest.raises(ValueError, match="no column 'verb'; columns: image, caption, label"):
        ShardPairs(indexed(table)).column("verb")


def test_other_names_of_columns_and_pictures_beside_the_table(tmp_path, emoji, indexed):
    emoji[0]["image"].save(tmp_path / "0.png")
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"file_name": ["0.png", "gone.png"], "txt": ["a", "b"]}), path)
    batch, problems = ShardPairs(indexed(path), image_size=32).batch([0, 1])
    assert torch.equal(batch["image"], images(emoji.select([0])))
    assert batch["caption"] == ["a"]
    assert [str(problem) for problem in problems] == [
        f"{path}, row 1: unreadable image: no such file: {tmp_path / 'gone.png'}"
    ]
    named, _ = ShardPairs(indexed(path), caption="file_name", media="raw", image="txt").batch([1])
    assert (named["image"], named["caption"]) == (["b"], ["gone.png"])
    for name in ("image", "caption"):
        with pytest.raises(ValueError, match="no column 'z'; columns: file_name, txt"):
            ShardPairs(indexed(path), **{name: "z"})[0]


def test_rows_in_memory_are_bounded_and_groups_read_once(table, indexed, monkeypatch):
    read, most = [], []
    pairs = ShardPairs(indexed(table), held=15)
    whole = pq.ParquetFile.read_row_group

    def record(self, number, **settings):
        read.append(number)
        return whole(self, number, **settings)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", record)
    for start in (0, 7, 14, 21, 28, 35):
        for index in (start, start + 4, start + 1):
            pairs[index]
            most.append(sum(map(len, pairs._files._groups.values())))
    assert read == [0, 1, 2, 3, 4, 5]
    assert max(most) <= 15
    assert pairs[0]["index"] == 0
    assert read[-1] == 0


def test_a_damaged_row_group_costs_its_rows_only(table, tmp_path, indexed):
    footer = pq.ParquetFile(table).metadata
    content = bytearray(table.read_bytes())
    start = footer.row_group(1).column(0).data_page_offset
    content[start : start + 40] = bytes(40)
    path = tmp_path / "damaged.parquet"
    path.write_bytes(content)
    batch, problems = ShardPairs(indexed(path)).batch(range(40))
    assert batch["index"].tolist() == [*range(7), *range(14, 40)]
    assert {problem.kind for problem in problems} == {"unreadable row group"}


def test_open_files_are_few(tmp_path, members, write_tar, indexed, monkeypatch):
    monkeypatch.setattr("tauten.data.shard_files._OPEN", 2)
    paths = [write_tar(tmp_path / f"{n}.tar", [members[n]]) for n in range(5)]
    pairs = ShardPairs(indexed(paths))
    for index in (0, 1, 2, 3, 4, 0):
        assert pairs[index]["index"] == index
        assert len(pairs._files._open) <= 2


def test_a_copy_for_a_worker_has_no_open_files(shards, table, indexed):
    pairs = ShardPairs(indexed([*shards, table]), image_size=8)
    first = pairs[0], pairs[40]
    copy = pickle.loads(pickle.dumps(pairs))
    assert not copy._files._open
    for mine, other in zip((copy[0], copy[40]), first, strict=True):
        assert torch.equal(mine["image"], other["image"])


def test_a_data_set_for_torch(shards, indexed):
    pairs = ShardPairs(indexed(shards), image_size=8, columns=["label"])
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0)).tolist()
    batches = list(DataLoader(pairs, batch_size=16, sampler=order))
    assert torch.cat([batch["index"] for batch in batches]).tolist() == order
    assert batches[0]["image"].shape == (16, 3, 8, 8)


def test_what_is_refused(shards, indexed):
    found = indexed(shards)
    for settings, message in (
        ({"image_size": 0}, "at least 1 pixel, got 0"),
        ({"image_size": (4, 0)}, r"at least 1 pixel, got \(4, 0\)"),
        ({"held": 0}, "at least 1 row, got 0"),
        ({"columns": ["label", "caption"]}, "'caption' is always there"),
    ):
        with pytest.raises(ValueError, match=message):
            ShardPairs(found, **settings)


def test_captions_may_be_lists(tmp_path, members, write_tar, indexed):
    samples = [dict(sample) for sample in members[:2]]
    for sample in samples:
        name = next(name for name in sample if name.endswith(".json"))
        sample[name] = json.dumps({"caption": ["a", "", "b"]}).encode()
        del sample[name.replace(".json", ".txt")]
    batch, _ = ShardPairs(indexed(write_tar(tmp_path / "x.tar", samples))).batch([0, 1])
    assert batch["caption"] == [["a", "b"]] * 2
