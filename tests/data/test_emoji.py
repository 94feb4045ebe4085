import csv
import io
import os
import subprocess
import sys
import tarfile
from collections import Counter
from importlib.resources import files
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from tauten.data import class_counts, count_groups, emoji_lt, images

EMBEDDED = Path(str(files("tauten.data") / "embedded" / "emoji_lt"))
SIZES = {"train": 3812, "val": 909, "test": 943}
NPM_PACKAGES = ("emojibase-data", "emoji-datasource", "@lobehub/fluent-emoji-3d")


@pytest.fixture(scope="module")
def splits() -> dict[str, Dataset]:
    return {split: emoji_lt(split) for split in SIZES}


def test_sizes_columns_and_index(splits: dict[str, Dataset]) -> None:
    for split, size in SIZES.items():
        data = splits[split]
        assert data.column_names[:3] == ["index", "image", "caption"]
        assert data["index"][:] == list(range(size))
        picture = data[size - 1]["image"]
        assert picture.mode == "RGB"
        assert picture.size == (32, 32)
        assert data.cache_files == []


def test_class_sizes_are_the_documented_long_tail(splits: dict[str, Dataset]) -> None:
    sizes = sorted(Counter(splits["train"]["label"]).values())
    assert (len(sizes), sizes[-1], median(sizes), sizes[0]) == (98, 518, 26, 2)
    assert Counter(count_groups(sizes)) == {"head": 5, "mid": 53, "tail": 40}


def test_every_test_class_was_trained_on(splits: dict[str, Dataset]) -> None:
    for split in ("val", "test"):
        counts = class_counts(splits[split]["label"], splits["train"]["label"])
        assert counts.min() >= 2
    assert not set(splits["val"]["concept"]) & set(splits["test"]["concept"])
    assert set(splits["val"]["concept"]) <= set(splits["train"]["concept"])


def test_metadata_and_splits_equal_the_source(
    splits: dict[str, Dataset], shared_data: Path
) -> None:
    with (shared_data / "emoji_lt.csv").open(encoding="utf-8") as file:
        source = list(csv.DictReader(file))
    renamed = {"label": "subgroup"}
    same = ("id", "style", "concept", "group", "label", "caption", "alt_caption")
    for split, data in splits.items():
        rows = [row for row in source if row["split"] == split]
        for column in same:
            assert data[column][:] == [row[renamed.get(column, column)] for row in rows]
        assert ["|".join(words) for words in data["keywords"]] == [row["keywords"] for row in rows]


def test_pixels_equal_the_source_sheets(splits: dict[str, Dataset], shared_data: Path) -> None:
    folder = shared_data / "emoji_lt_sprites"
    with (folder / "index.csv").open(encoding="utf-8") as file:
        cells = {row["concept"]: int(row["cell"]) for row in csv.DictReader(file)}
    sheets = {
        style: np.asarray(Image.open(folder / f"{style}_32.png"))
        for style in ("noto", "twemoji", "fluent3d")
    }
    for data in splits.values():
        pixels = images(data).permute(0, 2, 3, 1).numpy()
        for row, (concept, style) in enumerate(zip(data["concept"], data["style"], strict=True)):
            top, left = (32 * part for part in divmod(cells[concept], 44))
            expected = sheets[style][top : top + 32, left : left + 32]
            assert np.array_equal(pixels[row], expected)


def test_pictures_show_what_the_large_ones_show(
    splits: dict[str, Dataset], shared_data: Path
) -> None:
    data = splits["test"]
    rows = {name: row for row, name in enumerate(data["id"])}
    with tarfile.open(shared_data / "emoji_lt-test.tar") as tar:
        names = [name for name in tar.getnames() if name.endswith(".png")][::50]
        for name in names:
            file = tar.extractfile(name)
            assert file is not None
            large = Image.open(io.BytesIO(file.read()))
            small = data[rows[name.removesuffix(".png")]]["image"]
            shrunk = np.asarray(large.resize((32, 32), Image.Resampling.BOX), dtype=float)
            assert np.abs(shrunk - np.asarray(small, dtype=float)).mean() < 12


def test_only_licensed_content_is_embedded(shared_data: Path) -> None:
    contents = {file.name for file in EMBEDDED.iterdir()}
    sheets = {f"{style}_32.webp" for style in ("noto", "twemoji", "fluent3d")}
    licences = {
        "Apache-2.0.txt",
        "MIT-emoji-datasource.txt",
        "MIT-emojibase-data.txt",
        "MIT-fluent-emoji-microsoft.txt",
    }
    assert contents == sheets | licences | {"index.csv", "ATTRIBUTION.txt", "Unicode-3.0.txt"}
    assert sum(file.stat().st_size for file in EMBEDDED.iterdir()) < 8_000_000
    for name in licences:
        source = (shared_data / "LICENSES" / name).read_text(encoding="utf-8")
        assert (EMBEDDED / name).read_text(encoding="utf-8") == source
    attribution = (EMBEDDED / "ATTRIBUTION.txt").read_text(encoding="utf-8")
    original = (shared_data / "LICENSES" / "ATTRIBUTION.txt").read_text(encoding="utf-8")
    for package in NPM_PACKAGES:
        assert package in attribution
        assert package in original
    for style in ("Noto Emoji", "Twemoji graphics", "Fluent Emoji", "CC BY 4.0", "Unicode-3.0.txt"):
        assert style in attribution
    for other in ("caltech", "EPIC", "COCO", "YouCook", "emoji_video"):
        assert other.lower() not in attribution.lower()


def test_index_lists_only_the_emoji_of_the_source(shared_data: Path) -> None:
    source = (shared_data / "emoji_lt_sprites" / "index.csv").read_bytes()
    assert (EMBEDDED / "index.csv").read_bytes() == source


def test_loads_without_network_and_writes_nothing(tmp_path: Path) -> None:
    program = (
        "import socket\n"
        "def refuse(*args, **kwargs): raise AssertionError('network used')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from tauten.data import emoji_lt\n"
        "print(len(emoji_lt('val')))\n"
    )
    source = Path(__file__).parents[2] / "src"
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(source)}
    for name in ("HF_HOME", "HF_DATASETS_CACHE", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "909", done.stderr
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="train, val, test, got 'validation'"):
        emoji_lt("validation")  # type: ignore[arg-type]


def test_a_second_drawing_of_half_of_the_concepts():
    train, val = (emoji_lt(split, another=True) for split in ("train", "val"))
    assert "another" not in emoji_lt("val").column_names
    there = [cell is not None for cell in train.select_columns("another")["another"]]
    assert 0.45 < sum(there) / len(there) < 0.55
    by_concept = {}
    for concept, has in zip(train["concept"], there, strict=True):
        by_concept.setdefault(concept, set()).add(has)
    assert all(len(both) == 1 for both in by_concept.values())
    row = there.index(True)
    twin = next(
        i
        for i, (concept, style) in enumerate(zip(train["concept"], train["style"], strict=True))
        if concept == train["concept"][row] and style != train["style"][row]
    )
    assert train[row]["another"].tobytes() == train[twin]["image"].tobytes()
    assert any(cell is not None for cell in val["another"])
