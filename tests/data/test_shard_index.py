import gzip
import json
import logging
import shutil
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest

from tauten.data import ShardPairs, index_shards, shard_index
from tauten.data.shards import TruncatedShardError
from tauten.data.tar_index import member_name, read_members


@pytest.fixture
def scanned(monkeypatch):
    """Names of the shards that are read, in order."""
    names, scan = [], shard_index._scan

    def record(path):
        names.append(path.name)
        return scan(path)

    monkeypatch.setattr(shard_index, "_scan", record)
    return names


def test_ids_are_order_of_shards_and_place_in_the_shard(shards, members, tmp_path):
    found = index_shards(shards, tmp_path / "found.jsonl")
    assert len(found) == 40
    assert [len(shard) for shard in found.shards] == [17, 3, 20]
    assert found.locate(0) == (found.shards[0], 0)
    assert found.locate(16) == (found.shards[0], 16)
    assert found.locate(17) == (found.shards[1], 0)
    assert found.locate(39) == (found.shards[2], 19)
    for index in range(40):
        shard, position = found.locate(index)
        start, stop = shard.bounds[position : position + 2]
        key, content = read_members(shard.path.read_bytes()[start:stop])
        assert {f"{key}.{extension}": c for extension, c in content.items()} == members[index]
    for outside in (-1, 40):
        with pytest.raises(IndexError, match="ids run from 0 to 39"):
            found.locate(outside)


def test_a_folder_a_pattern_and_a_list_are_the_same_shards(shards, tmp_path):
    output = tmp_path / "lists" / "found.jsonl"
    ways = (tmp_path, str(tmp_path / "*.tar"), shards, [shards[0], tmp_path / "[bc].tar"])
    assert len({index_shards(way, output).fingerprint for way in ways}) == 1
    assert index_shards(shards[1], output).first.tolist() == [0, 3]


def test_row_groups_of_parquet(table, tmp_path):
    (shard,) = index_shards(table, tmp_path / "found.jsonl").shards
    assert shard.bounds.tolist() == [0, 7, 14, 21, 28, 35, 40]
    assert len(shard) == 40


def test_an_interrupted_index_goes_on(shards, tmp_path, scanned, monkeypatch):
    output = tmp_path / "found.jsonl"
    whole = index_shards(shards, tmp_path / "whole.jsonl")
    scanned.clear()
    recorded = shard_index._scan

    def interrupted(path):
        if path.name == "c.tar":
            raise KeyboardInterrupt
        return recorded(path)

    with monkeypatch.context() as patch:
        patch.setattr(shard_index, "_scan", interrupted)
        with pytest.raises(KeyboardInterrupt):
            index_shards(shards, output)
    assert scanned == ["a.tar", "b.tar"]
    resumed = index_shards(shards, output)
    assert scanned == ["a.tar", "b.tar", "c.tar"]
    assert resumed.fingerprint == whole.fingerprint
    for mine, other in zip(resumed.shards, whole.shards, strict=True):
        assert np.array_equal(mine.bounds, other.bounds)
    index_shards(shards, output)
    assert len(scanned) == 3


@pytest.mark.parametrize("kept", [3, 40, -1])
def test_a_line_cut_in_the_middle_is_made_again(shards, tmp_path, scanned, kept):
    output = tmp_path / "found.jsonl"
    first = index_shards(shards, output)
    lines = output.read_text().splitlines(keepends=True)
    output.write_text("".join(lines[:2]) + lines[2][:kept])
    scanned.clear()
    assert index_shards(shards, output).fingerprint == first.fingerprint
    assert scanned == (["c.tar"] if kept > 0 else [])
    scanned.clear()
    index_shards(shards, output)
    assert scanned == []


def test_a_changed_shard_is_read_again(shards, members, write_tar, tmp_path, scanned):
    output = tmp_path / "found.jsonl"
    before = index_shards(shards, output)
    pairs = ShardPairs(before)
    write_tar(shards[1], members[17:19])
    scanned.clear()
    after = index_shards(shards, output)
    assert scanned == ["b.tar"]
    assert len(after) == 39
    assert after.fingerprint != before.fingerprint
    with pytest.raises(ValueError, match=r"b\.tar has changed since it was indexed"):
        pairs[18]


def test_the_fingerprint_is_of_the_content(shards, members, write_tar, table, tmp_path):
    output = tmp_path / "found.jsonl"
    whole = index_shards([*shards, table], output).fingerprint
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    copies = [shutil.copy(path, elsewhere) for path in (*shards, table)]
    assert index_shards(copies, output).fingerprint == whole
    assert index_shards(copies[::-1], output).fingerprint != whole
    other = [dict(sample) for sample in members[17:20]]
    name = next(iter(other[2]))
    other[2][name] = other[2][name][::-1]
    write_tar(elsewhere / "b.tar", other)
    assert index_shards(copies, output).fingerprint != whole
    shutil.copy(shards[1], elsewhere)
    rows = pq.read_table(table).to_pylist()
    rows[0]["caption"], rows[1]["caption"] = rows[1]["caption"], rows[0]["caption"]
    assert index_shards(copies, output).fingerprint == whole


