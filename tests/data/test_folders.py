"""Kinds of folders beside those of test_pairs.py."""

import gc
import io
import json
import logging
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from datasets import Image as ImageFeature
from PIL import Image

from tauten.data import ShardPairs, fingerprint, index_shards, load_pairs
from tauten.data.features import load_features
from tauten.structure import read_captions


def picture(seed: int, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def pairs(count: int, first: int = 0) -> dict[str, bytes]:
    numbers = range(first, first + count)
    return {f"{n}.png": picture(n) for n in numbers} | {f"{n}.txt": b"text %d" % n for n in numbers}


def sorted_pairs(count: int) -> dict[str, bytes]:
    return dict(sorted(pairs(count).items()))


def folder(path: Path, members: dict[str, bytes]) -> Path:
    for name, content in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def table(path: Path, numbers: list[int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {"image": [picture(n) for n in numbers], "caption": [f"text {n}" for n in numbers]}
    pq.write_table(pa.table(rows), path)
    return path


def test_what_a_listing_leaves_out_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = {"jfif": "JPEG", "jpe": "JPEG", "pgm": "PPM", "JP2": "JPEG2000"}
    root = folder(tmp_path / "a", {f"{e}.{e}": picture(0, kind) for e, kind in kinds.items()})
    folder(root, {f"{extension}.txt": b"x" for extension in (*kinds, "heic", "broken", "alone")})
    folder(root, {"heic.heic": b"x", ".hidden.txt": b"x", "doubled.png.txt": b"x"})
    folder(root, {"doubled.png": picture(1), "upper.png": picture(2), "upper.TXT": b"x"})
    folder(root, {"kohya.png": picture(3), "kohya.caption": b"x"})
    (root / "broken.png").symlink_to("gone.png")
    (root / "linked").symlink_to(folder(tmp_path / "b", pairs(1)))
    with caplog.at_level(logging.WARNING, logger="tauten.data"):
        data = load_pairs(root)
    assert sorted(data["id"]) == ["JP2", "doubled", "jfif", "jpe", "kohya", "pgm", "upper"]
    assert caplog.messages == [
        f"left out in {root}: 1 of a kind that is not read (heic.heic); 1 texts without a picture "
        "(alone.txt); 1 broken links (broken.png); 1 linked folders (linked)"
    ]


@pytest.mark.parametrize("captions", [True, False])
def test_files_of_other_kinds_are_named_with_or_without_a_text(tmp_path, caplog, captions):
    others = ["noext", "notes.pdf", "photo.heic", "x.xyz", "y.tar.xz"]
    root = folder(tmp_path / "a", {f"{k}/{k}.png": picture(n) for n, k in enumerate("bc")})
    folder(root, {f"{k}/{k}.txt": b"x" for k in "bc"} if captions else {})
    folder(root, {name: picture(0, "JPEG") for name in others})
    folder(root, {name: b"x" for name in ("Thumbs.db", ".DS_Store", "LICENSE", "README.md")})
    folder(root, {"stats.csv": b"a,b\n", "b/b.json.gz": b"{}"} if captions else {})
    with caplog.at_level(logging.WARNING, logger="tauten.data"):
        assert len(load_pairs(root, captions=captions, progress=False)) == 2
    assert caplog.messages == [
        f"left out in {root}: 5 of a kind that is not read (noext, notes.pdf, photo.heic and 2 "
        "more)"
    ]


def test_members_whose_names_have_dots_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    members = sorted_pairs(4) | {f"v1.{name}": data for name, data in sorted_pairs(400).items()}
    path = tar(tmp_path / "d.tar", members)
    with caplog.at_level(logging.WARNING, logger="tauten.data"):
        assert len(load_pairs(path)) == 4
    assert "skipped 400 of 404 samples" in caplog.text
    assert "400 pictures begin with 'v1.'" in caplog.text
    assert len(caplog.text) < 1000
    stream = ShardPairs(index_shards(path, tmp_path / "d.jsonl"))
    assert "400 pictures begin with 'v1.'" in str(stream.row(4))
    only = tar(tmp_path / "e.tar", {f"v1.{n}": data for n, data in sorted_pairs(400).items()})
    with pytest.raises(ValueError, match="no caption column 'caption'; columns:") as error:
        load_pairs(only)
    assert len(str(error.value)) < 2000


def test_a_stream_closes_its_files(tmp_path: Path) -> None:
    stream = ShardPairs(
        index_shards(tar(tmp_path / "d.tar", sorted_pairs(4)), tmp_path / "d.jsonl")
    )
    stream.row(2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del stream
        gc.collect()
    assert not [str(w.message) for w in caught if w.category is ResourceWarning]


def test_a_rarer_kind_counts_only_alone(tmp_path: Path) -> None:
    members = {"0.jpg": picture(0, "JPEG"), "0.pgm": picture(1, "PPM"), "0.txt": b"x"}
    members |= {"1.pgm": picture(1, "PPM"), "1.txt": b"y"}
    data = load_pairs(tar(tmp_path / "x.tar", members))
    assert data["caption"][:] == ["x", "y"]
    assert "pgm" in data.column_names


def test_tars_come_before_tables_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    tar(tmp_path / "a" / "0.tar", sorted_pairs(4))
    pq.write_table(pa.table({"url": ["u"], "caption": ["c"]}), tmp_path / "a" / "0.parquet")
    folder(tmp_path / "a", {"0_stats.json": b"{}", "._0.tar": b"\0\5\x16\7" + bytes(600)})
    assert len(load_pairs(tmp_path / "a")) == 4
    assert len(index_shards(tmp_path / "a", tmp_path / "i.jsonl")) == 4
    values = io.BytesIO()
    np.save(values, np.ones(3, np.float32))
    tar(tmp_path / "f" / "0.tar", {"0.npy": values.getvalue()})
    folder(tmp_path / "f", {"._0.tar": b"\0\5\x16\7" + bytes(600)})
    assert len(load_features(tmp_path / "f", progress=False)) == 1


@pytest.mark.parametrize("where", ["", "data"])
def test_parts_of_one_table_are_joined(tmp_path: Path, where: str) -> None:
    root = tmp_path / "hub"
    for part in range(2):
        table(root / where / f"train-{part:05}-of-00002.parquet", [part])
    (root / "README.md").write_text("a card")
    assert load_pairs(root)["caption"][:] == ["text 0", "text 1"]
    assert len(index_shards(root, tmp_path / "i.jsonl")) == 2
    table(root / where / "test-00000-of-00001.parquet", [5])
    assert load_pairs(root)["split"][:] == ["train", "train", "test"]
    with pytest.raises(ValueError, match="holds the splits train, test: name the files of one"):
        index_shards(root, tmp_path / "j.jsonl")


def test_folders_of_splits(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "validation", "test")):
        root = folder(tmp_path / split, {"0.png": picture(number)})
        (root / "metadata.jsonl").write_text(json.dumps({"file_name": "0.png", "caption": "x"}))
    data = load_pairs(tmp_path)
    assert data["split"][:] == ["train", "validation", "test"]


def test_folders_of_splits_with_texts_beside_pictures(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "val")):
        folder(tmp_path / split / "deeper", pairs(1, number))
    assert load_pairs(tmp_path)["split"][:] == ["train", "val"]


def test_tables_of_img2dataset(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for shard in range(2):
        rows = [
            {"key": f"{shard}0", "caption": "x", "jpg": picture(shard), "status": "success"},
            {"key": f"{shard}1", "caption": "y", "jpg": None, "status": "failed_to_download"},
        ]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"0000{shard}.parquet")
        (tmp_path / f"0000{shard}_stats.json").write_text('{"count": 2, "successes": 1}')
    with caplog.at_level(logging.WARNING, logger="tauten.data"):
        data = load_pairs(tmp_path)
    assert data["key"][:] == ["00", "10"]
    assert "skipped 2 of 4 samples" in caplog.text


def test_bare_pictures_say_what_two_views_need(tmp_path: Path) -> None:
    folder(tmp_path, {"0.png": picture(0)})
    with pytest.raises(ValueError, match="judged by classes: put the pictures into a folder"):
        load_pairs(tmp_path, captions=False)


def test_captions_that_are_numbers_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder(tmp_path, pairs(2))
    rows = [{"image": "0.png", "caption": cell} for cell in (True, 7, "x")]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    with caplog.at_level(logging.WARNING, logger="tauten.data"):
        assert load_pairs(tmp_path / "t.json")["caption"][:] == ["7", "x"]
    assert "1 sample with a number as caption, taken as text; first:" in caplog.text
    assert "(1 the caption is of type bool, not text)" in caplog.text
    (tmp_path / "captions.txt").write_text("0.png,x\n")
    with pytest.raises(ValueError, match="a table with another name: rename it"):
        load_pairs(tmp_path / "captions.txt")


def test_saved_data_sets(tmp_path: Path) -> None:
    rows = {
        "image": [{"bytes": picture(n), "path": None} for n in range(3)],
        "caption": list("abc"),
    }
    data = Dataset.from_dict(rows).cast_column("image", ImageFeature())
    data.save_to_disk(str(tmp_path / "one"))
    assert load_pairs(tmp_path / "one")["caption"][:] == ["a", "b", "c"]
    DatasetDict({"train": data, "test": data.select([2])}).save_to_disk(str(tmp_path / "two"))
    found = load_pairs(tmp_path / "two", strict=True)
    assert found["split"][:] == ["train"] * 3 + ["test"]
    (tmp_path / "one" / "data-00000-of-00001.arrow").write_bytes(b"x")
    with pytest.raises(ValueError, match="is no readable saved data set"):
        load_pairs(tmp_path / "one")


def test_bare_names_beside_images_and_names_of_windows(tmp_path: Path) -> None:
    folder(tmp_path / "images", {"0.png": picture(0)})
    folder(tmp_path / "sub", {"1.png": picture(1)})
    (tmp_path / "c.csv").write_text("image,caption\n0.png,a\nsub\\1.png,b\n2.png,c\n")
    assert load_pairs(tmp_path / "c.csv")["caption"][:] == ["a", "b"]
    with pytest.raises(ValueError, match=f"no such file: {tmp_path}/2.png"):
        load_pairs(tmp_path / "c.csv", strict=True)


def test_pictures_in_folders_of_their_class(tmp_path: Path) -> None:
    root = folder(tmp_path, {f"{kind}/{n}.png": picture(n) for kind in "ab" for n in range(2)})
    data = load_pairs(root, captions=False)
    assert data["label"][:] == ["a", "a", "b", "b"]
    assert data["caption"][:] == [[]] * 4
    assert load_pairs(root, caption="label", captions=False)["caption"][:] == ["a", "a", "b", "b"]
    with pytest.raises(ValueError, match="no captions to train pairs on: two views"):
        load_pairs(root)


def test_captions_in_other_members(tmp_path: Path) -> None:
    members = {"0.png": picture(0), "0.text": b"a\n", "0.cls": b"dog"}
    data = load_pairs(tar(tmp_path / "x.tar", members), caption="text")
    assert data["caption"][:] == ["a"]
    assert data["cls"][:] == ["dog"]


def test_missing_captions_are_missing(tmp_path: Path) -> None:
    folder(tmp_path, pairs(2))
    rows = [
        '{"image": "0.png", "caption": NaN}',
        '{"image": "1.png", "caption": ["ok", NaN, null]}',
    ]
    (tmp_path / "n.jsonl").write_text("\n".join(rows))
    assert load_pairs(tmp_path / "n.jsonl")["caption"][:] == [["ok"]]
    numbers = pa.table({"image": ["0.png", "1.png"], "caption": [float("nan"), 7.5]})
    pq.write_table(numbers, tmp_path / "n.parquet")
    assert load_pairs(tmp_path / "n.parquet")["caption"][:] == ["7.5"]
    members = sorted_pairs(1) | {"1.png": picture(1), "1.json": b'{"caption": NaN}'}
    path = tar(tmp_path / "n.tar", members)
    assert load_pairs(path)["caption"][:] == ["text 0"]
    stream = ShardPairs(index_shards(path, tmp_path / "n.index.jsonl"))
    assert str(stream.row(1)).endswith("no caption")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"caption": "half an emoji \\ud83d"}', "half a character"),
        (b'{"caption": "%s"}' % (b"x" * 20_001), "caption too long"),
        (b'{"caption": true}', "the caption is of type bool, not text"),
        (b"[" * 100_000, "unreadable .json"),
    ],
)
def test_captions_that_cannot_be_used_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes, problem: str
) -> None:
    path = tar(tmp_path / "s.tar", sorted_pairs(3) | {"9.json": content, "9.png": picture(0)})
    with caplog.at_level(logging.WARNING, logger="tauten.data"):
        data = load_pairs(path)
    assert data["caption"][:] == ["text 0", "text 1", "text 2"]
    assert f"skipped 1 of 4 samples in {path} (1 {problem})" in caplog.text
    assert len(caplog.text) < 1000
    stream = ShardPairs(index_shards(path, tmp_path / "s.jsonl"))
    batch, problems = stream.batch(range(4))
    assert batch["index"].tolist() == [0, 1, 2]
    assert problems[0].kind == problem


