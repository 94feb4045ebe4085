"""Pictures decoded when they are checked, beside pictures that are decoded for their pixels too."""

import io
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tauten.data import decoder, images, load_pairs
from tauten.data.decoder import Decoder
from tauten.training import DataConfig
from tauten.training.stores import splits as reader
from tauten.training.stores.splits import load_split, load_splits


def encoded(number, kind="JPEG", size=(40, 30), **settings):
    noise = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise).resize(size).save(content, kind, **settings)
    return content.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.fixture
def folder(tmp_path):
    """Fifty pictures in files, two of them in several rows, and four that cannot be used."""
    pictures = {f"{i}.jpg": encoded(i) for i in range(44)}
    pictures |= {f"{i}.png": encoded(i, "PNG") for i in range(44, 48)}
    pictures |= {"48.jpg": encoded(48, exif=turned()), "49.bmp": encoded(49, "BMP")}
    pictures |= {"cut.jpg": encoded(50)[:-300], "page.jpg": b"<html>404</html>"}
    for name, content in pictures.items():
        (tmp_path / name).write_bytes(content)
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "range.tiff")
    names = [*pictures, "range.tiff", "nowhere.jpg", "3.jpg", "3.jpg", "48.jpg"]
    rows = [{"file_name": n, "caption": f"thing {i}", "kind": "a"} for i, n in enumerate(names)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def with_bytes(folder):
    """The same pictures inside a table."""
    rows = map(json.loads, (folder / "metadata.jsonl").read_text().splitlines())
    there = [row for row in rows if (folder / row["file_name"]).exists()]
    cells = [{"bytes": (folder / r["file_name"]).read_bytes(), "path": None} for r in there]
    columns = {"image": cells, "caption": [r["caption"] for r in there], "kind": ["a"] * len(there)}
    pq.write_table(pa.table(columns), folder / "pairs.parquet")
    return folder / "pairs.parquet"


def twice(monkeypatch):
    """Let pictures be checked and then decoded, as where their pixels are too many to keep."""
    monkeypatch.setattr(reader, "_decoder", lambda config: None)


def equal(one, other):
    return torch.equal(one.images, other.images) and all(
        getattr(one, name) == getattr(other, name)
        for name in ("captions", "labels", "fingerprint", "contents")
    )


@pytest.mark.parametrize("size", [{}, {"edge": 24, "image_size": 20}, {"draft": True}])
@pytest.mark.parametrize("inside", [False, True])
def test_same_pixels_hashes_and_words(folder, caplog, monkeypatch, size, inside):
    source = with_bytes(folder) if inside else folder
    config = DataConfig(source=str(source), **({"image_size": 12} | size))
    once = load_splits(config)
    said = caplog.text
    caplog.clear()
    twice(monkeypatch)
    assert all(equal(once[name], data) for name, data in load_splits(config).items())
    assert caplog.text == said
    assert f"skipped {3 if inside else 4} of" in said
    with pytest.raises(ValueError, match="unreadable image: image file is truncated"):
        load_splits(DataConfig(source=str(source), strict=True))


def test_each_file_is_opened_once(folder, monkeypatch):
    opened = Counter()
    real = Image.open

    def noted(file, *args, **options):
        opened[str(file).rpartition("/")[2]] += 1
        return real(file, *args, **options)

    monkeypatch.setattr(Image, "open", noted)
    load_splits(DataConfig(source=str(folder), image_size=12))
    assert {opened[f"{i}.jpg"] for i in range(44)} == {1}
    assert opened["48.jpg"] == 1
    assert opened["cut.jpg"] == 2  # once more for what is wrong with it
    opened.clear()
    load_split(DataConfig(source=str(folder), image_size=12), "test")
    assert max(opened.values()) == 2  # the pixels of the other splits are not made
    assert opened.total() < 2 * 54


def test_what_is_more_than_is_kept_is_decoded_again(folder, monkeypatch):
    config = DataConfig(source=str(folder), image_size=12)
    whole = load_splits(config)
    for kept in (0, 5 * 12 * 12 * 3):
        monkeypatch.setattr(
            reader, "_decoder", lambda config, kept=kept: Decoder((12, 12), most=kept)
        )
        assert all(equal(whole[name], data) for name, data in load_splits(config).items())
    one = Decoder((12, 12), most=5 * 12 * 12 * 3)
    stored = [{"bytes": encoded(i), "path": None} for i in range(8)]
    assert [one.check(cell) for cell in stored] == [None] * 8
    assert len(one._kept) == 5


def test_a_picture_that_only_its_pixels_show_as_damaged(folder, monkeypatch):
    """What the check lets pass, and cannot be turned or resized, is told when pixels are made."""

    def broken(stored, size, draft=False):
        if str(stored["path"]).endswith("7.jpg"):
            raise OSError("odd orientation")
        return real(stored, size, draft)

    real = decoder.pixels_of
    monkeypatch.setattr(decoder, "pixels_of", broken)
    with pytest.raises(ValueError, match=r"row \d+: unreadable image: odd orientation"):
        load_splits(DataConfig(source=str(folder), image_size=12))


def test_pixels_are_those_of_images(folder):
    data = load_pairs(folder)
    loaded = load_splits(DataConfig(source=str(folder), image_size=12))
    index = [row for part in loaded.values() for row in part.captions]
    expected = dict(zip(data["caption"][:], images(data, (12, 12)), strict=True))
    pixels = [picture for part in loaded.values() for picture in part.images]
    for captions, picture in zip(index, pixels, strict=True):
        assert torch.equal(expected[captions[0]], picture)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"others": ("side",)}, "no column 'side' of data.others in .*; columns: index, image"),
        (
            {"label": "class"},
            "no label column 'class' in .*; columns: (?!.*caption.*caption).*kind",
        ),
        ({"negatives": "bad"}, "no column data.negatives=bad in .*; columns: .*kind"),
        ({"caption": "title"}, "no caption column 'title'; columns: caption, kind"),
        ({"image": "photo"}, "no column 'photo'; columns: "),
    ],
)
def test_wrong_columns_are_told_before_a_picture_is_decoded(folder, monkeypatch, wrong, message):
    def never(*args, **options):
        raise AssertionError("a picture was decoded")

    monkeypatch.setattr(Image, "open", never)
    with pytest.raises(ValueError, match=message):
        load_splits(DataConfig(source=str(folder), **wrong))


def test_a_column_that_is_kept_under_another_name(folder):
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for row in rows:
        row["index"] = row["file_name"][:1]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = DataConfig(source=str(folder), label="source_index", image_size=12)
    assert load_split(config, "train").labels


def test_further_modalities_of_load_pairs_must_be_there(folder):
    with pytest.raises(ValueError, match="no column 'side' of partial=; columns: index, image"):
        load_pairs(folder, partial=["side"])
