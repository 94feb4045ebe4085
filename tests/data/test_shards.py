import gzip
import io
import itertools
import tarfile
from pathlib import Path

import pytest

from tauten.data.shards import TruncatedShardError, is_shard, read_shard
from tauten.data.tar_index import read_members, scan_tar


def write_shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write_shard(
        tmp_path / "pairs.tar",
        {f"{n}.{kind}": b"x" * 700 for n in range(3) for kind in ("jpg", "txt")},
    )


def cut(path: Path, size: int) -> Path:
    path.write_bytes(path.read_bytes()[:size])
    return path


def test_members_are_grouped_up_to_the_first_dot(tmp_path: Path) -> None:
    members = {
        "a/1.seg.PNG": b"s",
        "a/1.jpg": b"i",
        "b/1.jpg": b"j",
        "a/1.txt": b"t",
        "README": b"",
    }
    samples, damage = read_shard(write_shard(tmp_path / "x.tar", members))
    assert samples == {"a/1": {"seg.png": b"s", "jpg": b"i", "txt": b"t"}, "b/1": {"jpg": b"j"}}
    assert damage is None


def test_hidden_members_and_folders_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        folder = tarfile.TarInfo("pairs.d")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        tar.addfile(tarfile.TarInfo("._1.jpg"))
        tar.addfile(tarfile.TarInfo("1.jpg"))
    assert read_shard(path)[0] == {"1": {"jpg": b""}}


def test_gzipped_shard_reads_the_same(tmp_path: Path) -> None:
    members = {"1.jpg": bytes(range(256)), "1.txt": b"t"}
    plain, packed = tmp_path / "x.tar", tmp_path / "x.tar.gz"
    assert read_shard(write_shard(plain, members)) == read_shard(write_shard(packed, members))


def test_names_of_shards() -> None:
    assert all(is_shard(Path(name)) for name in ("a.tar", "a.TAR.gz", "a.tgz"))
    assert not any(is_shard(Path(name)) for name in ("a.gz", "a.zip", "tar"))


@pytest.mark.parametrize(
    ("size", "whole"),
    [(0, 0), (100, 0), (512 + 300, 0), (3 * 512, 1), (3 * 512 + 100, 1), (9 * 512 + 10, 3)],
)
def test_a_cut_is_refused_with_the_number_of_whole_members(
    shard: Path, size: int, whole: int
) -> None:
    message = rf"pairs\.tar is truncated or damaged .* after {whole} whole members in {size} bytes"
    with pytest.raises(TruncatedShardError, match=message):
        read_shard(cut(shard, size))


def test_the_remedy_is_named(shard: Path) -> None:
    with pytest.raises(ValueError, match="copy or download it again, or allow_truncated=True"):
        read_shard(cut(shard, 5000))


def test_a_remedy_that_cannot_help_is_not_named(shard: Path) -> None:
    with pytest.raises(ValueError, match="copy or download it again$"):
        read_shard(cut(shard, 0))


def test_whole_members_can_be_kept(shard: Path) -> None:
    samples, damage = read_shard(cut(shard, 9 * 512 + 10), allow_truncated=True)
    assert [list(members) for members in samples.values()] == [["jpg", "txt"], ["jpg"]]
    assert damage is not None
    assert "after 3 whole members" in damage


def test_nothing_to_keep_is_an_error_all_the_same(shard: Path) -> None:
    with pytest.raises(TruncatedShardError, match="after 0 whole members"):
        read_shard(cut(shard, 600), allow_truncated=True)


def test_missing_end_mark_is_a_cut(shard: Path) -> None:
    message = r"no end-of-archive mark.* after 6 whole members"
    with pytest.raises(TruncatedShardError, match=message):
        read_shard(cut(shard, 6 * 3 * 512))


