"""Whether a run may go on in the folder of an earlier start, or of an earlier version."""

import json
import os
import shutil
import signal

import pytest
import yaml

from tauten.training import train
from tauten.training.monitor import Monitor
from tauten.training.run_folder import CONFIG, RunFolder
from tauten.training.trainer import ContrastiveTrainer

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


# ---- starting anew, and what may change


class Kill(BaseException):
    """Ends a training in the middle of something."""


def test_a_run_begun_by_overwriting_goes_on_with_the_same_command(
    tmp_path, make_config, monkeypatch
):
    def config(name, **fields):
        return make_config(tmp_path / name, log_every=1, overwrite=True, seed=1, **fields)

    whole = train(config("whole"))
    train(make_config(tmp_path / "run"))
    original = Monitor.on_step_end

    def stop(monitor, args, state, control, **kwargs):
        if state.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return original(monitor, args, state, control, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(Monitor, "on_step_end", stop)
        with pytest.raises(KeyboardInterrupt, match="stopped at step 2"):
            train(config("run"))
    seen = []
    with monkeypatch.context() as patched:
        begin = Monitor.on_train_begin

        def began(monitor, args, state, control, **kwargs):
            seen.append(state.global_step)
            return begin(monitor, args, state, control, **kwargs)

        patched.setattr(Monitor, "on_train_begin", began)
        again = train(config("run"))
    assert seen == [2]
    assert again.test == whole.test
    assert (tmp_path / "run" / "history.jsonl").read_text() == (
        tmp_path / "whole" / "history.jsonl"
    ).read_text()
    before = (tmp_path / "run" / "results.json").stat().st_mtime_ns
    assert train(config("run")).test == whole.test  # finished: anew
    assert (tmp_path / "run" / "results.json").stat().st_mtime_ns > before


@pytest.mark.parametrize("again", [False, True])
def test_what_was_being_overwritten_is_never_taken_for_the_new_run(
    tmp_path, make_config, monkeypatch, again
):
    whole = train(make_config(tmp_path / "whole", seed=1))
    train(make_config(tmp_path / "run"))

    def die(*_, **__):
        raise Kill

    with monkeypatch.context() as patched:
        patched.setattr("tauten.training.run_folder.shutil.rmtree", die)
        with pytest.raises(Kill):
            train(make_config(tmp_path / "run", overwrite=True, seed=1))
    assert (tmp_path / "run" / "checkpoints" / "best").exists()
    with pytest.raises(ValueError, match="another configuration: seed: 0, was 1"):
        train(make_config(tmp_path / "run"))
    assert train(make_config(tmp_path / "run", overwrite=again, seed=1)).test == whole.test


def test_what_does_not_touch_the_training_may_change(tmp_path, make_config, monkeypatch):
    first = train(make_config(tmp_path / "run"))
    with monkeypatch.context() as patched:
        patched.setattr(ContrastiveTrainer, "training_step", None)
        more = make_config(tmp_path / "run", name="renamed", evaluation__bootstrap=40)
        second = train(more)
    assert second.best_step == first.best_step
    assert second.test["x2y/hit@5"] == first.test["x2y/hit@5"]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["name"] == "renamed"
    assert "40 replicates" in results["protocol"]["intervals"]
    assert RunFolder(tmp_path / "run").config().evaluation.bootstrap == 40
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(ValueError, match="evaluation.bootstrap: 30, was 40"):
        train(make_config(tmp_path / "run", name="renamed", evaluation__bootstrap=30))
    assert train(more).test == second.test
