"""Data sets by ``datasets.load_dataset``: from folders in the layouts of the hub, no network."""

import io
import logging

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as Pillow

from tauten.data import load_pairs
from tauten.data.saved import hub_name, is_hub


@pytest.fixture(autouse=True)
def _no_network(monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def rows(count, start=0):
    def picture(i):
        file = io.BytesIO()
        Pillow.new("RGB", (4, 4), (i, 0, 0)).save(file, "png")
        return {"bytes": file.getvalue(), "path": None}

    numbers = range(start, start + count)
    features = Features(
        {
            "image": Image(),
            "text": Value("string"),
            "label": ClassLabel(names=["cat", "dog"]),
        }
    )
    return Dataset.from_dict(
        {
            "image": [picture(i) for i in numbers],
            "text": [f"a {i}" for i in numbers],
            "label": [i % 3 - 1 for i in numbers],
        },
        features=features,
    )


@pytest.fixture
def folder(tmp_path):
    """A repository as ``push_to_hub`` writes it, with a split of another name."""
    parts = {"train": rows(6), "validation": rows(3, 6), "test": rows(3, 9), "extra": rows(2, 12)}
    place = tmp_path / "repo"
    for name, part in DatasetDict(parts).items():
        (place / "data").mkdir(parents=True, exist_ok=True)
        part.to_parquet(place / "data" / f"{name}-00000-of-00001.parquet")
    (place / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        + "".join(f"  - split: {name}\n    path: data/{name}-*\n" for name in parts)
        + "---\n"
    )
    return place


def test_splits_classes_and_pictures_of_a_repository(folder, caplog):
    with caplog.at_level(logging.WARNING):
        data = load_pairs(f"hf:{folder}", caption="text", progress=False)
    assert f"hf:{folder}: splits that are left out: extra" in caplog.text
    assert data["split"] == ["train"] * 6 + ["validation"] * 3 + ["test"] * 3
    assert data["caption"][:2] == ["a 0", "a 1"]
    assert data["label"][:4] == [None, "cat", "dog", None]
    assert data[7]["image"].getpixel((0, 0)) == (7, 0, 0)


def test_one_split_or_a_part_of_it(folder):
    data = load_pairs(f"hf:{folder}@train[:4]", caption="text", progress=False)
    assert data["caption"] == ["a 0", "a 1", "a 2", "a 3"]
    assert "split" not in data.column_names
    with pytest.raises(ValueError, match=r"@nothing cannot be loaded by datasets.load_dataset: "):
        load_pairs(f"hf:{folder}@nothing", caption="text", progress=False)
    with pytest.raises(ValueError, match=r"no caption column 'caption'; columns: "):
        load_pairs(f"hf:{folder}@train", progress=False)


def test_a_name_that_cannot_be_reached_is_said(monkeypatch):
    def unreachable(name, config, split):
        assert (name, config, split) == ("acme/none", "de", "test")
        raise ConnectionError("no such host")

    monkeypatch.setattr("tauten.data.saved.load_dataset", unreachable)
    with pytest.raises(ValueError, match="load_dataset: no such host"):
        load_pairs("hf:acme/none:de@test", progress=False)
    with pytest.raises(ValueError, match=r"hf: names no data set: give hf:ORG/NAME"):
        load_pairs("hf:", progress=False)


def test_names_on_the_hub(tmp_path, monkeypatch):
    assert hub_name("hf:org/name") == ("org/name", "", "")
    assert hub_name("hf:org/name:de@train[:5]") == ("org/name", "de", "train[:5]")
    (tmp_path / "a@b").mkdir()
    monkeypatch.chdir(tmp_path)
    assert hub_name("hf:a@b") == ("a@b", "", "")
    assert hub_name("hf:a@b@train") == ("a@b", "", "train")
    (tmp_path / "hf:x").mkdir()
    assert not is_hub("hf:x")
    assert is_hub("hf:y")


def test_validation_that_is_not_there_is_held_out_of_train(folder, tmp_path):
    from tauten.training import DataConfig
    from tauten.training.stores.splits import load_splits

    for file in (folder / "data").glob("[ve]*"):
        file.unlink()
    (folder / "README.md").unlink()
    whole = DataConfig(source=f"hf:{folder}", caption="text")
    parts = DataConfig(source=f"hf:{folder}@train", test=f"hf:{folder}@test", caption="text")
    for config in (whole, parts):
        config.label, config.held_out = "label", 0.4
        splits = load_splits(config, progress=False)
        assert len(splits["train"]) + len(splits["val"]) == 6
        assert len(splits["test"]) == 3
    assert set(splits["test"].labels) <= {"", "cat", "dog"}
