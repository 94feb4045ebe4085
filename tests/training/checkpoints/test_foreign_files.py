"""No file of a run or of a checkpoint can run code, and a damaged one is named in one line."""

import io
import json
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import tauten
from tauten.training import checkpoints, evaluate, train
from tauten.training.checkpoints.sharded import load_sharded, save_sharded
from tauten.training.run.run_folder import RunFolder


def build():
    module = nn.Sequential(nn.Linear(2, 3))
    return module, torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)


def trained():
    module, optimizer = build()
    module(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    return module, optimizer


class Attack:
    """Whose pickle runs a command when it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def pickles(mark):
    """Files that try it: a plain pickle, one in torch's archive, and in numpy's."""
    plain, archive, arrays = pickle.dumps(Attack(mark)), io.BytesIO(), io.BytesIO()
    torch.save({"groups": Attack(mark)}, archive)
    np.save(arrays, np.array([Attack(mark)], dtype=object), allow_pickle=True)
    return [plain, archive.getvalue(), arrays.getvalue()]


def believed(folder):
    """Let the marker say that all is as it was written."""
    (folder / checkpoints.MARKER).unlink()
    checkpoints.seal(folder)


def test_the_attack_works_where_pickles_are_believed(tmp_path):
    plain, archive, arrays = pickles(tmp_path / "mark")
    pickle.loads(plain)
    assert (tmp_path / "mark").exists()
    for content in (archive, arrays):
        assert b"system" in content or zipfile.is_zipfile(io.BytesIO(content))


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp", "plain.pt", "complete.json"])
def test_sharded_checkpoints_run_nothing(tmp_path, name):
    save_sharded(tmp_path / "last", *trained())
    mark = tmp_path / "mark"
    for content in pickles(mark):
        (tmp_path / "last" / name).write_bytes(content)
        if name != "complete.json":
            believed(tmp_path / "last")
        with pytest.raises((ValueError, RuntimeError)) as caught:
            load_sharded(tmp_path / "last", *build())
        assert "\n" not in str(caught.value)
        assert not mark.exists()


@pytest.mark.parametrize("foreign", ["os.system", "builtins.eval", "torch.hub.load", "torch.load"])
def test_an_index_is_refused_for_what_it_names(tmp_path, foreign):
    save_sharded(tmp_path / "last", build()[0])
    module, _, name = foreign.rpartition(".")
    path = tmp_path / "last" / ".metadata"
    path.write_bytes(f"c{module}\n{name}\n(S'x'\ntR.".encode())
    believed(tmp_path / "last")
    with pytest.raises(ValueError, match=f"names {module}.{name}, which no index needs"):
        load_sharded(tmp_path / "last", build()[0])


def test_an_entry_of_bytes_runs_nothing(tmp_path):
    """An index may say of a tensor that it is anything else, which is then loaded as a pickle."""
    model, _ = build()
    save_sharded(tmp_path / "last", model)
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import BytesStorageMetadata

    folder, mark = tmp_path / "last", tmp_path / "mark"
    index = FileSystemReader(folder).read_metadata()
    name = "module.0.bias"
    index.state_dict_metadata[name] = BytesStorageMetadata()
    place = next(place for key, place in index.storage_data.items() if key.fqn == name)
    index.storage_data = {
        type(key)(key.fqn) if key.fqn == name else key: value
        for key, value in index.storage_data.items()
    }
    file = folder / place.relative_path
    content = pickles(mark)[1]
    place.offset, place.length = file.stat().st_size, len(content)
    file.write_bytes(file.read_bytes() + content)
    (folder / ".metadata").write_bytes(pickle.dumps(index))
    believed(folder)
    with pytest.raises((ValueError, RuntimeError)) as caught:
        load_sharded(folder, model)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_an_index_names_no_file_outside_of_its_folder(tmp_path):
    save_sharded(tmp_path / "last", build()[0])
    path = tmp_path / "last" / ".metadata"
    path.write_bytes(path.read_bytes().replace(b"\x0c__0_0.distcp", b"\x0c../0_0.distcp"[:13]))
    content = path.read_bytes()
    assert b"../0_0.distc" in content
    believed(tmp_path / "last")
    with pytest.raises(ValueError, match="names a file '../0_0.distc' that is not"):
        load_sharded(tmp_path / "last", build()[0])


# ---- runs


@pytest.fixture(scope="module", params=["whole", "sharded"])
def interrupted(request, tmp_path_factory, make_config):
    """A run that ended after the first of two checkpoints, and the kind of it."""
    output = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "rotate", lambda root, keep: None)
        train(make_config(output, checkpoint=request.param))
    (output / "results.json").unlink()
    shutil.rmtree(output / "checkpoints" / "checkpoint-6")
    return output, request.param


def test_no_file_of_a_run_runs_code(interrupted, tmp_path, make_config):
    output, kind = interrupted
    mark = tmp_path / "mark"
    config = make_config(tmp_path / "run", checkpoint=kind)
    last = output / "checkpoints" / "checkpoint-3"
    files = [path.relative_to(output) for path in sorted(last.rglob("*")) if path.is_file()]
    read = {"optimizer.pt", "scheduler.pt", "rng_state.pth", ".metadata", "plain.pt"}
    read |= {"model.safetensors"} if kind == "whole" else set()
    tried = [name for name in files if name.name in read]
    assert len(tried) == 4
    for name in tried:
        for content in pickles(mark)[:2]:
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
            shutil.copytree(output, tmp_path / "run")
            (tmp_path / "run" / name).write_bytes(content)
            believed(tmp_path / "run" / "checkpoints" / "checkpoint-3")
            with pytest.raises((ValueError, RuntimeError)) as caught:
                train(config)
            assert "\n" not in str(caught.value), name
            assert "checkpoint-3" in str(caught.value), name
            assert not mark.exists()


# ---- damaged files


@pytest.fixture
def copy(finished_run, tmp_path):
    """A copy of a finished run."""
    shutil.copytree(finished_run.output, tmp_path / "run")
    return tmp_path / "run"


def damaged(content):
    flipped = bytearray(content)
    flipped[len(flipped) // 2] ^= 1
    return bytes(flipped)


def replace(path, content):
    """Write another file in the place of one that may be linked elsewhere."""
    path.unlink()
    path.write_bytes(content)


def test_a_flipped_bit_of_the_best_is_not_believed(copy, finished_run, caplog):
    path = copy / "checkpoints" / "best" / "model.safetensors"
    replace(path, damaged(path.read_bytes()))
    with pytest.raises(ValueError, match="best is damaged: model.safetensors has another content"):
        evaluate(copy / "checkpoints" / "best")
    assert evaluate(copy, bootstrap=20) == finished_run.test
    assert "which it is a copy of" in caplog.text
    for other in (copy / "checkpoints").glob("checkpoint-*"):
        replace(other / "model.safetensors", path.read_bytes())
    with pytest.raises(ValueError, match="no other copy of it is whole"):
        evaluate(copy)


def test_a_damaged_best_is_mended_when_the_run_goes_on(copy, finished_run, make_config):
    (copy / "results.json").unlink()
    path = copy / "checkpoints" / "best" / "model.safetensors"
    whole = path.read_bytes()
    replace(path, damaged(whole))
    found = train(make_config(copy, control__kind="mmts", tensorboard=True))
    assert found.test == finished_run.test
    assert path.read_bytes() == whole


def test_a_flipped_bit_of_the_last_is_not_believed(copy, finished_run, make_config, caplog):
    (copy / "results.json").unlink()
    last = max((copy / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    path = last / "optimizer.pt"
    replace(path, damaged(path.read_bytes()))
    found = train(make_config(copy, control__kind="mmts", tensorboard=True))
    assert f"{last.name} is damaged: optimizer.pt has another content" in caplog.text
    assert found.test == finished_run.test
    assert load_file(last / "model.safetensors").keys()


def test_a_checkpoint_of_another_run_is_refused(copy, tmp_path, make_config):
    (copy / "results.json").unlink()
    path = copy / "config.yaml"
    text = path.read_text()
    number = next(line for line in text.splitlines() if line.startswith("run:"))
    path.write_text(text.replace(number, "run: 0123456789abcdef"))
    with pytest.raises(ValueError, match="is a checkpoint of another run than"):
        train(make_config(copy, control__kind="mmts", tensorboard=True))
    with pytest.raises(ValueError, match="is a checkpoint of another run than"):
        evaluate(copy)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"\0" * 4000),
        ("model.safetensors", b""),
        ("encoder.json", b"{}"),
        ("encoder.json", b"[]"),
        ("encoder.json", b"[" * 100_000),
        ("classes.json", b"{}"),
        ("classes.json", b'{"counts": {"a": "b"}, "head": 3, "tail": 1}'),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b'{"kind": "bag"}'),
        ("config.yaml", b"tauten_run: 1\n"),
        ("config.yaml", b"tauten_run: 1\nconfig: {}\ndata: []\nversions: {}\n"),
        ("config.yaml", b"tauten_run: 99\nconfig: {}\ndata: {}\nversions: {}\n"),
        ("config.yaml", b"tauten_run: x\n"),
        ("config.yaml", b"\xff\xfe\n"),
    ],
)
def test_damaged_files_of_a_checkpoint_are_named_in_one_line(copy, name, content):
    """Also where the marker knows no better."""
    best = copy / "checkpoints" / "best"
    replace(best / name, content)
    believed(best)
    if name == "config.yaml":
        (copy / "config.yaml").write_bytes(content)
    with pytest.raises(ValueError, match="best|run") as caught:
        evaluate(copy, bootstrap=0)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_results_and_history_that_are_damaged(copy, make_config):
    config = make_config(copy, control__kind="mmts", tensorboard=True)
    results = (copy / "results.json").read_text()
    for content in ("{}", "[]", '{"test": 3}', "", json.dumps([1])):
        (copy / "results.json").write_text(content)
        with pytest.raises(ValueError, match="results.json"):
            train(config)
    whole = json.loads(results)
    for name, value in (("best_step", 1), ("test", whole["test"] | {"x2y/hit@1": 0.75})):
        (copy / "results.json").write_text(json.dumps(whole | {name: value}))
        with pytest.raises(ValueError, match=r"results\.json is damaged: it has another content"):
            train(config)
    (copy / "results.json").unlink()
    for content in ("[1, 2]\n{}\n", '{"loss": 3}\n', '{"step": "a"}\n'):
        (copy / "history.jsonl").write_text(content)
        with pytest.raises(ValueError, match="history.jsonl, line 1, is damaged"):
            train(config)


@pytest.mark.parametrize("name", ["samples.npz", "outcome.npz", "embeddings.npz", "history.jsonl"])
def test_a_file_of_a_finished_run_with_another_content_is_named(copy, tmp_path, name):
    path = copy / name
    content = bytearray(path.read_bytes())
    # a digit, or a byte of a number: nothing that a reader of the format would notice
    place = content.index(b"loss") + 7 if name.endswith("jsonl") else len(content) // 2
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is damaged: it has another content") as caught:
        tauten.report.write([copy], tmp_path / "page")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_of_an_earlier_version_has_no_sums(copy, make_config, finished_run, tmp_path):
    results = json.loads((copy / "results.json").read_text())
    assert results.pop("seal")["files"].keys() == {
        *("history.jsonl", "samples.npz", "outcome.npz", "embeddings.npz", "test_images.npz")
    }
    results.pop("run")
    (copy / "results.json").write_text(json.dumps(results))
    assert train(make_config(copy, control__kind="mmts", tensorboard=True)).test == (
        finished_run.test
    )
    assert tauten.report.write([copy], tmp_path / "page").exists()


@pytest.mark.parametrize("version", ["this", "earlier"])
def test_results_of_another_run_are_not_believed(tmp_path, make_config, finished_run, version):
    config = make_config(tmp_path / "run", seed=5, control__kind="mmts", tensorboard=True)
    folder = RunFolder(config.output)
    record = RunFolder(finished_run.output).record()
    folder.prepare(config, record["data"], {})
    assert not folder.finished()
    results = json.loads((finished_run.output / "results.json").read_text())
    if version == "earlier":
        del results["seal"], results["run"]
    (config.output / "results.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match=r"results\.json is of another run than .*config\.yaml"):
        train(config)


@pytest.mark.parametrize("edit", ["digit", "gone", None])
def test_a_history_that_is_not_the_checkpoints_is_told(copy, make_config, caplog, edit):
    (copy / "results.json").unlink()
    path = copy / "history.jsonl"
    content = bytearray(path.read_bytes())
    if edit == "digit":
        content[content.index(b"loss") + 7] ^= 1
        path.write_bytes(content)
    elif edit == "gone":
        path.unlink()
    caplog.set_level("WARNING", "tauten.training")
    train(make_config(copy, control__kind="mmts", tensorboard=True))
    told = [m for m in caplog.messages if m.startswith(f"{path} is damaged: ")]
    assert len(told) == (edit is not None)
