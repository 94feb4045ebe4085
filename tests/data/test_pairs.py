import base64
import csv
import gzip
import io
import json
import logging
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, List, Value
from datasets import Image as ImageFeature
from PIL import Image

from tauten.data import emoji_lt, images, load_pairs

CAPTIONS = ["a red square", "a green square", "a blue square"]


def picture(row: int, kind: str = "PNG", size: int = 8) -> bytes:
    colour = [0, 0, 0]
    colour[row % 3] = 255
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), tuple(colour)).save(buffer, kind)
    return buffer.getvalue()


def write_pictures(folder: Path, names: tuple[str, ...] = ("0.png", "1.png", "2.png")) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for row, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(row))


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def text_folder(root: Path) -> Path:
    write_pictures(root)
    for row, caption in enumerate(CAPTIONS):
        (root / f"{row}.txt").write_text(caption + "\n")
    return root


def json_folder(root: Path) -> Path:
    write_pictures(root)
    for row, caption in enumerate(CAPTIONS):
        (root / f"{row}.json").write_text(json.dumps({"caption": caption, "shade": row}))
    return root


def nested_folder(root: Path) -> Path:
    write_pictures(root, ("a/0.png", "a/1.PNG", "b/c/2.png"))
    for name, caption in zip(("a/0", "a/1", "b/c/2"), CAPTIONS, strict=True):
        (root / f"{name}.txt").write_text(caption)
    return root


def metadata_csv(root: Path) -> Path:
    write_pictures(root)
    rows = [f'{row}.png,"{caption}"' for row, caption in enumerate(CAPTIONS)]
    (root / "metadata.csv").write_text("\n".join(["file_name,caption", *rows]))
    return root


def metadata_jsonl(root: Path) -> Path:
    write_pictures(root / "pictures")
    rows = [{"file_name": f"pictures/{r}.png", "caption": c} for r, c in enumerate(CAPTIONS)]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root


def table_rows(root: Path) -> list[dict[str, Any]]:
    write_pictures(root / "pictures")
    return [{"image": f"pictures/{r}.png", "caption": c} for r, c in enumerate(CAPTIONS)]


