"""A record tells where data are without saying who has them, and is understood from anywhere."""

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tauten.data import emoji_lt
from tauten.training import evaluate, train
from tauten.training.options.config_tree import to_dict
from tauten.training.run.places import located, portable, shown


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home" / "lovelace"
    (folder / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder / "work")
    return folder


def tree(make_config, **fields):
    return to_dict(make_config(Path("runs/a"), **fields))


def test_places_are_relative_to_the_run(home, make_config):
    given = tree(
        make_config,
        data__source="pairs/*.tar",
        data__val=f"emoji_video:{home}/videos",
        data__test=str(home / "test.csv"),
        model__image="models/both.pt",
        model__text="./tokenizer",
    )
    found = portable(given, Path("runs/a"))
    assert found["data"]["source"] == "../../pairs/*.tar"
    assert found["data"]["val"] == "emoji_video:../../../videos"
    assert found["data"]["test"] == "../../../test.csv"
    assert found["model"]["image"] == "../../models/both.pt"
    assert found["model"]["text"] == "../../tokenizer"
    assert found["output"] == "."
    back = located(found, home / "work" / "runs" / "a")
    assert back == located(given, Path())
    assert back["data"]["source"] == str(home / "work" / "pairs" / "*.tar")


def test_names_are_no_places(home, make_config):
    (home / "work" / "convolutional").mkdir()
    given = tree(make_config, model__text="minilm")
    found = portable(given, Path("runs/a"))
    assert found["data"] == given["data"]
    assert found["model"] == given["model"]


def test_a_run_elsewhere_does_not_name_the_home_folder(home, make_config, tmp_path):
    given = tree(make_config, data__source=str(home / "pairs"), data__val=str(tmp_path / "val"))
    found = portable(given, tmp_path / "scratch" / "a")
    assert found["data"]["source"] == "~/pairs"
    assert found["data"]["val"] == "../../val"
    assert located(found, tmp_path / "scratch" / "a")["data"] == located(given, Path())["data"]


def test_a_source_is_shown_by_its_name(home):
    assert shown(f"emoji_video:{home}") == "emoji_video"
    assert shown(str(home / "pairs")) == "pairs"
    assert shown(".") == "work"
    assert shown("emoji_lt") == "emoji_lt"


@pytest.fixture
def run(home, make_config):
    """A run on a folder of pictures, begun from another working directory."""
    (home / "pairs").mkdir()
    for row in emoji_lt("train").select(range(64)):
        row["image"].save(home / "pairs" / f"{row['id']}.png")
        (home / "pairs" / f"{row['id']}.txt").write_text(row["caption"])

    def make(output="runs/a", source="../pairs"):
        return make_config(
            Path(output), data__source=source, data__held_out=0.2, optim__batch_size=8
        )

    train(make())
    return make


def test_a_run_goes_on_and_is_evaluated_from_another_folder(run, home, monkeypatch):
    for name in ("config.yaml", "results.json"):
        text = (home / "work" / "runs" / "a" / name).read_text()
        assert "lovelace" not in text
        assert "pairs" in text
    whole = train(run())
    monkeypatch.chdir(home)
    (home / "work" / "runs" / "a" / "results.json").unlink()
    assert train(run("work/runs/a", "pairs")).test == whole.test
    assert evaluate("work/runs/a", bootstrap=20, progress=False) == whole.test
    (home / "work" / "runs" / "a" / "results.json").unlink()
    (home / "pairs").rename(home / "moved")
    assert train(run("work/runs/a", "moved")).test == whole.test


def test_a_record_of_an_earlier_version_goes_on_from_its_folder(run, home):
    path = home / "work" / "runs" / "a" / "config.yaml"
    record = yaml.safe_load(path.read_text())
    record["tauten_run"] = 1
    del record["run"]
    record["config"]["data"]["source"] = "../pairs"
    record["config"]["output"] = "runs/a"
    path.write_text(yaml.safe_dump(record))
    for file in (home / "work" / "runs" / "a" / "checkpoints").glob("*/config.yaml"):
        file.unlink()
        file.write_text(path.read_text())
        marker = file.with_name("complete.json")
        sizes = {
            str(p.relative_to(file.parent)): p.stat().st_size
            for p in file.parent.rglob("*")
            if p.is_file() and p != marker
        }
        marker.write_text(json.dumps({"files": sizes}))
    whole = train(run())
    (path.parent / "results.json").unlink()
    assert train(run()).test == whole.test
    assert evaluate(path.parent, bootstrap=20, progress=False) == whole.test


@pytest.mark.parametrize("change", ["picture", "caption"])
def test_any_changed_sample_is_refused(run, home, change):
    """By the run that goes on, and by its evaluation."""
    whole = train(run())
    folder = home / "work" / "runs" / "a"
    (folder / "results.json").unlink()
    for file in sorted((home / "pairs").glob("*.png" if change == "picture" else "*.txt")):
        before = file.read_bytes()
        if change == "picture":
            Image.new("RGB", (8, 8)).save(file)
        else:
            file.write_text(file.read_text() + "!")
        with pytest.raises(ValueError, match="split has changed since|split has fingerprint"):
            train(run())
        file.write_bytes(before)
        break
    assert train(run()).test == whole.test


def test_a_folder_of_open_clip_moves_with_the_run(home, make_config):
    folder = home / "work"
    both = {f"model__{side}": f"open_clip:{folder}/models/b" for side in ("image", "text")}
    found = portable(tree(make_config, **both), Path("runs/a"))
    assert found["model"]["image"] == "open_clip:../../models/b"
    back = located(found, home / "work" / "runs" / "a")
    assert back["model"]["text"] == f"open_clip:{folder}/models/b"
    named = tree(make_config, model__image="open_clip:org/name")
    assert portable(named, Path("runs/a"))["model"]["image"] == "open_clip:org/name"


def test_data_of_the_hub_are_no_places_and_its_folders_are(home, make_config):
    folder = home / "work"
    given = tree(make_config, data__source="hf:org/name@train", data__test=f"hf:{folder}/r@test")
    found = portable(given, Path("runs/a"))
    assert found["data"]["source"] == "hf:org/name@train"
    assert found["data"]["test"] == "hf:../../r@test"
    back = located(found, home / "work" / "runs" / "a")
    assert back["data"]["test"] == f"hf:{folder}/r@test"
    assert shown("hf:org/name@train") == "hf:org/name@train"
    assert shown("hf:../r@test") == "r@test"
