"""Whether a run may go on in the folder of an earlier start, or of an earlier version."""

import shutil

import pytest
import yaml

from tauten.training import train
from tauten.training.run_folder import CONFIG, RunFolder

DATA = {"train": "a", "val": "b", "test": "c"}


@pytest.fixture
def begun(tmp_path, make_config):
    """A folder that a run has claimed, and its configuration."""
    config = make_config(tmp_path / "run")
    RunFolder(config.output).prepare(config, DATA, {})
    return config


def change(folder, edit):
    """Rewrite the stored configuration."""
    path = folder / CONFIG
    record = yaml.safe_load(path.read_text("utf-8"))
    edit(record["config"])
    path.write_text(yaml.safe_dump(record), "utf-8")


@pytest.mark.parametrize("missing", ["optim.min_lr", "model.augmentation.hue", "model.views"])
def test_a_field_of_a_later_version_counts_as_its_default(begun, missing):
    *parts, last = missing.split(".")

    def drop(tree):
        for part in parts:
            tree = tree[part]
        del tree[last]

    change(begun.output, drop)
    RunFolder(begun.output).prepare(begun, DATA, {})


def test_a_field_of_a_later_version_with_another_value_is_refused(begun):
    change(begun.output, lambda tree: tree.pop("log_every"))
    with pytest.raises(ValueError, match="another configuration: log_every: 2, was 5"):
        RunFolder(begun.output).check(begun)


def test_a_changed_field_is_refused_by_name(begun):
    change(begun.output, lambda tree: tree["optim"].pop("min_lr"))
    begun.optim.lr = 0.5
    with pytest.raises(ValueError, match=r"another configuration: optim.lr: 0.5, was 0.002\. "):
        RunFolder(begun.output).check(begun)


@pytest.mark.parametrize("part", [None, "optim"])
def test_a_field_of_a_newer_version_is_refused_by_name(begun, part):
    change(begun.output, lambda tree: (tree if part is None else tree[part]).update(speed=3))
    with pytest.raises(ValueError, match=r"cannot go on: .*'speed'.*version that began it"):
        RunFolder(begun.output).check(begun)


def test_a_run_of_an_earlier_version_is_finished(tmp_path, make_config):
    whole = train(make_config(tmp_path / "whole"))
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    change(tmp_path / "run", lambda tree: tree["loss"].pop("queue"))
    again = train(make_config(tmp_path / "run"))
    assert again.test == whole.test
    assert train(make_config(tmp_path / "run")).test == whole.test
