import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from tauten.data import images
from tauten.data.readers import READERS, Figures, protocol, read, to_dataset
from tauten.data.readers.entries import Entry

FIGURES = {"train": Figures(21, 105), "val": Figures(7, 35), "test": Figures(7, 35)}


@pytest.fixture
def coco(tmp_path: Path, shared_data: Path) -> Path:
    """35 real photos with five captions each, laid out as MSCOCO is."""
    root = tmp_path / "coco"
    photos = root / "val2014"
    photos.mkdir(parents=True)
    with tarfile.open(shared_data / "coco" / "coco35_photos.tar") as tar:
        for member in tar:
            if file := tar.extractfile(member):
                (photos / Path(member.name).name).write_bytes(file.read())
    schema = json.loads((root / "val2014" / "karpathy_schema.json").read_text())
    for number, row in enumerate(schema["images"]):
        row["filepath"] = "val2014"
        if row["split"] == "train" and number % 2:
            row["split"] = "restval"
    (root / "dataset_coco.json").write_text(json.dumps(schema))
    return root


def small(name: str, **changes):
    return replace(READERS[name], figures=changes.pop("figures", FIGURES), **changes)


def findings(report) -> dict:
    return {finding.name: finding for finding in report.findings}


def test_the_published_splits_are_expected():
    assert READERS["flickr30k"].figures["train"].samples == 29_000
    assert [READERS["flickr30k"].figures[s].samples for s in ("val", "test")] == [1_014, 1_000]
    assert [READERS["coco"].figures[s].samples for s in ("train", "val", "test")] == [
        113_287,
        5_000,
        5_000,
    ]
    assert 113_287 == 82_783 + 30_504


def test_restval_belongs_to_train_and_every_photo_has_its_five_captions(coco):
    found = read("coco", coco)
    assert {name: len(entries) for name, entries in found.splits.items()} == {
        "train": 21,
        "val": 7,
        "test": 7,
    }
    schema = json.loads((coco / "dataset_coco.json").read_text())["images"]
    literal = {row["filename"]: [s["raw"].strip() for s in row["sentences"]] for row in schema}
    for entries in found.splits.values():
        for entry in entries:
            assert list(entry.captions) == literal[entry.id]
            assert entry.media == coco / "val2014" / entry.id


def test_a_split_becomes_a_data_set_with_pictures_and_lists_of_captions(coco):
    dataset = to_dataset(read("coco", coco).splits["test"])
    assert dataset["index"] == list(range(7))
    assert all(len(texts) == 5 for texts in dataset["caption"])
    assert images(dataset, 32).shape == (7, 3, 32, 32)


def test_a_whole_tree_is_usable(coco):
    report = small("coco").check(coco, everything=True, progress=False)
    assert report.usable
    assert all(finding.ok for finding in report.findings)
    assert findings(report)["readable media of those tried"].found == 35
    assert len(report.fingerprint) == 32
    assert report.variant == "Karpathy"


def test_other_counts_than_the_published_ones_are_not_usable(coco):
    report = READERS["coco"].check(coco, progress=False)
    assert not report.usable
    train = findings(report)["train samples"]
    assert (train.found, train.expected, train.ok) == (21, 113_287, False)
    assert "113,287  FAIL" in report.table()
    assert "cocodataset.org" in report.table()


def test_a_missing_photo_is_named(coco):
    victim = sorted((coco / "val2014").glob("*.jpg"))[3]
    victim.unlink()
    report = small("coco").check(coco, progress=False)
    media = findings(report)["samples with media"]
    assert (media.found, media.expected, media.ok) == (34, 35, False)
    assert victim.name in media.remedy
    assert not report.usable


def test_an_unreadable_photo_is_named(coco):
    victim = sorted((coco / "val2014").glob("*.jpg"))[3]
    victim.write_bytes(victim.read_bytes()[:200])
    tried = findings(small("coco").check(coco, progress=False))["readable media of those tried"]
    assert (tried.found, tried.expected, tried.ok) == (34, 35, False)
    assert victim.name in tried.remedy