def test_damaged_header_is_not_taken_for_the_end(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[6 * 512 : 6 * 512 + 100] = b"?" * 100
    shard.write_bytes(content)
    with pytest.raises(TruncatedShardError, match="after 2 whole members"):
        read_shard(shard)


def test_cut_gzip_keeps_what_was_whole(tmp_path: Path) -> None:
    noise = bytes(hash((n, 7)) % 256 for n in range(4000))
    path = write_shard(tmp_path / "x.tar.gz", {"1.jpg": noise, "2.jpg": noise[::-1]})
    cut(path, path.stat().st_size * 2 // 3)
    with pytest.raises(TruncatedShardError, match="after 1 whole members"):
        read_shard(path)
    assert list(read_shard(path, allow_truncated=True)[0]) == ["1"]


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(b"z" * 1000)[:10] + b"garbage")
    with pytest.raises(TruncatedShardError, match=r"x\.tar\.gz is truncated or damaged"):
        read_shard(path)


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("1.jpg"))
    with pytest.raises(ValueError, match=r"two members named 1\.jpg"):
        read_shard(path)


def test_real_shard_cut_anywhere_is_noticed(tmp_path: Path, shared_data: Path) -> None:
    whole = (shared_data / "coco" / "coco35_photos.tar").read_bytes()
    path = tmp_path / "photos.tar"
    for size in range(1000, len(whole) - 10_240, 40_000):
        path.write_bytes(whole[:size])
        with pytest.raises(TruncatedShardError):
            read_shard(path)


def test_gzip_by_content_padding_and_a_cut_behind_the_end(tmp_path: Path) -> None:
    content = write_shard(tmp_path / "x.tar", {"1.jpg": b"a", "1.txt": b"b"}).read_bytes()
    packed = gzip.compress(content)
    for name, data in {"g.tar": packed, "h.tgz": packed + bytes(512), "i.tgz": content}.items():
        (tmp_path / name).write_bytes(data)
        assert list(read_shard(tmp_path / name)[0]["1"]) == ["jpg", "txt"]
    (tmp_path / "cut.tgz").write_bytes(packed[:-8])
    with pytest.raises(TruncatedShardError, match="its gzip data are cut"):
        read_shard(tmp_path / "cut.tgz")
    assert list(read_shard(tmp_path / "cut.tgz", allow_truncated=True)[0]) == ["1"]


@pytest.mark.parametrize("packed", [False, True])
def test_tars_joined_one_behind_the_other_are_refused(tmp_path: Path, packed: bool) -> None:
    parts = [write_shard(tmp_path / f"{n}.tar", {f"{n}.txt": b"t" * 9}) for n in range(2)]
    joined = [part.read_bytes() for part in parts]
    path = tmp_path / ("joined.tar.gz" if packed else "joined.tar")
    path.write_bytes(b"".join(map(gzip.compress, joined) if packed else joined))
    with pytest.raises(TruncatedShardError, match="members follow.* after 1 whole members"):
        read_shard(path)
    samples, damage = read_shard(path, allow_truncated=True)
    assert list(samples) == ["0"]
    assert damage is not None
    if not packed:
        scan = scan_tar(path)
        assert len(scan.bounds) == 2
        assert scan.damage is not None
        assert "members follow" in scan.damage


def test_what_is_no_member_behind_the_end_is_padding(shard: Path) -> None:
    whole = read_shard(shard)
    shard.write_bytes(shard.read_bytes() + bytes(700) + b"left over" * 300)
    assert read_shard(shard) == whole
    assert scan_tar(shard).damage is None


def test_links_of_a_tar_have_no_content(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "links.tar", {"0.jpg": b"j", "0.txt": b"t"})
    with tarfile.open(path, "a") as tar:
        for name, kind in (("1.jpg", tarfile.SYMTYPE), ("2.jpg", tarfile.LNKTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "0.jpg"
            tar.addfile(link)
            text = tarfile.TarInfo(name.replace("jpg", "txt"))
            text.size = 2
            tar.addfile(text, io.BytesIO(b"xx"))
    bounds = scan_tar(path).bounds
    content = path.read_bytes()
    found = [read_members(content[start:end]) for start, end in itertools.pairwise(bounds)]
    assert found == [
        ("0", {"jpg": b"j", "txt": b"t"}),
        ("1", {"txt": b"xx"}),
        ("2", {"txt": b"xx"}),
    ]