def csv_table(root: Path) -> Path:
    rows = table_rows(root)
    with (root / "pairs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "caption"])
        writer.writeheader()
        writer.writerows(rows)
    return root / "pairs.csv"


def json_table(root: Path) -> Path:
    (root / "pairs.json").parent.mkdir()
    (root / "pairs.json").write_text(json.dumps(table_rows(root)))
    return root / "pairs.json"


def jsonl_table(root: Path) -> Path:
    rows = table_rows(root)
    (root / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    return root / "pairs.jsonl"


def parquet_paths(root: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(table_rows(root)), root / "pairs.parquet")
    return root / "pairs.parquet"


def parquet_bytes(root: Path) -> Path:
    root.mkdir()
    rows = [{"image": picture(row), "caption": caption} for row, caption in enumerate(CAPTIONS)]
    pq.write_table(pa.Table.from_pylist(rows), root / "pairs.parquet")
    return root / "pairs.parquet"


def parquet_of_dataset(root: Path) -> Path:
    root.mkdir()
    pictures = [{"bytes": picture(row), "path": f"{row}.png"} for row in range(3)]
    data = Dataset.from_dict({"image": pictures, "caption": CAPTIONS})
    data.cast_column("image", ImageFeature()).to_parquet(root / "pairs.parquet")
    return root


def tar_txt(root: Path) -> Path:
    root.mkdir()
    members = {}
    for row, caption in enumerate(CAPTIONS):
        members |= {f"{row}.jpg": picture(row, "JPEG"), f"{row}.txt": caption.encode()}
    return write_tar(root / "pairs.tar", members)


def tar_folder(root: Path) -> Path:
    root.mkdir()
    for row, caption in enumerate(CAPTIONS):
        content = json.dumps({"caption": caption}).encode()
        write_tar(root / f"{row}.tar", {"x.webp": picture(row, "WEBP"), "x.json": content})
    return root


SOURCES = [
    text_folder,
    json_folder,
    nested_folder,
    metadata_csv,
    metadata_jsonl,
    csv_table,
    json_table,
    jsonl_table,
    parquet_paths,
    parquet_bytes,
    parquet_of_dataset,
    tar_txt,
    tar_folder,
]


@pytest.mark.parametrize("write", SOURCES, ids=lambda write: write.__name__)
def test_every_source_gives_the_same_pairs(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    data = load_pairs(write(tmp_path / "data"), strict=True)
    assert data.column_names[:3] == ["index", "image", "caption"]
    assert data.features["index"] == Value("int64")
    assert isinstance(data.features["image"], ImageFeature)
    assert data["index"][:] == [0, 1, 2]
    assert data["caption"][:] == CAPTIONS
    assert images(data).float().mean(dim=(2, 3)).argmax(dim=1).tolist() == [0, 1, 2]
    assert data.cache_files == []


def test_relative_path_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text_folder(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    data = load_pairs("data")
    monkeypatch.chdir("/")
    assert data[0]["image"].size == (8, 8)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(load_pairs("~/data")) == 3


def test_pattern_joins_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    tar_folder(tmp_path / "data")
    data = load_pairs(tmp_path / "data" / "[12].tar")
    assert data["caption"][:] == CAPTIONS[1:]
    assert data["index"][:] == [0, 1]


def test_other_columns_and_names_of_samples_are_kept(tmp_path: Path) -> None:
    data = load_pairs(json_folder(tmp_path / "data"))
    assert data["id"][:] == ["0", "1", "2"]
    assert data["shade"][:] == [0, 1, 2]
    assert load_pairs(nested_folder(tmp_path / "nested"))["id"][:] == ["a/0", "a/1", "b/c/2"]


def test_other_caption_column(tmp_path: Path) -> None:
    rows = [row | {"index": 7, "short": "red"} for row in table_rows(tmp_path / "data")]
    (tmp_path / "data" / "pairs.json").write_text(json.dumps(rows))
    data = load_pairs(tmp_path / "data" / "pairs.json", caption="short")
    assert data["caption"][:] == ["red"] * 3
    assert data["source_caption"][:] == CAPTIONS
    assert data["source_index"][:] == [7] * 3
    assert data["index"][:] == [0, 1, 2]


def test_other_image_column_and_gzip(tmp_path: Path) -> None:
    rows = [{"photo": row["image"], "caption": row["caption"]} for row in table_rows(tmp_path)]
    (tmp_path / "pairs.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    assert load_pairs(tmp_path / "pairs.json.gz", image="photo")["caption"][:] == CAPTIONS


def test_several_captions_make_lists_of_all(tmp_path: Path) -> None:
    rows = table_rows(tmp_path)
    rows[1]["caption"] = ["green", " ", "a green one"]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    data = load_pairs(tmp_path / "pairs.json")
    assert data.features["caption"] == List(Value("string"))
    assert data["caption"][:] == [[CAPTIONS[0]], ["green", "a green one"], [CAPTIONS[2]]]


def test_numbers_in_csv_captions_stay_as_written(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    (tmp_path / "pairs.csv").write_text("image,caption,label\n0.png,007,1\n1.png,1.50,2\n")
    data = load_pairs(tmp_path / "pairs.csv")
    assert data["caption"][:] == ["007", "1.50"]
    assert data["label"][:] == [1, 2]


def test_txt_that_differs_from_the_json_caption_is_kept(tmp_path: Path) -> None:
    content = json.dumps({"caption": "from json"}).encode()
    members = {"0.png": picture(0), "0.txt": b"from txt", "0.json": content}
    data = load_pairs(write_tar(tmp_path / "x.tar", members))
    assert data["caption"][:] == ["from json"]
    assert data["txt"][:] == ["from txt"]


def test_class_member_is_a_number_and_can_be_the_caption(tmp_path: Path) -> None:
    members = {"0.png": picture(0), "0.cls": b"17\n", "0.txt": b"red"}
    path = write_tar(tmp_path / "x.tar", members)
    assert load_pairs(path)["cls"][:] == [17]
    assert load_pairs(path, caption="cls")["caption"][:] == ["17"]


def test_json_keys_of_mixed_types_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    members = {}
    for row, value in enumerate([1, "one", {"a": 1}]):
        content = {"caption": CAPTIONS[row], "mixed": value, "same": row / 2}
        members |= {f"{row}.png": picture(row), f"{row}.json": json.dumps(content).encode()}
    with caplog.at_level(logging.WARNING, logger="tauten.data"):
        data = load_pairs(write_tar(tmp_path / "x.tar", members))
    assert "mixed" not in data.column_names
    assert data["same"][:] == [0.0, 0.5, 1.0]
    assert "left out columns whose values are of several types: mixed" in caplog.text


def test_json_key_that_some_lack_is_none(tmp_path: Path) -> None:
    root = json_folder(tmp_path / "data")
    (root / "1.json").write_text(json.dumps({"caption": "x"}))
    assert load_pairs(root)["shade"][:] == [0, None, 2]


def test_raw_features(tmp_path: Path) -> None:
    rows = [
        {"vector": [float(row), 1.0], "caption": caption} for row, caption in enumerate(CAPTIONS)
    ]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    data = load_pairs(tmp_path / "pairs.json", image="vector", media="raw")
    assert data.column_names == ["index", "vector", "caption"]
    assert data["vector"][:] == [[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]


def test_raw_members_of_a_shard(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([0.5, 2.0], dtype=np.float32))
    members = {"0.npy": buffer.getvalue(), "0.txt": b"x", "1.mp4": b"clip", "1.txt": b"y"}
    path = write_tar(tmp_path / "x.tar", members)
    data = load_pairs(path, image="npy", media="raw")
    assert data["npy"][:] == [[0.5, 2.0]]
    assert load_pairs(path, image="mp4", media="raw")["mp4"][:] == [b"clip"]


def test_raw_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "0.mp4").write_bytes(b"clip")
    (tmp_path / "0.txt").write_text("a clip")
    data = load_pairs(tmp_path, image="mp4", media="raw")
    assert data["mp4"][:] == [str(tmp_path / "0.mp4")]


def test_real_shard_equals_the_embedded_metadata(shared_data: Path) -> None:
    data, embedded = load_pairs(shared_data / "emoji_lt-val.tar", strict=True), emoji_lt("val")
    assert data[10]["image"].size == (64, 64)
    for column in ("caption", "alt_caption", "keywords", "group", "concept", "style", "id"):
        assert data[column][:] == embedded[column][:]
    assert data["subgroup"][:] == embedded["label"][:]


def test_real_photos_with_five_captions_each(
    shared_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = shared_data / "coco" / "coco35_photos.tar"
    with caplog.at_level(logging.WARNING, logger="tauten.data"):
        data = load_pairs(path, caption="captions")
    assert len(data) == 35
    assert {len(captions) for captions in data["caption"]} == {5}
    assert "skipped 1 of 36 samples" in caplog.text
    assert "sample karpathy_schema: no image" in caplog.text
    assert images(data, size=32).shape == (35, 3, 32, 32)


def test_real_photos_with_class_ids(shared_data: Path) -> None:
    data = load_pairs(shared_data / "caltech98_lt-test.tar", caption="cls", strict=True)
    assert len(data) == 980
    assert len(set(data["caption"])) == 98


def damaged(root: Path) -> Path:
    text_folder(root)
    whole = picture(1, size=64)
    (root / "1.png").write_bytes(whole[: len(whole) // 2])
    return root


def test_unreadable_image_is_skipped_counted_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="tauten.data"):
        data = load_pairs(damaged(tmp_path / "data"))
    assert data["caption"][:] == [CAPTIONS[0], CAPTIONS[2]]
    assert data["index"][:] == [0, 1]
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "skipped 1 of 3 samples" in message
    assert "(1 unreadable image)" in message
    assert str(tmp_path / "data" / "1.png") in message


def test_unreadable_image_is_fatal_when_strict(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"1\.png: unreadable image"):
        load_pairs(damaged(tmp_path / "data"), strict=True)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "BMP"])
def test_cut_images_of_all_kinds_are_noticed(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    content = buffer.getvalue()
    extension = kind.lower()
    members = {f"0.{extension}": content[: len(content) * 2 // 3], "0.txt": b"noise"}
    members |= {f"1.{extension}": content, "1.txt": b"whole"}
    assert load_pairs(write_tar(tmp_path / "x.tar", members))["id"][:] == ["1"]


def test_text_posing_as_image(tmp_path: Path) -> None:
    root = text_folder(tmp_path / "data")
    (root / "2.png").write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"2\.png: unreadable image: no known image format"):
        load_pairs(root, strict=True)


def test_missing_image_file_of_a_table(tmp_path: Path) -> None:
    path = csv_table(tmp_path)
    (tmp_path / "pictures" / "0.png").unlink()
    assert load_pairs(path)["caption"][:] == CAPTIONS[1:]
    with pytest.raises(ValueError, match=r"pairs\.csv, row 0: unreadable image: no such file"):
        load_pairs(path, strict=True)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("https://example.org/a.png", "the image is an address: https.*download it first"),
        ([0.5, 1.0], "the image is neither path nor bytes: list .features need media='raw'"),
        (None, "no image"),
    ],
)
def test_image_cells_that_cannot_be_used(tmp_path: Path, value: Any, problem: str) -> None:
    rows = [*table_rows(tmp_path), {"image": value, "caption": "x"}]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    assert len(load_pairs(tmp_path / "pairs.json")) == 3
    with pytest.raises(ValueError, match=rf"pairs\.json, row 3: {problem}"):
        load_pairs(tmp_path / "pairs.json", strict=True)


@pytest.mark.parametrize("value", [None, "", "  ", [], [" "]])
def test_blank_captions_are_skipped_or_fatal(tmp_path: Path, value: Any) -> None:
    rows = table_rows(tmp_path)
    rows[1]["caption"] = value
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    assert len(load_pairs(tmp_path / "pairs.json")) == 2
    with pytest.raises(ValueError, match="row 1: no caption"):
        load_pairs(tmp_path / "pairs.json", strict=True)


def test_caption_that_is_no_text(tmp_path: Path) -> None:
    rows = table_rows(tmp_path)
    rows[1]["caption"] = {"en": "x"}
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match="row 1: the caption is of type dict, not text"):
        load_pairs(tmp_path / "pairs.json", strict=True)


def test_image_without_caption_file(tmp_path: Path) -> None:
    root = text_folder(tmp_path / "data")
    (root / "1.txt").unlink()
    assert load_pairs(root)["id"][:] == ["0", "2"]
    with pytest.raises(ValueError, match=r"1\.png: no caption"):
        load_pairs(root, strict=True)


@pytest.mark.parametrize(
    ("content", "problem"), [("{", "unreadable .json"), ("[1]", "expected an object, found list")]
)
def test_unreadable_json_beside_an_image(tmp_path: Path, content: str, problem: str) -> None:
    root = json_folder(tmp_path / "data")
    (root / "1.json").write_text(content)
    assert load_pairs(root)["id"][:] == ["0", "2"]
    with pytest.raises(ValueError, match=rf"1\.png: .*{problem}"):
        load_pairs(root, strict=True)


def test_no_usable_sample_is_an_error(tmp_path: Path) -> None:
    root = text_folder(tmp_path / "data")
    for row in range(3):
        (root / f"{row}.png").write_bytes(b"?")
    with pytest.raises(ValueError, match=r"none of the 3 samples .* can be used; .*0\.png: unread"):
        load_pairs(root)


def test_missing_caption_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    path = csv_table(tmp_path)
    with pytest.raises(ValueError, match="no caption column 'text'; columns: caption"):
        load_pairs(path, caption="text")


def test_missing_image_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    path = csv_table(tmp_path)
    with pytest.raises(ValueError, match="no column 'photo'; columns: image, caption.*data.image"):
        load_pairs(path, image="photo")


def test_truncated_tar_is_an_error_unless_allowed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tar_txt(tmp_path / "data")
    path.write_bytes(path.read_bytes()[: 5 * 1024])
    with pytest.raises(ValueError, match=r"pairs\.tar is truncated .* whole members .*again"):
        load_pairs(path)
    with caplog.at_level(logging.WARNING, logger="tauten.data"):
        data = load_pairs(path, allow_truncated=True)
    assert data["caption"][:] == CAPTIONS[: len(data)]
    assert 1 <= len(data) < 3
    assert "using the whole members only" in caplog.text


def test_two_images_in_a_sample_need_a_choice(tmp_path: Path) -> None:
    members = {"0.png": picture(0), "0.jpg": picture(1, "JPEG"), "0.txt": b"x"}
    path = write_tar(tmp_path / "x.tar", members)
    with pytest.raises(ValueError, match=r"sample 0 has 2 images \(\.png, \.jpg\).*image='png'"):
        load_pairs(path)
    assert images(load_pairs(path, image="jpg"))[0, 1].min() > 200


def test_nothing_at_the_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: .*nowhere"):
        load_pairs(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: .*\*\.tar"):
        load_pairs(tmp_path / "*.tar")


def test_unknown_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "pairs.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"pairs\.zip: cannot read pairs from this kind of file"):
        load_pairs(tmp_path / "pairs.zip")


def test_folder_without_pairs(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    with pytest.raises(ValueError, match=r"no pairs found in .*: 3 files of kind .* none with a"):
        load_pairs(tmp_path)


@pytest.mark.parametrize("name", ["pairs.json", "pairs.jsonl"])
def test_table_without_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[]" if name == "pairs.json" else "")
    with pytest.raises(ValueError, match="no pairs found in"):
        load_pairs(tmp_path / name)


def test_several_tables_in_a_folder(tmp_path: Path) -> None:
    json_table(tmp_path / "data")
    (tmp_path / "data" / "more.json").write_text("[]")
    with pytest.raises(ValueError, match=r"several tables \(more\.json, pairs\.json\)"):
        load_pairs(tmp_path / "data")


def test_shards_beside_pictures(tmp_path: Path) -> None:
    text_folder(tmp_path)
    write_tar(tmp_path / "x.tar", {"0.png": picture(0), "0.txt": b"x"})
    with pytest.raises(ValueError, match=r"tar files as well as pictures"):
        load_pairs(tmp_path)


def test_hidden_files_are_not_samples(tmp_path: Path) -> None:
    root = text_folder(tmp_path / "data")
    for name in (".hidden/0.png", "__MACOSX/0.png", "._0.png"):
        write_pictures(root, (name,))
        (root / name).with_suffix(".txt").write_text("x")
    assert load_pairs(root)["id"][:] == ["0", "1", "2"]


def test_data_set_survives_parquet(tmp_path: Path) -> None:
    data = load_pairs(tar_txt(tmp_path / "data"))
    data.to_parquet(tmp_path / "out.parquet")
    again = load_pairs(tmp_path / "out.parquet")
    assert again["caption"][:] == CAPTIONS
    assert (images(again) == images(data)).all()


def test_reading_writes_nothing(tmp_path: Path) -> None:
    root = text_folder(tmp_path / "data")
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    load_pairs(root)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_base64_text_is_not_mistaken_for_a_picture(tmp_path: Path) -> None:
    rows = [{"image": base64.b64encode(picture(0)).decode(), "caption": "x"}]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=r"none of the 1 samples"):
        load_pairs(tmp_path / "pairs.json")


def test_texts_as_both_sides(tmp_path, caplog):
    rows = [
        {"query": "add two", "answer": "def add(a, b)"},
        {"query": " ", "answer": "def blank()"},
        {"query": ["one", "two"], "answer": "def several()"},
        {"query": 7, "answer": ["def seven()", "seven"]},
    ]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    found = load_pairs(tmp_path / "pairs.json", image="query", caption="answer", media="text")
    assert found["image"][:] == ["add two", "7"]
    assert found["caption"][:] == [["def add(a, b)"], ["def seven()", "seven"]]
    assert "1 no first text, 1 several first texts" in caplog.text
    same = load_pairs(tmp_path / "pairs.json", image="answer", caption="answer", media="text")
    assert (
        same["image"][:] == same["caption"][:] == ["def add(a, b)", "def blank()", "def several()"]
    )
