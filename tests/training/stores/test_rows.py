"""Rows of one picture, and classes that are missing."""

import io
import json
import logging
import tarfile
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tauten.data import load_pairs
from tauten.training import Config, DataConfig, specs
from tauten.training.build import build_loss
from tauten.training.stores.classes import Classes, with_classes
from tauten.training.stores.rows import class_names, one_per_picture
from tauten.training.stores.splits import load_split, load_splits


def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def flat(tmp_path):
    """A csv with a row for each caption of 60 pictures."""
    lines = ["image,caption,kind"]
    for i in range(60):
        (tmp_path / f"{i}.png").write_bytes(png(i))
        lines += [f"{i}.png,text {i} {k},k{i % 3}" for k in range(2 + i % 3)]
    (tmp_path / "flat.csv").write_text("\n".join(lines))
    return tmp_path / "flat.csv"


def test_rows_of_one_picture_are_one_sample(flat, caplog):
    config = DataConfig(source=str(flat), label="kind", image_size=8, held_out=0.25)
    with caplog.at_level(logging.INFO, logger="tauten.training"):
        found = load_splits(config)
    assert sum(len(data) for data in found.values()) == 60
    assert "180 rows show 60 pictures, each is one sample" in caplog.text
    for data in found.values():
        for own in data.captions:
            i = int(own[0].split()[1])
            assert own == [f"text {i} {k}" for k in range(2 + i % 3)]
    _, classes = with_classes(found, config)
    assert sum(classes.counts.values()) == len(found["train"])


def test_which_rows_are_joined(tmp_path):
    rows = {
        "image": [png(0), png(0), png(1), png(1), png(2), png(2)],
        "caption": ["a", "b", "c", "c", "d", "e"],
        "kind": [1, 1, 1, 1, 1, 2],
    }
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    data = load_pairs(tmp_path / "t.parquet")
    found = one_per_picture(data, "kind", "t")
    assert found["caption"][:] == [["a", "b"], ["c"], ["c"], ["d"], ["e"]]
    assert found["index"][:] == [0, 2, 3, 4, 5]
    assert one_per_picture(data.select([0, 2, 4]), "kind", "t")["caption"][:] == ["a", "c", "d"]


def test_names_of_classes(caplog):
    assert class_names([1, 2], "k", "s") == ["1", "2"]
    assert class_names([1.0, 2.5], "k", "s") == ["1.0", "2.5"]
    assert class_names([b"dog\n", "cat"], "k", "s") == ["dog", "cat"]
    with caplog.at_level(logging.WARNING, logger="tauten.training"):
        assert class_names([1.0, float("nan"), None, " "], "k", "s") == ["1", "", "", ""]
    assert (
        "3 of 4 samples of s have no class in the label column 'k', first: sample 1" in caplog.text
    )
    with pytest.raises(ValueError, match="'k' of s holds values of type list: a class is one text"):
        class_names([["a"], ["b"]], "k", "s")
    for cells, needed in (([None, None], False), (["a", None], True)):
        with pytest.raises(
            ValueError, match="have no class in the label column 'k', first: sample"
        ):
            class_names(cells, "k", "s", needed)


def test_the_file_that_lacks_classes_is_named(flat):
    bare = flat.with_name("bare.csv")
    bare.write_text("image,caption\n0.png,x\n1.png,y\n")
    config = DataConfig(source=str(flat), test=str(bare), label="kind", image_size=8)
    with pytest.raises(ValueError, match=r"no label column 'kind' in .*bare\.csv; columns: index"):
        load_splits(config)


