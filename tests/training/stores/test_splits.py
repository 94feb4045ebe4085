import dataclasses
import json
from collections import Counter

import pytest
import torch
from PIL import Image

from tauten.data import pixels
from tauten.structure import caption_clusters, embed, embed_captions
from tauten.training import DataConfig
from tauten.training.stores.classes import Classes, with_classes
from tauten.training.stores.pair_data import SPLITS
from tauten.training.stores.splits import load_split, load_splits


@pytest.fixture
def folder(tmp_path):
    """60 pictures, among them equal ones, and captions, among them equal ones."""
    rows = []
    for i in range(60):
        color = (i * 4 if i % 10 else 0, 40, 90)
        Image.new("RGB", (16, 16), color).save(tmp_path / f"{i}.png")
        caption = f"thing {i // 2}" if i < 20 else f"thing {i}"
        rows.append({"file_name": f"{i}.png", "caption": caption, "kind": f"k{i % 3}"})
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def splits(config):
    return {name: load_split(config, name) for name in SPLITS}


def disjoint(sets):
    return sum(map(len, sets)) == len(set().union(*sets))


def test_emoji_has_labels_and_texts():
    val = load_split(DataConfig(limit=20), "val")
    assert len(val) == 20
    assert val.images.shape == (20, 3, 32, 32)
    assert val.labels is not None
    assert any(val.keywords)
    assert any(val.alternatives)


def test_shares_of_a_source_are_disjoint_and_keep_equal_pairs_together(folder):
    found = splits(DataConfig(source=str(folder), held_out=0.25, image_size=16))
    assert sum(map(len, found.values())) == 60
    assert min(map(len, found.values())) > 0
    captions = [{text for row in data.captions for text in row} for data in found.values()]
    assert disjoint(captions)
    pixels = [{bytes(image.flatten().tolist()) for image in data.images} for data in found.values()]
    assert disjoint(pixels)
    again = splits(DataConfig(source=str(folder), held_out=0.25, image_size=16))
    assert [d.fingerprint for d in again.values()] == [d.fingerprint for d in found.values()]


def test_own_validation_and_test(folder):
    config = DataConfig(source=str(folder), val=str(folder), test=str(folder), image_size=16)
    assert [len(data) for data in splits(config).values()] == [60, 60, 60]


