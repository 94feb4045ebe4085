"""Whether a run may go on in the folder of an earlier start, or of an earlier version."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import yaml

from tauten.files import Lock
from tauten.training import checkpoints, train
from tauten.training.loop.monitor import Monitor
from tauten.training.loop.trainer import ContrastiveTrainer
from tauten.training.run.names import CONFIG
from tauten.training.run.run_folder import RunFolder

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


def test_a_run_that_another_process_trains_is_refused(tmp_path, make_config):
    with Lock(tmp_path / "run"), pytest.raises(ValueError, match=r"this process \(\d+\) writes to"):
        train(make_config(tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def test_a_refused_start_leaves_nothing(tmp_path, make_config):
    config = make_config(tmp_path / "runs" / "a", data__source=str(tmp_path / "nowhere"))
    with pytest.raises((ValueError, OSError)):
        train(config)
    config = make_config(tmp_path / "runs" / "a", data__limit=8)
    with pytest.raises(ValueError, match="training split has 8 samples, fewer than"):
        train(config)
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_nowhere_is_no_output(tmp_path, make_config):
    (tmp_path / "run").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"run is a link to .*nowhere, which does not exist"):
        train(make_config(tmp_path / "run"))


def test_left_overs_of_a_kill_are_removed(begun):
    left = [".config.yaml.part", ".samples.npz.0a1b.part", "checkpoints/.staging-best/a"]
    for name in left:
        (begun.output / name).parent.mkdir(exist_ok=True)
        (begun.output / name).touch()
    RunFolder(begun.output).prepare(begun, DATA, {})
    assert sorted(path.name for path in begun.output.iterdir()) == ["checkpoints", CONFIG]
    assert list((begun.output / "checkpoints").iterdir()) == []


def test_an_empty_record_is_overwritten_when_asked(begun):
    (begun.output / CONFIG).write_text("")
    with pytest.raises(ValueError, match="was not written by tauten"):
        RunFolder(begun.output).check(begun)
    begun.overwrite = True
    RunFolder(begun.output).prepare(begun, DATA, {})
    assert RunFolder(begun.output).config().seed == begun.seed


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda tree: tree.update(optim=None), "optim is None, not a section"),
        (lambda tree: tree["optim"].update(lr="fast"), "optim.lr is 'fast'"),
        (lambda tree: tree["optim"].update(batch_size=3.5), "optim.batch_size is 3.5"),
        (lambda tree: tree["data"].update(strict="no"), "data.strict is 'no'"),
        (lambda tree: tree["model"].update(channels=["a"]), "model.channels is"),
        (lambda tree: tree["model"]["augmentation"].update(hue=[1]), "model.augmentation.hue is"),
        (lambda tree: tree.update(family="nosuch"), "family 'nosuch' is unknown"),
        (lambda tree: tree.update(seed=True), "seed is True"),
    ],
)
def test_a_field_of_another_type_is_refused_by_name(begun, edit, match):
    change(begun.output, edit)
    with pytest.raises(ValueError, match=match) as caught:
        RunFolder(begun.output).config()
    assert CONFIG in str(caught.value)
    with pytest.raises(ValueError, match=match):
        RunFolder(begun.output).check(begun)


def test_a_full_disk_is_named_and_nothing_half_done_is_left(tmp_path, make_config, monkeypatch):
    from tauten.training.loop import saving

    def full(*_, **__):
        raise RuntimeError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )

    monkeypatch.setattr(saving, "save_file", full)
    with pytest.raises(OSError, match="No space left on device"):
        train(make_config(tmp_path / "run"))
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []
    assert list((tmp_path / "run").glob(".*")) == []


def test_a_checkpoint_file_that_vanishes_while_it_is_read(tmp_path, make_config, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "rotate", lambda root, keep: None)
        train(make_config(tmp_path / "run"))
    (tmp_path / "run" / "results.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-6")
    load = ContrastiveTrainer._load_from_checkpoint

    def vanish(self, checkpoint, *args):
        load(self, checkpoint, *args)
        (Path(checkpoint) / "optimizer.pt").unlink()

    monkeypatch.setattr(ContrastiveTrainer, "_load_from_checkpoint", vanish)
    with pytest.raises(ValueError, match=r"was not read as a whole \(optimizer.pt vanished\)"):
        train(make_config(tmp_path / "run"))


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
        patched.setattr("tauten.training.run.run_folder.shutil.rmtree", die)
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