@pytest.mark.parametrize(
    ("kept", "samples"), [(None, 3), (15 * 512, 3), (3 * 512, 1), (8 * 512 + 10, 2)]
)
def test_a_cut_tar(members, write_tar, tmp_path, caplog, kept, samples):
    small = [{f"{n}.png": b"x" * 700, f"{n}.txt": b"t"} for n in range(3)]
    path = write_tar(tmp_path / "cut.tar", small)
    path.write_bytes(path.read_bytes()[:kept])
    output = tmp_path / "found.jsonl"
    if kept is None:
        assert len(index_shards(path, output)) == samples
        return
    for _ in range(2):
        with pytest.raises(TruncatedShardError, match=r"cut\.tar is truncated .* whole members in"):
            index_shards(path, output)
    with caplog.at_level(logging.WARNING):
        assert len(index_shards(path, output, allow_truncated=True)) == samples
    assert "using the whole members only" in caplog.text
    with pytest.raises(TruncatedShardError, match="allow_truncated=True"):
        index_shards(path, output)


def test_a_tar_without_a_whole_member_has_no_samples(tmp_path, write_tar):
    path = write_tar(tmp_path / "cut.tar", [{"1.png": b"x" * 700}])
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ValueError, match="no samples in 1 shards"):
        index_shards(path, tmp_path / "found.jsonl", allow_truncated=True)


def test_files_that_cannot_be_streamed(tmp_path, write_tar):
    output = tmp_path / "found.jsonl"
    good = write_tar(tmp_path / "good.tar", [{"1.txt": b"t"}])
    packed = tmp_path / "packed.tar.gz"
    packed.write_bytes(gzip.compress(good.read_bytes()))
    mixed = write_tar(tmp_path / "mixed.tar", [{"1.png": b"", "2.png": b"", "1.txt": b""}])
    table = tmp_path / "broken.parquet"
    table.write_bytes(b"PAR1")
    (tmp_path / "empty").mkdir()
    for path, message in (
        (packed, "unpack it with gunzip"),
        (tmp_path / "a.csv", "no such file"),
        (tmp_path / "empty", "no .tar and no .parquet"),
        (mixed, "sample 1 do not lie side by side"),
        (table, "broken.parquet is not a readable parquet file"),
        ([good, good], "1 shards are given twice"),
        ([], "no samples in 0 shards"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            index_shards(path, output)


def test_a_file_of_the_user_is_not_written_to(tmp_path, write_tar):
    good = write_tar(tmp_path / "good.tar", [{"1.txt": b"t"}])
    for content in ("image,caption\n", json.dumps({"caption": "x"}) + "\n"):
        output = tmp_path / "table.jsonl"
        output.write_text(content)
        with pytest.raises(ValueError, match="line 1, is no entry of a catalogue"):
            index_shards(good, output)
        assert output.read_text() == content
    with pytest.raises(ValueError, match=r"must end with \.jsonl, got .*good\.tar"):
        index_shards(good, good)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_hidden_files_and_folders(tmp_path, write_tar, form):
    long = f"{'folder/' * 20}{'n' * 120}"
    samples = [
        {"README": b"r", "a/._1.png": b"h", "a/1.PNG": b"1"},
        {"a/1.seg.png": b"s"},
        {f"{long}é.png": b"2", f"{long}é.txt": b"t", ".hidden": b""},
        {"b/1.png": b"3"},
    ]
    path = write_tar(tmp_path / "x.tar", samples, form)
    (shard,) = index_shards(path, tmp_path / "found.jsonl").shards
    content = path.read_bytes()
    spans = zip(shard.bounds[:-1], shard.bounds[1:], strict=True)
    assert [read_members(content[start:stop]) for start, stop in spans] == [
        ("a/1", {"png": b"1", "seg.png": b"s"}),
        (f"{long}é", {"png": b"2", "txt": b"t"}),
        ("b/1", {"png": b"3"}),
    ]


def test_names_of_members():
    assert member_name("a/b/1.seg.PNG") == ("a/b/1", "seg.png")
    assert member_name("1.png") == ("1", "png")
    assert [member_name(name) for name in ("1", ".png", "a.d/1", "")] == [None] * 4


def test_two_members_of_one_name_are_refused(tmp_path, write_tar):
    path = write_tar(tmp_path / "x.tar", [{"1.png": b"a", "1.PNG": b"b"}])
    with pytest.raises(ValueError, match=r"x\.tar: two members named 1\.PNG"):
        index_shards(path, tmp_path / "found.jsonl")
    with pytest.raises(ValueError, match=r"two members named 1\.PNG"):
        read_members(path.read_bytes())
