import io
import tarfile
from pathlib import Path

import pytest

from tauten.data.readers import READERS, read, to_dataset


def write_shard(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path: Path, pictures: list[bytes]) -> Path:
    for shard in range(2):
        members = {}
        for k in range(5):
            name = f"{shard:05d}{k:04d}"
            members[f"{name}.png"] = pictures[5 * shard + k]
            members[f"{name}.txt"] = f"caption {shard} {k}\n".encode()
        write_shard(tmp_path / f"{shard:05d}.tar", members)
    return tmp_path


def findings(report) -> dict:
    return {finding.name: finding for finding in report.findings}


def test_shards_are_counted_against_the_published_links(shards):
    report = READERS["cc3m"].check(shards, progress=False)
    left = findings(report)["pairs that are left"]
    assert (left.found, left.expected, left.ok, left.fatal) == (10, 3_318_333, False, False)
    assert findings(report)["readable media of those tried"].found == 10
    assert report.usable
    assert report.variant == "2 shards"
    assert READERS["cc12m"].check(shards, progress=False).findings[2].expected == 12_423_374


def test_samples_of_shards_are_read_one_at_a_time(shards, pictures):
    train = read("cc3m", shards).splits["train"]
    assert len(train) == 10
    assert train[7].id == "00001.tar/000010002"
    assert train[7].media == pictures[7]
    assert train[7].captions == ("caption 1 2",)
    assert len(to_dataset([train[k] for k in (0, 9)])) == 2


def test_broken_pictures_of_shards_are_named_but_usual(shards, pictures):
    write_shard(shards / "00002.tar", {"a.png": b"no picture", "a.txt": b"text", "b.txt": b"alone"})
    report = READERS["cc3m"].check(shards, everything=True, progress=False)
    tried = findings(report)["readable media of those tried"]
    assert (tried.found, tried.expected) == (10, 12)
    assert "00002.tar/a" in tried.remedy
    assert tried.verdict == "differs"
    assert report.usable


def test_a_cut_shard_is_named(shards):
    shard = shards / "00001.tar"
    shard.write_bytes(shard.read_bytes()[: 512 * 9])
    report = READERS["cc3m"].check(shards, progress=False)
    assert not report.usable
    assert "00001.tar is truncated" in report.findings[0].remedy


def test_other_shards_have_another_fingerprint(shards, pictures):
    before = READERS["cc3m"].check(shards, progress=False).fingerprint
    assert READERS["cc3m"].check(shards, progress=False).fingerprint == before
    write_shard(shards / "00002.tar", {"c.png": pictures[0], "c.txt": b"more"})
    assert READERS["cc3m"].check(shards, progress=False).fingerprint != before


@pytest.mark.parametrize("delimiter", ["\t", ","])
def test_a_table_of_local_pictures_is_read(tmp_path, put, delimiter):
    lines = [delimiter.join(("filepath", "title"))]
    for k in range(3):
        put(tmp_path / "images" / f"{k}.png", k)
        lines.append(delimiter.join((f"images/{k}.png", f"text {k}")))
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "Train_GCC-training.tsv").write_text("a\thttp://a\nb\thttp://b\n")
    report = READERS["cc3m"].check(tmp_path, progress=False)
    assert report.usable
    assert findings(report)["links listed"].found == 2
    assert findings(report)["samples with media"].found == 3
    assert to_dataset(read("cc3m", tmp_path).splits["train"])["caption"][2] == ["text 2"]


def test_other_tables_are_refused(tmp_path):
    (tmp_path / "train.csv").write_text("url,title\nx,y\n")
    remedy = READERS["cc3m"].check(tmp_path, progress=False).findings[0].remedy
    assert "found url, title" in remedy
    (tmp_path / "more.csv").write_text("filepath,title\n")
    remedy = READERS["cc3m"].check(tmp_path, progress=False).findings[0].remedy
    assert "more.csv, train.csv" in remedy