def test_a_split_column(folder):
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for i, row in enumerate(rows):
        row["split"] = ("train", "validation", "test")[min(i // 40, 1) + (i >= 50)]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = DataConfig(source=str(folder), image_size=16)
    assert [len(data) for data in splits(config).values()] == [40, 10, 10]
    rows[0]["split"] = "maybe"
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match=r"the split column holds \['maybe'\]"):
        load_split(config, "train")


def test_labels_and_their_groups(folder):
    config = DataConfig(source=str(folder), label="kind", image_size=16, head=12, tail=5)
    found, classes = with_classes(splits(config), config)
    assert classes is not None
    assert classes.counts == dict(Counter(found["train"].labels))
    assert Classes({"a": 12, "b": 5, "c": 4}, 12, 5).groups(["a", "b", "c", "new"]) == [
        "head", "mid", "tail", "tail",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="data.groups=thirds needs 3 or more classes, got 2"):
        Classes({"a": 9, "b": 5}, 12, 5, by="thirds").groups(["a"])


def test_caption_clusters_serve_as_classes(folder):
    config = DataConfig(source=str(folder), clusters=3, held_out=0.25, image_size=16)
    found, classes = with_classes(splits(config), config)
    assert classes is not None
    assert set(classes.counts) <= {"cluster 0", "cluster 1", "cluster 2"}
    assert sum(classes.counts.values()) == len(found["train"])
    assert set(found["test"].labels) <= {"cluster 0", "cluster 1", "cluster 2"}


def test_clusters_are_the_nearest_and_each_split_is_embedded_once(folder, monkeypatch):
    config = DataConfig(source=str(folder), clusters=5, held_out=0.25, image_size=16)
    parts = splits(config)
    texts = {name: [own[0] for own in part.captions] for name, part in parts.items()}
    centroids = caption_clusters(texts["train"], 5, starts=1, progress=False).centroids.double()
    wanted = {
        name: [f"cluster {int((centroids @ row).argmax())}" for row in rows.double()]
        for name, rows in (
            (name, embed_captions(own, progress=False)) for name, own in texts.items()
        )
    }
    seen = []

    def noted(captions):
        seen.append(list(captions))

    monkeypatch.setattr(embed, "check_captions", noted)
    found, _ = with_classes(parts, config, progress=False)
    assert {name: part.labels for name, part in found.items()} == wanted
    assert sorted(seen) == sorted(texts.values())


def test_bars_are_shown_only_where_wanted(folder, monkeypatch, capsys):
    monkeypatch.setattr(pixels, "_BAR_FROM", 10)
    config = DataConfig(source=str(folder), clusters=3, held_out=0.25, image_size=16)
    with_classes(load_splits(config, progress=False), config, progress=False)
    assert capsys.readouterr().err == ""
    load_split(config, "train")
    assert "images: 100%" in capsys.readouterr().err


def test_no_classes(folder):
    config = DataConfig(source=str(folder), image_size=16)
    assert with_classes(splits(config), config)[1] is None


def test_errors(folder):
    with pytest.raises(ValueError, match="data.source is empty: give emoji_lt, or a folder"):
        load_split(DataConfig(source=""), "train")
    with pytest.raises(ValueError, match="no label column 'colour'"):
        load_split(DataConfig(source=str(folder), label="colour"), "train")
    rows = (folder / "metadata.jsonl").read_text().splitlines()
    (folder / "metadata.jsonl").write_text("\n".join(rows[:3]))
    with pytest.raises(ValueError, match="no sample left in a split"):
        splits(DataConfig(source=str(folder), held_out=0.01))


def test_unique_captions():
    from tauten.training.stores.pair_data import PairData

    data = PairData(torch.zeros(2, 3, 2, 2), [["a", "b"], ["b"]], ["", ""], [[], []], None, "")
    assert data.unique_captions() == (["a", "b"], [[0, 1], [1]])


def test_a_split_column_without_a_split_says_what_it_holds(shared_data):
    source = str(shared_data / "emoji_lt-val.tar")
    with pytest.raises(ValueError, match="no train samples: its split column holds only val"):
        load_split(DataConfig(source=source, limit=8), "train")


@pytest.mark.parametrize("held", [{"val"}, {"val", "test"}])
def test_splits_that_the_column_lacks_are_held_out_of_train(folder, held, caplog):
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for place, row in enumerate(rows):
        row["split"] = "test" if "test" not in held and place % 10 in (1, 2) else "train"
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = DataConfig(source=str(folder), held_out=0.3)
    with caplog.at_level("INFO", logger="tauten.training"):
        whole = load_splits(config)
    lacking = " and no ".join(name for name in ("val", "test") if name in held)
    assert f"its split column has no {lacking}, held out of train" in caplog.text
    captions = {
        name: {text for row in data.captions for text in row} for name, data in whole.items()
    }
    assert set().union(*captions.values()) == {row["caption"] for row in rows}
    of_test = {row["caption"] for row in rows if row["split"] == "test"}
    if of_test:
        assert captions["test"] == of_test
    alone = load_split(config, "val")
    assert alone.fingerprint == whole["val"].fingerprint


def test_the_source_is_read_once_for_all_splits(shared_data, caplog):
    source = str(shared_data / "coco" / "coco35_photos.tar")
    with caplog.at_level("INFO", logger="tauten.data"):
        splits = load_splits(DataConfig(source=source, caption="captions"))
    assert sum(len(data) for data in splits.values()) == 35
    assert len([r for r in caplog.records if "skipped 1 of 36" in r.message]) == 1


def test_the_whole_members_of_a_cut_tar_are_used_on_demand(shared_data, tmp_path):
    cut = tmp_path / "cut.tar"
    cut.write_bytes((shared_data / "caltech98_lt-test.tar").read_bytes()[:200_000])
    config = DataConfig(source=str(cut), caption="cls")
    with pytest.raises(ValueError, match="truncated or damaged"):
        load_split(config, "train")
    assert len(load_split(dataclasses.replace(config, allow_truncated=True), "train")) > 20
