import io
from pathlib import Path

from datasets import Dataset
from PIL import Image

from tauten.data import emoji_lt, fingerprint, load_pairs


def folder_of(path: Path, shade: int = 0, caption: str = "a dog") -> Path:
    path.mkdir()
    for row in range(3):
        Image.new("RGB", (4, 4), (shade, row, 0)).save(path / f"{row}.png")
        (path / f"{row}.txt").write_text(caption)
    return path


def test_same_data_same_string() -> None:
    first, second = fingerprint(emoji_lt("val")), fingerprint(emoji_lt("val"))
    assert first == second
    assert len(first) == 32
    assert int(first, 16) >= 0


def test_known_string_of_the_embedded_data() -> None:
    assert fingerprint(emoji_lt("test")) == "5c23fa4c91e28b3410dc118793a55bfb"


def test_splits_order_and_length_differ() -> None:
    data = emoji_lt("val")
    strings = {
        fingerprint(data),
        fingerprint(emoji_lt("test")),
        fingerprint(data.select(range(908))),
        fingerprint(data.select(range(908, -1, -1))),
    }
    assert len(strings) == 4


def test_selected_rows_are_hashed_not_the_table_behind_them() -> None:
    data = emoji_lt("val")
    assert fingerprint(data.select([5, 3])) == fingerprint(
        Dataset.from_list([data[5], data[3]], features=data.features)
    )


def test_place_on_disk_does_not_matter_but_content_does(tmp_path: Path) -> None:
    here = fingerprint(load_pairs(folder_of(tmp_path / "a")))
    assert fingerprint(load_pairs(folder_of(tmp_path / "b"))) == here
    assert fingerprint(load_pairs(folder_of(tmp_path / "c", shade=9))) != here
    assert fingerprint(load_pairs(folder_of(tmp_path / "d", caption="a cat"))) != here


def test_other_modalities_count() -> None:
    def of(value: float) -> str:
        return fingerprint(Dataset.from_dict({"index": [0], "features": [[value, 1.0]]}))

    assert of(0.5) == of(0.5) != of(0.25)


def test_empty_data_set_has_one_too() -> None:
    assert fingerprint(Dataset.from_dict({"caption": []})) != fingerprint(
        Dataset.from_dict({"text": []})
    )


def test_raw_bytes_count() -> None:
    buffer = io.BytesIO(b"clip")
    one = Dataset.from_dict({"mp4": [buffer.getvalue()]})
    assert fingerprint(one) != fingerprint(Dataset.from_dict({"mp4": [b"other"]}))