def test_captions_of_bytes_are_read_as_utf_8(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cells = ["sch\u00f6n".encode(), "sch\u00f6n".encode("latin-1")]
    pq.write_table(pa.table({"image": [picture(0)] * 2, "caption": cells}), tmp_path / "t.parquet")
    with caplog.at_level(logging.WARNING, logger="tauten.data"):
        assert load_pairs(tmp_path / "t.parquet")["caption"][:] == ["sch\u00f6n"]
    assert "(1 unreadable caption); first:" in caplog.text
    assert "row 1: unreadable caption: 'utf-8' codec can't decode byte 0xf6" in caplog.text


def test_half_characters_of_other_columns_are_repaired(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = json.dumps({"caption": "x", "tags": ["a", "\ud83d"], "by": {"name": "\udc00"}})
    path = tar(tmp_path / "s.tar", {"0.png": picture(0), "0.json": content.encode()})
    with caplog.at_level(logging.WARNING, logger="tauten.data"):
        row = load_pairs(path)[0]
    assert (row["tags"], row["by"]) == (["a", "\ufffd"], {"name": "\ufffd"})
    assert "half characters became U+FFFD in the columns tags, by" in caplog.text


def test_pictures_without_a_range_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = folder(tmp_path, pairs(2) | {"depth.txt": b"depth"})
    Image.fromarray(np.ones((8, 8), np.float32)).save(root / "depth.tif")
    with caplog.at_level(logging.WARNING, logger="tauten.data"):
        assert len(load_pairs(root)) == 2
    assert "(1 unreadable image)" in caplog.text
    assert "a picture of mode 'F' has no known range" in caplog.text


def test_rows_are_numbered_as_by_clusters(tmp_path: Path) -> None:
    folder(tmp_path, pairs(4))
    (tmp_path / "2.png").unlink()
    rows = [{"image": f"{n}.png", "caption": f"text {n}"} for n in range(4)]
    (tmp_path / "k.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data, captions = load_pairs(tmp_path / "k.jsonl"), read_captions(tmp_path / "k.jsonl")
    assert data["file_row"][:] == [0, 1, 3]
    assert [captions[row] for row in data["file_row"]] == data["caption"][:]
    assert fingerprint(data) == fingerprint(data.remove_columns("file_row"))


@pytest.mark.parametrize("whole", [True, False])
def test_captions_in_a_txt_with_names_of_columns(tmp_path, whole):
    """Flickr8k and 30k as Kaggle has them: captions.txt beside a folder Images."""
    (tmp_path / "Images").mkdir()
    for n in range(2):
        (tmp_path / "Images" / f"{n}.jpg").write_bytes(picture(n, "JPEG"))
    lines = ["image,caption", '0.jpg,"A dog , running ."', "0.jpg,A dog .", "1.jpg,Two men ."]
    table = tmp_path / "captions.txt"
    table.write_text("\n".join(lines) + "\n")
    found = load_pairs(tmp_path if whole else table, progress=False)
    assert list(found["caption"]) == ["A dog , running .", "A dog .", "Two men ."]
    assert read_captions(table) == list(found["caption"])


def test_a_txt_of_captions_is_no_table(tmp_path):
    (tmp_path / "a.txt").write_text("A dog, an image, a caption\nimage,caption\n")
    assert read_captions(tmp_path / "a.txt") == ["A dog, an image, a caption", "image,caption"]
    with pytest.raises(ValueError, match="cannot read pairs from this kind of file"):
        load_pairs(tmp_path / "a.txt", progress=False)