def test_photos_may_lie_in_a_folder_of_images(coco):
    (coco / "images").mkdir()
    (coco / "val2014").rename(coco / "images" / "val2014")
    assert small("coco").check(coco, progress=False).usable


def test_the_fingerprint_is_of_the_content_not_of_the_place(coco, tmp_path):
    reader = small("coco")
    before = reader.check(coco, progress=False).fingerprint
    moved = coco.rename(tmp_path / "elsewhere")
    assert reader.check(moved, progress=False).fingerprint == before
    file = moved / "dataset_coco.json"
    file.write_text(file.read_text().replace("bedroom", "kitchen", 1))
    assert reader.check(moved, progress=False).fingerprint != before


def test_another_photo_changes_the_fingerprint(coco, put):
    before = read("coco", coco).fingerprint()
    put(sorted((coco / "val2014").glob("*.jpg"))[0])
    assert read("coco", coco).fingerprint() != before


def test_a_photo_in_two_splits_is_found(coco):
    file = coco / "dataset_coco.json"
    schema = json.loads(file.read_text())
    twin = dict(next(row for row in schema["images"] if row["split"] == "test"), split="val")
    schema["images"].append(twin)
    file.write_text(json.dumps(schema))
    report = findings(small("coco").check(coco, progress=False))
    assert report["ids in two splits"].found == 1
    assert report["ids twice in a split"].ok


def test_flickr_reads_the_same_format(tmp_path, put):
    rows = []
    for k in range(4):
        put(tmp_path / "flickr30k-images" / f"{k}.jpg", k)
        sentences = [{"raw": f" caption {k} {n} "} for n in range(5 - (k == 3))]
        split = ("train", "train", "val", "test")[k]
        rows.append({"filename": f"{k}.jpg", "split": split, "sentences": sentences})
    (tmp_path / "dataset_flickr30k.json").write_text(json.dumps({"images": rows}))
    found = read("flickr30k", tmp_path)
    assert found.splits["train"][1].captions == tuple(f"caption 1 {n}" for n in range(5))
    report = findings(READERS["flickr30k"].check(tmp_path, progress=False))
    assert report["pictures with fewer than 5 captions"].found == 1
    assert report["samples with media"].found == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "has no 'images'"),
        ('{"images": [{"filename": "a.jpg"}]}', "needs filename, split"),
        ('{"images": [{"filename": "a", "split": "dev", "sentences": []}]}', "split 'dev'"),
        ('{"images": [{"filename": "a", "split": "val", "sentences": [3]}]}', "another form"),
    ],
)
def test_other_files_are_refused_with_their_name(tmp_path, content, words):
    (tmp_path / "dataset_coco.json").write_text(content)
    report = READERS["coco"].check(tmp_path, progress=False)
    assert not report.usable
    assert report.fingerprint == ""
    assert words in report.findings[0].remedy


def test_protocols_of_five_thousand_pictures():
    entries = [Entry(str(k), b"") for k in range(5000)]
    ids = [entry.id for entry in entries]
    assert protocol(entries, "5k") == [ids]
    assert protocol(entries, "1k") == [ids[:1000]]
    folds = protocol(entries, "1k-of-5k")
    assert [len(fold) for fold in folds] == [1000] * 5
    assert [name for fold in folds for name in fold] == ids
    with pytest.raises(ValueError, match="needs 5000 pictures, there are 4999"):
        protocol(entries[:-1], "1k-of-5k")
    with pytest.raises(ValueError, match="one of 1k, 5k, 1k-of-5k"):
        protocol(entries, "2k")


def test_coco_val2017_is_the_published_file(shared_data):
    report = READERS["coco_val2017"].check(shared_data / "coco", progress=False)
    numbers = findings(report)
    assert (numbers["val samples"].found, numbers["val captions"].found) == (5_000, 25_014)
    assert not report.usable, "the photos are not there"
    assert "val2017" in numbers["samples with media"].remedy