def write(folder, kind):
    """60 pairs; every third lacks its class, the others have class 0, 1, 2 or 3."""
    labels = [None if i % 3 == 0 else i % 4 for i in range(60)]
    rows = [{"image": f"{i}.png", "caption": f"text {i}", "label": k} for i, k in enumerate(labels)]
    path = folder / f"t.{kind}"
    if kind == "tar":
        with tarfile.open(path, "w") as tar:
            for i, row in enumerate(rows):
                content = {} if row["label"] is None else {"label": row["label"]}
                about = json.dumps(content | {"caption": row["caption"]}).encode()
                for name, data in ((f"{i:02}.json", about), (f"{i:02}.png", png(i))):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        return path
    for i in range(60):
        (folder / f"{i}.png").write_bytes(png(i))
    if kind == "parquet":
        values = [float("nan") if k is None else float(k) for k in labels]
        columns = {name: [row[name] for row in rows] for name in ("image", "caption")}
        pq.write_table(pa.table(columns | {"label": values}), path)
    elif kind == "csv":
        cells = ["" if k is None else str(k) for k in labels]
        lines = [f"{i}.png,text {i},{cell}" for i, cell in enumerate(cells)]
        path.write_text("\n".join(["image,caption,label", *lines]))
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "tar"])
def test_missing_classes_are_missing(tmp_path, caplog, kind):
    config = DataConfig(
        source=str(write(tmp_path, kind)), label="label", image_size=8, held_out=0.2
    )
    with caplog.at_level(logging.WARNING, logger="tauten.training"):
        found, classes = with_classes(load_splits(config), config)
    captions = {
        name: [int(own[0].split()[1]) for own in data.captions] for name, data in found.items()
    }
    for name, data in found.items():
        assert data.labels == [str(i % 4) if i % 3 else "" for i in captions[name]]
    assert classes.counts == dict(Counter(str(i % 4) for i in captions["train"] if i % 3))
    lacking = sum(i % 3 == 0 for i in captions["train"])
    assert f"{lacking} of {len(captions['train'])} samples of" in caplog.text
    groups = classes.groups(found["train"].labels)
    assert [group == "unlabelled" for group in groups] == [i % 3 == 0 for i in captions["train"]]


def test_missing_classes_in_a_stream(tmp_path, caplog):
    config = DataConfig(
        source=str(write(tmp_path, "tar")), label="label", image_size=8, stream=True,
        val="unused", test="unused",
    )  # fmt: skip
    data = load_splits(config, ("train",), index=tmp_path / "i.jsonl")["train"]
    assert data.labels == [str(i % 4) if i % 3 else "" for i in range(60)]


def test_thirds_leave_samples_without_a_class_out():
    classes = Classes({"a": 9, "b": 5, "c": 1}, 0, 0, by="thirds")
    assert classes.groups(["a", "", "c", "new"]) == ["head", "unlabelled", "tail", "tail"]


def test_a_control_of_classes_refuses_samples_without_one():
    config = Config(control=specs.control("mmts"))
    with pytest.raises(
        ValueError, match="control.kind=mmts needs the class of every .* 2 of 3 have"
    ):
        build_loss(config, 3, torch.tensor([4, 0, 0]), 10, ["a", "", ""])


def test_views_need_a_class_and_no_caption(tmp_path):
    for kind in "ab":
        (tmp_path / kind).mkdir()
        for i in range(10):
            (tmp_path / kind / f"{i}.png").write_bytes(png(i + 10 * (kind == "b")))
    config = DataConfig(source=str(tmp_path), label="label", image_size=8, held_out=0.3)
    found = load_splits(config, views=True)
    assert sum(len(data) for data in found.values()) == 20
    assert set(found["train"].labels) == {"a", "b"}
    rows = [
        {"file_name": f"{k}/{i}.png", "kind": k if i else None} for i in range(10) for k in "ab"
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match=r"2 of 20 samples of .* have no class"):
        load_split(
            DataConfig(source="", test=str(tmp_path), label="kind", image_size=8),
            "test",
            views=True,
        )


def test_one_column_as_caption_and_class(tmp_path):
    (tmp_path / "t.jsonl").write_text(
        "\n".join(json.dumps({"image": f"{i}.png", "kind": f"k{i % 3}"}) for i in range(30))
    )
    for i in range(30):
        (tmp_path / f"{i}.png").write_bytes(png(i))
    config = DataConfig(
        source=str(tmp_path / "t.jsonl"), caption="kind", label="kind", image_size=8
    )
    data = load_split(config, "train")
    assert [[name] for name in data.labels] == data.captions
